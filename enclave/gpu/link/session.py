"""What the parts of a link session share: its keys, its two ends of every ring, and how it dies."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from enclave.gpu.bus import BusEnd, LinkBroken, LinkTimeout, Reason
from enclave.gpu.bus.geometry import Class
from enclave.memory import Kind as MemoryKind

from .keys import Secrets
from .loads import loads_once
from .records import Bytes, Opener, Sealer, records_per_key

TIMEOUT: Final = 5.0
_NO_LIMIT: Final = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStatistics:
    """Counts without content, of this end. `direct`: AES-GCM works in the shared slots themselves."""

    control_sent: int
    control_received: int
    bulk_sent: int
    bulk_received: int
    bulk_bytes_sent: int
    bulk_bytes_received: int
    generations: int
    direct: bool
    broken: Reason | None


class Session:
    """Keys of one session over an attached end. `broken` is why it died, or None."""

    def __init__(
        self,
        end: BusEnd,
        secret: Bytes,
        session: int,
        *,
        timeout: float,
        per_key: int | None,
        kinds: tuple[MemoryKind, ...],
        direct: bool | None,
    ) -> None:
        self.session, self.timeout = session, timeout
        self.broken: LinkBroken | None = None
        self._end = end
        self._direct = loads_once() if direct is None else direct
        self._secrets = Secrets(memoryview(secret), kinds=kinds)
        limits = {which: min(per_key or _NO_LIMIT, records_per_key(end.geometry, which)) for which in Class}
        ours, theirs = end.side, end.side.other
        self._sealers = {w: Sealer(self._secrets, ours, w, session, limits[w]) for w in Class}
        self._openers = {w: Opener(self._secrets, theirs, w, session, limits[w]) for w in Class}
        self._bytes_sent = self._bytes_received = 0
        end.carry(self._left)

    def statistics(self) -> LinkStatistics:
        """Counts so far."""
        halves = (*self._sealers.values(), *self._openers.values())
        return LinkStatistics(
            control_sent=self._sealers[Class.CONTROL].counter,
            control_received=self._openers[Class.CONTROL].counter,
            bulk_sent=self._sealers[Class.BULK].counter,
            bulk_received=self._openers[Class.BULK].counter,
            bulk_bytes_sent=self._bytes_sent,
            bulk_bytes_received=self._bytes_received,
            generations=sum(half.generation for half in halves),
            direct=self._direct,
            broken=self.broken.reason if self.broken else None,
        )

    def _fail(self, error: LinkBroken) -> LinkBroken:
        """End the session: erase the keys, leave the bus. Returns what to raise, the first error again."""
        if self.broken is None:
            self.broken = error
            for half in (*self._sealers.values(), *self._openers.values()):
                half.erase()
            self._secrets.erase()
            self._let_go()
            self._end.detach()
        return self.broken.again()

    def _let_go(self) -> None:
        """Drop what was cut out of the shared memory."""

    def _left(self) -> None:
        """The end has left the bus, or met another peer: this session is over."""
        self._fail(LinkBroken(Reason.CLOSED, "this end left the bus"))

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """LinkBroken inside ends the session, if it has not ended before."""
        if self.broken is not None:
            raise self.broken.again()
        try:
            yield
        except LinkBroken as error:
            raise self._fail(error) from None
        except ValueError:  # memory that another thread let go of when it ended the session
            if self.broken is None:
                raise
            raise self.broken.again() from None

    @contextmanager
    def _in_the_middle(self) -> Iterator[None]:
        """A deadline that passes inside leaves half of something behind: the session ends."""
        try:
            yield
        except LinkTimeout as late:
            raise LinkBroken(Reason.DEADLINE, str(late)) from None

    def _wait(self, timeout: float | None) -> float:
        return self.timeout if timeout is None else timeout


def countdown(timeout: float) -> Callable[[], float]:
    """What is left of `timeout` seconds, never below zero, each time it is asked."""
    deadline = time.monotonic() + timeout
    return lambda: max(0.0, deadline - time.monotonic())
