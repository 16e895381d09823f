"""Small messages of a session, and SPDM's beside them.

`send` and `receive` are written out flat: each call of a function costs a tenth of the AEAD on 64 bytes.
Whatever is not an ordinary message of a length that was seen before goes the plain way, below.
"""

from collections import deque
from contextlib import suppress
from typing import Any, Final

from cryptography.exceptions import InvalidTag

from enclave.gpu.bus import LinkBroken, LinkError, LinkTimeout, Reason
from enclave.gpu.bus.geometry import TAG, Class

from .kinds import MAX_MESSAGE, MAX_SPDM, SHIFT, Kind, word
from .plain import Parts, send_plain
from .records import COUNTER, WORD, Bytes, plaintext_length
from .session import Session, countdown

MAX_QUEUED: Final = 1024
MAX_LENGTHS: Final = 64
FAREWELL_SECONDS: Final = 0.2
_ORDINARY: Final = Kind.MESSAGE
_MESSAGE: Final = word(Kind.MESSAGE, 0)
_WHOLE: Final = {Kind.SPDM_MORE: Kind.SPDM, Kind.MESSAGE_MORE: Kind.MESSAGE}
_KINDS: Final = frozenset({Kind.SPDM, Kind.SPDM_MORE, Kind.MESSAGE, Kind.MESSAGE_MORE, Kind.CLOSE})
_Cuts = dict[int, tuple[memoryview, ...]]


