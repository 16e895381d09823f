"""Which party asks: a bearer token signed by the key that it signed the consent with."""

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sealing.consent import Manifest, Party

AUDIENCE = "cloister"
LEEWAY = 30
MAX_TOKEN = 8192


def caller(manifest: Manifest, authorization: str | None) -> str | None:
    """The party whose token this is, by name; None for no token, or one that is no party's.

    The token is a JWT (EdDSA or ES384): `aud` "cloister", `sub` the party's name, `exp`.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not 0 < len(token) <= MAX_TOKEN:
        return None
    return next((party.name for party in manifest.parties if _is_by(party, token)), None)


def _is_by(party: Party, token: str) -> bool:
    key = party.signer.key()
    algorithm = "EdDSA" if isinstance(key, Ed25519PublicKey) else "ES384"
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=AUDIENCE,
            leeway=LEEWAY,
            options={"require": ["exp", "sub", "aud"], "strict_aud": True},
        )
    except jwt.InvalidTokenError:
        return False
    return bool(claims["sub"] == party.name)
