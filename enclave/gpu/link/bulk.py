"""Bulk objects of a session: chunks straight into the shared slots and straight out of them."""

from collections.abc import Iterable
from typing import Any, Final

from enclave.gpu.bus import LinkBroken, LinkError, Reason
from enclave.gpu.bus.geometry import TAG, Class
from enclave.gpu.bus.rings import LAP

from .kinds import SHIFT, Kind, word
from .records import COUNTER, WORD, Bytes, plaintext_length
from .session import Session

_CHUNK: Final = word(Kind.CHUNK, 0)


class TransferAborted(LinkError):
    """The sender gave up in the middle of a bulk object: the object is void, the session goes on."""


class Bulk(Session):
    """The bulk rings. Where AES-GCM may not work in shared memory, every record is copied first."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._bulk_sealer, self._bulk_opener = self._sealers[Class.BULK], self._openers[Class.BULK]
        self._bulk_out, self._bulk_in = self._end.bulk_out, self._end.bulk_in
        room = 0 if self._direct else self._bulk_out.capacity + TAG
        self._outgoing, self._incoming = memoryview(bytearray(room)), memoryview(bytearray(room))

    def send_bulk(self, views: Iterable[Bytes], *, timeout: float | None = None) -> int:
        """Send one object, the views one after the other; returns its bytes.

        A view is done with when the next is asked for. If `views` raises, the receiver gets TransferAborted
        and the caller the error. Raises LinkBroken, also if a deadline passes: an object has begun.
        """
        wait, sent = self._wait(timeout), 0
        with self._failing(), self._in_the_middle(), self._bulk_out:
            try:
                for view in views:
                    sent += self._send_view(view if type(view) is memoryview else memoryview(view), wait)
            except LinkError:
                raise
            except BaseException:  # whatever the source raised, the receiver must not wait for the rest
                self._mark(Kind.ABORT, wait)
                raise
            self._mark(Kind.END, wait)
        return sent

    def receive_bulk(self, into: memoryview, *, timeout: float | None = None) -> int:
        """One object into `into`; returns its bytes. What lies there counts only once this has returned.

        Raises TransferAborted, LinkBroken, LinkTimeout if none begins. An object longer than `into` is
        LinkBroken(PROTOCOL).
        """
        wait = self._wait(timeout)
        with self._failing(), self._bulk_in:
            self._bulk_in.take(wait)
            with self._in_the_middle():
                return self._receive_object(into, wait)

    def _send_view(self, view: memoryview, wait: float) -> int:
        """Seal one view, chunk by chunk, into the next slots; flat, like control.py's `send`."""
        ring, sealer, whole, capacity = self._bulk_out, self._bulk_sealer, len(view), self._bulk_out.capacity
        for start in range(0, whole, capacity):
            piece = view if whole <= capacity else view[start : start + capacity]
            length = len(piece)
            index = ring.index
            if index >= ring.stop:
                index = ring.make_room(wait)
            counter = sealer.counter
            if counter >= sealer.rekey_at:
                sealer.advance()
            sealer.counter = counter + 1
            sealer.words[COUNTER] = counter
            sealer.fields[WORD] = header = _CHUNK | length
            slot = ring.slots[index]
            out = slot if length == capacity else slot[: length + TAG]
            if self._direct:
                sealer.key.encrypt_into(sealer.nonce, piece, sealer.data, out)
            else:
                private = self._outgoing[: length + TAG]
                sealer.key.encrypt_into(sealer.nonce, piece, sealer.data, private)
                out[:] = private
            ring.fields[ring.headers[index]] = header | ring.lap
            ring.index = index + 1
            if ring.words[ring.sleeper]:
                ring.wake()
        self._bytes_sent += whole
        return whole

    def _mark(self, kind: Kind, wait: float) -> None:
        """An empty record that ends an object."""
        slot, header = self._bulk_out.reserve(wait), word(kind, 0)
        slot[:TAG] = self._bulk_sealer.seal(b"", header)
        self._bulk_out.publish(header)

    def _receive_object(self, into: memoryview, wait: float) -> int:
        ring, capacity, room, received = self._bulk_in, self._bulk_in.capacity, len(into), 0
        direct, opener = self._direct, self._bulk_opener
        while True:
            header = ring.fields[ring.headers[ring.index]] - ring.lap
            if not 0 <= header < LAP:
                header, _ = ring.take(wait)
            length = header - _CHUNK
            slot = ring.slots[ring.index]
            if not 0 < length <= capacity:
                self._receive_mark(header, slot)
                self._bytes_received += received
                return received
            if length > room - received:
                raise LinkBroken(Reason.PROTOCOL, "an object longer than was agreed")
            sealed = slot if length == capacity else slot[: length + TAG]
            if not direct:
                private = self._incoming[: length + TAG]
                private[:] = sealed
                sealed = private
            opener.open_into(sealed, header, into[received : received + length])
            received += length
            ring.index = index = ring.index + 1
            if not index & ring.batch:
                ring.pass_on()

    def _receive_mark(self, header: int, slot: memoryview) -> None:
        kind, ring = header >> SHIFT, self._bulk_in
        if kind not in (Kind.END, Kind.ABORT) or plaintext_length(header, ring.capacity):
            raise LinkBroken(Reason.HEADER, f"kind {kind} on the bulk ring, or a length that it cannot have")
        self._bulk_opener.open(bytes(slot[:TAG]), header)
        ring.free()
        ring.tell()
        if kind == Kind.ABORT:
            raise TransferAborted("the sender gave this object up")
