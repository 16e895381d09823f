"""Appraisal of a TDX quote: every check that can be made, on one sheet."""

from dataclasses import fields

from ..context import Context
from ..dcap.appraisal import appraise_platform
from ..dcap.documents import masked
from ..dcap.platform import Platform, required_checks
from ..dcap.quote import BodyType, Quote
from ..errors import MalformedEvidence
from ..verdict import Sheet
from .attributes import TdAttributes
from .checks import TdxCheck as Check
from .event_log import EventLog
from .policy import REGISTERS, Listed, TdxPolicy
from .report import TdReport

# XFAM bits that must be set, and those that the architecture defines (TDX Module ABI, XFAM).
XFAM_FIXED = 0x3
XFAM_DEFINED = 0x6DBE7

_TUD = 0xFF
_DEBUG = TdAttributes.DEBUG.value
_SEPT_VE_DISABLE = TdAttributes.SEPT_VE_DISABLE.value
_NAMED = {
    name.lower(): TdAttributes[name].value
    for name in ("DEBUG", "SEPT_VE_DISABLE", "MIGRATABLE", "PKS", "PERFMON")
}
_ALL = frozenset(Check)
_PLAIN = (
    "tee_tcb_svn",
    "mrseam",
    "mrsignerseam",
    "seam_attributes",
    "td_attributes",
    "xfam",
    "mrtd",
    "mrconfigid",
    "mrowner",
    "mrownerconfig",
    *REGISTERS,
    "report_data",
)


def appraise(
    quote: bytes,
    context: Context,
    *,
    subject: str,
    report_data: bytes | None,
    event_log: bytes | None = None,
) -> Sheet:
    """The sheet of one TDX quote under `context.policy.tdx`.

    `report_data`: the 64 bytes that must be signed; None leaves it to the policy's report_data.
    `event_log`: a CCEL (TCG2) or dstack log; whenever given, it must replay to the RTMRs.
    Raises MalformedEvidence if quote or log do not parse.

    1. quote, platform, collateral, TCB status (attestation.dcap);  2. TDX module;
    3. attributes;  4. measurements and event log;  5. report_data, service TD, configuration.
    """
    rules: TdxPolicy | None = context.policy.tdx
    if rules is None:
        raise ValueError("the policy has no [tdx] section")
    parsed = Quote.from_bytes(quote)
    if parsed.body_type is BodyType.SGX:
        raise MalformedEvidence("an SGX quote where a TDX quote belongs")
    report = TdReport.from_bytes(parsed.body_type, parsed.body)
    logged = rules.require_event_log or event_log is not None
    sheet = Sheet(subject, required_checks(rules) | (_ALL if logged else _ALL - {Check.EVENT_LOG}))
    sheet.claims.update(_claims(parsed, report))

    launched = (report.launched.tee_tcb_svn2,) if report.launched else ()
    svns = (report.tee_tcb_svn, *launched)
    platform = appraise_platform(sheet, parsed, context, rules, "TDX", svns)  # 1
    _check_module(platform, report, rules)  # 2
    _check_attributes(sheet, report, rules)  # 3
    _check_measurements(sheet, report, rules)  # 4
    _check_event_log(sheet, report, rules, event_log)
    _check_report_data(sheet, report, rules, report_data)  # 5
    _check_configuration(sheet, report, rules)
    return sheet


def _check_module(platform: Platform, report: TdReport, rules: TdxPolicy) -> None:
    sheet, info = platform.sheet, platform.tcb_info
    found = f"signer {report.mrsignerseam.hex()}, attributes {report.seam_attributes.hex()}"
    if info is None:
        sheet.unevaluable(Check.MODULE, "no TCB info for this platform to judge by")
    elif (module := info.module(report.tee_tcb_svn[1])) is None:
        sheet.record(
            Check.MODULE, False, found, f"an identity TDX_{report.tee_tcb_svn[1]:02X} in the TCB info"
        )
    else:
        # Intel asks for zero attributes whatever the mask says (4.1.2.5.12.2).
        same = masked(report.seam_attributes, module.attributes_mask) == module.attributes == bytes(8)
        same = same and report.mrsignerseam == module.mrsigner and not any(report.seam_attributes)
        expected = f"signer {module.mrsigner.hex()}, attributes zero"
        sheet.record(Check.MODULE, same, found, expected)
    _check_listed(sheet, Check.MRSEAM, report.mrseam, rules.mrseams, "any that Intel signed")
    enough = all(map(int.__ge__, report.tee_tcb_svn, rules.minimum_tee_tcb_svn))
    expected = f"at least {rules.minimum_tee_tcb_svn.hex()}"
    sheet.record(Check.MINIMUM_TCB, enough, report.tee_tcb_svn.hex(), expected)


