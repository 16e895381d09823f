"""Byte strings and the variable-length integers of RFC 9000, section 16.

Encoding is minimal. Decoding takes any of the four lengths, as RFC 9000 and RFC 9292 do.
"""

from typing import Final

from .errors import LocalProtocolError

Octets = bytes | bytearray | memoryview

VARINT_MAX: Final = (1 << 62) - 1


def encode_varint(value: int) -> bytes:
    """The shortest form, 1 to 8 bytes. Raises LocalProtocolError outside 0 .. 2^62-1."""
    if 0 <= value < 0x40:
        return value.to_bytes()
    if 0 <= value < 0x4000:
        return (0x4000 | value).to_bytes(2)
    if 0 <= value < 0x4000_0000:
        return (0x8000_0000 | value).to_bytes(4)
    if 0 <= value <= VARINT_MAX:
        return (0xC000_0000_0000_0000 | value).to_bytes(8)
    raise LocalProtocolError("a variable-length integer holds 0 to 2^62-1")


def decode_varint(data: Octets, offset: int = 0) -> tuple[int, int] | None:
    """The integer at offset and the offset behind it, or None while bytes are missing."""
    if offset >= len(data):
        return None
    first = data[offset]
    if first < 0x40:
        return first, offset + 1
    end = offset + (1 << (first >> 6))
    if end > len(data):
        return None
    mask = (1 << (8 * (end - offset) - 2)) - 1
    return int.from_bytes(data[offset:end]) & mask, end
