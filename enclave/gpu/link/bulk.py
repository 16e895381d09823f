"""Bulk objects of a session: chunks straight into the shared slots and straight out of them."""

from collections.abc import Iterable
from typing import Any, Final

from enclave.gpu.bus import LinkBroken, LinkError, Reason
from enclave.gpu.bus.geometry import TAG, Class

from .kinds import SHIFT, Kind
from .records import Bytes, plaintext_length
from .session import Session

_CHUNK: Final = Kind.CHUNK << SHIFT


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
        with self._failing(), self._in_the_middle(), self._bulk_out.lock:
            try:
                for view in views:
                    sent += self._send_chunks(memoryview(view), wait)
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
        with self._failing(), self._bulk_in.lock:
            size = self._receive_chunk(into, wait)
            received = size or 0
            with self._in_the_middle():
                while size is not None:
                    size = self._receive_chunk(into[received:], wait)
                    received += size or 0
        return received

    def _send_chunks(self, view: memoryview, wait: float) -> int:
        ring, whole = self._bulk_out, len(view)
        for start in range(0, whole, ring.capacity):
            piece = view[start : start + ring.capacity] if whole > ring.capacity else view
            length = len(piece)
            slot, word = ring.reserve(wait), _CHUNK | length
            if self._direct:
                self._bulk_sealer.seal_into(piece, word, slot[: length + TAG])
            else:
                private = self._outgoing[: length + TAG]
                self._bulk_sealer.seal_into(piece, word, private)
                slot[: length + TAG] = private
            ring.publish(word)
        self._bytes_sent += whole
        return whole

    def _mark(self, kind: Kind, wait: float) -> None:
        """An empty record that ends an object."""
        slot, word = self._bulk_out.reserve(wait), kind << SHIFT
        slot[:TAG] = self._bulk_sealer.seal(b"", word)
        self._bulk_out.publish(word)

    def _receive_chunk(self, into: memoryview, wait: float) -> int | None:
        """Open the next chunk into the start of `into`; its length, or None at the object's end."""
        ring = self._bulk_in
        word, slot = ring.take(wait)
        kind, length = word >> SHIFT, plaintext_length(word, ring.capacity)
        if kind != Kind.CHUNK:
            self._receive_mark(kind, length, word, slot)
            return None
        if not 0 < length <= len(into):
            raise LinkBroken(Reason.PROTOCOL, "an empty chunk, or an object longer than was agreed")
        sealed = slot[: length + TAG]
        if not self._direct:
            private = self._incoming[: length + TAG]
            private[:] = sealed
            sealed = private
        self._bulk_opener.open_into(sealed, word, into[:length])
        ring.free()
        self._bytes_received += length
        return length

    def _receive_mark(self, kind: int, length: int, word: int, slot: memoryview) -> None:
        if kind not in (Kind.END, Kind.ABORT) or length:
            raise LinkBroken(Reason.HEADER, f"kind {kind:#x} on the bulk ring")
        self._bulk_opener.open(bytes(slot[:TAG]), word)
        self._bulk_in.free()
        if kind == Kind.ABORT:
            raise TransferAborted("the sender gave this object up")
