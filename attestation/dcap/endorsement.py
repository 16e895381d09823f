"""From the pinned root to the quote: header, PCK chain, CRLs, quoting enclave, signatures."""

import hashlib
from collections.abc import Iterable
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from ..collateral import Kind
from ..errors import MalformedEvidence
from .certificate import Certificate, verified
from .checks import DcapCheck as Check
from .collateral import PckChain, crls, current_crl, listed, pck_chain, tcb_signers
from .platform import Platform, day
from .quote import ECDSA_P256, INTEL_QE_VENDOR, TEE_SGX, TEE_TDX, BodyType, CertificationType


def check_header(platform: Platform) -> None:
    header, kind = platform.quote.header, platform.quote.body_type
    tdx = platform.tee == "TDX"
    fits = header.key_type == ECDSA_P256 and (header.tee_type == TEE_TDX) == tdx
    fits = fits and header.tee_type in (TEE_SGX, TEE_TDX) and (kind is not BodyType.SGX) == tdx
    found = (
        f"version {header.version}, TEE {header.tee_type:#x}, key type {header.key_type}, body {kind.name}"
    )
    expected = f"{platform.tee}, key type {ECDSA_P256} (ECDSA P-256)"
    platform.sheet.record(Check.QUOTE_FORMAT, fits, found, expected)
    platform.sheet.equal(Check.QE_VENDOR, header.qe_vendor, INTEL_QE_VENDOR)


def check_chain(platform: Platform, anchors: tuple[Certificate, ...]) -> None:
    sheet, quote, now = platform.sheet, platform.quote, platform.context.now
    if quote.certification_type != CertificationType.PCK_CHAIN:
        why = f"certification data of type {quote.certification_type}: the quote carries no PCK chain"
        sheet.unevaluable(Check.PCK_CHAIN, why, "type 5, a PCK certificate chain")
        return
    if not anchors:
        sheet.unevaluable(Check.PCK_CHAIN, "the policy names no Intel root", 'roots = ["intel"]')
        return
    try:
        chain = pck_chain(quote.certification_data, anchors)
    except MalformedEvidence as error:
        sheet.record(Check.PCK_CHAIN, False, str(error), "a PCK certificate chain")
        return
    found = chain.fault or chain.names
    if not sheet.record(Check.PCK_CHAIN, not chain.fault, found, "issued under the pinned root"):
        return
    platform.chain = chain
    span = f"{day(chain.not_before)} to {day(chain.not_after)}"
    sheet.record(Check.PCK_VALIDITY, chain.not_before <= now <= chain.not_after, span, day(now))
    _check_extension(platform, chain)


def _check_extension(platform: Platform, chain: PckChain) -> None:
    sheet, rules, extension = platform.sheet, platform.rules, chain.extension
    if extension is None:
        sheet.record(Check.PCK_EXTENSION, False, chain.extension_fault, "PPID, TCB, PCEID, FMSPC, SGX type")
        return
    fmspc, ppid = extension.fmspc, extension.ppid
    sheet.record(Check.PCK_EXTENSION, True, f"FMSPC {fmspc.hex()}, PCEID {extension.pceid.hex()}")
    known = (rules.fmspcs is None or fmspc in rules.fmspcs) and (rules.ppids is None or ppid in rules.ppids)
    limits = [_listed(items) for items in (rules.fmspcs, rules.ppids) if items is not None]
    sheet.record(
        Check.PLATFORM, known, f"FMSPC {fmspc.hex()}, PPID {ppid.hex()}", "; ".join(limits) or "any genuine"
    )


def check_root_crl(platform: Platform, anchors: tuple[Certificate, ...]) -> None:
    sheet, context = platform.sheet, platform.context
    items = context.collateral.of(Kind.INTEL_ROOT_CRL)
    found = [crl for root in anchors for crl in crls(items, root)]
    crl = current_crl(found, context.now, platform.rules.collateral_grace)
    issued = tuple(item for item in found if item.this_update <= context.now)
    _record_crl(platform, Check.ROOT_CRL, items, bool(found), bool(crl))
    signers = tcb_signers(context.collateral.of(Kind.INTEL_TCB_SIGNING_CHAIN), anchors)
    usable = tuple(item for item in signers if not listed(issued, item.serial))
    if not found:
        sheet.unevaluable(Check.CA_NOT_REVOKED, "no CRL of the root CA to judge by")
    else:
        # A revoked signing certificate does no harm beside one that is not; a PCK CA has no other.
        used = (() if usable else signers) + (platform.chain.certificates[1:] if platform.chain else ())
        serials = [f"{item.serial:x}" for item in used if listed(issued, item.serial)]
        sheet.record(Check.CA_NOT_REVOKED, not serials, ", ".join(serials) or "none revoked", "none revoked")
    _check_signers(platform, usable)


