"""DER (X.690) as far as certificates and their extensions use it: strict, bounded, no recursion."""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, NoReturn

from .errors import MalformedEvidence

INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
OID = 0x06
UTF8_STRING = 0x0C
PRINTABLE_STRING = 0x13
IA5_STRING = 0x16
SEQUENCE = 0x30
MAX_INTEGER = 64


class Element(NamedTuple):
    """One element: its identifier octet (low tag numbers only), its content and its whole encoding."""

    tag: int
    content: bytes
    raw: bytes

    def children(self) -> "Elements":
        """The elements inside a constructed element, to be taken in order."""
        return Elements(self.content)


class Elements:
    """Elements end to end, taken one by one; MalformedEvidence for what was not expected."""

    __slots__ = ("_offset", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._offset = 0

    def __bool__(self) -> bool:
        return self._offset < len(self._raw)

    def __iter__(self) -> Iterator[Element]:
        while self:
            yield self.take()

    def peek(self) -> int | None:
        """The next identifier octet, or None at the end."""
        return self._raw[self._offset] if self else None

    def take(self, *tags: int) -> Element:
        """The next element; one of `tags`, if any are named."""
        raw, start = self._raw, self._offset
        tag, body, end = header(raw, start)
        if tags and tag not in tags:
            _refuse(f"identifier {tag:#04x} where {', '.join(f'{t:#04x}' for t in tags)} belongs")
        self._offset = end
        return Element(tag, raw[body:end], raw[start:end])

    def optional(self, tag: int) -> Element | None:
        """The next element if it has this tag."""
        return self.take(tag) if self.peek() == tag else None

    def close(self) -> None:
        """MalformedEvidence if anything is left."""
        if self:
            _refuse(f"{len(self._raw) - self._offset} bytes are left over")


def header(raw: bytes, offset: int) -> tuple[int, int, int]:
    """Identifier octet, start and end of the content of the element at `offset`; the fast way through."""
    body = offset + 2
    if body > len(raw):
        _refuse("it ends where an element should be")
    tag, size = raw[offset], raw[offset + 1]
    if tag & 0x1F == 0x1F:
        _refuse("an identifier of more than one octet")
    if size >= 0x80:
        count = size & 0x7F
        digits = raw[body : body + count]
        size = int.from_bytes(digits, "big")
        if not 1 <= count <= 3 or len(digits) != count or size < 0x80 or digits[0] == 0:
            _refuse("a length is not in its shortest form")
        body += count
    end = body + size
    if end > len(raw):
        _refuse("an element runs past its end")
    return tag, body, end


def only(raw: bytes, *tags: int) -> Element:
    """The one element that fills `raw`."""
    tag, body, end = header(raw, 0)
    if end != len(raw) or (tags and tag not in tags):
        _refuse(f"not one element that fills its place, identifier {tag:#04x}")
    return Element(tag, raw[body:end], raw)


def integer(element: Element) -> int:
    """The value of an INTEGER of at most 64 bytes in its shortest form."""
    content = element.content
    if element.tag != INTEGER or not 0 < len(content) <= MAX_INTEGER:
        _refuse("no INTEGER of a reasonable size")
    if len(content) > 1 and content[0] in (0x00, 0xFF) and content[0] >> 7 == content[1] >> 7:
        _refuse("an INTEGER is not in its shortest form")
    return int.from_bytes(content, "big", signed=True)


def oid(element: Element) -> str:
    """The dotted form of an OBJECT IDENTIFIER of at most 32 bytes."""
    if element.tag != OID:
        _refuse("no OBJECT IDENTIFIER")
    return dotted(element.content)


@lru_cache(maxsize=256)
def dotted(content: bytes) -> str:
    """The dotted form of an OBJECT IDENTIFIER's content."""
    if not 0 < len(content) <= 32 or content[-1] & 0x80:
        _refuse("no OBJECT IDENTIFIER")
    arcs: list[int] = []
    value, fresh = 0, True
    for octet in content:
        if fresh and octet == 0x80:
            _refuse("an OBJECT IDENTIFIER is not in its shortest form")
        value, fresh = value << 7 | octet & 0x7F, not octet & 0x80
        if fresh:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def text(element: Element) -> str:
    """The value of a UTF8String, PrintableString or IA5String."""
    if element.tag not in (UTF8_STRING, PRINTABLE_STRING, IA5_STRING):
        _refuse(f"identifier {element.tag:#04x} where a string belongs")
    try:
        return element.content.decode("utf-8" if element.tag == UTF8_STRING else "ascii")
    except UnicodeDecodeError:
        _refuse("a string is not in its own alphabet")


def _refuse(why: str) -> NoReturn:
    raise MalformedEvidence(f"not DER as expected: {why}")
