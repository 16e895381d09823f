"""What a policy may say of TDX: the [tdx] section. docs/policy.md describes each key."""

from dataclasses import dataclass
from typing import Self

from ..dcap.policy import DcapPolicy, listed_or_any, platform_keys, report_data_keys
from ..errors import PolicyError
from ..section import Section
from .attributes import TdAttributes

MEASUREMENT_SIZE = 48
REGISTERS = ("rtmr0", "rtmr1", "rtmr2", "rtmr3")
ZERO = bytes(MEASUREMENT_SIZE)
# DEBUG has a key of its own; profiling is never allowed; SEPT_VE_DISABLE is asked for, not allowed.
OPTIONAL_ATTRIBUTES = {str(item.name) for item in TdAttributes if item > TdAttributes.PMT_PROF} - {
    "SEPT_VE_DISABLE"
}

Listed = frozenset[bytes] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxPolicy(DcapPolicy):
    """The [tdx] section. A set of None means that anything goes, which the policy wrote out.

    `mrseams` and `xfams` restrict if not None. `event_log_registers` are those that an event log
    must explain, whenever there is one.
    """

    mrtds: Listed
    rtmrs: tuple[Listed, Listed, Listed, Listed]
    report_data: frozenset[bytes]
    allow_any_report_data: bool
    allow_debug: bool
    allow_sept_ve: bool
    allow_attributes: TdAttributes
    xfams: Listed
    mrseams: Listed
    mrservicetds: Listed
    mrconfigids: Listed
    mrowners: Listed
    mrownerconfigs: Listed
    minimum_tee_tcb_svn: bytes
    require_event_log: bool
    event_log_registers: frozenset[str]

    @classmethod
    def parse(cls, section: Section) -> Self:
        """The section; PolicyError for what is missing, unknown or contradictory."""
        any_measurement = section.flag("allow_any_measurement")
        any_register = section.choices("allow_any_registers", {"mrtd", *REGISTERS}, [])
        loose = {"mrtd", *REGISTERS} if any_measurement else any_register
        any_config = section.flag("allow_any_config_ids")
        attributes = section.choices("allow_attributes", OPTIONAL_ATTRIBUTES, [])
        return cls(
            **platform_keys(section),
            **report_data_keys(section),
            mrtds=_measurements(section, "mrtd", loose),
            rtmrs=(
                _measurements(section, "rtmr0", loose),
                _measurements(section, "rtmr1", loose),
                _measurements(section, "rtmr2", loose),
                _measurements(section, "rtmr3", loose),
            ),
            allow_debug=section.flag("allow_debug"),
            allow_sept_ve=section.flag("allow_sept_ve"),
            allow_attributes=_attributes(attributes),
            xfams=section.digests("xfams", 8) if "xfams" in section else None,
            mrseams=section.digests("mrseams", MEASUREMENT_SIZE) if "mrseams" in section else None,
            mrservicetds=_zero_or(section, "mrservicetds", section.flag("allow_any_service_td")),
            mrconfigids=_zero_or(section, "mrconfigids", any_config),
            mrowners=_zero_or(section, "mrowners", any_config),
            mrownerconfigs=_zero_or(section, "mrownerconfigs", any_config),
            minimum_tee_tcb_svn=section.digest("minimum_tee_tcb_svn", 16, "00" * 16),
            require_event_log=section.flag("require_event_log"),
            event_log_registers=section.choices("event_log_registers", set(REGISTERS), [*REGISTERS]),
        )


def _measurements(section: Section, register: str, loose: frozenset[str] | set[str]) -> Listed:
    escape = f'allow_any_registers = ["{register}"] or allow_any_measurement = true'
    return listed_or_any(section, f"{register}s", MEASUREMENT_SIZE, escape, register in loose)


def _zero_or(section: Section, key: str, escaped: bool) -> Listed:
    """Zero and what `key` lists, or None where the policy writes out that anything goes."""
    listed = section.digests(key, MEASUREMENT_SIZE, [])
    if escaped and listed:
        raise PolicyError(f"{section.name}.{key} is listed and yet anything is allowed; choose one")
    return None if escaped else listed | {ZERO}


def _attributes(names: frozenset[str]) -> TdAttributes:
    found = TdAttributes(0)
    for name in names:
        found |= TdAttributes[name]
    return found
