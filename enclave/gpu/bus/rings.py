"""One ring in shared memory: slots with a header word each, filled in order, lap after lap.

Each end keeps its place in its own memory. A header carries the number of the lap, so that writing it is what
publishes a record and reading it, by one load, what finds it. The consumer says from time to time how far it
is, and a number that moved backwards or ahead of the producer ends the session. Stores must become visible in
order, payload before header; x86-64 keeps it. Elsewhere a record that is read early fails its tag.

header   bits 0-21 plaintext length   22-25 kind   26-29 lap, 1 to 15 and round again   30-31 zero
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from .doorbell import Doorbell, ring
from .errors import LinkBroken, LinkTimeout, Reason
from .geometry import FIELD, LEAD, TAG, Cell, Class, Geometry, Side, cell

LAP_SHIFT: Final = 26
LAPS: Final = 15
LAP: Final = 1 << LAP_SHIFT
_LAST_LAP: Final = LAPS << LAP_SHIFT


@dataclass(frozen=True, slots=True)
class Mapped:
    """The shared memory as an end has it: bytes, words of 8 and of 4 bytes, and where what lies."""

    memory: memoryview
    words: memoryview
    fields: memoryview
    geometry: Geometry


class _Closed:
    """Stands where the memory was."""

    def __getitem__(self, _: int) -> int:
        raise LinkBroken(Reason.CLOSED)

    def __setitem__(self, _: int, __: int) -> None:
        raise LinkBroken(Reason.CLOSED)


_CLOSED: Final = _Closed()


class _Ring:
    """What both ends of a ring have.

    `index` is the place in this lap, `lap` its number where a header has it. `turn` holds one token: who pops
    it may use the ring (a lock costs several times as much); `wait_turn` is for who finds none.
    """

    def __init__(
        self, mapped: Mapped, sender: Side, which: Class, door: Doorbell, check: Callable[[], None]
    ) -> None:
        geometry = mapped.geometry
        self.capacity = geometry.capacity(which)
        self.count = geometry.slots(which)
        self.words: memoryview | _Closed = mapped.words
        self.fields: memoryview | _Closed = mapped.fields
        self.turn = [True]
        self._door, self._check = door, check
        start, stride = geometry.ring_at(sender, which), geometry.stride(which)
        places = range(start, start + self.count * stride, stride)
        self.headers = tuple(place // FIELD for place in places)
        payloads = (place + LEAD for place in places)
        self.slots = tuple(mapped.memory[place : place + self.capacity + TAG] for place in payloads)
        self.reset()

    def reset(self) -> None:
        """Begin at the first slot of the first lap."""
        self.index, self.lap, self._laps_done = 0, LAP, 0

    def wait_turn(self, timeout: float) -> None:
        """Take the token when it comes back. Raises LinkTimeout."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.turn.pop()
                return
            except IndexError:
                if time.monotonic() >= deadline:
                    raise LinkTimeout("another thread of this process uses the ring") from None
                time.sleep(0.0002)

    def __enter__(self) -> None:
        self.wait_turn(60.0)

    def __exit__(self, *_: object) -> None:
        self.turn.append(True)

    def close(self) -> None:
        """Let go of memory and descriptors."""
        self._door.close()
        self.words = self.fields = _CLOSED
        for slot in self.slots:
            with suppress(BufferError):  # somebody works in it this moment
                slot.release()

    def _next_lap(self) -> None:
        self.index = 0
        self._laps_done += 1
        self.lap = LAP if self.lap == _LAST_LAP else self.lap + LAP


