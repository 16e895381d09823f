"""HKDF-SHA256, plain (RFC 5869) and labelled (RFC 9180, section 4)."""

from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

KDF_HKDF_SHA256: Final = 0x0001

_SHA256: Final = SHA256()
_BLOCK: Final = 32
_VERSION: Final = b"HPKE-v1"


def extract(salt: bytes, ikm: bytes) -> bytes:
    """HKDF-Extract: a 32-byte pseudorandom key."""
    return HKDF.extract(_SHA256, salt, ikm)


def expand(prk: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand: `length` bytes, at most 8160."""
    if length > _BLOCK:
        return HKDFExpand(_SHA256, length, info).derive(prk)
    return HKDF.extract(_SHA256, prk, info + b"\x01")[:length]  # one block is one HMAC, as extract is


def labeled_extract(suite_id: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    """RFC 9180, section 4, LabeledExtract."""
    return HKDF.extract(_SHA256, salt, b"".join((_VERSION, suite_id, label, ikm)))


def labeled_expand(suite_id: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """RFC 9180, section 4, LabeledExpand."""
    return expand(prk, b"".join((length.to_bytes(2), _VERSION, suite_id, label, info)), length)
