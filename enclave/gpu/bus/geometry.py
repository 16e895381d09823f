"""Where everything lies in the shared memory. Both ends are told the geometry; neither reads it from there.

page 0   written once by the host, for watchers; no end reads it
page 1   written by the worker alone: its boot number, indices, sleep flags
page 2   the same of the device
then     four rings, each at a page boundary: control and bulk to the device, control and bulk back
"""

import mmap
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

PAGE: Final = mmap.PAGESIZE
WORD: Final = 8
LINE: Final = 64
FIELD: Final = 4
LEAD: Final = 16
TAG: Final = 16
KIB: Final = 1024
MAX_RING: Final = 4 * 1024 * KIB
MAX_CHUNK: Final = 2 * 1024 * KIB
MAGIC: Final = b"CLBUS/1\0"


class Side(IntEnum):
    """Who an end is. Its value is also the direction of what it sends."""

    WORKER = 0
    DEVICE = 1

    @property
    def other(self) -> "Side":
        """The end across the bus."""
        return Side(1 - self)


class Class(IntEnum):
    """Small messages, or bulk chunks: separate rings, keys and counters."""

    CONTROL = 0
    BULK = 1


class Cell(IntEnum):
    """Words of an end's own page, each in a cache line of its own; add the class for those of a ring."""

    BOOT = 0
    SEEN = 1
    PRODUCER_SLEEPS = 2
    TAIL = 4
    CONSUMER_SLEEPS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Slots a ring and plaintext bytes a slot, for the rings of each class.

    Slot counts are powers of two. A bulk chunk is at most 2 MiB and a ring at most 4 MiB of plaintext, so
    that it stays in the processor's cache. Raises ValueError.
    """

    control_slots: int = 64
    control_bytes: int = 2 * KIB
    bulk_slots: int = 4
    bulk_bytes: int = 512 * KIB

    def __post_init__(self) -> None:
        for slots, size in ((self.control_slots, self.control_bytes), (self.bulk_slots, self.bulk_bytes)):
            if not 2 <= slots <= 4096 or slots & (slots - 1):
                raise ValueError("a ring has 2 to 4096 slots, a power of two")
            if not 64 <= size <= MAX_CHUNK or slots * size > MAX_RING:
                raise ValueError("a slot holds 64 bytes to 2 MiB, and a ring at most 4 MiB")

    @property
    def size(self) -> int:
        """Bytes of the whole shared memory."""
        return self.ring_at(Side.DEVICE, Class.BULK) + self._ring_size(Class.BULK)

    def slots(self, which: Class) -> int:
        """Slots of a ring of this class."""
        return self.control_slots if which is Class.CONTROL else self.bulk_slots

    def capacity(self, which: Class) -> int:
        """Plaintext bytes that fit into one slot; a tag fits besides."""
        return self.control_bytes if which is Class.CONTROL else self.bulk_bytes

    def stride(self, which: Class) -> int:
        """Bytes from one slot to the next: 16 for the header, payload, tag, up to a whole line."""
        return -(-(LEAD + self.capacity(which) + TAG) // LINE) * LINE

    def ring_at(self, sender: Side, which: Class) -> int:
        """Offset of the ring on which `sender` sends."""
        before = 3 * PAGE
        if which is Class.BULK:
            before += 2 * self._ring_size(Class.CONTROL)
        return before + sender * self._ring_size(which)

    def _ring_size(self, which: Class) -> int:
        return -(-self.slots(which) * self.stride(which) // PAGE) * PAGE


def cell(side: Side, which: Cell, ring: Class = Class.CONTROL) -> int:
    """Index, in 8-byte words from the start of the memory, of a word on `side`'s page."""
    line = which + ring if which >= Cell.PRODUCER_SLEEPS else which
    return (PAGE * (1 + side) + LINE * line) // WORD
