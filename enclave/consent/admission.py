"""Whether a joint workload may start: every party signed, and what is loaded is what they signed for."""

from collections.abc import Iterable, Mapping

from attestation import CpuEvidence, LoadedModel, Workload
from sealing.consent import Consent, Loaded, Manifest
from sealing.errors import ConsentRefused

Identified = tuple[bytes, str]
"""The root of something that is loaded, and the key hash of who sealed it, in hex; "" for plain files."""


def admit(
    consent: Consent, workload: Workload, *, measurement: bytes, data: Mapping[str, Identified], now: int
) -> Manifest:
    """The manifest in force. `data` maps names of documents to root and owner, `now` is Unix seconds.

    Raises ConsentRefused, which names the first thing that differs: a signature, the expiry, the code, the
    base model, an adapter, documents; something less and something more than was signed for alike.
    """
    manifest = consent.check(now)
    if measurement != manifest.measurement:
        found, wanted = measurement.hex()[:16], manifest.measurement.hex()[:16]
        raise ConsentRefused(f"the parties signed for code {wanted}..., this worker is {found}...")
    check_loaded(manifest, workload)
    _equal("documents", manifest.data, data)
    return manifest


def check_loaded(manifest: Manifest, workload: Workload) -> None:
    """Raise ConsentRefused unless exactly the models and adapters that the manifest names are loaded."""
    _equal("base model", [manifest.base], _by_name(workload.models))
    _equal("adapter", manifest.adapters, _by_name(workload.adapters))


def own_measurement(cpu: CpuEvidence) -> bytes:
    """What the hardware measured this worker as, 48 bytes, read from a report of its own.

    Raises ConsentRefused for hardware that this worker cannot read.
    """
    if cpu.tee != "sev-snp":
        raise ConsentRefused(f"this worker cannot read its own measurement from {cpu.tee} evidence")
    from attestation.snp import SnpReport

    return SnpReport.from_bytes(cpu.report).measurement


def _by_name(loaded: Iterable[LoadedModel]) -> dict[str, Identified]:
    return {item.name: (item.root, item.owner) for item in loaded}


def _equal(what: str, named: Iterable[Loaded], found: Mapping[str, Identified]) -> None:
    wanted = {item.name: (item.root, item.owner.hex() if item.owner else "") for item in named}
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            raise ConsentRefused(f"{what} {name} is in the consent and is not loaded")
        if name not in wanted:
            raise ConsentRefused(f"{what} {name} is loaded and is not in the consent")
        if wanted[name] != found[name]:
            raise ConsentRefused(
                f"{what} {name} is {_shown(found[name])}, the parties signed for {_shown(wanted[name])}"
            )


def _shown(item: Identified) -> str:
    root, owner = item
    return f"root {root.hex()[:16]}..." + (f" sealed by {owner[:16]}..." if owner else "")
