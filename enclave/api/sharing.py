"""Who may share a prefix cache: one salt, one tenant, one model, one adapter; without a salt nobody."""

import re
import secrets
from typing import Final

from attestation.binding import sha256
from attestation.encoding import b64url_decode, lp
from attestation.errors import MalformedEvidence

from .errors import ApiError

HEADER: Final = "cloister-cache-salt"
LABEL: Final = b"cloister/prefix-share/v1"
SALT_SIZES: Final = range(16, 65)


def share_key(salt: bytes | None, tenant: str, model_root: bytes, adapter: bytes) -> bytes | None:
    """SHA-256 over lp(label), lp(salt), lp(tenant), lp(model root), lp(adapter); None without a salt.

    `adapter` is the root of the adapter's files, or nothing for the base model.
    """
    if salt is None:
        return None
    return sha256(b"".join(lp(part) for part in (LABEL, salt, tenant.encode(), model_root, adapter)))


def salt_of(header: str | None) -> bytes | None:
    """The header's salt, 16 to 64 bytes in unpadded base64url; ApiError 400 for anything else."""
    if header is None:
        return None
    try:
        salt = b64url_decode(header) if re.fullmatch(r"[A-Za-z0-9_-]{1,128}", header) else b""
    except MalformedEvidence:
        salt = b""
    if len(salt) not in SALT_SIZES:
        message = f"{HEADER} is 16 to 64 random bytes in unpadded base64url"
        raise ApiError(400, message, param=HEADER, code="invalid_salt")
    return salt


def fresh_share() -> bytes:
    """A key that nobody else has: for the answers to one prompt of one request."""
    return secrets.token_bytes(32)
