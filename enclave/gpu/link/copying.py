"""Threads that own the crossings of a link, so that whoever computes does not wait for them.

On confidential hardware a copy holds its caller up even where it is called asynchronous. One thread that does
all of them, and a caller that works on meanwhile, get back what that costs (docs/performance.md).
"""

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Final, Self, TypeVar

from enclave.gpu.bus import LinkBroken, LinkError, LinkTimeout, Reason

from .kinds import Kind
from .link import Link
from .records import Bytes

DEPTH: Final = 64
_LOOK: Final = 0.2
_T = TypeVar("_T")


class CopyWorker:
    """Sends and receives on two threads of its own, in order. It must be the link's only user of messages.

    `send` returns at once: an error of an earlier send is raised by a later call.
    """

    def __init__(self, link: Link, depth: int = DEPTH) -> None:
        self._link = link
        self._out: queue.Queue[bytes | None] = queue.Queue(depth)
        self._in: queue.Queue[tuple[Kind, bytes]] = queue.Queue(depth)
        self._error: LinkError | None = None
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=loop, name=f"copy {name}", daemon=True)
            for name, loop in (("out", self._send), ("in", self._receive))
        ]
        for thread in self._threads:
            thread.start()

    def send(self, data: Bytes, *, timeout: float | None = None) -> None:
        """Queue one message. Raises LinkBroken, LinkTimeout if the queue stays full."""
        self._raise()
        try:
            self._out.put(bytes(data), timeout=self._wait(timeout))
        except queue.Full:
            raise LinkTimeout("too many messages wait to cross") from None

    def receive(self, *, timeout: float | None = None) -> tuple[Kind, bytes]:
        """The next message that has crossed. Raises LinkBroken, LinkTimeout."""
        deadline = time.monotonic() + self._wait(timeout)
        while True:
            try:
                return self._in.get(timeout=max(0.0, min(_LOOK, deadline - time.monotonic())))
            except queue.Empty:
                self._raise()
                if time.monotonic() >= deadline:
                    raise LinkTimeout("no message crossed in time") from None

    def close(self) -> None:
        """Let what is queued cross, stop the threads, and close the link."""
        try:
            self._out.put(None, timeout=self._link.timeout)
            self._threads[0].join(self._link.timeout)
        except queue.Full:
            pass  # nothing moves: closing the link ends the threads
        self._closing.set()
        self._link.close()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self) -> None:
        try:
            while (data := self._out.get()) is not None:
                self._link.send(data)
        except LinkTimeout as late:
            self._error = LinkBroken(Reason.DEADLINE, str(late))
            self._link.close()
        except LinkBroken as error:
            self._error = error

    def _receive(self) -> None:
        try:
            while not self._closing.is_set():
                try:
                    message = self._link.receive(timeout=_LOOK)
                except LinkTimeout:
                    continue
                self._put(message)
        except LinkBroken as error:
            self._error = self._error or error

    def _put(self, message: tuple[Kind, bytes]) -> None:
        while not self._closing.is_set():
            try:
                self._in.put(message, timeout=_LOOK)
                return
            except queue.Full:
                continue

    def _raise(self) -> None:
        if isinstance(self._error, LinkBroken):
            raise self._error.again()

    def _wait(self, timeout: float | None) -> float:
        return self._link.timeout if timeout is None else timeout


def ahead(items: Iterable[_T], depth: int = 2) -> Iterator[_T]:
    """The same items, made on a thread up to `depth` ahead of who asks: chunk i+1 while chunk i is sealed.

    An item must stay valid until `depth` + 1 later ones have been asked for. What `items` raises is raised
    here, in its place.
    """
    made: queue.Queue[tuple[bool, _T | BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(entry: tuple[bool, _T | BaseException | None]) -> None:
        while not stopped.is_set():
            try:
                made.put(entry, timeout=_LOOK)
                return
            except queue.Full:
                continue

    def make() -> None:
        try:
            for item in items:
                put((True, item))
                if stopped.is_set():
                    return
            put((False, None))
        except BaseException as error:  # whatever it is, the one who asks gets it
            put((False, error))

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            more, item = made.get()
            if isinstance(item, BaseException) and not more:
                raise item
            if not more:
                return
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
