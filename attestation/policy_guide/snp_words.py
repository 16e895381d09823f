"""The [snp] section's fields in plain words."""

from collections.abc import Mapping
from typing import Any

from .words import (
    Explainer,
    Statement,
    accepts,
    demand,
    flag,
    floor,
    left_open,
    listed,
    only,
    restricted,
    weakened,
)


def _minimum_tcb(value: Mapping[Any, Any] | None) -> Statement:
    if value is None:
        return weakened("any TCB: firmware and microcode with known holes pass")
    levels = "; ".join(f"{line} {value[line]}" for line in sorted(value))
    if not all(floor_.snp and floor_.ucode for floor_ in value.values()):
        return weakened(f"least TCB: {levels}; snp or ucode 0 asks for nothing")
    return accepts(f"least TCB: {levels} (0 asks for nothing)")


def _report_data(value: frozenset[bytes] | None) -> Statement:
    if value is None:
        return weakened("REPORT_DATA outside a bundle may be anything: keys and nonce are not bound")
    if not value:
        return accepts("REPORT_DATA: what the bundle binds, or the caller brings")
    return accepts(f"REPORT_DATA outside a bundle: only {listed(value)}")


def _id_block(noun: str) -> Any:
    return only(noun, any_value=f"any {noun}: whoever signed the ID block passes")


FIELDS: dict[str, Explainer] = {
    "products": only("product lines"),
    "measurements": only("launch measurement", any_value="any launch measurement: any software passes"),
    "report_data": _report_data,
    "host_data": only("HOST_DATA", any_value="any HOST_DATA"),
    "family_ids": _id_block("FAMILY_ID"),
    "image_ids": _id_block("IMAGE_ID"),
    "id_key_digests": _id_block("ID key"),
    "author_key_digests": _id_block("author key"),
    "report_ids": restricted("guest instances", "guest instances: any launch of the measured software"),
    "migration_report_ids": lambda value: (
        weakened("any migration agent may hold the guest")
        if value is None
        else accepts("migration agent: none")
        if value == {b"\xff" * 32}
        else weakened(f"migration agents may hold the guest: {listed(value)}")
    ),
    "chip_ids": restricted("chips", "chips: any genuine one, also in somebody else's hands"),
    "csp_ids": only("VLEK of providers", any_value="the VLEK of any provider"),
    "minimum_tcb": _minimum_tcb,
    "vmpls": lambda value: (
        accepts("VMPL 0 alone may ask for the report")
        if value == {0}
        else left_open(f"the report may come from VMPL {listed(value)}")
    ),
    "minimum_guest_svn": floor("guest security version"),
    "minimum_report_version": lambda value: (
        accepts(f"report version: at least {value}")
        if value > 2
        else left_open("report version: 2 is taken, which does not name the CPU")
    ),
    "minimum_guest_abi": floor("ABI that the guest demands"),
    "minimum_version": floor("SNP firmware version"),
    "minimum_build": floor("SNP firmware build"),
    "require_launch_mitigations": floor("mitigation bits in force at launch"),
    "require_current_mitigations": floor("mitigation bits in force now"),
    "require_guest": lambda value: demand(
        f"guest policy has {value!r}", "guest policy: no further bits asked for"
    )(value),
    "require_platform": lambda value: demand(f"host has {value!r}", "host features: none asked for")(value),
    "allow_debug": flag(
        "DEBUG: the host may read and write the guest's memory", "a guest under debug is refused"
    ),
    "allow_migrate_ma": flag("the guest may be migrated by an agent", "migration is refused"),
    "allow_smt": flag("SMT may be on: sibling threads leak", "SMT must be off, in guest policy and host"),
    "allow_cxl": flag("CXL memory may be used", "CXL memory is refused"),
    "allow_tio": flag("trusted IO may be on", "trusted IO must be off"),
    "allow_missing_alias_check": flag(
        "a missing alias check is taken: BadRAM is not ruled out", "the alias check must be complete"
    ),
    "allow_unknown_platform_bits": flag(
        "unknown platform bits are taken", "platform bits must all be known ones"
    ),
    "allow_provisional_firmware": flag(
        "firmware that is not committed is taken: the host can go back", "firmware must be committed"
    ),
    "allow_vlek": flag(
        "a provider's VLEK may sign: it does not prove the chip", "only the chip's own VCEK may sign"
    ),
    "allow_masked_chip_id": flag("a hidden chip identity is taken", "the chip must show its identity"),
    "allow_missing_crl": flag("revocation by AMD need not be known", "AMD's revocation list must be at hand"),
}
