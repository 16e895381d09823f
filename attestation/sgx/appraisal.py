"""Appraisal of an SGX quote: every check that can be made, on one sheet."""

from ..context import Context
from ..dcap.appraisal import appraise_platform
from ..dcap.enclave import EnclaveReport
from ..dcap.platform import required_checks
from ..dcap.quote import BodyType, Quote
from ..errors import MalformedEvidence
from ..verdict import Sheet
from .checks import SgxCheck as Check
from .policy import SgxPolicy

_INIT = 0x01


def appraise(quote: bytes, context: Context, *, subject: str, report_data: bytes | None) -> Sheet:
    """The sheet of one SGX quote under `context.policy.sgx`.

    `report_data`: the 64 bytes that must be signed; None leaves it to the policy's report_data.
    Raises MalformedEvidence if the quote does not parse.
    """
    rules: SgxPolicy | None = context.policy.sgx
    if rules is None:
        raise ValueError("the policy has no [sgx] section")
    parsed = Quote.from_bytes(quote)
    if parsed.body_type is not BodyType.SGX:
        raise MalformedEvidence("a TDX quote where an SGX quote belongs")
    report = EnclaveReport.from_bytes(parsed.body)
    sheet = Sheet(subject, required_checks(rules) | frozenset(Check))
    sheet.claims.update(_claims(parsed, report))
    appraise_platform(sheet, parsed, context, rules, "SGX")
    _check_enclave(sheet, report, rules)
    _check_report_data(sheet, report, rules, report_data)
    return sheet


def _check_enclave(sheet: Sheet, report: EnclaveReport, rules: SgxPolicy) -> None:
    sealed = bool(report.attributes[0] & _INIT) and (not report.debug or rules.allow_debug)
    expected = "INIT" if rules.allow_debug else "INIT, not DEBUG"
    sheet.record(Check.DEBUG, sealed, f"attributes {report.attributes.hex()}", expected)
    signed = report.mrsigner in rules.mrsigners and report.isvprodid == rules.isvprodid
    known = rules.allow_any_measurement or report.mrenclave in rules.mrenclaves or signed
    found = (
        f"mrenclave {report.mrenclave.hex()}, mrsigner {report.mrsigner.hex()}, product {report.isvprodid}"
    )
    sheet.record(Check.MEASUREMENT, known, found, _expected(rules))
    minimum = rules.minimum_isvsvn
    sheet.record(Check.ISVSVN, report.isvsvn >= minimum, str(report.isvsvn), f"at least {minimum}")
    sheet.record(Check.CONFIG, report.configid in rules.configids, report.configid.hex(), "zero, or listed")


def _expected(rules: SgxPolicy) -> str:
    if rules.allow_any_measurement:
        return "any, as the policy spells out"
    enclaves = ", ".join(sorted(item.hex() for item in rules.mrenclaves)) or "none"
    signers = ", ".join(sorted(item.hex() for item in rules.mrsigners)) or "none"
    return f"mrenclave {enclaves}; or mrsigner {signers} with product {rules.isvprodid}"


def _check_report_data(sheet: Sheet, report: EnclaveReport, rules: SgxPolicy, bound: bytes | None) -> None:
    if bound is not None:
        sheet.equal(Check.REPORT_DATA, report.report_data, bound)
    elif rules.report_data or rules.allow_any_report_data:
        known = rules.allow_any_report_data or report.report_data in rules.report_data
        expected = (
            ", ".join(sorted(item.hex() for item in rules.report_data)) or "any, as the policy spells out"
        )
        sheet.record(Check.REPORT_DATA, known, report.report_data.hex(), expected)
    else:
        sheet.unevaluable(Check.REPORT_DATA, "neither a binding nor the policy says what it must be")


def _claims(quote: Quote, report: EnclaveReport) -> dict[str, object]:
    return {
        "version": quote.header.version,
        "cpusvn": report.cpusvn.hex(),
        "attributes": report.attributes.hex(),
        "debug": report.debug,
        "mrenclave": report.mrenclave.hex(),
        "mrsigner": report.mrsigner.hex(),
        "isvprodid": report.isvprodid,
        "isvsvn": report.isvsvn,
        "configid": report.configid.hex(),
        "configsvn": report.configsvn,
        "report_data": report.report_data.hex(),
    }
