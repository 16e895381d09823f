"""What a collateral item says of itself: whom it is about, who issued it, from when to when it holds.

Parsed for form, never verified: a forged item describes itself as it likes, and `verify` refuses it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cryptography.x509 import ocsp

from .. import certificates, jose
from ..collateral import Kind
from ..crl import load_crl
from ..dcap import certificate as intel
from ..dcap.documents import QeIdentity, SignedDocument, TcbInfo
from ..errors import MalformedEvidence
from ..nvidia.chain import ERRORS
from ..nvidia.rim import rim
from ..snp.endorsement import EndorsementKey, is_endorsement

MAX_OCSP = 32 * 1024


class Freshness(StrEnum):
    """How an item's own dates stand to a clock."""

    FRESH = "fresh"
    EXPIRED = "expired"
    NOT_YET = "not yet valid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """An item in a few words. Two items of one kind and `subject` say the same thing at two times.

    `not_before` and `not_after` are thisUpdate and nextUpdate, issueDate and nextUpdate, or the
    validity of certificates; None where the format has no date.
    """

    subject: str
    issuer: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None

    def freshness(self, now: datetime) -> Freshness:
        """How the dates stand to `now`; ends included."""
        if self.not_before is not None and now < self.not_before:
            return Freshness.NOT_YET
        if self.not_after is not None and now > self.not_after:
            return Freshness.EXPIRED
        return Freshness.FRESH


def describe(kind: Kind, raw: bytes) -> Facts:
    """The facts in `raw`; MalformedEvidence if it does not have the form of its kind."""
    return _READERS[kind](raw)


def _amd_certificate(raw: bytes) -> Facts:
    found = certificates.load(raw)
    subject = found.name
    if is_endorsement(found):
        key = EndorsementKey.of(found)
        owner = key.hw_id.hex() if key.hw_id else key.csp_id
        subject = f"{subject} {key.product} {owner}, {key.tcb}"
    return Facts(
        subject=subject,
        issuer=certificates.common_name(found.issuer),
        not_before=found.not_before,
        not_after=found.not_after,
    )


def _amd_crl(raw: bytes) -> Facts:
    found = load_crl(raw)
    name = certificates.common_name(found.issuer)
    return Facts(subject=name, issuer=name, not_before=found.this_update, not_after=found.next_update)


def _tcb_info(raw: bytes) -> Facts:
    found = TcbInfo.from_json(SignedDocument.from_bytes(raw, "tcbInfo").content)
    subject = f"{found.id} {found.fmspc.hex()}"
    return Facts(subject=subject, not_before=found.issued, not_after=found.next_update)


def _qe_identity(raw: bytes) -> Facts:
    found = QeIdentity.from_json(SignedDocument.from_bytes(raw, "enclaveIdentity").content)
    return Facts(subject=found.id, not_before=found.issued, not_after=found.next_update)


def _intel_chain(raw: bytes) -> Facts:
    chain = [intel.certificate(item) for item in intel.pem_chain(raw)]
    return Facts(
        subject=f"{chain[0].common_name} {chain[0].serial:x}",
        issuer=chain[-1].common_name,
        not_before=max(item.not_before for item in chain),
        not_after=min(item.not_after for item in chain),
    )


def _intel_crl(raw: bytes) -> Facts:
    found = intel.Crl.from_bytes(raw)
    name = certificates.common_name(found.issuer)
    return Facts(subject=name, issuer=name, not_before=found.this_update, not_after=found.next_update)


def _rim(raw: bytes) -> Facts:
    found = rim(raw)
    return Facts(
        subject=f"{found.product} {found.version} {found.tag_id}",
        issuer=found.signer.name,
        not_before=max(item.not_before for item in found.certificates),
        not_after=min(item.not_after for item in found.certificates),
    )


def _ocsp(raw: bytes) -> Facts:
    if len(raw) > MAX_OCSP:
        raise MalformedEvidence(f"OCSP response of {len(raw)} bytes exceeds {MAX_OCSP}")
    try:
        answers = list(ocsp.load_der_ocsp_response(raw).responses)
        names = [f"{item.serial_number:x} {item.issuer_key_hash.hex()}" for item in answers]
        starts = [item.this_update_utc for item in answers]
        # Without a nextUpdate an answer holds for no longer than the moment it was given.
        ends = [item.next_update_utc or item.this_update_utc for item in answers]
    except ERRORS as error:
        raise MalformedEvidence(f"not a successful OCSP response: {error}") from None
    if not answers:
        raise MalformedEvidence("an OCSP response about no certificate")
    return Facts(subject=", ".join(names), not_before=max(starts), not_after=min(ends))


def _keys(raw: bytes) -> Facts:
    names = ", ".join(sorted(jose.key_set([raw])))
    return Facts(subject=f"{hashlib.sha256(raw).hexdigest()} {names}"[:200])


def _tpm_certificate(raw: bytes) -> Facts:
    found = certificates.load(raw)
    return Facts(
        subject=f"{found.name} {found.serial:x}",
        issuer=certificates.common_name(found.issuer),
        not_before=found.not_before,
        not_after=found.not_after,
    )


_READERS: dict[Kind, Callable[[bytes], Facts]] = {
    Kind.AMD_CERTIFICATE: _amd_certificate,
    Kind.AMD_CRL: _amd_crl,
    Kind.INTEL_TCB_INFO: _tcb_info,
    Kind.INTEL_QE_IDENTITY: _qe_identity,
    Kind.INTEL_TCB_SIGNING_CHAIN: _intel_chain,
    Kind.INTEL_PCK_CRL: _intel_crl,
    Kind.INTEL_PCK_CRL_CHAIN: _intel_chain,
    Kind.INTEL_ROOT_CRL: _intel_crl,
    Kind.NVIDIA_RIM: _rim,
    Kind.NVIDIA_OCSP: _ocsp,
    Kind.NVIDIA_NRAS_KEYS: _keys,
    Kind.AZURE_MAA_KEYS: _keys,
    Kind.TPM_CERTIFICATE: _tpm_certificate,
}
