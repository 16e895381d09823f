"""Small messages of a session, and SPDM's beside them."""

from collections import deque
from typing import Any, Final

from enclave.gpu.bus import LinkBroken, LinkError, Reason
from enclave.gpu.bus.geometry import TAG, Class

from .kinds import MAX_MESSAGE, MAX_SPDM, MORE, SHIFT, Kind
from .plain import Parts, send_plain
from .records import Bytes, plaintext_length
from .session import Session, countdown

MAX_QUEUED: Final = 1024
_MESSAGE: Final = Kind.MESSAGE << SHIFT
_KINDS: Final = frozenset({Kind.SPDM, Kind.SPDM | MORE, Kind.MESSAGE, Kind.MESSAGE | MORE, Kind.CLOSE})


class Control(Session):
    """The control rings. Small records are sealed and opened in memory of our own and copied once."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._seal = self._sealers[Class.CONTROL].seal
        self._open = self._openers[Class.CONTROL].open
        self._out, self._in = self._end.control_out, self._end.control_in
        self._queued: deque[tuple[Kind, bytes]] = deque()
        self._parts = {Kind.SPDM: Parts(MAX_SPDM), Kind.MESSAGE: Parts(MAX_MESSAGE)}

    def send(self, data: Bytes, *, timeout: float | None = None) -> None:
        """Send one message, at most 1 MiB. Raises LinkBroken, LinkTimeout, ValueError."""
        ring, length = self._out, len(data)
        if length > ring.capacity:
            self._send_parts(data, self._wait(timeout))
            return
        try:
            with ring.lock:
                slot = ring.reserve(self.timeout if timeout is None else timeout)
                word = _MESSAGE | length
                slot[: length + TAG] = self._seal(data, word)
                ring.publish(word)
        except LinkBroken as error:
            raise self._fail(error) from None

    def receive(self, *, timeout: float | None = None) -> tuple[Kind, bytes]:
        """The next message, of kind MESSAGE, or SPDM: unprotected bytes that the SPDM layer judges.

        Raises LinkBroken, LinkTimeout; after a timeout the session lives.
        """
        try:
            with self._in.lock:
                if self._queued:
                    return self._queued.popleft()
                return self._receive(self.timeout if timeout is None else timeout)
        except LinkBroken as error:
            raise self._fail(error) from None

    def send_spdm(self, data: Bytes, *, timeout: float | None = None) -> None:
        """Send an SPDM message, which protects itself. Raises LinkBroken, LinkTimeout, ValueError."""
        with self._failing(), self._out.lock:
            send_plain(self._out, data, self._wait(timeout))

    def exchange_spdm(self, request: Bytes, *, timeout: float | None = None) -> bytes:
        """Send an SPDM request, return what answers; messages that come meanwhile are kept for `receive`.

        Raises LinkBroken, LinkTimeout. A late answer would be taken for the next one's, which SPDM's own
        counters refuse.
        """
        left = countdown(self._wait(timeout))
        with self._failing(), self._in.lock:
            self.send_spdm(request, timeout=timeout)
            while True:
                kind, data = self._receive(left())
                if kind is Kind.SPDM:
                    return data
                if len(self._queued) >= MAX_QUEUED:
                    raise LinkBroken(Reason.PROTOCOL, "more messages than anybody asked for")
                self._queued.append((kind, data))

    def close(self) -> None:
        """End the session in good order: the other end learns that it was meant. May be called again."""
        if self.broken is None:
            try:
                with self._out.lock:
                    slot, word = self._out.reserve(0.0), Kind.CLOSE << SHIFT
                    slot[:TAG] = self._seal(b"", word)
                    self._out.publish(word)
            except LinkError:
                pass  # the ring is full or the session dead: the other end will see that we are gone
            self._fail(LinkBroken(Reason.CLOSED))

    def _receive(self, timeout: float) -> tuple[Kind, bytes]:
        ring = self._in
        while True:
            word, slot = ring.take(timeout)
            kind = word >> SHIFT
            length = plaintext_length(word, ring.capacity)
            if kind == Kind.MESSAGE and not self._parts[Kind.MESSAGE]:
                data = self._open(bytes(slot[: length + TAG]), word)
                ring.free()
                return Kind.MESSAGE, data
            whole = self._receive_other(kind, length, word, slot)
            ring.free()
            if whole is not None:
                return Kind(kind & ~MORE), whole

    def _receive_other(self, kind: int, length: int, word: int, slot: memoryview) -> bytes | None:
        """A part of a message, an SPDM message or a farewell; None while more is to come."""
        if kind not in _KINDS:
            raise LinkBroken(Reason.HEADER, f"kind {kind:#x} on the control ring")
        base = Kind(kind & ~MORE)
        sealed = bytes(slot[: length + TAG])
        data = sealed[:length] if base is Kind.SPDM else self._open(sealed, word)
        if base is Kind.CLOSE:
            raise LinkBroken(Reason.CLOSED, "by the other end")
        return self._parts[base].add(data, bool(kind & MORE))

    def _send_parts(self, data: Bytes, timeout: float) -> None:
        if len(data) > MAX_MESSAGE:
            raise ValueError(f"a message is at most {MAX_MESSAGE} bytes")
        ring, view = self._out, memoryview(data)
        with self._failing(), ring.lock:
            for start in range(0, len(view), ring.capacity):
                part = view[start : start + ring.capacity]
                more = MORE if start + len(part) < len(view) else 0
                word = (Kind.MESSAGE | more) << SHIFT | len(part)
                with self._in_the_middle():
                    slot = ring.reserve(timeout)
                slot[: len(part) + TAG] = self._seal(part, word)
                ring.publish(word)
