"""Signed tokens (JWS compact form, RFC 7515) and key sets (RFC 7517), read strictly.

PyJWT does the cryptography; which key, which algorithm and which claims are judged by the callers,
so that each is a check of its own. A token's own `jku`, `jwk` and `x5c` are never looked at.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import Any, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from . import certificates
from .certificates import Certificate, PublicKey
from .encoding import b64url_decode, b64url_encode, canonical, strict_json
from .errors import MalformedEvidence

MAX_TOKEN = 256 * 1024
MAX_KEY_SET = 1024 * 1024
MAX_KEYS = 256
MAX_X5C = 8
MINIMUM_RSA = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A compact JWS whose header and payload are JSON objects. Parsed, not verified."""

    compact: str
    header: Mapping[str, Any]
    claims: Mapping[str, Any]

    @classmethod
    def from_compact(cls, text: str) -> Self:
        """The token in `text`; MalformedEvidence for anything but three canonical base64url parts."""
        if len(text) > MAX_TOKEN:
            raise MalformedEvidence(f"token of {len(text)} characters exceeds {MAX_TOKEN}")
        parts = text.split(".")
        if len(parts) != 3 or not all(part.isascii() for part in parts):
            raise MalformedEvidence("not a compact JWS of three parts")
        header, claims = (strict_json(b64url_decode(part), limit=MAX_TOKEN) for part in parts[:2])
        b64url_decode(parts[2])
        if not isinstance(header, dict) or not isinstance(claims, dict):
            raise MalformedEvidence("a token's header or payload is not a JSON object")
        if "crit" in header or "b64" in header:
            raise MalformedEvidence("a token's header has critical parameters, none of which is known")
        return cls(compact=text, header=header, claims=claims)

    @property
    def kid(self) -> str | None:
        """The key id in the header, or None."""
        kid = self.header.get("kid")
        return kid if isinstance(kid, str) else None

    def signed_by(self, key: "Key", algorithm: str) -> bool:
        """Whether `key` signed this token with `algorithm`, and with no other."""
        import jwt

        if self.header.get("alg") != algorithm or not key.fits(algorithm):
            return False
        try:
            jwt.PyJWS(algorithms=[algorithm]).decode_complete(self.compact, key.public, [algorithm])
        except (jwt.PyJWTError, ValueError, TypeError, Warning):
            return False
        return True

    def seconds(self, claim: str) -> float | None:
        """A NumericDate claim, or None if it is absent or no number."""
        value = self.claims.get(claim)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def current(self, now: datetime, skew: int) -> bool:
        """Whether `nbf` <= now < `exp`, both present, allowing clocks to differ by `skew` seconds."""
        start, end, clock = self.seconds("nbf"), self.seconds("exp"), now.timestamp()
        return start is not None and end is not None and start <= clock + skew and clock - skew < end


@dataclass(frozen=True, kw_only=True)
class Key:
    """One public key of a set. `algorithm` is what it is restricted to, `x5c` its certificates."""

    kid: str
    public: PublicKey = field(repr=False)
    algorithm: str | None
    x5c: tuple[Certificate, ...] = field(repr=False)

    def fits(self, algorithm: str) -> bool:
        """Whether the key is of the kind that `algorithm` takes (RFC 7518, 3), and not for another."""
        if self.algorithm not in (None, algorithm):
            return False
        if isinstance(self.public, rsa.RSAPublicKey):
            return algorithm == "RS256" and self.public.key_size >= MINIMUM_RSA
        return algorithm == "ES384" and isinstance(self.public.curve, ec.SECP384R1)

    @cached_property
    def thumbprint(self) -> bytes:
        """SHA-256 thumbprint (RFC 7638)."""
        return hashlib.sha256(canonical(_members(self.public))).digest()


def key_set(documents: Iterable[bytes]) -> dict[str, Key]:
    """The signing keys of JWK sets, by key id. Keys of kinds not used here are left out.

    MalformedEvidence for a document that is not a JWK set, a key that does not parse, and a key
    id that stands for two keys.
    """
    found: dict[str, Key] = {}
    for document in documents:
        for key in _read(document):
            if found.setdefault(key.kid, key).thumbprint != key.thumbprint:
                raise MalformedEvidence(f"key id {key.kid!r} stands for two keys")
    return found


