"""Documents that owners sign or release: JSON in its RFC 8785 form, without fractions, read strictly."""

import base64
import json
from collections.abc import Mapping
from typing import Any, NoReturn, Self

from .errors import LocalProtocolError, MalformedDocument

MAX_INTEGER = (1 << 53) - 1
"""The largest whole number that every JSON reader keeps exactly."""


def encode(value: Mapping[str, Any]) -> bytes:
    """The one form of a document. Raises LocalProtocolError for what has none."""
    import rfc8785

    try:
        return rfc8785.dumps(dict(value))
    except (rfc8785.CanonicalizationError, RecursionError) as error:
        raise LocalProtocolError(f"no canonical JSON: {error}") from None


def decode(raw: bytes, what: str, *, limit: int) -> "Members":
    """The object in `raw`, which must be its own RFC 8785 form. Raises MalformedDocument naming `what`."""
    if len(raw) > limit:
        raise MalformedDocument(f"{what} of {len(raw)} bytes exceeds {limit}")
    try:
        value = json.loads(raw.decode("utf-8"), parse_float=_no_number, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise MalformedDocument(f"{what} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise MalformedDocument(f"{what} is not a JSON object")
    try:
        form = encode(value)
    except (LocalProtocolError, UnicodeError):
        raise MalformedDocument(f"{what} has no canonical form") from None
    if form != raw:
        raise MalformedDocument(f"{what} is not in its canonical form (RFC 8785)")
    return Members(value, what)


def b64url(raw: bytes) -> str:
    """Unpadded base64url (RFC 4648, section 5)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


class Members:
    """The members of one object, taken one by one; MalformedDocument names what does not fit."""

    def __init__(self, table: Mapping[str, Any], what: str) -> None:
        self._left = dict(table)
        self._what = what

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def text(self, name: str, *, limit: int, empty: bool = False) -> str:
        """A string of 1 (0 if `empty`) to `limit` characters."""
        value = self._take(name)
        if not isinstance(value, str) or not (1 - empty) <= len(value) <= limit:
            raise self._wrong(name, f"a string of at most {limit} characters")
        return value

    def octets(self, name: str, *sizes: int, limit: int = 8192) -> bytes:
        """Bytes in canonical base64url; of one of `sizes`, if any are given."""
        text = self.text(name, limit=limit, empty=True)
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raise self._wrong(name, "base64url") from None
        if b64url(raw) != text or (sizes and len(raw) not in sizes):
            raise self._wrong(name, f"{' or '.join(map(str, sizes)) or 'some'} bytes in base64url")
        return raw

    def hexadecimal(self, name: str, size: int) -> bytes:
        """`size` bytes in lower-case hexadecimal."""
        text = self.text(name, limit=2 * size)
        if len(text) != 2 * size or not set(text) <= set("0123456789abcdef"):
            raise self._wrong(name, f"{size} bytes in lower-case hexadecimal")
        return bytes.fromhex(text)

    def whole(self, name: str, low: int = 0, high: int = MAX_INTEGER) -> int:
        """A whole number between `low` and `high`, both included."""
        value = self._take(name)
        if type(value) is not int or not low <= value <= high:
            raise self._wrong(name, f"a whole number from {low} to {high}")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._take(name)
        if type(value) is not bool:
            raise self._wrong(name, "true or false")
        return value

    def sequence(self, name: str, *, limit: int) -> list[Any]:
        """A list of at most `limit` items."""
        value = self._take(name)
        if not isinstance(value, list) or len(value) > limit:
            raise self._wrong(name, f"a list of at most {limit}")
        return value

    def inner(self, name: str) -> Self:
        """One object."""
        return self._inside(self._take(name), f"{self._what}, {name}")

    def objects(self, name: str, *, limit: int) -> list[Self]:
        """A list of at most `limit` objects."""
        items = self.sequence(name, limit=limit)
        return [self._inside(item, f"{self._what}, {name}[{n}]") for n, item in enumerate(items)]

    def texts(self, name: str, *, limit: int, length: int) -> tuple[str, ...]:
        """A sorted list of different strings of 1 to `length` characters each."""
        items = self.sequence(name, limit=limit)
        if not all(isinstance(item, str) and 0 < len(item) <= length for item in items):
            raise self._wrong(name, f"a list of strings of 1 to {length} characters")
        if items != sorted(set(items)):
            raise self._wrong(name, "sorted, each once")
        return tuple(items)

    def exactly(self, name: str, value: str) -> None:
        """The one string that must stand there."""
        if self._take(name) != value:
            raise self._wrong(name, repr(value))

    def end(self) -> None:
        """Nothing may be left over."""
        if self._left:
            raise MalformedDocument(
                f"{self._what} has unknown members: {', '.join(sorted(self._left))[:200]}"
            )

    def _inside(self, item: Any, what: str) -> Self:
        if not isinstance(item, dict):
            raise MalformedDocument(f"{what} is not an object")
        return type(self)(item, what)

    def _take(self, name: str) -> Any:
        if name not in self._left:
            raise MalformedDocument(f"{self._what} has no {name}")
        return self._left.pop(name)

    def _wrong(self, name: str, wanted: str) -> MalformedDocument:
        return MalformedDocument(f"{self._what}: {name} is not {wanted}")


def _no_number(_: str) -> NoReturn:
    raise ValueError("a number that is not whole")
