"""The host as a machine in the middle: each end gets a memory of its own, and he carries records across.

Nothing crosses that he does not carry, so he can alter, drop, repeat, reorder, delay and splice at will. He
plays the device to the worker and the worker to the device, as an honest implementation of the bus would.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace

from enclave.gpu.bus import Bus, BusEnd, Consumer, Geometry, LinkError, Producer, Side
from enclave.gpu.bus.geometry import TAG, Class
from enclave.gpu.link import Link
from enclave.gpu.link.kinds import LENGTH
from tests.gpu.pairs import ANY, MASTER, SESSION, SMALL, Beside


@dataclass(frozen=True, slots=True)
class Carried:
    """One record in his hands: its header without the lap, its payload with room for a tag."""

    word: int
    payload: bytes = field(repr=False)

    def flipped(self, place: int) -> "Carried":
        """One bit of the payload changed; a negative place counts from the tag's end."""
        size = (self.word & LENGTH) + TAG
        changed = bytearray(self.payload)
        changed[place % size] ^= 0x10
        return replace(self, payload=bytes(changed))


Attack = Callable[[int, Carried], list[Carried]]
"""What becomes of the n-th record of a ring: the records to deliver in its place."""


def honest(_: int, record: Carried) -> list[Carried]:
    """Deliver it as it is."""
    return [record]


class Carrier:
    """Carries the records of one ring, one way, and keeps a copy of all that it saw."""

    def __init__(self, source: Consumer, target: Producer, attack: Attack) -> None:
        self._source, self._target, self._attack = source, target, attack
        self.seen: list[Carried] = []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.stopped.is_set():
            with suppress(LinkError), self._source:
                word, slot = self._source.take(0.02)
                record = Carried(word, bytes(slot))
                self._source.free()
                self.seen.append(record)
                for one in self._attack(len(self.seen) - 1, record):
                    self._deliver(one)

    def _deliver(self, record: Carried) -> None:
        with suppress(LinkError), self._target:
            slot = self._target.reserve(1.0)
            slot[: len(record.payload)] = record.payload[: len(slot)]
            self._target.publish(record.word)


@dataclass(slots=True)
class Middle:
    """Both ends' links, and his carriers by (sender, ring)."""

    worker: Link
    device: Link
    carriers: dict[tuple[Side, Class], Carrier]


@contextmanager
def in_the_middle(
    attacks: dict[tuple[Side, Class], Attack],
    geometry: Geometry = SMALL,
    timeout: float = 0.3,
    secret: bytes = MASTER,
) -> Iterator[Middle]:
    """A session whose records he carries; rings without an attack are carried honestly."""
    with ExitStack() as stack:
        ends = {}
        for side in Side:
            bus = stack.enter_context(Bus.create(geometry))
            honest_end = stack.enter_context(BusEnd(bus.descriptors, side, geometry))
            his = stack.enter_context(BusEnd(bus.descriptors, side.other, geometry))
            attaching = Beside(lambda his=his: his.attach(5.0))
            honest_end.attach(5.0)
            attaching.result()
            ends[side] = (honest_end, his)
        carriers = {}
        for sender in Side:
            near, far = ends[sender][1], ends[sender.other][1]
            for ring, source, target in (
                (Class.CONTROL, near.control_in, far.control_out),
                (Class.BULK, near.bulk_in, far.bulk_out),
            ):
                attack = attacks.get((sender, ring), honest)
                carriers[sender, ring] = Carrier(source, target, attack)
        links = [Link(ends[side][0], secret, SESSION, kinds=ANY, timeout=timeout) for side in Side]
        try:
            yield Middle(links[0], links[1], carriers)
        finally:
            for carrier in carriers.values():
                carrier.stopped.set()
            for carrier in carriers.values():
                carrier.thread.join()
            for link in links:
                link.close()


def delayed(seconds: float) -> Attack:
    """Deliver everything, later."""

    def attack(_: int, record: Carried) -> list[Carried]:
        time.sleep(seconds)
        return [record]

    return attack
