"""A verdict as a signed EAR token: an EAT attestation result that any JOSE library validates.

draft-ietf-rats-ear-04 in its JWT form, with the trustworthiness vectors of draft-ietf-rats-ar4si-10.
docs/ear.md lists the claims and how they follow from the checks.
"""

import hashlib
from datetime import datetime, timedelta
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from .ear_claims import CHECKS_CLAIM, MEDIA_TYPE, PROFILE, VERDICT_CLAIM, Ear, Submodule, read_claims
from .encoding import b64url_encode
from .errors import AttestationError
from .jose import Token
from .trustworthiness import Appraisal, appraisals, worst
from .verdict import Outcome, Result, Verdict

DEVELOPER = "cloister"
LIFETIME = timedelta(hours=1)

__all__ = [
    "Ear",
    "EarKeyError",
    "EarRefused",
    "Submodule",
    "key_id",
    "parse_ear",
    "policy_id",
    "private_key",
    "public_key",
    "read_ear",
    "sign_ear",
]

_KINDS = "an EAR is signed with a P-256, P-384 or Ed25519 key, and with no other"

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class EarRefused(AttestationError):
    """A token that may not be relied on, or a verdict that has expired and may no longer be signed."""


class EarKeyError(AttestationError):
    """A key that is not one of P-256, P-384 or Ed25519, or not of the half that is needed."""


def sign_ear(
    verdict: Verdict,
    key: PrivateKey,
    *,
    issuer: str,
    nonce: bytes | None,
    policy_digest: bytes,
    now: datetime,
    lifetime: timedelta = LIFETIME,
) -> str:
    """The verdict as a JWT signed with ES256, ES384 or EdDSA, as the key is P-256, P-384 or Ed25519.

    `nonce`: the relying party's, 8 to 64 bytes. `policy_digest`: 32 bytes, `Policy.digest`. The token
    expires `lifetime` after `now`, and never later than an accepted verdict does. EarRefused for a
    verdict that has expired by `now`; EarKeyError for another key; ValueError for a nonce or digest
    of another size, or a verdict about nothing.
    """
    import jwt

    algorithm = _algorithm(key.public_key() if isinstance(key, PrivateKey) else key)
    claims = _claims(verdict, policy_digest) | {
        "iss": issuer,
        "iat": int(now.timestamp()),
        "exp": _expiry(verdict, now, lifetime),
    }
    if nonce is not None:
        if not 8 <= len(nonce) <= 64:
            raise ValueError(f"nonce of {len(nonce)} bytes, not 8 to 64 (RFC 9711, 4.1)")
        claims["eat_nonce"] = b64url_encode(nonce)
    headers = {"typ": MEDIA_TYPE, "kid": key_id(key.public_key())}
    return jwt.encode(claims, key, algorithm=algorithm, headers=headers)


def read_ear(
    token: str,
    public_key: PublicKey,
    *,
    now: datetime,
    issuer: str | None = None,
    nonce: bytes | None = None,
    leeway: timedelta = timedelta(),
) -> Ear:
    """The result in `token`, verified: signed by `public_key`, current, and about what was asked.

    The algorithm is the one that the key is for, whatever the token says. `issuer` and `nonce` are
    compared if given. MalformedEvidence for what is no EAR; EarRefused for one that does not hold;
    EarKeyError for a key of another kind.
    """
    algorithm = _algorithm(public_key)
    parsed = Token.from_compact(token)
    if not _signed(parsed, public_key, algorithm):
        raise EarRefused(f"the token is not signed by this key with {algorithm}")
    ear = read_claims(parsed)
    if not ear.issued_at - leeway <= now < ear.expires_at + leeway:
        raise EarRefused(f"the token holds from {ear.issued_at.isoformat()} to {ear.expires_at.isoformat()}")
    if issuer is not None and ear.issuer != issuer:
        raise EarRefused(f"the token was issued by {ear.issuer!r}, not {issuer!r}")
    if nonce is not None and ear.nonce != nonce:
        raise EarRefused("the token answers another nonce, or none")
    return ear


def parse_ear(token: str) -> Ear:
    """The result in `token`, with neither signature nor time looked at: for showing, never for relying on."""
    return read_claims(Token.from_compact(token))


