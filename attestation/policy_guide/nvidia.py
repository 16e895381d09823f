"""The [nvidia_gpu] and [nvidia_switch] sections, and [nras]."""

from typing import Any

from .words import (
    Guide,
    Key,
    Statement,
    Writing,
    accepts,
    allowance,
    demand,
    fill,
    flag,
    loosening,
    only,
    restricted,
    weakened,
)


def _versions(noun: str) -> Any:
    def say(value: Any) -> Statement:
        return weakened(f"any {noun} version") if value.any else accepts(f"{noun} version: {value}")

    return say


def _shared(noun: str, chips: str, extra: tuple[Key, ...] = ()) -> tuple[Key, ...]:
    bios = "VBIOS" if noun == "GPU" else "BIOS"
    return (
        Key(
            name="count",
            type="integer, 1 to 64",
            default="required",
            meaning=f"How many {noun}s there must be, no more and no fewer.",
            value=fill(f"how many {noun}s"),
            writing=Writing.ALWAYS,
        ),
        Key(
            name="chips",
            type="array of strings",
            default="required",
            meaning="The chips that are trusted.",
            value=chips,
            writing=Writing.ALWAYS,
        ),
        Key(
            name="rims",
            type='"required" or "ignored"',
            default='"ignored"',
            meaning="Whether NVIDIA's signed reference manifests must be at hand and match.",
            value='"required"',
            weakens="ignored: only listed measurements judge the firmware.",
            writing=Writing.ALWAYS,
        ),
        Key(
            name="measurements",
            type="array of 48-byte hex",
            default="none; one of measurements, rims, allow_any_measurements is needed",
            meaning="SHA-384 of measurement records that are trusted.",
            value='["<48 bytes>"]',
        ),
        *extra,
        Key(
            name="vbios_versions",
            type="array of strings",
            default="one of vbios_versions, minimum_vbios, allow_any_vbios is needed",
            meaning=f"{bios} versions that are trusted.",
            value='["96.00.9F.00.01"]',
        ),
        Key(
            name="minimum_vbios",
            type="array of strings",
            default="none",
            meaning=f"Least {bios} versions; each speaks for those that share its first two numbers.",
            value=fill(f"an array of {bios} versions"),
            writing=Writing.ALWAYS,
        ),
        Key(
            name="devices",
            type="array of 32-byte hex",
            default="any genuine device",
            meaning="SHA-256 of the keys of the devices that are trusted.",
            weakens=f"Without it a host can relay to a genuine {noun} that is not attached.",
            value=fill(f"an array of keys of your {noun}s"),
            writing=Writing.STRICT,
        ),
        loosening(
            "allow_missing_rim",
            'With rims = "required": do with one manifest where driver and firmware each have one.',
            "Measurements that only the missing manifest speaks for are not judged.",
        ),
        loosening(
            "allow_any_measurements",
            "Take any measurements.",
            f"Any firmware that the {noun} runs passes.",
        ),
        loosening("allow_any_vbios", f"Take any {bios} version.", "Versions with known holes pass."),
        loosening(
            "allow_debug",
            "Take firmware in a debug, recovery or insecure state.",
            f"The {noun}'s memory may be open to the host.",
        ),
        loosening(
            "allow_missing_fwid", "Do without a firmware identity.", "The certificate does not tie firmware."
        ),
        loosening("allow_hold", "Take a certificate that is on hold.", "A revocation may be under way."),
        loosening("allow_missing_ocsp", "Do without revocation status.", "A revoked device passes."),
    )


_SHARED_FIELDS = {
    "chips": only("chips"),
    "vbios": _versions("VBIOS"),
    "measurements": only("measurements", empty="measurements: none by digest"),
    "require_rims": demand("NVIDIA's signed manifests must match", "signed manifests are not asked for"),
    "devices": restricted("devices", "devices: any genuine one, also one that is not attached"),
    "allow_any_measurements": flag("any firmware measurements pass", "firmware measurements are judged"),
    "allow_missing_rim": flag(
        "one of the two signed manifests may be missing", "no signed manifest may be missing where they count"
    ),
    "allow_debug": flag(
        "debug, recovery or insecure firmware states are taken", "debug and recovery states are refused"
    ),
    "allow_missing_fwid": flag("a missing firmware identity is taken", "the firmware identity must match"),
    "allow_hold": flag("certificates on hold are taken", "certificates on hold are refused"),
    "allow_missing_ocsp": flag("revocation need not be known", "current revocation status must be at hand"),
}

