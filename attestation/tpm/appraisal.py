"""Judging a TPM: the attestation key, then what it quoted."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Self

from cryptography.hazmat.primitives import serialization

from .. import certificates as x509
from ..certificates import Certificate, PublicKey
from ..collateral import Kind
from ..context import Context
from ..errors import MalformedEvidence
from ..paths import anchors, expired, faults, find, signs_data
from ..pkix import ObjectIdentifier
from ..verdict import Sheet
from .checks import TpmCheck as Check
from .eventlog import EventLog
from .policy import TpmPolicy
from .public import Public, bare_key
from .quote import BANKS, PCRS, PcrValues
from .quoted import SignedQuote, check_event_log, check_nonce, check_registers, check_signatures, paired

MAX_QUOTES = 4
GOOGLE_INSTANCE = "1.3.6.1.4.1.11129.2.1.21"
_INSTANCE = ObjectIdentifier(GOOGLE_INSTANCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmEvidence:
    """What a machine sends: quotes, the key that signed them, registers by bank, the boot's log.

    `public` is the TPMT_PUBLIC, or `bare_key` the key without what its TPM says of it; `certificates`
    begin with the key's own. Any may be absent.
    Parsed, not verified.
    """

    quotes: tuple[SignedQuote, ...] = ()
    public: Public | None = None
    bare_key: PublicKey | None = None
    certificates: tuple[Certificate, ...] = ()
    pcrs: PcrValues = field(default_factory=lambda: MappingProxyType({}))
    log: EventLog | None = None

    @classmethod
    def from_parts(
        cls,
        *,
        quotes: Iterable[tuple[bytes, bytes]] = (),
        public: bytes | None = None,
        certificates: Iterable[bytes] = (),
        pcrs: PcrValues = MappingProxyType({}),
        event_log: bytes | None = None,
    ) -> Self:
        """The parts as bytes: (TPMS_ATTEST, signature) pairs, TPMT_PUBLIC or a bare key, certificates
        (PEM or DER, in any order), the binary log. Signatures may stand beside the wrong quote of several.
        """
        pairs, files = tuple(quotes), tuple(certificates)
        if len(pairs) > MAX_QUOTES or len(files) > 16:
            raise MalformedEvidence(f"more than {MAX_QUOTES} quotes or 16 certificate files")
        check_sizes(pcrs)
        bare = bare_key(public) if public is not None else None
        evidence = cls(
            quotes=tuple(SignedQuote.from_bytes(*pair) for pair in pairs),
            public=Public.from_bytes(public) if public is not None and bare is None else None,
            bare_key=bare,
            certificates=leaf_first([item for raw in files for item in x509.load_all(unpadded(raw))]),
            pcrs=pcrs,
            log=EventLog.from_bytes(event_log) if event_log is not None else None,
        )
        return replace(evidence, quotes=paired(evidence.quotes, _key(evidence)))


def leaf_first(certificates: Iterable[Certificate]) -> tuple[Certificate, ...]:
    """The certificates, one that issued none of the others before the rest."""
    found = tuple(certificates)
    issuers = {item.issuer for item in found if item.issuer != item.subject}
    leaf = next((item for item in found if item.subject not in issuers), None)
    return found if leaf is None else (leaf, *(item for item in found if item is not leaf))


def unpadded(raw: bytes) -> bytes:
    """`raw` without the zeros that TPM non-volatile storage leaves after a certificate in DER."""
    if raw[:1] != b"\x30" or len(raw) < 4:
        return raw
    size = 4 + int.from_bytes(raw[2:4], "big") if raw[1] == 0x82 else len(raw)
    return raw[:size] if not raw[size:].strip(b"\0") else raw


def check_sizes(pcrs: Mapping[str, Mapping[int, bytes]]) -> None:
    """MalformedEvidence if a bank is unknown, or a register has no such index or size."""
    for bank, registers in pcrs.items():
        if bank not in BANKS.values():
            raise MalformedEvidence(f"register bank {bank!r}")
        size = hashlib.new(bank).digest_size
        if any(not 0 <= i < PCRS or len(value) != size for i, value in registers.items()):
            raise MalformedEvidence(f"a register of bank {bank} that does not exist, or of another size")


def appraise(
    evidence: TpmEvidence, context: Context, rules: TpmPolicy, *, subject: str, nonce: bytes | None
) -> Sheet:
    """The sheet of one TPM.

    `nonce` is what the quotes must carry as extraData, b"" that they must carry none; None makes
    that check unevaluable. Intermediates may come from the evidence or from the collateral.

    1. the attestation key is certified, or pinned, and can sign only what its TPM made;
    2. it signed every quote, over this nonce;
    3. the registers given are those quoted, hold listed values, and the log leads to them.
    """
    sheet = Sheet(subject, _required(evidence, rules, nonce))
    key = _key(evidence)
    _check_key(sheet, evidence, context, rules)  # 1
    if evidence.quotes and key is not None:
        check_signatures(sheet, evidence.quotes, key)  # 2
    check_nonce(sheet, evidence.quotes, nonce)
    if evidence.quotes or not rules.allow_missing_quote:
        check_registers(sheet, evidence.quotes, evidence.pcrs, rules.pcrs, rules.banks)  # 3
    if evidence.log is not None and evidence.quotes:
        check_event_log(sheet, evidence.log, evidence.quotes, evidence.pcrs)
    elif rules.require_event_log:
        sheet.unevaluable(Check.EVENT_LOG, "no event log, or nothing quoted to compare it with")
    _claim(sheet, evidence)
    return sheet


def _required(evidence: TpmEvidence, rules: TpmPolicy, nonce: bytes | None) -> set[Check]:
    required = {Check.AK_CHAIN, Check.AK_VALIDITY, Check.AK_CERTIFICATE}
    if rules.allow_untrusted_ak:
        required = set()
    if rules.ak_keys is not None:
        required.add(Check.AK_PINNED)
    if evidence.public is not None:
        required.add(Check.AK_ATTRIBUTES)
    if evidence.quotes or not rules.allow_missing_quote:
        required |= {Check.QUOTE_SIGNATURE, Check.QUOTE_BANKS, Check.PCR_DIGEST, Check.PCR_VALUES}
        if not rules.allow_missing_nonce:
            required.add(Check.QUOTE_NONCE)
    if nonce is not None:  # whoever gives one wants it answered, quote or not
        required.add(Check.QUOTE_NONCE)
    return required | ({Check.EVENT_LOG} if rules.require_event_log else set())


def _key(evidence: TpmEvidence) -> object | None:
    if evidence.public is not None:
        return evidence.public.key()
    if evidence.bare_key is not None:
        return evidence.bare_key
    return evidence.certificates[0].key if evidence.certificates else None


def _spki(evidence: TpmEvidence) -> bytes | None:
    key = evidence.public.key() if evidence.public is not None else evidence.bare_key
    if key is None:
        return evidence.certificates[0].spki if evidence.certificates else None
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.DER, form)


def _check_key(sheet: Sheet, evidence: TpmEvidence, context: Context, rules: TpmPolicy) -> None:
    if evidence.public is not None:
        missing = evidence.public.missing
        found = f"lacks {', '.join(missing)}" if missing else "restricted signing key, fixed to its TPM"
        sheet.record(Check.AK_ATTRIBUTES, not missing, found, "restricted signing key, fixed to its TPM")
    der = _spki(evidence)
    if rules.ak_keys is not None and der is not None:
        digest = hashlib.sha256(der).digest()
        listed = ", ".join(sorted(item.hex() for item in rules.ak_keys))
        sheet.record(Check.AK_PINNED, digest in rules.ak_keys, digest.hex(), listed)
    if rules.allow_untrusted_ak:
        return
    if evidence.certificates:
        _check_certificate(sheet, evidence, der)
        _check_chain(sheet, evidence, context, rules)
    else:
        for check in (Check.AK_CHAIN, Check.AK_VALIDITY, Check.AK_CERTIFICATE):
            sheet.unevaluable(check, "no certificate of the attestation key was given")


def _check_certificate(sheet: Sheet, evidence: TpmEvidence, der: bytes | None) -> None:
    leaf = evidence.certificates[0]
    odd = ["is an authority's"] if leaf.authority else []
    odd += [] if signs_data(leaf) else ["may not sign data"]
    odd += ["is for another key"] if leaf.spki != der else []
    found = f"{leaf.name}: {', '.join(odd) or 'as expected'}"
    sheet.record(Check.AK_CERTIFICATE, not odd, found, "an end entity's that may sign, for the quoting key")


def _check_chain(sheet: Sheet, evidence: TpmEvidence, context: Context, rules: TpmPolicy) -> None:
    roots = context.policy.roots
    pinned = anchors(root for vendor in sorted(rules.vendors) for root in roots.der(vendor).values())
    expected = f"a path to a root of {', '.join(sorted(rules.vendors))}"
    stapled = [
        item for raw in context.collateral.of(Kind.TPM_CERTIFICATE)[:16] for item in x509.load_all(raw)
    ]
    path = find(evidence.certificates[0], [*evidence.certificates[1:], *stapled], pinned)
    if path is None:
        sheet.record(Check.AK_CHAIN, False, f"none from {evidence.certificates[0].name}", expected)
        return
    wrong = faults(path)
    names = " <- ".join(item.name for item in path)
    sheet.record(Check.AK_CHAIN, not wrong, "; ".join(wrong) or names, expected)
    late = expired(path, context.now)
    found = f"not valid: {', '.join(late)}" if late else "all valid"
    sheet.record(Check.AK_VALIDITY, not late, found, f"valid at {context.now.isoformat()}")


def _claim(sheet: Sheet, evidence: TpmEvidence) -> None:
    claims: dict[str, Any] = {}
    if evidence.certificates:
        leaf = evidence.certificates[0]
        claims |= {
            "subject": leaf.name,
            "issuer": x509.common_name(leaf.issuer),
            "not_before": str(leaf.not_before),
            "not_after": str(leaf.not_after),
            "public_key_spki_sha256": hashlib.sha256(leaf.spki).hexdigest(),
        }
        claims |= {"instance_extension_oid": GOOGLE_INSTANCE} if _INSTANCE in leaf.extensions else {}
    if evidence.quotes:
        quote = evidence.quotes[0].quote
        claims |= {
            "tpm_clock": quote.clock,
            "tpm_reset_count": quote.reset_count,
            "tpm_restart_count": quote.restart_count,
            "tpm_firmware_version": f"{quote.firmware_version:016x}",
            "pcr_banks": sorted({bank for item in evidence.quotes for bank, _ in item.quote.selected}),
        }
    sheet.claims.update(claims)
