"""The simulator's authorities: private keys that anyone can read, and therefore INSECURE.

Keys lie beside this file as INSECURE_*.pem, certificates under attestation/roots/simulator; make_roots.py
made both. A policy accepts them only where it names the simulator.
"""

from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

KEYS = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class AmdAuthority:
    """ARK or ASK: RSA-4096."""

    certificate: x509.Certificate
    key: RSAPrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class NvidiaAuthority:
    """The device root or an intermediate of it: P-384."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey = field(repr=False)


@cache
def ark() -> AmdAuthority:
    """The simulated AMD root key of the Genoa line."""
    return AmdAuthority(_pinned("amd", "genoa_ark"), cast(RSAPrivateKey, _key("genoa_ark")))


@cache
def ask() -> AmdAuthority:
    """The simulated AMD signing key of the Genoa line: it issues VCEK certificates."""
    return AmdAuthority(_pinned("amd", "genoa_ask"), cast(RSAPrivateKey, _key("genoa_ask")))


@cache
def device_authorities() -> tuple[NvidiaAuthority, ...]:
    """The simulated NVIDIA authorities from the root down: root, model, provisioner."""
    root = NvidiaAuthority(_pinned("nvidia", "device_identity_ca"), _device_key("device_identity_ca"))
    stems = ("gh100_identity", "gh100_provisioner")
    return (root, *(NvidiaAuthority(_beside(stem), _device_key(stem)) for stem in stems))


def _key(stem: str) -> object:
    raw = (KEYS / f"INSECURE_{stem}.pem").read_bytes()
    # Validating an RSA-4096 key takes longer than all else here, and these are ours.
    return load_pem_private_key(raw, password=None, unsafe_skip_rsa_key_validation=True)


def _device_key(stem: str) -> EllipticCurvePrivateKey:
    return cast(EllipticCurvePrivateKey, _key(stem))


def _pinned(vendor: str, stem: str) -> x509.Certificate:
    """A root, from where verifiers pin it."""
    source = resources.files("attestation.roots").joinpath("simulator", vendor, f"{stem}.pem")
    return x509.load_pem_x509_certificate(source.read_bytes())


def _beside(stem: str) -> x509.Certificate:
    """An intermediate, which is sent along and pinned nowhere."""
    return x509.load_pem_x509_certificate((KEYS / f"{stem}.pem").read_bytes())
