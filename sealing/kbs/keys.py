"""The one-time key that a resource is released to, and its public half as the protocol writes it.

The server hashes the members that it knows and no others: so do `to_json` and everything bound to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ..errors import MalformedMessage, UnsupportedSuite
from . import reading

ECDH_ES_A256KW = "ECDH-ES+A256KW"
RSA_OAEP_256 = "RSA-OAEP-256"
P256 = "P-256"
_MAX_NUMBER = 1400
_RSA_BITS = (2048, 8192)


@dataclass(frozen=True, slots=True)
class EcPublicKey:
    """A P-256 key for ECDH-ES+A256KW; coordinates of 32 bytes."""

    x: bytes
    y: bytes

    def to_json(self) -> dict[str, str]:
        """The members that a server parses and hashes."""
        x, y = reading.encode(self.x), reading.encode(self.y)
        return {"kty": "EC", "crv": P256, "alg": ECDH_ES_A256KW, "x": x, "y": y}

    def load(self) -> ec.EllipticCurvePublicKey:
        """The key; MalformedMessage if the point is not on the curve."""
        numbers = (int.from_bytes(self.x, "big"), int.from_bytes(self.y, "big"))
        try:
            return ec.EllipticCurvePublicNumbers(*numbers, ec.SECP256R1()).public_key()
        except ValueError:
            raise MalformedMessage("tee-pubkey is no point of P-256") from None


@dataclass(frozen=True, slots=True)
class RsaPublicKey:
    """An RSA key for RSA-OAEP-256, 2048 to 8192 bits; big-endian numbers without leading zeros."""

    n: bytes
    e: bytes

    def to_json(self) -> dict[str, str]:
        """The members that a server parses and hashes."""
        n, e = reading.encode(self.n), reading.encode(self.e)
        return {"kty": "RSA", "alg": RSA_OAEP_256, "n": n, "e": e}

    def load(self) -> rsa.RSAPublicKey:
        """The key; MalformedMessage if it is none."""
        modulus = int.from_bytes(self.n, "big")
        low, high = _RSA_BITS
        try:
            if not low <= modulus.bit_length() <= high:
                raise ValueError
            return rsa.RSAPublicNumbers(int.from_bytes(self.e, "big"), modulus).public_key()
        except (ValueError, UnsupportedAlgorithm):
            raise MalformedMessage(f"tee-pubkey is no RSA key of {low} to {high} bits") from None


TeePublicKey = EcPublicKey | RsaPublicKey


def parse_public_key(value: Any) -> TeePublicKey:
    """The key in `value`; UnsupportedSuite for an algorithm that is not offered, MalformedMessage for no key.

    Members besides those of the protocol are ignored, as the server ignores them.
    """
    found: Mapping[str, Any] = reading.as_table(value, "tee-pubkey")
    kind = reading.text(found, "kty", "tee-pubkey", limit=16)
    algorithm = reading.text(found, "alg", "tee-pubkey", limit=64)
    if kind == "EC":
        curve = reading.text(found, "crv", "tee-pubkey", limit=16)
        if (curve, algorithm) != (P256, ECDH_ES_A256KW):
            raise UnsupportedSuite(f"tee-pubkey: {curve[:16]} with {algorithm[:32]} is not offered")
        x, y = (reading.octets(found, name, "tee-pubkey", limit=64) for name in ("x", "y"))
        if len(x) != 32 or len(y) != 32:
            raise MalformedMessage("tee-pubkey: a coordinate of P-256 has 32 bytes")
        key: TeePublicKey = EcPublicKey(x, y)
    elif (kind, algorithm) == ("RSA", RSA_OAEP_256):
        n, e = (reading.octets(found, name, "tee-pubkey", limit=_MAX_NUMBER) for name in ("n", "e"))
        key = RsaPublicKey(n, e)
    else:
        raise UnsupportedSuite(f"tee-pubkey: {kind[:16]} with {algorithm[:32]} is not offered")
    key.load()
    return key


@dataclass(frozen=True, slots=True)
class TeeKeyPair:
    """A fresh P-256 key for one release. The private half never leaves it."""

    private: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """A new key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @property
    def public(self) -> EcPublicKey:
        """Its public half."""
        point = self.private.public_key().public_numbers()
        return EcPublicKey(point.x.to_bytes(32, "big"), point.y.to_bytes(32, "big"))
