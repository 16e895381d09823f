"""`appraise`: one SEV-SNP report, its endorsements, a policy and a clock, to a sheet of checks."""

from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from ..checks import CheckId
from ..context import Context
from ..errors import PolicyError
from ..verdict import Sheet
from . import guest, host
from .chain import Path, Supplied
from .checks import SnpCheck as Check
from .claims import report_claims
from .endorsement import EndorsementKey
from .flags import SigningKey
from .policy import SnpPolicy
from .report import REPORT_SIZE, SIGNATURE_ALGORITHM, SIGNED_SIZE, SnpReport

_ALL = frozenset(Check)
_ECDSA_SHA384 = ec.ECDSA(hashes.SHA384())
_OF_CERTIFICATE = (
    Check.ROOT,
    Check.CHAIN,
    Check.VALIDITY,
    Check.CRL,
    Check.CERTIFICATE_FORM,
    Check.PRODUCT,
    Check.SIGNING_KEY,
    Check.REPORT_SIGNATURE,
    Check.CHIP_ID,
    Check.CERTIFICATE_TCB,
)


def appraise(
    report: bytes,
    endorsements: Sequence[bytes],
    context: Context,
    *,
    subject: str,
    report_data: bytes | None,
) -> Sheet:
    """The checks on `report` under `context.policy.snp`; every one that could be made was made.

    `report`: 1184 bytes, or an extended report: the same followed by a certificate table.
    `endorsements`: certificates in DER or PEM, or certificate tables. `report_data`: the 64 bytes
    that must be in the report; None leaves it to the policy. MalformedEvidence for bytes that do not
    parse; PolicyError if the policy has no [snp] section.

    1. the certificate chain ends in a pinned root;  2. the report is signed by its leaf, for this
    chip and TCB;  3. firmware and platform are what the policy demands;  4. so is the guest.
    """
    rules = context.policy.snp
    if rules is None:
        raise PolicyError("the policy has no [snp] section")
    table = [report[REPORT_SIZE:]] if len(report) > REPORT_SIZE else []
    parsed = SnpReport.from_bytes(report[:REPORT_SIZE])
    supplied = Supplied.gather([*endorsements, *table], context)
    key = supplied.endorsement(parsed, context)

    sheet = Sheet(subject, required(rules, parsed))
    sheet.claims.update(report_claims(parsed))
    if key is None:
        _no_certificate(sheet)
    else:
        path = Path.build(key, supplied, context.policy.roots)
        sheet.claims["product"] = str(path.product) if path.product else None
        _check_path(sheet, path, supplied, context)  # 1
        _check_key(sheet, key, path, parsed, rules, report[:SIGNED_SIZE])  # 2
    host.check(sheet, parsed, key.product if key else parsed.product, rules)  # 3
    guest.check(sheet, parsed, rules, report_data)  # 4
    return sheet


def required(rules: SnpPolicy, report: SnpReport) -> frozenset[CheckId]:
    """The checks that must pass: all, but for those that the policy drops or has nothing to say on."""
    dropped: set[CheckId] = set()
    if rules.allow_missing_crl:
        dropped.add(Check.CRL)
    if rules.chip_ids is None:
        dropped.add(Check.CHIP_ALLOWED)
    if rules.report_ids is None:
        dropped.add(Check.REPORT_ID)
    if report.signer_info.signing_key is not SigningKey.VLEK:
        dropped.add(Check.CSP_ID)
    return _ALL - dropped


def _no_certificate(sheet: Sheet) -> None:
    for check in _OF_CERTIFICATE:
        sheet.unevaluable(check, "no VCEK or VLEK certificate was supplied", "the report's own certificate")


def _check_path(sheet: Sheet, path: Path, supplied: Supplied, context: Context) -> None:
    path.check_root(sheet)
    path.check_chain(sheet)
    path.check_validity(sheet, context)
    path.check_crl(sheet, supplied.crls, context)


def _check_key(
    sheet: Sheet, key: EndorsementKey, path: Path, report: SnpReport, rules: SnpPolicy, signed: bytes
) -> None:
    form = "; ".join(key.problems) or f"{key.kind.name}, P-384, RSASSA-PSS with SHA-384"
    sheet.record(Check.CERTIFICATE_FORM, not key.problems, form, "a VCEK or VLEK as AMD issues them")
    _check_product(sheet, key, path, report, rules)
    _check_signing_key(sheet, key, report, rules)
    genuine = report.signature_algo == SIGNATURE_ALGORITHM and _signature_holds(key, report, signed)
    found = "holds" if genuine else f"does not hold (algorithm {report.signature_algo})"
    sheet.record(Check.REPORT_SIGNATURE, genuine, found, "ECDSA P-384 with SHA-384 by the certificate's key")
    _check_chip(sheet, key, report, rules)
    if key.csp_id is not None:
        sheet.claims["csp_id"] = key.csp_id
    if report.signer_info.signing_key is SigningKey.VLEK:
        allowed = rules.csp_ids is None or key.csp_id in rules.csp_ids
        sheet.record(Check.CSP_ID, allowed, str(key.csp_id), guest.listed(rules.csp_ids))
    levels = str(key.tcb or "not readable")
    sheet.record(Check.CERTIFICATE_TCB, key.tcb == report.reported_tcb, levels, str(report.reported_tcb))


def _check_product(
    sheet: Sheet, key: EndorsementKey, path: Path, report: SnpReport, rules: SnpPolicy
) -> None:
    line = path.product
    # A version 2 report names no processor; an unknown processor agrees with no line.
    agree = line is not None and key.product is line and (report.cpuid is None or report.product is line)
    named = "none" if report.cpuid is None else str(report.product)
    found = f"root {line}, certificate {key.product}, report {named}"
    expected = f"one of {guest.listed(rules.products)}"
    sheet.record(Check.PRODUCT, agree and line in rules.products, found, expected)


def _check_signing_key(sheet: Sheet, key: EndorsementKey, report: SnpReport, rules: SnpPolicy) -> None:
    info = report.signer_info
    allowed = info.signing_key is SigningKey.VCEK or (
        info.signing_key is SigningKey.VLEK and rules.allow_vlek
    )
    passed = info.signing_key is key.kind and allowed and not info.mask_chip_key
    masked = ", chip key masked" if info.mask_chip_key else ""
    found = f"report {info.signing_key.name}, certificate {key.kind.name}{masked}"
    sheet.record(Check.SIGNING_KEY, passed, found, "VCEK or VLEK" if rules.allow_vlek else "VCEK")


def _check_chip(sheet: Sheet, key: EndorsementKey, report: SnpReport, rules: SnpPolicy) -> None:
    masked = not any(report.chip_id)
    if report.signer_info.signing_key is SigningKey.VLEK:
        expected, passed = "zero under a VLEK", masked
    else:
        expected = key.chip_id.hex() if key.chip_id else "a hwID in the certificate"
        passed = report.chip_id == key.chip_id or (masked and rules.allow_masked_chip_id)
    sheet.record(Check.CHIP_ID, passed, report.chip_id.hex(), expected)


def _signature_holds(key: EndorsementKey, report: SnpReport, signed: bytes) -> bool:
    if key.key is None:
        return False
    signature = encode_dss_signature(report.signature_r, report.signature_s)
    try:
        key.key.verify(signature, signed, _ECDSA_SHA384)
    except (InvalidSignature, ValueError):
        return False
    return True