class Control(Session):
    """The control rings. Where AES-GCM may not work in shared memory, every record is copied once."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._sealer, self._opener = self._sealers[Class.CONTROL], self._openers[Class.CONTROL]
        self._out, self._in = self._end.control_out, self._end.control_in
        self._queued: deque[tuple[Kind, bytes]] = deque()
        self._parts = {Kind.SPDM: Parts(MAX_SPDM), Kind.MESSAGE: Parts(MAX_MESSAGE)}
        # Slots cut to the length of a record, by plaintext length; filled only where records stay in them.
        self._out_cuts: _Cuts = {}
        self._cuts_seen: _Cuts = {}
        self._in_cuts = self._cuts_seen

    def send(self, data: Bytes, *, timeout: float | None = None) -> None:
        """Send one message, at most 1 MiB. Raises LinkBroken, LinkTimeout, ValueError."""
        ring, sealer, length = self._out, self._sealer, len(data)
        cuts = self._out_cuts.get(length)
        if cuts is None:
            self._send_parts(memoryview(data), self.timeout if timeout is None else timeout)
            return
        try:
            ring.turn.pop()
        except IndexError:
            ring.wait_turn(self.timeout if timeout is None else timeout)
        try:
            index = ring.index
            if index >= ring.stop:
                index = ring.make_room(self.timeout if timeout is None else timeout)
            counter = sealer.counter
            if counter >= sealer.rekey_at:
                sealer.advance()
            sealer.counter = counter + 1
            sealer.words[COUNTER] = counter
            sealer.fields[WORD] = header = _MESSAGE | length
            sealer.key.encrypt_into(sealer.nonce, data, sealer.data, cuts[index])
            ring.fields[ring.headers[index]] = header | ring.lap
            ring.index = index + 1
            if ring.words[ring.sleeper]:
                ring.wake()
        except LinkTimeout:
            raise
        except BaseException as error:  # a counter may be used up that the other end waits for
            raise self._fail_with(error) from None
        finally:
            ring.turn.append(True)

    def receive(self, *, timeout: float | None = None) -> tuple[Kind, bytes]:
        """The next message, of kind MESSAGE, or SPDM: unprotected bytes that the SPDM layer judges.

        Waits `timeout` for it to begin, and at most as long again for its end. Raises LinkBroken,
        LinkTimeout; after a timeout the session lives.
        """
        ring, opener = self._in, self._opener
        try:
            ring.turn.pop()
        except IndexError:
            ring.wait_turn(self.timeout if timeout is None else timeout)
        try:
            if self._queued:
                return self._queued.popleft()
            index, counter = ring.index, opener.counter
            header = ring.fields[ring.headers[index]] - ring.lap
            cuts = self._in_cuts.get(header)  # found there: the header of an ordinary, whole message
            if cuts is None or counter >= opener.rekey_at:
                header, _ = ring.take(self.timeout if timeout is None else timeout)
                cuts = self._in_cuts.get(header)
                if cuts is None or counter >= opener.rekey_at:
                    return self._receive(self.timeout if timeout is None else timeout)
            opener.counter = counter + 1
            opener.words[COUNTER] = counter
            opener.fields[WORD] = header
            data = opener.key.decrypt(opener.nonce, cuts[index], opener.data)
            ring.index = index = index + 1
            if not index & ring.batch:
                ring.pass_on()
            return _ORDINARY, data
        except LinkTimeout:
            raise
        except BaseException as error:  # a counter may be used up that the other end goes on from
            raise self._fail_with(error) from None
        finally:
            ring.turn.append(True)

    def send_spdm(self, data: Bytes, *, timeout: float | None = None) -> None:
        """Send an SPDM message, which protects itself. Raises LinkBroken, LinkTimeout, ValueError."""
        with self._failing(), self._out:
            send_plain(self._out, data, self._wait(timeout))

    def exchange_spdm(self, request: Bytes, *, timeout: float | None = None) -> bytes:
        """Send an SPDM request, return what answers; messages that come meanwhile are kept for `receive`.

        Raises LinkBroken, LinkTimeout. A late answer would be taken for the next one's, which SPDM's own
        counters refuse.
        """
        left = countdown(self._wait(timeout))
        with self._failing(), self._in:
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
            # A full ring, a sender that holds it, a dead session: the other end will see that we are gone.
            with suppress(LinkError):
                self._say_farewell()
            self._fail(LinkBroken(Reason.CLOSED))

    def _say_farewell(self) -> None:
        ring, header = self._out, word(Kind.CLOSE, 0)
        ring.wait_turn(FAREWELL_SECONDS)
        try:
            slot = ring.reserve(FAREWELL_SECONDS)
            slot[:TAG] = self._sealer.seal(b"", header)
            ring.publish(header)
        finally:
            ring.turn.append(True)

    def _receive(self, timeout: float) -> tuple[Kind, bytes]:
        """A message; all parts behind its first have `timeout` together: a host can make SPDM's up."""
        ring, left = self._in, None
        while True:
            header, slot = ring.take(left() if left else timeout)
            length = plaintext_length(header, ring.capacity)
            whole = self._receive_part(header, length, slot)
            ring.free()
            if whole is not None:
                return whole
            left = left or countdown(timeout)

    def _receive_part(self, header: int, length: int, slot: memoryview) -> tuple[Kind, bytes] | None:
        """What a record completes: a message of either kind, or nothing yet. A farewell is LinkBroken."""
        number = header >> SHIFT
        if number not in _KINDS:
            raise LinkBroken(Reason.HEADER, f"kind {number} on the control ring")
        kind = Kind(number)
        base = _WHOLE.get(kind, kind)
        data = bytes(slot[: length + TAG])
        data = data[:length] if base is Kind.SPDM else self._opener.open(data, header)
        if kind is Kind.CLOSE:
            raise LinkBroken(Reason.CLOSED, "by the other end")
        if kind is Kind.MESSAGE and self._direct and len(self._cuts_seen) < MAX_LENGTHS:
            self._cuts_seen[header] = tuple(each[: length + TAG] for each in self._in.slots)
        whole = self._parts[base].add(data, kind is not base)
        if base is Kind.MESSAGE:  # within a message in parts, no record is an ordinary one
            self._in_cuts = self._cuts_seen if whole is not None else {}
        return None if whole is None else (base, whole)

    def _send_parts(self, data: memoryview, timeout: float) -> None:
        if len(data) > MAX_MESSAGE:
            raise ValueError(f"a message is at most {MAX_MESSAGE} bytes")
        ring = self._out
        starts = range(0, len(data), ring.capacity) or (0,)
        with self._failing(), ring:
            for start in starts:
                part = data[start : start + ring.capacity]
                more = start != starts[-1]
                slot = ring.reserve(timeout) if start == 0 else self._reserve_next(timeout)
                header = word(Kind.MESSAGE_MORE if more else Kind.MESSAGE, len(part))
                slot[: len(part) + TAG] = self._sealer.seal(part, header)
                ring.publish(header)
            if len(starts) == 1 and self._direct and len(self._out_cuts) < MAX_LENGTHS:
                self._out_cuts[len(data)] = tuple(slot[: len(data) + TAG] for slot in ring.slots)

    def _let_go(self) -> None:
        cuts = [*self._out_cuts.values(), *self._cuts_seen.values()]
        self._out_cuts, self._cuts_seen, self._in_cuts = {}, {}, {}
        for each in cuts:
            for view in each:
                with suppress(BufferError):  # a thread works in it this moment
                    view.release()

    def _reserve_next(self, timeout: float) -> memoryview:
        with self._in_the_middle():
            return self._out.reserve(timeout)

    def _fail_with(self, error: BaseException) -> BaseException:
        """The error to raise after a session that ended on `error`."""
        if isinstance(error, InvalidTag):
            return self._fail(LinkBroken(Reason.TAG))
        if isinstance(error, LinkBroken):
            return self._fail(error)
        if self.broken is not None and isinstance(error, Exception):  # another thread ended it under us
            return self.broken.again()
        self._fail(LinkBroken(Reason.PROTOCOL, f"this end failed: {type(error).__name__}"))
        return error