def private_key(pem: bytes) -> PrivateKey:
    """The signing key in unencrypted `pem`; EarKeyError if there is none of a kind that fits."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise EarKeyError(f"not an unencrypted private key in PEM: {type(error).__name__}") from None
    if isinstance(key, PrivateKey):
        _algorithm(key.public_key())
        return key
    raise EarKeyError(_KINDS)


def public_key(pem: bytes) -> PublicKey:
    """The verifying key in `pem`; EarKeyError if there is none of a kind that fits."""
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise EarKeyError(f"not a public key in PEM: {type(error).__name__}") from None
    if isinstance(key, PublicKey):
        _algorithm(key)
        return key
    raise EarKeyError(_KINDS)


def key_id(key: PublicKey) -> str:
    """`kid`: base64url of the SHA-256 of the key's SubjectPublicKeyInfo."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return b64url_encode(hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).digest())


def policy_id(digest: bytes) -> str:
    """A policy's digest as a name of its own (RFC 6920)."""
    if len(digest) != hashlib.sha256().digest_size:
        raise ValueError(f"policy digest of {len(digest)} bytes, not 32")
    return f"ni:///sha-256;{b64url_encode(digest)}"


def _claims(verdict: Verdict, policy_digest: bytes) -> dict[str, Any]:
    found = appraisals(verdict)
    if not found:
        raise ValueError("a verdict without results says nothing that could be signed")
    return {
        "eat_profile": PROFILE,
        "ear_verifier_id": {"developer": DEVELOPER, "build": _build()},
        "ear_status": str(worst(appraisal.status for appraisal in found.values())),
        "submods": {
            subject: _submodule(verdict, subject, appraisal, policy_id(policy_digest))
            for subject, appraisal in found.items()
        },
        VERDICT_CLAIM: {
            "verdict": verdict.word,
            "accepted": verdict.accepted,
            "simulated": verdict.simulated,
            "custom_roots": verdict.custom_roots,
            "at": int(verdict.at.timestamp()),
        },
    }


def _submodule(verdict: Verdict, subject: str, appraisal: Appraisal, policy: str) -> dict[str, Any]:
    rows = [_row(verdict, result) for result in verdict.results if result.subject == subject]
    claims: dict[str, Any] = {
        "ear_status": str(appraisal.status),
        "ear_trustworthiness_vector": {str(claim): value for claim, value in appraisal.vector.items()},
        "ear_appraisal_policy_ids": [policy],
        "ear_verifier_claims": {CHECKS_CLAIM: rows},
    }
    # What evidence says of itself holds only if the verdict is accepted.
    if verdict.accepted and verdict.claims.get(subject):
        claims["ear_attester_claims"] = dict(verdict.claims[subject])
    return claims


def _row(verdict: Verdict, result: Result) -> dict[str, Any]:
    row: dict[str, Any] = {
        "check": str(result.check),
        "outcome": str(result.outcome),
        "required": verdict.requires(result),
    }
    return row if result.outcome is Outcome.PASS else row | {"found": result.found}


def _expiry(verdict: Verdict, now: datetime, lifetime: timedelta) -> int:
    """A refusal is no trust that could outlive its evidence; an acceptance ends with its verdict."""
    end = now + lifetime
    if verdict.expires_at is not None and (verdict.accepted or verdict.expires_at > now):
        end = min(end, verdict.expires_at)
    if int(end.timestamp()) <= int(now.timestamp()):
        raise EarRefused(f"the verdict expired at {end.isoformat()}, so that no token was signed")
    return int(end.timestamp())


def _build() -> str:
    from importlib import metadata

    try:
        return f"cloister {metadata.version('cloister')}"
    except metadata.PackageNotFoundError:
        return "cloister, not installed"


def _algorithm(key: object) -> str:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "EdDSA"
    if isinstance(key, ec.EllipticCurvePublicKey):
        algorithm = {"secp256r1": "ES256", "secp384r1": "ES384"}.get(key.curve.name)
        if algorithm:
            return algorithm
    raise EarKeyError(_KINDS)


def _signed(token: Token, key: PublicKey, algorithm: str) -> bool:
    import jwt

    if token.header.get("alg") != algorithm:
        return False
    try:
        jwt.PyJWS(algorithms=[algorithm]).decode_complete(token.compact, key, [algorithm])
    except (jwt.PyJWTError, ValueError, TypeError):
        return False
    return True
