"""One end of the bus: attaches, meets the other end, and has a ring of each class in each direction."""

import fcntl
import mmap
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final, Self

from .doorbell import SLICE_SECONDS, ring
from .errors import LinkBroken, LinkTimeout, Reason
from .geometry import Cell, Class, Geometry, Side, cell
from .host import SEALS, Descriptors, bell_index
from .rings import Consumer, Mapped, Producer

_PAUSE: Final = 0.0005


class BusEnd:
    """Worker's or device's end.

    Memory and doorbells are the host's: size and seals are checked before the memory is mapped, and
    `LinkBroken(MEMORY)` raised if any of it is not what was asked for. `attach` meets the other end, and may
    be called again after a session has died: both ends then begin at the first slot under new boot numbers.
    An end that is restarted does the same, whatever the last one left in the memory.
    """

    def __init__(self, descriptors: Descriptors, side: Side, geometry: Geometry | None = None) -> None:
        self.side = side
        self.geometry = geometry or Geometry()
        self._bells, self._closed = descriptors.bells, False
        self._forget: Callable[[], None] | None = None
        self._map = _map(descriptors.memory, self.geometry.size)
        self._memory = memoryview(self._map)
        self._words = self._memory.cast("Q")
        self._fields = self._memory.cast("I")
        self._mapped = Mapped(self._memory, self._words, self._fields, self.geometry)
        self._boot_at, self._seen_at = cell(side, Cell.BOOT), cell(side, Cell.SEEN)
        self._peer_boot_at = cell(side.other, Cell.BOOT)
        self._peer_seen_at = cell(side.other, Cell.SEEN)
        self._boot = self._peer_boot = 0
        self._words[self._boot_at] = self._words[self._seen_at] = 0
        try:
            for bell in self._bells:
                os.set_blocking(bell, False)  # one that the host has jammed must not hold up who rings it
            self._out = {which: self._producer(which) for which in Class}
            self._in = {which: self._consumer(which) for which in Class}
        except OSError as error:
            raise LinkBroken(Reason.MEMORY, f"a doorbell: {error.strerror}") from None

    @property
    def control_out(self) -> Producer:
        """The ring of small messages to the other end."""
        return self._out[Class.CONTROL]

    @property
    def control_in(self) -> Consumer:
        """The ring of small messages from the other end."""
        return self._in[Class.CONTROL]

    @property
    def bulk_out(self) -> Producer:
        """The ring of chunks to the other end."""
        return self._out[Class.BULK]

    @property
    def bulk_in(self) -> Consumer:
        """The ring of chunks from the other end."""
        return self._in[Class.BULK]

    def carry(self, forget: Callable[[], None]) -> None:
        """Whoever has a session on this attachment is told by `forget` when it ends.

        One at a time: ValueError if there is one, LinkBroken(PEER) if the end is not attached.
        """
        self.check()
        if self._forget is not None:
            raise ValueError("this end carries a session already: attach again first")
        self._forget = forget

    def attach(self, timeout: float) -> None:
        """Meet the other end. Raises LinkTimeout if it does not show up within `timeout` seconds,
        LinkBroken if another thread has this end leave meanwhile.
        """
        self.detach()
        with self._at_rest():
            for one in (*self._out.values(), *self._in.values()):
                one.reset()
        words = self._words
        self._boot = words[self._boot_at] = boot = secrets.randbits(63) | 1
        deadline = time.monotonic() + timeout
        while True:
            if self._boot != boot:
                self.detach()
                raise LinkBroken(Reason.CLOSED, "this end left the bus")
            peer = words[self._peer_boot_at]
            words[self._seen_at] = peer
            if peer and words[self._peer_seen_at] == boot and words[self._peer_boot_at] == peer:
                self._peer_boot = peer
                return
            if time.monotonic() >= deadline:
                self.detach()
                raise LinkTimeout(f"no {self.side.other.name.lower()} attached to the bus in {timeout:g} s")
            time.sleep(_PAUSE)

    def detach(self) -> None:
        """Leave: the session on this end erases its keys, then the other end learns of it, both at once."""
        forget, self._forget = self._forget, None
        self._boot = self._peer_boot = 0
        if forget is not None:
            forget()
        self._words[self._boot_at] = self._words[self._seen_at] = 0
        for which in Class:
            ring(self._bells[bell_index(self.side, which, True)])
            ring(self._bells[bell_index(self.side.other, which, False)])

    def check(self) -> None:
        """LinkBroken(PEER) if the other end is gone, or is another than `attach` met."""
        if not self._peer_boot or self._words[self._peer_boot_at] != self._peer_boot:
            raise LinkBroken(Reason.PEER)

    def close(self) -> None:
        """Leave for good and let go of the memory. The descriptors are the caller's."""
        if self._closed:
            return
        self._closed = True
        self.detach()
        for one in (*self._out.values(), *self._in.values()):
            one.close()
        for view in (self._words, self._fields, self._memory):
            view.release()
        with suppress(BufferError):  # a thread still holds a slot: the mapping goes with that
            self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _producer(self, which: Class) -> Producer:
        return Producer(self._mapped, self.side, which, self._pair(self.side, which), self.check)

    def _consumer(self, which: Class) -> Consumer:
        sender = self.side.other
        return Consumer(self._mapped, sender, which, self._pair(sender, which), self.check)

    def _pair(self, sender: Side, which: Class) -> tuple[int, int]:
        """The doorbells of a ring: its consumer's, its producer's."""
        bells = self._bells
        return bells[bell_index(sender, which, True)], bells[bell_index(sender, which, False)]

    @contextmanager
    def _at_rest(self) -> Iterator[None]:
        """Every ring's turn: who still waits on one notices within a slice that the session is over."""
        with ExitStack() as turns:
            for one in (*self._out.values(), *self._in.values()):
                one.wait_turn(20 * SLICE_SECONDS)
                turns.callback(one.turn.append, True)
            yield


def _map(number: int, size: int) -> mmap.mmap:
    """The memory behind `number`: of this size, and sealed so that it stays: else a host could SIGBUS us."""
    try:
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, SEALS)
        sealed = fcntl.fcntl(number, fcntl.F_GET_SEALS) & SEALS == SEALS
        found = os.fstat(number).st_size
        if sealed and found == size:
            return mmap.mmap(number, size)
    except OSError as error:
        raise LinkBroken(Reason.MEMORY, error.strerror or "") from None
    raise LinkBroken(Reason.MEMORY, f"{found} bytes instead of {size}, or not sealed")
