"""JSON values read strictly: the wrong type, size or spelling is MalformedEvidence."""

from collections.abc import Mapping
from typing import Any

from .encoding import b64url_decode
from .errors import MalformedEvidence


def exact(value: Any, names: set[str], what: str) -> Mapping[str, Any]:
    """`value` as an object with exactly the members `names`."""
    if not isinstance(value, dict) or value.keys() != names:
        raise MalformedEvidence(f"{what} is not an object of exactly {sorted(names)}")
    return value


def sequence(value: Any, what: str, limit: int = 256) -> list[Any]:
    """`value` as an array of at most `limit` items."""
    if not isinstance(value, list) or len(value) > limit:
        raise MalformedEvidence(f"{what} is not an array of at most {limit}")
    return value


def string(value: Any) -> str:
    """`value` as a string."""
    if not isinstance(value, str):
        raise MalformedEvidence(f"expected a string, not {type(value).__name__}")
    return value


def uint(value: Any, limit: int = 2**53 - 1) -> int:
    """`value` as an integer from 0 to `limit`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise MalformedEvidence(f"expected an integer from 0 to {limit}")
    return value


def octets(value: Any, size: int | None = None) -> bytes:
    """`value` as base64url of `size` bytes."""
    raw = b64url_decode(string(value))
    if size is not None and len(raw) != size:
        raise MalformedEvidence(f"expected {size} bytes, not {len(raw)}")
    return raw


def hexadecimal(value: Any, size: int) -> bytes:
    """`value` as lower-case hexadecimal of `size` bytes."""
    text = string(value)
    if len(text) != 2 * size or not set(text) <= set("0123456789abcdef"):
        raise MalformedEvidence(f"expected {size} bytes in lower-case hexadecimal")
    return bytes.fromhex(text)
