"""Trust anchors, pinned in the package with fingerprint and source; the simulator's among them.

`Roots.pinned({"amd", "nvidia"})` are vendors' roots; `Roots.pinned({"simulator"})` stands for all
vendors at once and for no real hardware. `Roots.from_directory` loads somebody's own, and says so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from ..errors import PolicyError
from .pins import PINS

SIMULATOR = "simulator"
VENDORS = frozenset({"amd", "intel", "nvidia", "azure", "aws", "google"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """Certificates that are trusted because they are here, by vendor and file stem.

    `names` is what the policy wrote; `simulated` and `custom` mark what a verdict must say.
    """

    names: frozenset[str]
    anchors: Mapping[str, Mapping[str, x509.Certificate]]
    simulated: bool = False
    custom: bool = False

    def of(self, vendor: str) -> Mapping[str, x509.Certificate]:
        """The certificates trusted for `vendor`, by stem such as "milan_ark"; empty if none are."""
        return self.anchors.get(vendor, MappingProxyType({}))

    @classmethod
    def pinned(cls, names: Iterable[str]) -> Self:
        """The package's own roots of these names; PolicyError for an unknown or a forbidden mix."""
        chosen = frozenset(names)
        unknown = chosen - VENDORS - {SIMULATOR}
        if unknown or not chosen:
            raise PolicyError(
                f"roots: {sorted(unknown) or 'none named'}; known: {sorted(VENDORS)}, simulator"
            )
        if SIMULATOR in chosen:
            if len(chosen) > 1:
                raise PolicyError("roots: the simulator may not be named together with vendors' roots")
            anchors = {vendor: _pinned(f"{SIMULATOR}/{vendor}") for vendor in ("amd", "nvidia")}
            return cls(names=chosen, anchors=MappingProxyType(anchors), simulated=True)
        return cls(names=chosen, anchors=MappingProxyType({name: _pinned(name) for name in chosen}))

    @classmethod
    def from_directory(cls, directory: Path) -> Self:
        """Roots from `directory/<vendor>/*.pem`; the verdict will name them as custom."""
        folders = {path.name: path for path in directory.iterdir() if path.is_dir()}
        unknown = folders.keys() - VENDORS
        if unknown or not folders:
            raise PolicyError(f"{directory}: expected folders named after vendors {sorted(VENDORS)}")
        anchors = {name: _read(path) for name, path in folders.items()}
        return cls(
            names=frozenset({f"directory {directory}"}), anchors=MappingProxyType(anchors), custom=True
        )


def _read(folder: Path) -> Mapping[str, x509.Certificate]:
    try:
        return {p.stem: x509.load_pem_x509_certificate(p.read_bytes()) for p in sorted(folder.glob("*.pem"))}
    except ValueError as error:
        raise PolicyError(f"{folder}: {error}") from None


@lru_cache(maxsize=16)
def _pinned(folder: str) -> Mapping[str, x509.Certificate]:
    files = resources.files(__name__).joinpath(folder)
    found: dict[str, x509.Certificate] = {}
    for name, pin in PINS[folder].items():
        certificate = x509.load_pem_x509_certificate(files.joinpath(f"{name}.pem").read_bytes())
        if certificate.fingerprint(hashes.SHA256()).hex() != pin.fingerprint:
            raise RuntimeError(f"{folder}/{name}.pem is not the certificate that is pinned; reinstall")
        found[name] = certificate
    return MappingProxyType(found)
