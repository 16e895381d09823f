"""What the guest is: its policy, and the values that identify it, its owner and its peer."""

from functools import lru_cache
from typing import Any

from ..checks import CheckId
from ..verdict import Sheet
from .checks import SnpCheck as Check
from .flags import GuestFlag, PlatformInfo, named
from .host import ANY
from .policy import GUEST_REQUIREMENTS, SnpPolicy
from .report import NO_MIGRATION_AGENT, SnpReport

# Plain integers: flag arithmetic costs more than all other checks here.
_DEBUG, _MIGRATE_MA, _SMT = int(GuestFlag.DEBUG), int(GuestFlag.MIGRATE_MA), int(GuestFlag.SMT)
_CXL, _HOST_SMT = int(GuestFlag.CXL), int(PlatformInfo.SMT)


def check(sheet: Sheet, report: SnpReport, rules: SnpPolicy, report_data: bytes | None) -> None:
    """Record every check on the guest. `report_data` is what the caller's binding demands, if it has one."""
    _check_weaknesses(sheet, report, rules)
    _check_policy(sheet, report, rules)
    _check_levels(sheet, report, rules)
    _check_report_data(sheet, report, rules, report_data)
    _check_identity(sheet, report, rules)


def _check_weaknesses(sheet: Sheet, report: SnpReport, rules: SnpPolicy) -> None:
    flags = int(report.policy.flags)
    debug = bool(flags & _DEBUG)
    sheet.record(Check.DEBUG, rules.allow_debug or not debug, _state(debug), _limit(rules.allow_debug))
    migrates = bool(flags & _MIGRATE_MA)
    agent = report.report_id_ma
    known = rules.migration_report_ids is None or agent in (*rules.migration_report_ids, NO_MIGRATION_AGENT)
    found = f"{_state(migrates)}, agent {'none' if agent == NO_MIGRATION_AGENT else agent.hex()}"
    passed = known and (rules.allow_migrate_ma or not migrates)
    sheet.record(Check.MIGRATION, passed, found, _limit(rules.allow_migrate_ma))
    smt = (bool(flags & _SMT), bool(int(report.platform_info) & _HOST_SMT))
    found = f"guest policy {_state(smt[0])}, host {_state(smt[1])}"
    sheet.record(Check.SMT, rules.allow_smt or not any(smt), found, _limit(rules.allow_smt))


def _check_policy(sheet: Sheet, report: SnpReport, rules: SnpPolicy) -> None:
    policy, required = report.policy, int(rules.require_guest)
    flags = int(policy.flags)
    problems = [] if policy.well_formed else ["a reserved bit is wrong"]
    problems += [f"lacks {name}" for name in named(GUEST_REQUIREMENTS, required & ~flags)]
    if flags & _CXL and not rules.allow_cxl:
        problems.append("allows CXL")
    found = "; ".join((f"{policy.to_int():#x}", *problems))
    sheet.record(Check.GUEST_POLICY, not problems, found, f"has {required:#x}")
    abi, floor = (policy.abi_major, policy.abi_minor), rules.minimum_guest_abi
    sheet.record(Check.GUEST_ABI, abi >= floor, "{}.{}".format(*abi), "at least {}.{}".format(*floor))


def _check_levels(sheet: Sheet, report: SnpReport, rules: SnpPolicy) -> None:
    svn, floor = report.guest_svn, rules.minimum_guest_svn
    sheet.record(Check.GUEST_SVN, svn >= floor, str(svn), f"at least {floor}")
    sheet.record(Check.VMPL, report.vmpl in rules.vmpls, str(report.vmpl), listed(rules.vmpls))


def _check_report_data(sheet: Sheet, report: SnpReport, rules: SnpPolicy, report_data: bytes | None) -> None:
    if report_data is not None:
        sheet.equal(Check.REPORT_DATA, report.report_data, report_data)
    elif rules.report_data is not None and not rules.report_data:
        why = "neither the caller nor the policy says what it must be"
        sheet.unevaluable(Check.REPORT_DATA, why, "report_data, or allow_any_report_data = true")
    else:
        _member(sheet, Check.REPORT_DATA, report.report_data, rules.report_data)


def _check_identity(sheet: Sheet, report: SnpReport, rules: SnpPolicy) -> None:
    _member(sheet, Check.MEASUREMENT, report.measurement, rules.measurements)
    _member(sheet, Check.HOST_DATA, report.host_data, rules.host_data)
    _member(sheet, Check.FAMILY_ID, report.family_id, rules.family_ids)
    _member(sheet, Check.IMAGE_ID, report.image_id, rules.image_ids)
    _member(sheet, Check.ID_KEY, report.id_key_digest, rules.id_key_digests)
    author = report.author_key_digest
    consistent = report.signer_info.author_key_en or not any(author)
    known = rules.author_key_digests is None or author in rules.author_key_digests
    found = author.hex() if consistent else f"{author.hex()}, though AUTHOR_KEY_EN is 0"
    sheet.record(Check.AUTHOR_KEY, known and consistent, found, _hexes(rules.author_key_digests))
    if rules.chip_ids is not None:
        _member(sheet, Check.CHIP_ALLOWED, report.chip_id, rules.chip_ids)
    if rules.report_ids is not None:
        _member(sheet, Check.REPORT_ID, report.report_id, rules.report_ids)


def _member(sheet: Sheet, name: CheckId, found: bytes, allowed: frozenset[bytes] | None) -> None:
    sheet.record(name, allowed is None or found in allowed, found.hex(), _hexes(allowed))


@lru_cache(maxsize=256)
def _hexes(values: frozenset[bytes] | None) -> str:
    return ANY if values is None else ", ".join(sorted(value.hex() for value in values)) or "none"


@lru_cache(maxsize=64)
def listed(values: frozenset[Any] | None) -> str:
    """The values of a policy in order, for a reader; "any" for None. Remembered, as a policy lasts."""
    return ANY if values is None else ", ".join(sorted(map(str, values))) or "none"


def _state(on: bool) -> str:
    return "on" if on else "off"


def _limit(allowed: bool) -> str:
    return ANY if allowed else "off"
