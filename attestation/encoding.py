"""The few encodings that evidence is bound through: lp, base64url, JCS, strict JSON."""

import base64
import json
from typing import Any, NoReturn, cast

from .errors import MalformedEvidence

MAX_JSON_DEPTH = 32
MAX_SAFE_INTEGER = (1 << 53) - 1
"""The largest integer that RFC 8785 writes."""

_SIMPLE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def u32be(value: int) -> bytes:
    """`value` as four bytes, big-endian."""
    return value.to_bytes(4, "big")


def lp(data: bytes) -> bytes:
    """`data` behind its length as u32be (design, section 3)."""
    return u32be(len(data)) + data


def b64url_encode(data: bytes) -> str:
    """Unpadded base64url (RFC 4648, section 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def b64url_decode(text: str) -> bytes:
    """Bytes of unpadded, canonical base64url; anything else is MalformedEvidence."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise MalformedEvidence(f"not base64url: {error}") from None
    if b64url_encode(raw) != text:
        raise MalformedEvidence("base64url is padded or not canonical")
    return raw


def canonical(value: Any) -> bytes:
    """`value` as JSON in the one form that RFC 8785 (JCS) allows."""
    if _is_simple(value):
        return _SIMPLE.encode(value).encode("utf-8")
    import rfc8785  # loaded when a document is not simple: most are

    return rfc8785.dumps(value)


def strict_json(raw: bytes, *, limit: int) -> Any:
    """The JSON value in `raw`, at most `limit` bytes.

    Refused as MalformedEvidence: oversize, bad UTF-8, a byte-order mark, duplicate keys, NaN and
    infinities, lone surrogates, nesting beyond 32, trailing bytes.
    """
    if len(raw) > limit:
        raise MalformedEvidence(f"JSON of {len(raw)} bytes exceeds {limit}")
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedEvidence(f"not strict JSON: {error}") from None
    _check(value, 0)
    return value


def canonical_json(raw: bytes, *, limit: int) -> Any:
    """The JSON value in `raw`, which must be its own RFC 8785 form byte for byte."""
    value = strict_json(raw, limit=limit)
    try:
        form = canonical(value)
    except ValueError as error:
        raise MalformedEvidence(f"JSON without a canonical form: {error}") from None
    if form != raw:
        raise MalformedEvidence("JSON differs from its RFC 8785 form")
    return value


def _is_simple(value: Any) -> bool:
    """Whether Python's own encoder writes `value` as RFC 8785 does: ASCII text and safe integers alone."""
    kind = type(value)
    if kind is str:
        return cast(str, value).isascii()
    if kind is int:
        return -MAX_SAFE_INTEGER <= cast(int, value) <= MAX_SAFE_INTEGER
    if kind is dict:
        return all(type(key) is str and key.isascii() and _is_simple(item) for key, item in value.items())
    if kind is list:
        return all(_is_simple(item) for item in value)
    return kind is bool or value is None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("duplicate key in an object")
    return table


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check(value: Any, depth: int) -> None:
    if depth > MAX_JSON_DEPTH:
        raise MalformedEvidence(f"JSON nested deeper than {MAX_JSON_DEPTH}")
    match value:
        case dict():
            for key, item in value.items():
                _check(key, depth)
                _check(item, depth + 1)
        case list():
            for item in value:
                _check(item, depth + 1)
        case str() if not value.isascii():
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                raise MalformedEvidence("lone surrogate in a JSON string") from None
        case float() if value in (float("inf"), float("-inf")):
            raise MalformedEvidence("JSON number out of range")
