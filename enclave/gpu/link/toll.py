"""What confidential hardware charges for a crossing, on a bus that has no such hardware.

Measured by others on Blackwell and Hopper in confidential mode: about 330 us for any crossing, however small,
copies at about a fifth of the plain bandwidth, and one crossing at a time whatever the number of streams.
"""

import os
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

from .kinds import Kind
from .link import Link
from .records import Bytes

CROSSING_SECONDS: Final = 330e-6
BYTES_PER_SECOND: Final = 5e9  # 0.2 of the 25 GB/s that plain copies reach
_EARLY: Final = 100e-6  # a sleep ends late by about this much


class Toll:
    """Makes a crossing wait its turn and then `seconds(length)`."""

    def __init__(self, crossing: float = CROSSING_SECONDS, bandwidth: float = BYTES_PER_SECOND) -> None:
        if crossing < 0 or bandwidth <= 0:
            raise ValueError("a crossing takes no negative time, and bandwidth is above zero")
        self.crossing, self.bandwidth = crossing, bandwidth
        self._one_at_a_time = threading.Lock()

    def seconds(self, length: int) -> float:
        """What `length` bytes cost."""
        return self.crossing + length / self.bandwidth

    def pay(self, length: int) -> None:
        """Spend that time; the processor is free meanwhile, but for the last bit."""
        with self._one_at_a_time:
            until = time.perf_counter() + self.seconds(length)
            while (left := until - time.perf_counter()) > 0:
                if left > _EARLY:
                    time.sleep(left - _EARLY)
                else:
                    os.sched_yield()


class TolledLink(Link):
    """A link whose messages and chunks, either way, each pay `toll`. Give it to one end, not both."""

    def __init__(self, *arguments: Any, toll: Toll, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._toll = toll

    def send(self, data: Bytes, *, timeout: float | None = None) -> None:
        """Pay, then send."""
        self._toll.pay(len(data))
        super().send(data, timeout=timeout)

    def receive(self, *, timeout: float | None = None) -> tuple[Kind, bytes]:
        """Receive, then pay."""
        kind, data = super().receive(timeout=timeout)
        self._toll.pay(len(data))
        return kind, data

    def send_bulk(self, views: Iterable[Bytes], *, timeout: float | None = None) -> int:
        """Send; every chunk pays before it crosses."""
        return super().send_bulk(self._paid(views), timeout=timeout)

    def receive_bulk(self, into: memoryview, *, timeout: float | None = None) -> int:
        """Receive, then pay for every chunk."""
        before = self._bulk_opener.counter
        received = super().receive_bulk(into, timeout=timeout)
        for _ in range(self._bulk_opener.counter - before - 1):
            self._toll.pay(self._bulk_in.capacity)
        return received

    def _paid(self, views: Iterable[Bytes]) -> Iterator[memoryview]:
        for view in views:
            whole = memoryview(view)
            for start in range(0, len(whole), self._bulk_out.capacity):
                piece = whole[start : start + self._bulk_out.capacity]
                self._toll.pay(len(piece))
                yield piece
