"""Who is asking: bearer tokens (JWT, EdDSA) that only ever travel inside the seal."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from enclave.engine.interface import Priority

from .errors import ApiError

AUDIENCE: Final = "cloister"
LEEWAY: Final = 30
MAX_TOKEN: Final = 8192
ANONYMOUS: Final = "anonymous"
_PRIORITIES: Final = tuple(priority.value for priority in Priority)


@dataclass(frozen=True, slots=True)
class Issuer:
    """A tenant token issuer: an Ed25519 public key. Its digest stands in `workload.policies`."""

    key: Ed25519PublicKey

    @classmethod
    def from_pem(cls, pem: bytes) -> "Issuer":
        """The issuer in a PEM public key; ValueError unless it is Ed25519."""
        try:
            key = load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ValueError(f"not a public key: {error}") from None
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError("a token issuer's key is Ed25519")
        return cls(key)

    @property
    def digest(self) -> str:
        """`issuer:sha256:<hex>` over the SubjectPublicKeyInfo, as workload and policies write it."""
        spki = self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return f"issuer:sha256:{hashlib.sha256(spki).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who asks, and how soon it is served: the token's `sub` and `priority`."""

    name: str
    priority: Priority = Priority.STANDARD


@dataclass(frozen=True, slots=True)
class Tenants:
    """The issuers whose tokens are taken. With none, everyone is anonymous and tokens are not looked at."""

    issuers: Sequence[Issuer] = ()

    def of(self, authorization: str | None) -> Tenant:
        """The tenant of an Authorization header; ApiError 401 if there is none to be had."""
        if not self.issuers:
            return Tenant(ANONYMOUS)
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not 0 < len(token) <= MAX_TOKEN:
            raise _denied("no bearer token; this worker answers named tenants only")
        for issuer in self.issuers:
            tenant = _tenant(token, issuer)
            if tenant is not None:
                return tenant
        raise _denied("the token is not valid here: check issuer, audience and expiry")


def _tenant(token: str, issuer: Issuer) -> Tenant | None:
    try:
        claims = jwt.decode(
            token,
            issuer.key,
            algorithms=["EdDSA"],
            audience=AUDIENCE,
            leeway=LEEWAY,
            options={"require": ["exp", "sub", "aud"], "strict_aud": True},
        )
    except jwt.InvalidTokenError:
        return None
    subject, priority = claims["sub"], claims.get("priority", Priority.STANDARD.value)
    if not (isinstance(subject, str) and 0 < len(subject) <= 256):
        return None
    if priority not in _PRIORITIES:
        raise _denied(f"the token's priority is not one of {', '.join(_PRIORITIES)}")
    return Tenant(subject, Priority(priority))


def _denied(message: str) -> ApiError:
    return ApiError(401, message, kind="authentication_error", code="invalid_token")
