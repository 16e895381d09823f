"""What a policy may say of NVIDIA GPUs and NVSwitches: the [nvidia_gpu] and [nvidia_switch] sections."""

import re
from dataclasses import dataclass
from typing import Any, Self

from ..errors import PolicyError
from ..section import Section

_DRIVER = re.compile(r"[0-9]{1,5}(\.[0-9]{1,5}){1,3}")
_VBIOS = re.compile(r"[0-9A-F]{2}(\.[0-9A-F]{2}){4}")
_CHIP = re.compile(r"[A-Z0-9]{3,8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """Firmware or driver versions: an allow-list, minimums, or both; `any` is the weakening.

    A VBIOS minimum speaks for the versions that share its first two numbers.
    """

    listed: frozenset[str]
    minimums: frozenset[str]
    any: bool

    def allow(self, version: str | None) -> bool:
        """Whether `version` is listed, or not below the minimum that speaks for it."""
        if self.any:
            return True
        if version is None:
            return False
        return version in self.listed or any(_at_least(version, minimum) for minimum in self.minimums)

    def __str__(self) -> str:
        if self.any:
            return "any, as the policy spells out"
        parts = [*sorted(self.listed), *(f"at least {item}" for item in sorted(self.minimums))]
        return ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePolicy:
    """What GPUs and switches share. `measurements` are SHA-384 of the measurement record.

    `require_rims` asks for signed reference manifests in the collateral; where neither it nor
    `measurements` is in force, `allow_any_measurements` was written out. `allow_missing_rim` does with
    one manifest where two belong; what the one says must hold. `devices` restricts to
    certificates of these keys (SHA-256), or to any genuine device if None.
    """

    count: int
    chips: frozenset[str]
    vbios: Versions
    measurements: frozenset[bytes]
    require_rims: bool
    devices: frozenset[bytes] | None
    allow_any_measurements: bool
    allow_missing_rim: bool
    allow_debug: bool
    allow_missing_fwid: bool
    allow_hold: bool
    allow_missing_ocsp: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaGpuPolicy(DevicePolicy):
    """The [nvidia_gpu] section: how many GPUs, and what each must be."""

    driver: Versions
    allow_protected_pcie: bool
    allow_unattested_switches: bool

    @classmethod
    def parse(cls, section: Section) -> Self:
        """The section; PolicyError for what is missing, unknown or contradictory."""
        return cls(
            **_shared(section, 'chips = ["GH100"]'),
            driver=_versions(section, "driver", _DRIVER, single=True),
            vbios=_versions(section, "vbios", _VBIOS, single=False),
            allow_protected_pcie=section.flag("allow_protected_pcie"),
            allow_unattested_switches=section.flag("allow_unattested_switches"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaSwitchPolicy(DevicePolicy):
    """The [nvidia_switch] section; `vbios` speaks of the switch's BIOS."""

    @classmethod
    def parse(cls, section: Section) -> Self:
        """The section; PolicyError for what is missing, unknown or contradictory."""
        return cls(
            **_shared(section, 'chips = ["LS10"]'), vbios=_versions(section, "vbios", _VBIOS, single=False)
        )


def _shared(section: Section, hint: str) -> dict[str, Any]:
    chips = section.texts("chips", hint=f"name the chips you trust, for example {hint}")
    if not chips or not all(_CHIP.fullmatch(chip) for chip in chips):
        raise PolicyError(f"{section.name}.chips is {sorted(chips)}; write for example {hint}")
    measurements = section.digests("measurements", 48, [])
    rims = section.choice("rims", {"required", "ignored"}, "ignored") == "required"
    allow_any = section.flag("allow_any_measurements")
    if allow_any == bool(measurements or rims):
        raise PolicyError(
            f"{section.name}: list measurements (SHA-384 of the measurement record), or write"
            ' rims = "required", or only if neither is wanted allow_any_measurements = true'
        )
    missing = section.flag("allow_missing_rim")
    if missing and not rims:
        raise PolicyError(f'{section.name}.allow_missing_rim goes only with rims = "required"')
    return {
        "count": section.integer("count", 1, 64),
        "chips": chips,
        "measurements": measurements,
        "require_rims": rims,
        "devices": section.digests("devices", 32) if "devices" in section else None,
        "allow_any_measurements": allow_any,
        "allow_missing_rim": missing,
        "allow_debug": section.flag("allow_debug"),
        "allow_missing_fwid": section.flag("allow_missing_fwid"),
        "allow_hold": section.flag("allow_hold"),
        "allow_missing_ocsp": section.flag("allow_missing_ocsp"),
    }


def _versions(section: Section, name: str, form: re.Pattern[str], *, single: bool) -> Versions:
    listed = section.texts(f"{name}_versions", [])
    if single:
        minimums = frozenset({section.take(f"minimum_{name}", str, "")} - {""})
    else:
        minimums = section.texts(f"minimum_{name}", [])
    for version in listed | minimums:
        if not form.fullmatch(version):
            raise PolicyError(f"{section.name}: {version!r} is not a {name} version")
    allow_any = section.flag(f"allow_any_{name}")
    if allow_any == bool(listed or minimums):
        raise PolicyError(
            f"{section.name}: write {name}_versions or minimum_{name}, or only if neither is wanted"
            f" allow_any_{name} = true"
        )
    return Versions(listed=listed, minimums=minimums, any=allow_any)


def _at_least(version: str, minimum: str) -> bool:
    """Driver versions compare as decimals; VBIOS versions as hexadecimals, within one line."""
    if _VBIOS.fullmatch(minimum):
        same_line = _VBIOS.fullmatch(version) and version[:5] == minimum[:5]
        return bool(same_line) and version >= minimum
    if not _DRIVER.fullmatch(version):
        return False
    return _numbers(version) >= _numbers(minimum)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
