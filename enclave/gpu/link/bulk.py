"""Bulk objects of a session: chunks straight into the shared slots and straight out of them."""

from collections.abc import Iterable
from typing import Any, Final

from cryptography.exceptions import InvalidTag

from enclave.gpu.bus import LinkBroken, LinkError, LinkTimeout, Reason
from enclave.gpu.bus.geometry import TAG, Class

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
        wait, before = self._wait(timeout), self._bytes_sent
        with self._failing(), self._in_the_middle(), self._bulk_out:
            try:
                self._send_object(views, wait)
            except (LinkBroken, LinkTimeout):
                raise
            except BaseException:  # whatever the source raised, the receiver must not wait for the rest
                self._mark(Kind.ABORT, wait)
                raise
            self._mark(Kind.END, wait)
        return self._bytes_sent - before

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

    def _send_object(self, views: Iterable[Bytes], wait: float) -> None:
        """Seal the views, chunk by chunk, into the next slots; flat, like control.py's `send`."""
        ring, sealer, capacity, direct = (
            self._bulk_out,
            self._bulk_sealer,
            self._bulk_out.capacity,
            self._direct,
        )
        fields, words, headers, slots, sleeper = (
            ring.fields,
            ring.words,
            ring.headers,
            ring.slots,
            ring.sleeper,
        )
        nonce, data, data_words, data_fields = sealer.nonce, sealer.data, sealer.words, sealer.fields
        for view in views:
            whole, start = len(view), 0
            while start < whole:
                piece = view if whole <= capacity else memoryview(view)[start : start + capacity]
                length = len(piece)
                start += length
                index, counter = ring.index, sealer.counter
                if index >= ring.stop:
                    index = ring.make_room(wait)
                if counter >= sealer.rekey_at:
                    sealer.advance()
                sealer.counter = counter + 1
                data_words[COUNTER] = counter
                data_fields[WORD] = header = _CHUNK | length
                out = slots[index] if length == capacity else slots[index][: length + TAG]
                if direct:
                    sealer.key.encrypt_into(nonce, piece, data, out)
                else:
                    private = self._outgoing[: length + TAG]
                    sealer.key.encrypt_into(nonce, piece, data, private)
                    out[:] = private
                fields[headers[index]] = header | ring.lap
                ring.index = index + 1
                if words[sleeper]:
                    ring.wake()
            self._bytes_sent += whole

    def _mark(self, kind: Kind, wait: float) -> None:
        """An empty record that ends an object."""
        slot, header = self._bulk_out.reserve(wait), word(kind, 0)
        slot[:TAG] = self._bulk_sealer.seal(b"", header)
        self._bulk_out.publish(header)

    def _receive_object(self, into: memoryview, wait: float) -> int:
        ring, opener, capacity, direct = (
            self._bulk_in,
            self._bulk_opener,
            self._bulk_in.capacity,
            self._direct,
        )
        fields, headers, slots, received, room = ring.fields, ring.headers, ring.slots, 0, len(into)
        nonce, data, data_words, data_fields = opener.nonce, opener.data, opener.words, opener.fields
        while True:
            index, counter = ring.index, opener.counter
            header = fields[headers[index]] - ring.lap
            length = header - _CHUNK
            if not 0 < length <= capacity:
                header, _ = ring.take(wait)  # not there yet, or no chunk
                length = header - _CHUNK
                if not 0 < length <= capacity:
                    self._receive_mark(header, slots[index])
                    self._bytes_received += received
                    return received
            if length > room - received:
                raise LinkBroken(Reason.PROTOCOL, "an object longer than was agreed")
            sealed = slots[index] if length == capacity else slots[index][: length + TAG]
            if not direct:
                sealed = self._copied(sealed)
            if counter >= opener.rekey_at:
                opener.advance()
            opener.counter = counter + 1
            data_words[COUNTER] = counter
            data_fields[WORD] = header
            place = into[received : received + length]
            try:
                opener.key.decrypt_into(nonce, sealed, data, place)
            except InvalidTag:
                place[:] = bytes(length)
                raise LinkBroken(Reason.TAG) from None
            received += length
            ring.index = index = index + 1
            if not index & ring.batch:
                ring.pass_on()

    def _copied(self, sealed: memoryview) -> memoryview:
        private = self._incoming[: len(sealed)]
        private[:] = sealed
        return private

    def _receive_mark(self, header: int, slot: memoryview) -> None:
        kind, ring = header >> SHIFT, self._bulk_in
        if kind not in (Kind.END, Kind.ABORT) or plaintext_length(header, ring.capacity):
            raise LinkBroken(Reason.HEADER, f"kind {kind} on the bulk ring, or a length that it cannot have")
        self._bulk_opener.open(bytes(slot[:TAG]), header)
        ring.free()
        ring.tell()
        if kind == Kind.ABORT:
            raise TransferAborted("the sender gave this object up")
