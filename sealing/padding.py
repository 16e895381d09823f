"""Bucket sizes, so that a length on the wire says little about a text (docs/spec/channel.md, section 6).

Buckets are the powers of two from 256 bytes to 64 KiB, then the multiples of 64 KiB. Above 128 bytes the
padded size is less than twice the size; padding never adds 64 KiB or more.
"""

from typing import Final

from .errors import LocalProtocolError
from .octets import Octets

SMALLEST: Final = 256
STEP: Final = 1 << 16
EVENT_FLOOR: Final = 512
"""Smallest bucket of an event. A streamed token's event has 200 to 350 bytes: all tokens then look alike."""

MIN_COMMENT: Final = 4
"""The shortest comment, ": " and two line feeds, in bytes."""

_ENDINGS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")


def bucket(size: int, *, smallest: int = SMALLEST) -> int:
    """The smallest bucket that holds `size` bytes, and at least `smallest`. Raises LocalProtocolError."""
    if size < 0:
        raise LocalProtocolError("a size is not negative")
    if size < smallest:
        size = smallest
    if size > STEP:
        return -(-size // STEP) * STEP
    return 1 << (size - 1).bit_length() if size > SMALLEST else SMALLEST


def pad(message: Octets, *, smallest: int = SMALLEST) -> bytes:
    """A binary HTTP message, filled with zero bytes to its bucket; its decoder takes them as padding."""
    return bytes(message).ljust(bucket(len(message), smallest=smallest), b"\x00")


def sse_comment(size: int) -> bytes:
    """An event-stream comment of exactly `size` bytes, closed by a blank line; clients ignore it.

    Raises LocalProtocolError below 4 bytes.
    """
    if size < MIN_COMMENT:
        raise LocalProtocolError(f"a comment has at least {MIN_COMMENT} bytes")
    return b": " + b"." * (size - MIN_COMMENT) + b"\n\n"


def pad_event(event: bytes, *, smallest: int = EVENT_FLOOR) -> bytes:
    """One or more whole events, followed by a comment that fills their bucket; unchanged if they fill it.

    Raises LocalProtocolError unless `event` ends with a blank line: a comment inside an event could join it.
    """
    if event and not event.endswith(_ENDINGS):
        raise LocalProtocolError("an event ends with a blank line")
    size = len(event)
    target = bucket(size, smallest=smallest)
    if target == size:
        return event
    if target - size < MIN_COMMENT:
        target = bucket(target + 1)
    return b"%b: %b\n\n" % (event, b"." * (target - size - MIN_COMMENT))