@lru_cache(maxsize=16)
def _read(document: bytes) -> tuple[Key, ...]:
    keys = (_key(item) for item in _keys(strict_json(document, limit=MAX_KEY_SET)))
    return tuple(key for key in keys if key is not None)


def _keys(document: Any) -> list[Any]:
    items = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(items, list) or len(items) > MAX_KEYS:
        raise MalformedEvidence(f"not a JWK set of at most {MAX_KEYS} keys")
    return items


def _key(item: Any) -> Key | None:
    if not isinstance(item, dict):
        raise MalformedEvidence("a JWK is not an object")
    kid, kty, use = item.get("kid"), item.get("kty"), item.get("use", "sig")
    if not isinstance(kid, str) or kty not in ("RSA", "EC") or use != "sig":
        return None
    if kty == "EC" and str(item.get("crv")) not in _CURVES:
        return None
    chain = _chain(item.get("x5c", []))
    public = public_key(item) if "n" in item or "x" in item else None
    if chain:
        certified = chain[0].key
        if public is not None and _members(public) != _members(certified):
            raise MalformedEvidence(f"key {kid!r} is not the key of its own certificate")
        public = certified
    if public is None:
        raise MalformedEvidence(f"key {kid!r} has neither parameters nor a certificate")
    algorithm = item.get("alg")
    return Key(
        kid=kid,
        public=public,
        algorithm=algorithm if isinstance(algorithm, str) else None,
        x5c=chain,
    )


def _chain(value: Any) -> tuple[Certificate, ...]:
    if not isinstance(value, list) or len(value) > MAX_X5C:
        raise MalformedEvidence("x5c is not a short array")
    try:
        return tuple(certificates.from_der(base64.b64decode(item, validate=True)) for item in value)
    except (ValueError, TypeError) as error:
        raise MalformedEvidence(f"x5c is not base64: {error}") from None


_CURVES: dict[str, type[ec.EllipticCurve]] = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1}
_MAX_RSA_BYTES = 1024


def public_key(jwk: Mapping[str, Any]) -> PublicKey:
    """The RSA (2048 to 8192 bits), P-256 or P-384 key of a JWK's parameters; else MalformedEvidence."""
    try:
        if jwk.get("kty") == "RSA":
            n, e = _number(jwk.get("n")), _number(jwk.get("e"))
            if n.bit_length() < MINIMUM_RSA:
                raise MalformedEvidence(f"an RSA key of fewer than {MINIMUM_RSA} bits")
            return rsa.RSAPublicNumbers(e, n).public_key()
        curve = _CURVES.get(str(jwk.get("crv")))
        if jwk.get("kty") != "EC" or curve is None:
            raise MalformedEvidence("a JWK of a kind that is not used here")
        x, y = _number(jwk.get("x")), _number(jwk.get("y"))
        return ec.EllipticCurvePublicNumbers(x, y, curve()).public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedEvidence(f"a JWK's key is not valid: {error}") from None


def _number(value: Any) -> int:
    if not isinstance(value, str) or not value.isascii() or len(value) > _MAX_RSA_BYTES * 4 // 3 + 1:
        raise MalformedEvidence("a JWK parameter is missing or too long")
    return int.from_bytes(b64url_decode(value), "big")


def _members(public: PublicKey) -> dict[str, str]:
    """The required members (RFC 7638, 3.2), which identify a key."""
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        return {"e": _octets(numbers.e), "kty": "RSA", "n": _octets(numbers.n)}
    point, size = public.public_numbers(), (public.curve.key_size + 7) // 8
    x, y = (b64url_encode(value.to_bytes(size, "big")) for value in (point.x, point.y))
    return {"crv": f"P-{public.curve.key_size}", "kty": "EC", "x": x, "y": y}


def _octets(value: int) -> str:
    return b64url_encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def instant(seconds: float | None) -> str:
    """A NumericDate for people."""
    if seconds is None:
        return "absent"
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s"
