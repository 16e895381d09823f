"""Judging what NRAS says of one device."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..verdict import Sheet
from .checks import NrasDeviceCheck as Check
from .policy import NrasPolicy

GPU, SWITCH = "x-nvidia-gpu-", "x-nvidia-switch-"
ERROR = "x-nvidia-error-details"
_REPORT = ("arch-check", "attestation-report-parsed", "attestation-report-signature-verified")
_RIMS = {GPU: ("driver-rim", "vbios-rim"), SWITCH: ("bios-rim",)}
_RIM_TRUE = ("fetched", "schema-validated", "signature-verified", "measurements-available")
_CHAIN = {"x-nvidia-cert-status": "valid", "x-nvidia-cert-ocsp-status": "good"}


def appraise_device(sheet: Sheet, claims: Mapping[str, Any], nonce: object, rules: NrasPolicy) -> None:
    """Record every check of a device's token but those on the token itself.

    `nonce` is the overall token's. What a claim does not say counts as not so.
    """
    kind = SWITCH if any(name.startswith(SWITCH) for name in claims) else GPU
    matched = claims.get(f"{kind}attestation-report-nonce-match")
    same = isinstance(nonce, str) and claims.get("eat_nonce") == nonce
    found = f"{claims.get('eat_nonce')}, match: {matched}"
    sheet.record(Check.NONCE, same and matched is True, found, f"{nonce}, match: True")
    _record(sheet, Check.REPORT, _report_faults(kind, claims))
    _record(sheet, Check.RIMS, _rim_faults(kind, claims))
    _same(sheet, Check.MEASUREMENTS, claims.get("measres"), "success")
    _same(sheet, Check.SECURE_BOOT, claims.get("secboot"), True)
    _same(sheet, Check.DEBUG, claims.get("dbgstat"), "disabled")
    warning = claims.get("x-nvidia-attestation-warning")
    expected = "any, as the policy spells out" if rules.allow_warnings else "none"
    sheet.record(Check.WARNING, rules.allow_warnings or warning is None, _text(warning), expected)
    _check_versions(sheet, kind, claims, rules)
    sheet.claims.update(
        ueid=claims.get("ueid"),
        hwmodel=claims.get("hwmodel"),
        driver=claims.get(f"{kind}driver-version"),
        vbios=_vbios(kind, claims),
        measres=claims.get("measres"),
    )


def _report_faults(kind: str, claims: Mapping[str, Any]) -> list[str]:
    found = [] if ERROR not in claims else [f"the service says: {_text(claims[ERROR])}"]
    found += [name for name in _REPORT if claims.get(kind + name) is not True]
    found += _chain_faults(f"{kind}attestation-report", claims, "cert-chain-validated")
    # Older versions of the claims do not speak of the firmware identity.
    matched = claims.get(f"{kind}attestation-report-cert-chain-fwid-match", True)
    return found if matched is True else [*found, "cert-chain-fwid-match"]


def _rim_faults(kind: str, claims: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for rim in _RIMS[kind]:
        found += [f"{rim}-{name}" for name in _RIM_TRUE if claims.get(f"{kind}{rim}-{name}") is not True]
        found += _chain_faults(kind + rim, claims, "cert-validated")
        # Version 2 of the claims has no such claim.
        if claims.get(f"{kind}{rim}-version-match", True) is not True:
            found.append(f"{rim}-version-match")
    if claims.get(f"{kind}vbios-index-no-conflict", True) is not True:
        found.append("vbios-index-no-conflict")
    return found


def _chain_faults(prefix: str, claims: Mapping[str, Any], older: str) -> list[str]:
    """A chain's faults: version 3 of the claims has an object on each, version 2 one flag."""
    chain = claims.get(f"{prefix}-cert-chain")
    if isinstance(chain, dict):
        return [f"{prefix}-cert-chain {name}" for name, value in _CHAIN.items() if chain.get(name) != value]
    return [] if claims.get(f"{prefix}-{older}") is True else [f"{prefix}-{older}"]


def _check_versions(sheet: Sheet, kind: str, claims: Mapping[str, Any], rules: NrasPolicy) -> None:
    model = str(claims.get("hwmodel")).replace("_", "").split(" ")[0]
    _listed(sheet, Check.MODEL, model, rules.models)
    if rules.ueids is not None:
        _listed(sheet, Check.DEVICE, _text(claims.get("ueid")), rules.ueids)
    if kind == SWITCH:
        sheet.record(Check.DRIVER, True, "a switch has none", "")
    else:
        _listed(sheet, Check.DRIVER, _text(claims.get(f"{kind}driver-version")), rules.drivers)
    _listed(sheet, Check.VBIOS, _text(_vbios(kind, claims)), rules.vbios)


def _vbios(kind: str, claims: Mapping[str, Any]) -> Any:
    return claims.get(f"{kind}{'bios' if kind == SWITCH else 'vbios'}-version")


def _record(sheet: Sheet, check: Check, faults: list[str]) -> None:
    sheet.record(check, not faults, "; ".join(faults) or "all true", "every claim true, chains valid")


def _same(sheet: Sheet, check: Check, found: Any, expected: Any) -> None:
    sheet.record(check, type(found) is type(expected) and found == expected, _text(found), str(expected))


def _listed(sheet: Sheet, check: Check, found: str, allowed: Iterable[str] | None) -> None:
    if allowed is None:
        sheet.record(check, True, found, "any, as the policy spells out")
    else:
        sheet.record(check, found in frozenset(allowed), found, ", ".join(sorted(allowed)) or "none")


def _text(value: Any) -> str:
    return "absent" if value is None else str(value)[:300]