NVIDIA_GPU = Guide(
    title="NVIDIA GPUs",
    roots=("nvidia",),
    bundle=True,
    simulator=True,
    keys=(
        *_shared(
            "GPU",
            '["GH100", "GB100"]',
            (
                Key(
                    name="driver_versions",
                    type="array of strings",
                    default="one of driver_versions, minimum_driver, allow_any_driver is needed",
                    meaning="Driver versions that are trusted.",
                    value='["570.133.20"]',
                ),
                Key(
                    name="minimum_driver",
                    type="string",
                    default="none",
                    meaning="Least driver version.",
                    value=fill("the least driver version"),
                    writing=Writing.ALWAYS,
                ),
                loosening("allow_any_driver", "Take any driver version.", "Versions with known holes pass."),
            ),
        ),
        loosening(
            "allow_protected_pcie",
            "Take GPUs in protected-PCIe mode.",
            "Traffic between GPUs crosses switches, which must be judged too ([nvidia_switch]).",
        ),
        loosening(
            "allow_unattested_switches",
            "In protected-PCIe mode: do without switch evidence.",
            "Whatever sits between the GPUs passes.",
        ),
    ),
    fields={
        "count": lambda count: accepts(f"exactly {count} GPU(s)"),
        **_SHARED_FIELDS,
        "driver": _versions("driver"),
        "allow_protected_pcie": flag("protected-PCIe mode is taken", "protected-PCIe mode is refused"),
        "allow_unattested_switches": flag(
            "switches need not be attested", "switches between GPUs must be attested"
        ),
    },
)

NVIDIA_SWITCH = Guide(
    title="NVSwitches in protected-PCIe mode; goes with [nvidia_gpu]",
    roots=("nvidia",),
    keys=_shared("switch", '["LS10"]'),
    fields={"count": lambda count: accepts(f"exactly {count} switch(es)"), **_SHARED_FIELDS},
)

NRAS = Guide(
    title="Tokens of NVIDIA's attestation service",
    roots=("nvidia",),
    keys=(
        Key(
            name="count",
            type="integer, 1 to 64",
            default="required",
            meaning="How many devices the response must be about.",
            value=fill("how many devices"),
            writing=Writing.ALWAYS,
        ),
        Key(
            name="key_issuers",
            type="array of 32-byte hex",
            default="required, unless trust_collateral_keys",
            meaning="SHA-256 of the SubjectPublicKeyInfo of authorities for the service's keys.",
            value=fill("an array of authorities' key digests"),
            writing=Writing.ALWAYS,
        ),
        Key(
            name="models",
            type="array of strings",
            default="required",
            meaning="Hardware models that are trusted.",
            value=fill('an array of models, for example ["GH100"]'),
            writing=Writing.ALWAYS,
        ),
        Key(
            name="ueids",
            type="array of strings",
            default="any device",
            meaning="The devices, by the ueid that the service gives: the serial number of the device's leaf"
            " certificate, in decimal. Without it a genuine response about another device passes.",
            value=fill("an array of ueids"),
            writing=Writing.STRICT,
        ),
        Key(
            name="drivers",
            type="array of strings",
            default="required, unless allow_any_driver",
            meaning="Driver versions that are trusted.",
            value=fill("an array of driver versions"),
            writing=Writing.ALWAYS,
        ),
        Key(
            name="vbios",
            type="array of strings",
            default="required, unless allow_any_vbios",
            meaning="VBIOS versions that are trusted.",
            value=fill("an array of VBIOS versions"),
            writing=Writing.ALWAYS,
        ),
        Key(
            name="max_clock_skew",
            type="integer, seconds, 0 to 300",
            default="0",
            meaning="How far the service's clock may differ.",
            weakens="Tokens live that much longer.",
            value="30",
        ),
        loosening(
            "trust_collateral_keys",
            "Take the key set as supplied.",
            "Whoever supplies the collateral can sign: the key set itself is not signed.",
        ),
        loosening("allow_any_driver", "Take any driver version.", "Versions with known holes pass."),
        loosening("allow_any_vbios", "Take any VBIOS version.", "Versions with known holes pass."),
        loosening(
            "allow_warnings", "Take devices that the service warns about.", "The warning goes unheeded."
        ),
        loosening("allow_missing_nonce", "Do without your own nonce.", "An old response can be replayed."),
    ),
    fields={
        "count": lambda count: accepts(f"exactly {count} device(s)"),
        "key_issuers": only(
            "authorities of the service's keys", any_value="whoever supplies the key set can sign tokens"
        ),
        "models": only("models"),
        "ueids": restricted("devices", "devices: any genuine one, whoever's"),
        "drivers": only("driver versions", any_value="any driver version"),
        "vbios": only("VBIOS versions", any_value="any VBIOS version"),
        "max_clock_skew": allowance("seconds that clocks may differ", "clocks may not differ"),
        "allow_warnings": flag("the service's warnings are ignored", "a warning of the service refuses"),
        "allow_missing_nonce": flag("replayed responses pass", "the response must answer the caller's nonce"),
    },
)
