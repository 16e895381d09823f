"""How an application's answer is sealed: piece by piece, each padded to its bucket, or as a whole."""

from typing import Protocol

from sealing import bhttp, ohttp, padding

CHUNK = 256 * 1024
HEAD = 4096
_SMALLEST_COMMENT = padding.MIN_COMMENT + 1
_TOKEN = 160
EVENT_STREAM = b"text/event-stream"


class SealedAnswer(Protocol):
    """Turns status, headers and body pieces into the bytes of an oblivious-HTTP response."""

    media_type: str

    def head(self, status: int, headers: bhttp.Fields) -> bytes:
        """The bytes to send when status and headers are known."""

    def data(self, piece: bytes) -> bytes:
        """The bytes to send for a piece of the body; may be empty while pieces are collected."""

    def end(self, trailers: bhttp.Fields = ()) -> bytes:
        """The last bytes, `trailers` in them. Without them the answer never looks complete."""


class ChunkedAnswer:
    """A chunked response. Event streams go out event by event, other bodies padded at their end.

    Every plaintext chunk of a stream has the size of a bucket, so that token lengths do not show.
    """

    media_type = ohttp.MEDIA_TYPE_CHUNKED_RESPONSE

    def __init__(self, sealer: ohttp.ChunkedResponseSealer) -> None:
        self._sealer = sealer
        self._encoder = bhttp.ResponseEncoder()
        self._stream = False
        self._pending = bytearray()
        self._floor = padding.EVENT_FLOOR
        self._first = True

    def head(self, status: int, headers: bhttp.Fields) -> bytes:
        """The response nonce; an event stream's headers too, so that the client can begin."""
        kind = next((value for name, value in headers if name == b"content-type"), b"")
        self._stream = kind.split(b";")[0].strip() == EVENT_STREAM
        head = self._encoder.head(status, headers)
        if self._stream:
            return self._sealer.header + self._sealer.seal(head + self._fill(len(head)))
        self._pending += head
        return self._sealer.header

    def _fill(self, size: int) -> bytes:
        """A comment that fills a head of `size` bytes to its bucket, with or without a next key in it."""
        room = padding.bucket(size + _SMALLEST_COMMENT, smallest=HEAD) - size
        for prefix in (1, 2, 4):  # how many bytes its length takes
            comment = self._encoder.data(padding.sse_comment(max(room - prefix, padding.MIN_COMMENT)))
            if len(comment) == room:
                return comment
        return comment

    def data(self, piece: bytes) -> bytes:
        """Whole events, padded; of other bodies, whole chunks of 256 KiB."""
        return self._events(piece) if self._stream else self._bulk(piece)

    def _events(self, piece: bytes) -> bytes:
        self._pending += piece
        border = self._pending.rfind(b"\n\n") + 2
        if border < 2:
            return b""
        events = bytes(self._pending[:border])
        del self._pending[:border]
        if self._first:
            # The first event repeats what every event repeats (id, model's name); room for a token beside it.
            self._first, self._floor = False, padding.bucket(len(events) + _TOKEN, smallest=self._floor)
        return self._sealer.seal(self._encoder.data(padding.pad_event(events, smallest=self._floor)))

    def _bulk(self, piece: bytes) -> bytes:
        self._pending += self._encoder.data(piece)
        out = []
        while len(self._pending) > CHUNK:
            out.append(self._sealer.seal(bytes(self._pending[:CHUNK])))
            del self._pending[:CHUNK]
        return b"".join(out)

    def end(self, trailers: bhttp.Fields = ()) -> bytes:
        """What is left, the end of the message, zero bytes up to a bucket: the final chunk."""
        rest = bytes(self._pending)
        if self._stream and rest:
            rest = self._encoder.data(rest)
        return self._sealer.seal(padding.pad(rest + self._encoder.end(trailers)), final=True)


class WholeAnswer:
    """An answer to a request that was not chunked: everything is collected, then sealed once."""

    media_type = ohttp.MEDIA_TYPE_RESPONSE

    def __init__(self, exchange: ohttp.Exchange) -> None:
        self._exchange = exchange
        self._status = 0
        self._headers: bhttp.Fields = ()
        self._body = bytearray()

    def head(self, status: int, headers: bhttp.Fields) -> bytes:
        """Nothing yet."""
        self._status, self._headers = status, headers
        return b""

    def data(self, piece: bytes) -> bytes:
        """Nothing yet."""
        self._body += piece
        return b""

    def end(self, trailers: bhttp.Fields = ()) -> bytes:
        """The whole sealed response."""
        response = bhttp.Response(self._status, self._headers, bytes(self._body), trailers)
        return ohttp.seal_response(self._exchange, padding.pad(bhttp.encode_response(response)))
