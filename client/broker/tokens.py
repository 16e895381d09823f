"""Signed tokens: what a worker gets for its attestation, and what lets an owner administer a broker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_public_key,
)

from attestation.binding import sha256
from attestation.verdict import Verdict
from sealing.kbs import Attestation, EcPublicKey

from .errors import BrokerError

PROFILE: Final = "tag:github.com,2024:confidential-containers/Trustee"
ADMIN_LIFETIME: Final = 3600
_EVIDENCE = "ear.veraison.annotated-evidence"


class TokenRefused(Exception):
    """A token that is not ours, has expired, or says too little."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """The P-256 key that signs attestation tokens (ES256)."""

    _key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def from_der(cls, raw: bytes) -> Self:
        """The issuer whose key `generate` wrote."""
        key = load_der_private_key(raw, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise BrokerError("the store's signing key is not a P-256 key")
        return cls(key)

    @staticmethod
    def generate() -> bytes:
        """A new key in PKCS#8."""
        key = ec.generate_private_key(ec.SECP256R1())
        return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def issue(
        self,
        attestation: Attestation,
        session: str,
        verdict: Verdict,
        policy_id: str,
        *,
        now: float,
        until: float,
    ) -> str:
        """A JWT in the shape that Trustee gives it: an EAR with a submodule for the CPU."""
        import jwt

        runtime = attestation.runtime_data.to_json()
        claims = {
            "iss": "cloister broker",
            "iat": int(now),
            "nbf": int(now),
            "exp": int(until),
            "jti": session,
            "eat_profile": PROFILE,
            "tee-pubkey": runtime["tee-pubkey"],
            "submods": {"cpu0": _submodule(runtime, verdict, policy_id)},
        }
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"jwk": self._jwk()})

    def session(self, token: str, now: float) -> str:
        """The session that a token of ours was issued for. Raises TokenRefused."""
        import jwt

        try:
            claims = jwt.decode(token, self._key.public_key(), ["ES256"], options={"verify_exp": False})
        except (jwt.PyJWTError, ValueError, TypeError):
            raise TokenRefused("not a token of this broker") from None
        session, exp = claims.get("jti"), claims.get("exp")
        if not isinstance(session, str) or not isinstance(exp, int) or now >= exp:
            raise TokenRefused("the token has expired")
        return session

    def _jwk(self) -> dict[str, str]:
        point = self._key.public_key().public_numbers()
        public = EcPublicKey(point.x.to_bytes(32, "big"), point.y.to_bytes(32, "big")).to_json()
        return public | {"alg": "ES256"}


def _submodule(runtime: Mapping[str, Any], verdict: Verdict, policy_id: str) -> dict[str, Any]:
    return {
        "ear.status": "affirming" if verdict.accepted and not verdict.simulated else "none",
        "ear.appraisal-policy-id": policy_id,
        "ear.trustworthiness-vector": {},
        "cloister.verdict": verdict.word,
        _EVIDENCE: {"runtime_data_claims": dict(runtime)},
    }


@dataclass(frozen=True, slots=True)
class Admins:
    """The Ed25519 keys whose tokens administer the broker, by the first 16 hex digits of their SHA-256.

    `audience`: this broker, as tokens have to name it. With None they name nobody, as the server's do: one
    that another broker of the same owner has seen would then work here too.
    """

    _keys: Mapping[str, Ed25519PublicKey]
    audience: str | None = None

    @classmethod
    def from_pems(cls, pems: Sequence[bytes], audience: str | None = None) -> Self:
        """The keys in PEM; BrokerError for another kind."""
        found = {}
        for pem in pems:
            try:
                key = load_pem_public_key(pem)
            except ValueError as error:
                raise BrokerError(f"not a public key in PEM: {error}") from None
            if not isinstance(key, Ed25519PublicKey):
                raise BrokerError("an administrator's key is Ed25519")
            found[key_name(key)] = key
        return cls(found, audience)

    def check(self, token: str | None, now: float) -> str:
        """The name of the key that signed `token`, a JWT for at most an hour. Raises TokenRefused."""
        import jwt

        for name, key in self._keys.items():
            try:
                claims = jwt.decode(
                    token or "", key, ["EdDSA"], audience=self.audience, options={"verify_exp": False}
                )
            except (jwt.PyJWTError, ValueError, TypeError):
                continue
            exp = claims.get("exp")
            if isinstance(exp, int) and now < exp <= now + ADMIN_LIFETIME:
                return name
        raise TokenRefused("administration takes a token signed by an administrator's key")


def key_name(key: Ed25519PublicKey) -> str:
    """What stands for an administrator's key in the log."""
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hex()[:16]


def admin_token(
    key: Ed25519PrivateKey, *, now: float, lifetime: int = 300, audience: str | None = None
) -> str:
    """A token that administers a broker for `lifetime` seconds, an hour at most."""
    import jwt

    claims: dict[str, Any] = {"iat": int(now), "exp": int(now) + min(lifetime, ADMIN_LIFETIME)}
    claims |= {"aud": audience} if audience is not None else {}
    return jwt.encode(claims, key, algorithm="EdDSA")
