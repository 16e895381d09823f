"""The [tdx] section."""

from typing import Any

from .dcap import PLATFORM, PLATFORM_FIELDS
from .words import (
    Guide,
    Key,
    Statement,
    Writing,
    accepts,
    demand,
    fill,
    flag,
    floor,
    hexes,
    left_open,
    listed,
    loosening,
    only,
    restricted,
    weakened,
)

_MEASURED = "required, unless allow_any_measurement or allow_any_registers names it"
_REGISTERS = {
    "mrtds": "MRTD: the TD's initial contents (firmware).",
    "rtmr0s": "RTMR0: virtual firmware and its configuration.",
    "rtmr1s": "RTMR1: boot loader and kernel.",
    "rtmr2s": "RTMR2: command line, initial RAM disk.",
    "rtmr3s": "RTMR3: what the application extends.",
}


def _register(name: str) -> Any:
    return only(name, any_value=f"any {name}: what it measures is not judged")


def _rtmrs(value: tuple[Any, ...]) -> Statement:
    loose = [f"RTMR{index}" for index, allowed in enumerate(value) if allowed is None]
    if loose:
        return weakened(f"any value of {', '.join(loose)}: what they measure is not judged")
    return accepts("; ".join(f"RTMR{i}: only {listed(allowed)}" for i, allowed in enumerate(value)))


TDX = Guide(
    title="Intel TDX",
    roots=("intel",),
    bundle=True,
    keys=(
        *(
            hexes(
                name,
                48,
                meaning,
                _MEASURED,
                value=fill(f"an array of values of {name[:-1].upper()}"),
                writing=Writing.ALWAYS,
            )
            for name, meaning in _REGISTERS.items()
        ),
        *PLATFORM,
        hexes("mrseams", 48, "TDX modules that are trusted, one by one.", "any that is Intel's"),
        hexes("xfams", 8, "XFAM values that are trusted, as the quote has them.", "any that is well-formed"),
        hexes(
            "mrservicetds",
            48,
            "Service TDs that may be bound.",
            "none",
            weakens="They share the TD's memory.",
        ),
        hexes("mrconfigids", 48, "MRCONFIGID besides zero.", "zero alone"),
        hexes("mrowners", 48, "MROWNER besides zero.", "zero alone"),
        hexes("mrownerconfigs", 48, "MROWNERCONFIG besides zero.", "zero alone"),
        Key(
            name="minimum_tee_tcb_svn",
            type="16-byte hex",
            default="zero bytes",
            meaning="Least TEE_TCB_SVN, component by component.",
            weakens="Without a minimum, a module updated after launch hides the one it was launched under.",
            value='"<16 bytes>"',
        ),
        Key(
            name="require_event_log",
            type="boolean",
            default="false",
            meaning="An event log must come along and replay to the registers.",
            value="true",
            writing=Writing.STRICT,
        ),
        Key(
            name="event_log_registers",
            type="array out of rtmr0 to rtmr3",
            default="all four",
            meaning="Registers that an event log must explain, whenever there is one.",
            weakens="The log may say anything about the registers left out.",
            value='["rtmr0", "rtmr1", "rtmr2", "rtmr3"]',
        ),
        Key(
            name="allow_attributes",
            type="array of attribute names",
            default="none",
            meaning="Further TD attributes that may be set.",
            weakens="MIGRATABLE, PERFMON and others open the TD to other code or to measurement.",
            value='["PKS"]',
        ),
        Key(
            name="allow_any_registers",
            type="array out of mrtd, rtmr0 to rtmr3",
            default="none",
            meaning="Registers that may hold anything.",
            weakens="What they measure is not judged.",
            value='["rtmr3"]',
        ),
        loosening(
            "allow_any_measurement",
            "MRTD and all RTMRs may hold anything.",
            "Any software may run in the TD.",
        ),
        loosening(
            "allow_any_config_ids",
            "Take any MRCONFIGID, MROWNER, MROWNERCONFIG.",
            "Configuration is not judged.",
        ),
        loosening("allow_any_service_td", "Take any service TD.", "Any migration TD shares the TD's memory."),
        loosening("allow_debug", "Take a TD under debug.", "The host reads and writes the TD's memory."),
        loosening(
            "allow_sept_ve",
            "Take a TD without SEPT_VE_DISABLE.",
            "The host can inject faults at memory access.",
        ),
    ),
    fields={
        **PLATFORM_FIELDS,
        "mrtds": _register("MRTD"),
        "rtmrs": _rtmrs,
        "allow_debug": flag(
            "DEBUG: the host may read and write the TD's memory", "a TD under debug is refused"
        ),
        "allow_sept_ve": flag("SEPT_VE_DISABLE may be clear", "SEPT_VE_DISABLE must be set"),
        "allow_attributes": lambda value: (
            weakened(f"TD attributes that may be set: {value!r}")
            if value
            else accepts("TD attributes: no further")
        ),
        "xfams": restricted("XFAM", "XFAM: any that is well-formed"),
        "mrseams": restricted("TDX modules", "TDX modules: any that is Intel's"),
        "mrservicetds": only("service TD", any_value="any service TD shares the TD's memory"),
        "mrconfigids": only("MRCONFIGID", any_value="any MRCONFIGID"),
        "mrowners": only("MROWNER", any_value="any MROWNER"),
        "mrownerconfigs": only("MROWNERCONFIG", any_value="any MROWNERCONFIG"),
        "minimum_tee_tcb_svn": floor("TEE_TCB_SVN"),
        "require_event_log": demand(
            "an event log must explain the registers", "an event log is not asked for"
        ),
        "event_log_registers": lambda value: (
            accepts("an event log must explain all four RTMRs")
            if len(value) == 4
            else left_open(f"an event log need explain only {listed(value) or 'nothing'}")
        ),
    },
)