def _check_signers(platform: Platform, signers: tuple[Certificate, ...]) -> None:
    sheet, now = platform.sheet, platform.context.now
    valid = tuple(item for item in signers if item.not_before <= now <= item.not_after)
    if not platform.context.collateral.of(Kind.INTEL_TCB_SIGNING_CHAIN):
        sheet.unevaluable(Check.TCB_SIGNING_CHAIN, "no TCB signing chain in the collateral")
        return
    until = ", ".join(f"until {day(item.not_after)}" for item in signers)
    sheet.record(Check.TCB_SIGNING_CHAIN, bool(valid), until or "none under the pinned root", day(now))
    platform.signers = valid or signers


def check_pck_crl(platform: Platform) -> None:
    sheet, context, chain = platform.sheet, platform.context, platform.chain
    if chain is None or chain.authority is None:
        return
    items = context.collateral.of(Kind.INTEL_PCK_CRL)
    found = crls(items, chain.authority)
    crl = current_crl(found, context.now, platform.rules.collateral_grace)
    _record_crl(platform, Check.PCK_CRL, items, bool(found), bool(crl))
    serial = f"serial {chain.leaf.serial:x}"
    if not found:
        sheet.unevaluable(Check.PCK_NOT_REVOKED, "no CRL of the PCK CA to judge by")
        return
    revoked = listed(tuple(item for item in found if item.this_update <= context.now), chain.leaf.serial)
    sheet.record(Check.PCK_NOT_REVOKED, not revoked, serial, "not listed in the CRL")


def _record_crl(platform: Platform, check: Check, items: tuple[bytes, ...], signed: bool, held: bool) -> None:
    expected = f"signed by its CA, current at {day(platform.context.now)}"
    if held:
        platform.sheet.record(check, True, "signed and current", expected)
    elif signed:
        platform.sheet.unevaluable(check, "stale, or not yet issued", expected)
    elif items:
        platform.sheet.record(check, False, "none is well-formed and signed by that CA", expected)
    else:
        platform.sheet.unevaluable(check, "no CRL in the collateral", expected)


def check_signatures(platform: Platform) -> None:
    """PCK -> QE report -> attestation key -> quote."""
    sheet, quote = platform.sheet, platform.quote
    if platform.chain is not None:
        endorsed = _endorsed(platform.chain, quote.qe_report, quote.qe_signature)
        sheet.record(
            Check.QE_REPORT_SIGNATURE, endorsed, "signed" if endorsed else "not signed", "by the PCK"
        )
    bound = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest() + bytes(32)
    sheet.equal(Check.ATTESTATION_KEY, platform.qe_report.report_data, bound)
    key = _attestation_key(quote.attestation_key)
    signed = key is not None and verified(key, _der(quote.signature), quote.signed)
    sheet.record(
        Check.QUOTE_SIGNATURE, signed, "signed" if signed else "not signed", "by the attestation key"
    )


@lru_cache(maxsize=128)
def _endorsed(chain: PckChain, report: bytes, signature: bytes) -> bool:
    """Whether the PCK signed the QE's report: one more link of the chain, remembered like the others."""
    return chain.leaf.signed(_der(signature), report)


@lru_cache(maxsize=128)
def _attestation_key(raw: bytes) -> ec.EllipticCurvePublicKey | None:
    """The P-256 point X || Y as a key; None if it is not on the curve."""
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + raw)
    except ValueError:
        return None


def _der(signature: bytes) -> bytes:
    """R || S, big-endian, as DER."""
    return encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))


def _listed(items: Iterable[bytes]) -> str:
    return ", ".join(sorted(item.hex() for item in items)) or "none"