def _check_attributes(sheet: Sheet, report: TdReport, rules: TdxPolicy) -> None:
    # Plain integers: flag arithmetic costs more than all other checks here.
    attributes = int.from_bytes(report.td_attributes, "little")
    under_debug, rest = attributes & _TUD, attributes & ~_TUD
    allowed = _DEBUG if rules.allow_debug else 0
    sheet.record(Check.DEBUG, not under_debug & ~allowed, f"{under_debug:#x}", f"at most {allowed:#x}")
    optional = rules.allow_attributes.value | _SEPT_VE_DISABLE
    disabled = bool(rest & _SEPT_VE_DISABLE) or rules.allow_sept_ve
    expected = f"at most {optional:#x}" + ("" if rules.allow_sept_ve else ", with SEPT_VE_DISABLE")
    sheet.record(Check.ATTRIBUTES, disabled and not rest & ~optional, f"{rest:#x}", expected)

    xfam = int.from_bytes(report.xfam, "little")
    fits = xfam & XFAM_FIXED == XFAM_FIXED and not xfam & ~XFAM_DEFINED
    listed = rules.xfams is None or report.xfam in rules.xfams
    sheet.record(
        Check.XFAM, fits and listed, report.xfam.hex(), _listed(rules.xfams, "x87, SSE, defined features")
    )


def _check_measurements(sheet: Sheet, report: TdReport, rules: TdxPolicy) -> None:
    _check_listed(sheet, Check.MRTD, report.mrtd, rules.mrtds)
    wrong = [
        f"{name} {value.hex()}"
        for name, value, listed in zip(REGISTERS, report.rtmrs, rules.rtmrs, strict=True)
        if listed is not None and value not in listed
    ]
    checked = [name for name, listed in zip(REGISTERS, rules.rtmrs, strict=True) if listed is not None]
    expected = f"listed values in {', '.join(checked)}" if checked else _ANY
    sheet.record(Check.RTMRS, not wrong, "; ".join(wrong) or "as listed", expected)


def _check_event_log(sheet: Sheet, report: TdReport, rules: TdxPolicy, raw: bytes | None) -> None:
    expected = f"replays to {', '.join(sorted(rules.event_log_registers))}"
    if raw is None:
        if rules.require_event_log:
            sheet.unevaluable(Check.EVENT_LOG, "no event log came with the quote", expected)
        return
    log = EventLog.from_bytes(raw)
    replayed = zip(REGISTERS, log.replay(), report.rtmrs, strict=True)
    wrong = [
        name for name, found, signed in replayed if name in rules.event_log_registers and found != signed
    ]
    faults = [*log.faults, *(f"{name} differs" for name in wrong)]
    found = "; ".join(faults[:4]) or f"{len(log.events)} events ({log.form})"
    if sheet.record(Check.EVENT_LOG, not faults, found, expected):
        named = [[event.name, event.payload.hex()] for event in log.events if event.name]
        sheet.claims["event_log"] = {"form": log.form, "events": len(log.events), "runtime": named}


def _check_report_data(sheet: Sheet, report: TdReport, rules: TdxPolicy, bound: bytes | None) -> None:
    if bound is not None:
        sheet.equal(Check.REPORT_DATA, report.report_data, bound)
    elif rules.report_data or rules.allow_any_report_data:
        listed = None if rules.allow_any_report_data else rules.report_data
        _check_listed(sheet, Check.REPORT_DATA, report.report_data, listed)
    else:
        sheet.unevaluable(Check.REPORT_DATA, "neither a binding nor the policy says what it must be")


def _check_configuration(sheet: Sheet, report: TdReport, rules: TdxPolicy) -> None:
    services = report.service_tds
    fits = rules.mrservicetds is None or all(item in rules.mrservicetds for item in services)
    found = ", ".join(item.hex() for item in services) or "not in TD report 1.0"
    sheet.record(Check.SERVICE_TD, fits, found, _listed(rules.mrservicetds))
    rows = (
        ("mrconfigid", report.mrconfigid, rules.mrconfigids),
        ("mrowner", report.mrowner, rules.mrowners),
        ("mrownerconfig", report.mrownerconfig, rules.mrownerconfigs),
    )
    wrong = [
        f"{name} {value.hex()}" for name, value, listed in rows if listed is not None and value not in listed
    ]
    sheet.record(
        Check.CONFIG_IDS, not wrong, "; ".join(wrong) or "as expected", "zero, or listed in the policy"
    )


_ANY = "any, as the policy spells out"


def _check_listed(sheet: Sheet, check: Check, value: bytes, listed: Listed, otherwise: str = _ANY) -> None:
    sheet.record(check, listed is None or value in listed, value.hex(), _listed(listed, otherwise))


def _listed(listed: Listed, otherwise: str = _ANY) -> str:
    return otherwise if listed is None else ", ".join(sorted(item.hex() for item in listed)) or "none"


def _claims(quote: Quote, report: TdReport) -> dict[str, object]:
    attributes = int.from_bytes(report.td_attributes, "little")
    claims: dict[str, object] = {name: getattr(report, name).hex() for name in _PLAIN}
    claims |= {name: bool(attributes & bit) for name, bit in _NAMED.items()}
    claims["quote_version"], claims["body_type"] = quote.header.version, int(quote.body_type)
    for part in (report.launched, report.extended):
        for item in fields(part) if part else ():
            value = getattr(part, item.name)
            claims[item.name] = value.hex() if isinstance(value, bytes) else value
    return claims
