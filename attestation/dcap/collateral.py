"""Collateral chosen by what it says and by who signed it, never by where it came from.

Everything here is a pure function of bytes and trust anchors, remembered by its arguments; the
clock is applied by the caller.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TypeVar

from ..errors import MalformedEvidence
from .certificate import Certificate, Crl, certificate, pem_chain
from .documents import QeIdentity, SignedDocument, TcbInfo
from .pck import PckExtension

ROOT_NAME = "Intel SGX Root CA"
PCK_NAME = "Intel SGX PCK Certificate"
PCK_CA_NAMES = frozenset({"Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA"})
TCB_SIGNING_NAME = "Intel SGX TCB Signing"

Document = TcbInfo | QeIdentity
D = TypeVar("D", TcbInfo, QeIdentity)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PckChain:
    """Leaf, CA and root from a quote. `fault` says why it does not hold; empty if it does.

    `not_before` and `not_after` bound the time in which all of it is valid.
    """

    certificates: tuple[Certificate, ...]
    fault: str
    extension: PckExtension | None
    extension_fault: str
    names: str
    not_before: datetime
    not_after: datetime

    @property
    def leaf(self) -> Certificate:
        """The PCK certificate."""
        return self.certificates[0]

    @property
    def authority(self) -> Certificate | None:
        """The PCK CA, if the chain names one."""
        return self.certificates[1] if len(self.certificates) > 1 else None


@lru_cache(maxsize=128)
def pck_chain(pem: bytes, anchors: tuple[Certificate, ...]) -> PckChain:
    """The chain in a quote's certification data, judged but for the clock; MalformedEvidence if none.

    Its last certificate is compared with the anchors, byte for byte, not trusted for being there.
    """
    pinned = {item.der: item for item in anchors}
    chain = tuple(pinned.get(raw) or certificate(raw) for raw in pem_chain(pem))
    try:
        leaf = chain[0].sgx_extension
        extension, fault = (PckExtension.from_bytes(leaf), "") if leaf else (None, "no SGX extension")
    except MalformedEvidence as error:
        extension, fault = None, str(error)
    return PckChain(
        certificates=chain,
        fault=_chain_fault(chain, anchors),
        extension=extension,
        extension_fault=fault,
        names=" < ".join(item.common_name for item in chain),
        not_before=max(item.not_before for item in chain),
        not_after=min(item.not_after for item in chain),
    )


def _chain_fault(chain: tuple[Certificate, ...], anchors: tuple[Certificate, ...]) -> str:
    if len(chain) != 3:
        return f"{len(chain)} certificates, not leaf, CA and root"
    leaf, authority, root = chain
    if root not in anchors or root.common_name != ROOT_NAME:
        return f"root {root.common_name!r} is not pinned"
    if leaf.common_name != PCK_NAME or authority.common_name not in PCK_CA_NAMES:
        return f"names are {leaf.common_name!r} under {authority.common_name!r}"
    if not all(item.understood for item in chain):
        return "a certificate has a critical extension that is not understood"
    if leaf.authority or not leaf.signs_data:
        return "the PCK certificate is a CA, or may not sign data"
    if not (root.issued(authority) and authority.issued(leaf)):
        return "a certificate is not issued by the next"
    return ""


@lru_cache(maxsize=16)
def tcb_signers(chains: tuple[bytes, ...], anchors: tuple[Certificate, ...]) -> tuple[Certificate, ...]:
    """The TCB signing certificates in PEM `chains` that an anchor issued, whatever the clock says."""
    found: list[Certificate] = []
    for pem in chains:
        try:
            signer = certificate(pem_chain(pem)[0])
        except MalformedEvidence:
            continue
        fit = signer.common_name == TCB_SIGNING_NAME and signer.signs_data and not signer.authority
        if fit and signer.understood and any(anchor.issued(signer) for anchor in anchors):
            found.append(signer)
    return tuple(found)


@lru_cache(maxsize=16)
def crls(items: tuple[bytes, ...], issuer: Certificate) -> tuple[Crl, ...]:
    """The CRLs among `items` (DER) that `issuer` signed."""
    found: list[Crl] = []
    for raw in items:
        try:
            crl = Crl.from_bytes(raw)
        except MalformedEvidence:
            continue
        if crl.issuer == issuer.subject and issuer.signs_crls and issuer.signed(crl.signature, crl.tbs):
            found.append(crl)
    return tuple(found)


def current_crl(found: Iterable[Crl], now: datetime, grace: timedelta) -> Crl | None:
    """The newest CRL that holds at `now`."""
    held = [crl for crl in found if crl.this_update <= now <= crl.next_update + grace]
    return max(held, key=lambda crl: crl.this_update, default=None)


@lru_cache(maxsize=128)
def listed(found: tuple[Crl, ...], serial: int) -> bool:
    """Whether one of the CRLs lists this serial number; a revocation is for good."""
    return any(crl.lists(serial) for crl in found)


@lru_cache(maxsize=32)
def signed_tcb_info(raw: bytes, signers: tuple[Certificate, ...]) -> TcbInfo | None:
    """The TCB info in `raw` if one of `signers` signed it and it parses."""
    return _signed(raw, "tcbInfo", signers, TcbInfo)


@lru_cache(maxsize=32)
def signed_qe_identity(raw: bytes, signers: tuple[Certificate, ...]) -> QeIdentity | None:
    """The QE identity in `raw` if one of `signers` signed it and it parses."""
    return _signed(raw, "enclaveIdentity", signers, QeIdentity)


def _signed(raw: bytes, name: str, signers: tuple[Certificate, ...], kind: type[D]) -> D | None:
    try:
        document = SignedDocument.from_bytes(raw, name)
        if any(signer.signed(document.signature, document.content) for signer in signers):
            return kind.from_json(document.content)
    except MalformedEvidence:
        pass
    return None


def best(found: Iterable[D], now: datetime, grace: timedelta) -> D | None:
    """The document to judge by: current before stale, then the highest evaluation number, then the newest."""
    return max(
        found, key=lambda item: (held(item, now, grace), item.evaluation_number, item.issued), default=None
    )


def held(document: Document, now: datetime, grace: timedelta) -> bool:
    """Whether `document` is issued and not past its nextUpdate at `now`."""
    return document.issued <= now <= document.next_update + grace
