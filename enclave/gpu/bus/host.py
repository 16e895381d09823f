"""What the host does: it makes the shared memory and the doorbells, hands them out, and reports who is gone.

Whoever plays the host can do more than this; that is what the two ends are built against.
"""

import fcntl
import mmap
import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

from .geometry import MAGIC, WORD, Cell, Class, Geometry, Side, cell

NAME: Final = "cloister-bus"
_ABOUT: Final = struct.Struct("<8s4I")
SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


@dataclass(frozen=True, slots=True)
class Descriptors:
    """File descriptors of one bus, the same for both ends: the memory and eight eventfds.

    `bells` are in the order of `bell_index`. Pass `numbers()` to a child with pass_fds and in its orders;
    `of` reads them there.
    """

    memory: int
    bells: tuple[int, ...]

    def numbers(self) -> tuple[int, ...]:
        """All nine."""
        return (self.memory, *self.bells)

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Self:
        """From `numbers`. Raises ValueError unless there are nine."""
        memory, *bells = numbers
        if len(bells) != BELLS:
            raise ValueError(f"a bus has {BELLS} doorbells, not {len(bells)}")
        return cls(memory, tuple(bells))

    def close(self) -> None:
        """Close them in this process."""
        for number in self.numbers():
            with suppress(OSError):
                os.close(number)


BELLS: Final = 8


def bell_index(sender: Side, ring: Class, for_consumer: bool) -> int:
    """Which doorbell tells a ring's consumer of records, or its producer of room."""
    return 4 * sender + 2 * ring + (0 if for_consumer else 1)


class Bus:
    """One bus, as the host holds it: bytes and 8-byte words. Use it as a context manager, or close it."""

    def __init__(self, geometry: Geometry, descriptors: Descriptors, memory: mmap.mmap) -> None:
        self.geometry = geometry
        self.descriptors = descriptors
        self._map = memory
        self.memory = memoryview(memory)
        self.words = self.memory.cast("Q")

    @classmethod
    def create(cls, geometry: Geometry | None = None) -> Self:
        """A new bus: a memfd that can neither shrink nor grow, named so that watchers find it."""
        geometry = geometry or Geometry()
        number = os.memfd_create(NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(number, geometry.size)
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, SEALS)
        flags = os.EFD_CLOEXEC | os.EFD_NONBLOCK
        bells = tuple(os.eventfd(0, flags) for _ in range(BELLS))
        memory = mmap.mmap(number, geometry.size)
        bus = cls(geometry, Descriptors(number, bells), memory)
        _ABOUT.pack_into(bus.memory, 0, MAGIC, *_sizes(geometry))
        return bus

    def unplug(self, side: Side) -> None:
        """Tell the other end that this one's process is gone, and wake whoever waits."""
        self.words[cell(side, Cell.BOOT)] = 0
        for bell in self.descriptors.bells:
            with suppress(BlockingIOError):
                os.eventfd_write(bell, 1)

    def close(self) -> None:
        """Give up the host's own mapping and descriptors; the ends keep theirs."""
        self.words.release()
        self.memory.release()
        with suppress(BufferError):  # a watcher still holds a view: the mapping goes with that
            self._map.close()
        self.descriptors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def described(memory: memoryview) -> Geometry:
    """The geometry that page 0 names, for watchers only. Raises ValueError."""
    if len(memory) < _ABOUT.size:
        raise ValueError("too short for a bus")
    magic, control_slots, control_bytes, bulk_slots, bulk_bytes = _ABOUT.unpack_from(memory)
    if magic != MAGIC:
        raise ValueError("not a bus")
    geometry = Geometry(
        control_slots=control_slots,
        control_bytes=control_bytes,
        bulk_slots=bulk_slots,
        bulk_bytes=bulk_bytes,
    )
    if geometry.size != len(memory) or len(memory) % WORD:
        raise ValueError("the memory has another size than its description")
    return geometry


def _sizes(geometry: Geometry) -> tuple[int, int, int, int]:
    return geometry.control_slots, geometry.control_bytes, geometry.bulk_slots, geometry.bulk_bytes
