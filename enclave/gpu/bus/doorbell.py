"""Waiting: a short spin, then sched_yield, then asleep on an eventfd; never beyond the timeout.

Who had to wait long the last time goes to sleep at once: a step that takes a millisecond is not spun through.

The host holds the same eventfds. It can ring them for nothing, or swallow every ring: sleep is taken in
slices, so that a lost ring costs a slice, and an eventfd is never read, so that no read can block.
"""

import os
import select
import time
from collections.abc import Callable
from typing import Final

from .errors import LinkTimeout

SPINS: Final = 40
YIELD_SECONDS: Final = 20e-6
SLICE_SECONDS: Final = 0.05
LONG_SECONDS: Final = 30e-6
_YIELDS: Final = 8


class Doorbell:
    """One end's wait for the other, at one ring.

    `flag` is the word, on this end's own page, that says it sleeps and wants to be rung; `bell` the eventfd.
    """

    def __init__(self, words: memoryview, flag: int, bell: int) -> None:
        self._words = words
        self._flag = flag
        self._poll = select.epoll()
        # Edge-triggered: every ring wakes once and nothing has to be read back.
        self._poll.register(bell, select.EPOLLIN | select.EPOLLET)
        self._words[flag] = 0
        self._patient = False

    def wait(self, ready: Callable[[], bool], check: Callable[[], None], timeout: float) -> None:
        """Return once `ready()` is true. `check` may raise, and is asked whenever sleep would begin.

        Raises LinkTimeout after `timeout` seconds, and what `ready` and `check` raise.
        """
        start = time.monotonic()
        if not self._patient and _soon(ready, start + min(YIELD_SECONDS, timeout)):
            return
        self._sleep(ready, check, start + timeout, timeout)
        self._patient = time.monotonic() - start > LONG_SECONDS

    def _sleep(
        self, ready: Callable[[], bool], check: Callable[[], None], deadline: float, timeout: float
    ) -> None:
        try:
            while True:
                self._words[self._flag] = 1
                os.sched_yield()  # time for the stores of both ends to become visible
                if ready():
                    return
                check()
                left = deadline - time.monotonic()
                if left <= 0:
                    raise LinkTimeout(f"nothing moved on the bus for {timeout:g} s")
                self._poll.poll(min(left, SLICE_SECONDS))
        finally:
            self._words[self._flag] = 0

    def close(self) -> None:
        """Give up the epoll descriptor."""
        self._poll.close()


def _soon(ready: Callable[[], bool], until: float) -> bool:
    """Whether it was ready while we spun and yielded."""
    for _ in range(SPINS):
        if ready():
            return True
    while time.monotonic() < until:
        for _ in range(_YIELDS):
            os.sched_yield()
            if ready():
                return True
    return False


def ring(bell: int) -> None:
    """Wake whoever waits on `bell`; a bell that the host has jammed is left alone."""
    try:
        os.eventfd_write(bell, 1)
    except OSError:
        return
