"""One ring in shared memory: slots, a header word each, an index from either end.

Each end keeps its own index in its own memory and publishes a copy. Whatever it reads from the other end is
one 8-byte load, bounded by what it knows itself: an index that moved backwards or too far ends the session.
The order of stores matters (payload, header, index); x86-64 keeps it. Elsewhere an early read fails its tag.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .doorbell import Doorbell, ring
from .errors import LinkBroken, Reason
from .geometry import LINE, TAG, WORD, Cell, Class, Geometry, Side, cell


@dataclass(frozen=True, slots=True)
class Mapped:
    """The shared memory as an end has it: bytes, 8-byte words, and where what lies."""

    memory: memoryview
    words: memoryview
    geometry: Geometry


class _Ring:
    """What both ends of a ring have: slots, header words, a lock for whoever uses it, a doorbell."""

    def __init__(
        self, mapped: Mapped, sender: Side, which: Class, door: Doorbell, check: Callable[[], None]
    ) -> None:
        geometry = mapped.geometry
        self.capacity = geometry.capacity(which)
        self.count = geometry.slots(which)
        self.mask = self.count - 1
        self.words: memoryview | _Closed = mapped.words
        self.lock = threading.Lock()
        self._door, self._check = door, check
        start, stride = geometry.ring_at(sender, which), geometry.stride(which)
        places = range(start, start + self.count * stride, stride)
        self.headers = tuple(place // WORD for place in places)
        payloads = (place + LINE for place in places)
        self.slots = tuple(mapped.memory[place : place + self.capacity + TAG] for place in payloads)
        self.reset()

    def reset(self) -> None:
        """Begin at index 0 again."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of memory and descriptors."""
        self._door.close()
        self.words = _CLOSED
        for slot in self.slots:
            slot.release()


class _Closed:
    """Stands where the memory was."""

    def __getitem__(self, _: int) -> int:
        raise LinkBroken(Reason.CLOSED)

    def __setitem__(self, _: int, __: int) -> None:
        raise LinkBroken(Reason.CLOSED)


_CLOSED: Final = _Closed()


class Producer(_Ring):
    """The sending end. `bells`: the consumer's, and the one that wakes this end. Hold `lock` to use it."""

    def __init__(
        self,
        mapped: Mapped,
        sender: Side,
        which: Class,
        bells: tuple[int, int],
        check: Callable[[], None],
    ) -> None:
        self._head_at = cell(sender, Cell.HEAD, which)
        self._tail_at = cell(sender.other, Cell.TAIL, which)
        self._sleeper = cell(sender.other, Cell.CONSUMER_SLEEPS, which)
        self._bell, own = bells
        door = Doorbell(mapped.words, cell(sender, Cell.PRODUCER_SLEEPS, which), own)
        super().__init__(mapped, sender, which, door, check)

    def reset(self) -> None:
        """Begin at index 0 again."""
        self.head = self._tail = 0
        self._limit = self.count
        self.words[self._head_at] = 0

    def reserve(self, timeout: float) -> memoryview:
        """The next free slot, capacity and tag long. Raises LinkBroken, LinkTimeout."""
        if self.head >= self._limit and not self._room():
            self._door.wait(self._room, self._check, timeout)
        return self.slots[self.head & self.mask]

    def publish(self, word: int) -> None:
        """Give the reserved slot, with its header, to the other end."""
        words, head = self.words, self.head
        words[self.headers[head & self.mask]] = word
        self.head = head = head + 1
        words[self._head_at] = head
        if words[self._sleeper]:
            ring(self._bell)

    def _room(self) -> bool:
        tail = self.words[self._tail_at]
        if not self._tail <= tail <= self.head:
            raise LinkBroken(Reason.INDEX)
        self._tail = tail
        self._limit = tail + self.count
        return self.head < self._limit


class Consumer(_Ring):
    """The receiving end. `bells`: the one that wakes this end, and the producer's. Hold `lock` to use it."""

    def __init__(
        self,
        mapped: Mapped,
        sender: Side,
        which: Class,
        bells: tuple[int, int],
        check: Callable[[], None],
    ) -> None:
        self._head_at = cell(sender, Cell.HEAD, which)
        self._tail_at = cell(sender.other, Cell.TAIL, which)
        self._sleeper = cell(sender, Cell.PRODUCER_SLEEPS, which)
        own, self._bell = bells
        door = Doorbell(mapped.words, cell(sender.other, Cell.CONSUMER_SLEEPS, which), own)
        super().__init__(mapped, sender, which, door, check)

    def reset(self) -> None:
        """Begin at index 0 again."""
        self.tail = self._head = 0
        self.words[self._tail_at] = 0

    def take(self, timeout: float) -> tuple[int, memoryview]:
        """The next record: its header, copied once, and its slot. Raises LinkBroken, LinkTimeout.

        The host may change the slot while it is read; the header word is the caller's own copy.
        """
        tail = self.tail
        if tail >= self._head and not self._arrived():
            self._door.wait(self._arrived, self._check, timeout)
        index = tail & self.mask
        return self.words[self.headers[index]], self.slots[index]

    def free(self) -> None:
        """Give the slot that was taken back."""
        words = self.words
        self.tail = tail = self.tail + 1
        words[self._tail_at] = tail
        if words[self._sleeper]:
            ring(self._bell)

    def _arrived(self) -> bool:
        head = self.words[self._head_at]
        if not self._head <= head <= self.tail + self.count:
            raise LinkBroken(Reason.INDEX)
        self._head = head
        return bool(head > self.tail)
