"""What the host is: firmware levels and versions, mitigations, platform features."""

from ..verdict import Sheet
from .checks import SnpCheck as Check
from .flags import PlatformInfo, named
from .policy import PLATFORM_REQUIREMENTS, SnpPolicy
from .product import Product
from .report import SnpReport

ANY = "any, as the policy spells out"
_ALIAS_CHECK_COMPLETE, _TIO = int(PlatformInfo.ALIAS_CHECK_COMPLETE), int(PlatformInfo.TIO)


def check(sheet: Sheet, report: SnpReport, product: Product | None, rules: SnpPolicy) -> None:
    """Record every check on firmware and platform; minimum TCBs are those of `product`."""
    found = f"version {report.version}"
    expected = f"at least {rules.minimum_report_version}"
    sheet.record(Check.REPORT_VERSION, report.version >= rules.minimum_report_version, found, expected)
    _check_tcb(sheet, report, product, rules)
    _check_committed(sheet, report, rules)
    _check_version(sheet, report, rules)
    _check_mitigations(sheet, report, rules)
    _check_features(sheet, report, rules)


def _check_tcb(sheet: Sheet, report: SnpReport, product: Product | None, rules: SnpPolicy) -> None:
    current = report.current_tcb
    honest = current.at_least(report.reported_tcb)
    sheet.record(Check.TCB_CLAIMED, honest, str(report.reported_tcb), f"at most {current}")
    floor = rules.minimum_tcb.get(product) if rules.minimum_tcb is not None and product else None
    for name, tcb in (
        (Check.TCB_REPORTED, report.reported_tcb),
        (Check.TCB_COMMITTED, report.committed_tcb),
        (Check.TCB_LAUNCH, report.launch_tcb),
        (Check.TCB_CURRENT, current),
    ):
        if rules.minimum_tcb is None:
            sheet.record(name, True, str(tcb), ANY)
        elif floor is None:
            sheet.unevaluable(name, f"no minimum for {product or 'an unknown product line'}", "a minimum_tcb")
        else:
            sheet.record(name, tcb.at_least(floor), str(tcb), f"at least {floor}")


def _check_committed(sheet: Sheet, report: SnpReport, rules: SnpPolicy) -> None:
    current, committed = report.current_tcb, report.committed_tcb
    found = f"{committed}, {report.committed_version}"
    running = f"{current}, {report.current_version}"
    if rules.allow_provisional_firmware:
        older = current.at_least(committed) and report.current_version >= report.committed_version
        sheet.record(Check.COMMITTED_FIRMWARE, older, found, f"at most what runs: {running}")
    else:
        same = current == committed and report.current_version == report.committed_version
        sheet.record(Check.COMMITTED_FIRMWARE, same, found, f"what runs: {running}")


def _check_version(sheet: Sheet, report: SnpReport, rules: SnpPolicy) -> None:
    versions = (report.current_version, report.committed_version)
    floor = (*rules.minimum_version, rules.minimum_build)
    passed = all((v.major, v.minor, v.build) >= floor for v in versions)
    found = f"current {versions[0]}, committed {versions[1]}"
    sheet.record(Check.FIRMWARE_VERSION, passed, found, "at least {}.{} build {}".format(*floor))


def _check_mitigations(sheet: Sheet, report: SnpReport, rules: SnpPolicy) -> None:
    launch, current = report.launch_mit_vector or 0, report.current_mit_vector or 0
    wanted_launch, wanted_current = rules.require_launch_mitigations, rules.require_current_mitigations
    passed = not (wanted_launch & ~launch or wanted_current & ~current)
    stated = report.launch_mit_vector is not None
    found = f"launch {launch:#x}, current {current:#x}" if stated else "not stated before version 5"
    expected = f"launch {wanted_launch:#x}, current {wanted_current:#x}"
    sheet.record(Check.MITIGATIONS, passed, found, expected)


def _check_features(sheet: Sheet, report: SnpReport, rules: SnpPolicy) -> None:
    # Plain integers: flag arithmetic costs more than all other checks here.
    info, required = int(report.platform_info), int(rules.require_platform)
    complete = bool(info & _ALIAS_CHECK_COMPLETE)
    found = "complete" if complete else "not complete, or not stated"
    expected = ANY if rules.allow_missing_alias_check else "complete"
    sheet.record(Check.ALIAS_CHECK, complete or rules.allow_missing_alias_check, found, expected)
    problems = [f"{name} is off" for name in named(PLATFORM_REQUIREMENTS, required & ~info)]
    if info & _TIO and not (rules.allow_tio or required & _TIO):
        problems.append("tio is on")
    unknown = report.platform_info.unknown
    if unknown and not rules.allow_unknown_platform_bits:
        problems.append(f"unknown bits {unknown:#x}")
    found = "; ".join((f"{info:#x}", *problems))
    sheet.record(Check.PLATFORM_INFO, not problems, found, f"has {required:#x}")