class Producer(_Ring):
    """The sending end. `bells`: the consumer's, and the one that wakes this end. `stop` bounds free slots."""

    def __init__(
        self,
        mapped: Mapped,
        sender: Side,
        which: Class,
        bells: tuple[int, int],
        check: Callable[[], None],
    ) -> None:
        self._tail_at = cell(sender.other, Cell.TAIL, which)
        self.sleeper = cell(sender.other, Cell.CONSUMER_SLEEPS, which)
        self._bell, own = bells
        door = Doorbell(mapped.words, cell(sender, Cell.PRODUCER_SLEEPS, which), own)
        super().__init__(mapped, sender, which, door, check)

    def reset(self) -> None:
        """Begin at the first slot again; what an earlier session left there is not taken for a record."""
        super().reset()
        self._tail, self.stop = 0, self.count
        for header in self.headers:
            self.fields[header] = 0

    def reserve(self, timeout: float) -> memoryview:
        """The next free slot, capacity and tag long. Raises LinkBroken, LinkTimeout."""
        if self.index >= self.stop:
            self.make_room(timeout)
        return self.slots[self.index]

    def make_room(self, timeout: float) -> int:
        """Go on to the next lap if this one is full, and wait for a free slot; returns its index."""
        if self.index == self.count:
            self._next_lap()
        if not self._room():
            self._door.wait(self._room, self._check, timeout)
        return self.index

    def publish(self, word: int) -> None:
        """Give the reserved slot to the other end; `word` is the header without the lap."""
        self.fields[self.headers[self.index]] = word | self.lap
        self.index += 1
        if self.words[self.sleeper]:
            self.wake()

    def wake(self) -> None:
        """Ring the consumer's bell."""
        ring(self._bell)

    def drain(self, timeout: float) -> None:
        """Wait until the other end has taken everything. Raises LinkBroken, LinkTimeout."""
        self._door.wait(self._drained, self._check, timeout)

    def _sent(self) -> int:
        return self._laps_done * self.count + self.index

    def _drained(self) -> bool:
        self._room()
        return self._tail == self._sent()

    def _room(self) -> bool:
        tail, sent = self.words[self._tail_at], self._sent()
        if not self._tail <= tail <= sent:
            raise LinkBroken(Reason.INDEX)
        self._tail = tail
        self.stop = min(self.count, self.index + self.count - (sent - tail))
        return self.index < self.stop


class Consumer(_Ring):
    """The receiving end. `bells`: the one that wakes this end, and the producer's.

    It tells how far it is every `batch` + 1 records and before it waits.
    """

    def __init__(
        self,
        mapped: Mapped,
        sender: Side,
        which: Class,
        bells: tuple[int, int],
        check: Callable[[], None],
    ) -> None:
        self._tail_at = cell(sender.other, Cell.TAIL, which)
        self._sleeper = cell(sender, Cell.PRODUCER_SLEEPS, which)
        own, self._bell = bells
        door = Doorbell(mapped.words, cell(sender.other, Cell.CONSUMER_SLEEPS, which), own)
        super().__init__(mapped, sender, which, door, check)
        self.batch = max(1, self.count // 4) - 1

    def reset(self) -> None:
        """Begin at the first slot again."""
        super().reset()
        self.words[self._tail_at] = 0

    def take(self, timeout: float) -> tuple[int, memoryview]:
        """The next record: its header without the lap, copied once, and its slot.

        Raises LinkBroken, LinkTimeout. The host may change the slot while it is read; the header is the
        caller's own copy. Nothing in it is checked but the lap.
        """
        if not self._arrived():
            self.tell()
            self._door.wait(self._arrived, self._check, timeout)
        return self._word, self.slots[self.index]

    def free(self) -> None:
        """Give the slot that was taken back."""
        self.index += 1
        if not self.index & self.batch:
            self.pass_on()

    def pass_on(self) -> None:
        """After a batch: tell how far we are, and begin the next lap if this one is over."""
        if self.index == self.count:
            self._next_lap()
        self.tell()

    def tell(self) -> None:
        """Publish how far we are."""
        self.words[self._tail_at] = self._laps_done * self.count + self.index
        if self.words[self._sleeper]:
            ring(self._bell)

    def _arrived(self) -> bool:
        self._word = self.fields[self.headers[self.index]] - self.lap
        return 0 <= self._word < LAP
