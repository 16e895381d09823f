"""The strict policy that pins one simulated worker: what `--write-policy` writes."""

from collections.abc import Iterable, Mapping

from attestation.section import toml_value

from .chip import PRODUCT, TCB
from .gpu import CHIP, DRIVER, VBIOS


def device_policy(gpu_measurement: bytes) -> str:
    """A policy in TOML that accepts one simulated GPU of this measurement: what a worker judges it by."""
    return _toml({"nvidia_gpu": _gpu(gpu_measurement, 1)}, 3600)


def policy_for(
    measurement: bytes,
    gpu_measurement: bytes,
    *,
    software: str,
    models: Mapping[str, bytes] | Iterable[bytes],
    adapters: Mapping[str, bytes] | Iterable[bytes] = (),
    owners: Iterable[bytes] = (),
    policies: Iterable[str] = (),
    consents: Iterable[str] = (),
    devices: int = 1,
    clock: str = "host",
    max_verdict_age: int = 3600,
) -> str:
    """A policy in TOML that accepts this worker under the simulator's root and no other.

    `measurement` is `Measurement.digest`, `gpu_measurement` what `gpu.measurement_digest` gives, 48
    bytes each; `models` and `adapters` are 32-byte roots, by the names under which alone they may be
    loaded, or without names; `owners` are key hashes; `policies` and `consents` as the
    workload lists them; `max_verdict_age` in seconds. Nothing in it is weakened but the root.
    """
    sections: dict[str, Mapping[str, object]] = {
        "workload": {
            "software": [software],
            "models": _pins(models),
            "adapters": _pins(adapters),
            "owners": _pins(owners),
            "policies": sorted(set(policies)),
            "consents": sorted(set(consents)),
            "clocks": [clock],
        },
        "snp": {"products": [PRODUCT], "measurements": [measurement.hex()]},
        f"snp.minimum_tcb.{PRODUCT}": dict(TCB.to_json()),
        "nvidia_gpu": _gpu(gpu_measurement, devices),
    }
    return _toml(sections, max_verdict_age)


def _gpu(measurement: bytes, count: int) -> Mapping[str, object]:
    return {
        "count": count,
        "chips": [CHIP],
        "measurements": [measurement.hex()],
        "driver_versions": [DRIVER],
        "vbios_versions": [VBIOS],
    }


def _toml(sections: Mapping[str, Mapping[str, object]], max_verdict_age: int) -> str:
    lines = [
        "# SIMULATED: what this policy trusts signs for anybody. It shows the way and protects nothing.",
        "version = 1",
        'roots = ["simulator"]',
        f"max_verdict_age = {max_verdict_age}",
    ]
    for name, table in sections.items():
        lines += ["", f"[{name}]", *(f"{key} = {toml_value(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _pins(values: Mapping[str, bytes] | Iterable[bytes]) -> list[str]:
    if isinstance(values, Mapping):
        return sorted(f"{name}={root.hex()}" for name, root in values.items())
    return sorted({value.hex() for value in values})
