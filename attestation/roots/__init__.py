"""Trust anchors, pinned in the package with fingerprint and source; the simulator's among them.

`Roots.pinned({"amd", "nvidia"})` are vendors' roots; `Roots.pinned({"simulator"})` stands for all
vendors at once and for no real hardware. `Roots.from_directory` loads somebody's own, and says so.
"""

import base64
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from ..errors import PolicyError
from .pins import PINS

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509

SIMULATOR = "simulator"
VENDORS = frozenset({"amd", "intel", "nvidia", "azure", "aws", "google"})


@dataclass(frozen=True, kw_only=True)
class Roots:
    """Certificates that are trusted because they are here, by vendor and file stem.

    `names` is what the policy wrote; `simulated` and `custom` mark what a verdict must say. An
    anchor is a certificate, or its DER.
    """

    names: frozenset[str]
    anchors: "Mapping[str, Mapping[str, x509.Certificate | bytes]]"
    simulated: bool = False
    custom: bool = False

    def der(self, vendor: str) -> Mapping[str, bytes]:
        """The certificates trusted for `vendor` in DER, by stem such as "milan_ark"; empty if none are."""
        return self._encoded.get(vendor, {})

    @cached_property
    def _encoded(self) -> Mapping[str, Mapping[str, bytes]]:
        return {
            vendor: MappingProxyType({stem: _der(anchor) for stem, anchor in anchors.items()})
            for vendor, anchors in self.anchors.items()
        }

    def of(self, vendor: str) -> "Mapping[str, x509.Certificate]":
        """The same, parsed."""
        from cryptography import x509

        return {stem: x509.load_der_x509_certificate(raw) for stem, raw in self.der(vendor).items()}

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
    def from_directory(cls, directory: "Path") -> Self:
        """Roots from `directory/<vendor>/*.pem`; the verdict will name them as custom."""
        folders = {path.name: path for path in directory.iterdir() if path.is_dir()}
        unknown = folders.keys() - VENDORS
        if unknown or not folders:
            raise PolicyError(f"{directory}: expected folders named after vendors {sorted(VENDORS)}")
        anchors = {name: _read(path) for name, path in folders.items()}
        if any(_public(c) in _simulated_keys() for found in anchors.values() for c in found.values()):
            raise PolicyError(
                f'{directory} holds the simulator\'s roots: write roots = ["simulator"] instead'
            )
        return cls(
            names=frozenset({f"directory {directory}"}), anchors=MappingProxyType(anchors), custom=True
        )


def _der(anchor: "x509.Certificate | bytes") -> bytes:
    if isinstance(anchor, bytes):
        return anchor
    from cryptography.hazmat.primitives.serialization import Encoding

    return anchor.public_bytes(Encoding.DER)


def _public(certificate: "x509.Certificate") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _simulated_keys() -> frozenset[bytes]:
    """The public keys of the simulator's roots, whose private keys anybody has."""
    roots = Roots.pinned({SIMULATOR})
    return frozenset(_public(c) for vendor in roots.anchors for c in roots.of(vendor).values())


def _read(folder: "Path") -> "Mapping[str, x509.Certificate]":
    from cryptography import x509

    try:
        return {p.stem: x509.load_pem_x509_certificate(p.read_bytes()) for p in sorted(folder.glob("*.pem"))}
    except ValueError as error:
        raise PolicyError(f"{folder}: {error}") from None


@lru_cache(maxsize=16)
def _pinned(folder: str) -> Mapping[str, bytes]:
    """The DER of the package's own files, each compared with its pin."""
    found: dict[str, bytes] = {}
    for name, pin in PINS[folder].items():
        with open(os.path.join(os.path.dirname(__file__), folder, f"{name}.pem"), "rb") as file:
            found[name] = base64.b64decode(b"".join(file.read().split(b"-----")[2].split()))
        if hashlib.sha256(found[name]).hexdigest() != pin.fingerprint:
            raise RuntimeError(f"{folder}/{name}.pem is not the certificate that is pinned; reinstall")
    return MappingProxyType(found)
