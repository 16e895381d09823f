"""JSON of the protocol, read as the server reads it: unknown members ignored, known ones of one type."""

import base64
import json
from collections.abc import Mapping
from typing import Any, NoReturn

from ..errors import MalformedMessage, MessageTooLarge

MAX_DEPTH = 32


def table(raw: bytes, what: str, *, limit: int) -> Mapping[str, Any]:
    """The JSON object in `raw`. MalformedMessage for anything else, a member given twice among them."""
    if len(raw) > limit:
        raise MessageTooLarge(f"{what} of {len(raw)} bytes exceeds {limit}")
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
        _bounded(value, 0)
    except (ValueError, RecursionError) as error:  # the text of a ValueError quotes no values
        raise MalformedMessage(f"{what} is not JSON: {type(error).__name__}") from None
    return as_table(value, what)


def as_table(value: Any, what: str) -> Mapping[str, Any]:
    """`value` as an object."""
    if not isinstance(value, dict):
        raise MalformedMessage(f"{what} is not an object")
    return value


def member(found: Mapping[str, Any], name: str, what: str) -> Any:
    """A member that must be there."""
    if name not in found:
        raise MalformedMessage(f"{what} has no {name}")
    return found[name]


def text(found: Mapping[str, Any], name: str, what: str, *, limit: int) -> str:
    """A string of at most `limit` characters."""
    value = member(found, name, what)
    if not isinstance(value, str) or len(value) > limit:
        raise MalformedMessage(f"{what}: {name} is not a string of at most {limit}")
    return value


def octets(found: Mapping[str, Any], name: str, what: str, *, limit: int) -> bytes:
    """Bytes in unpadded, canonical base64url."""
    return decode(text(found, name, what, limit=limit), f"{what}: {name}")


def decode(value: str, what: str) -> bytes:
    """Bytes of unpadded, canonical base64url."""
    try:
        raw = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise MalformedMessage(f"{what} is not base64url") from None
    if encode(raw) != value:
        raise MalformedMessage(f"{what} is not canonical base64url")
    return raw


def encode(raw: bytes) -> str:
    """Unpadded base64url."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def compact(value: Any) -> bytes:
    """`value` as JSON without blanks, members in the order given, as the server writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is given twice")
    return found


def _no_constant(_: str) -> NoReturn:
    raise ValueError("not JSON")


def _bounded(value: Any, depth: int) -> None:
    """No deep nesting, no lone surrogates, no number that is not finite."""
    if depth > MAX_DEPTH:
        raise ValueError("nested too deep")
    match value:
        case dict():
            for name, item in value.items():
                name.encode("utf-8")
                _bounded(item, depth + 1)
        case list():
            for item in value:
                if type(item) is not int:  # certificates are long arrays of octets
                    _bounded(item, depth + 1)
        case str():
            value.encode("utf-8")
        case float() if value in (float("inf"), float("-inf")):
            raise ValueError("a number out of range")
