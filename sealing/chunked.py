"""Chunked oblivious HTTP (draft-ietf-ohai-chunked-ohttp-08): sealed and opened as it arrives, without IO.

Each chunk is a varint length and a ciphertext; length zero announces the final chunk, which runs to the end
of the stream and is authenticated as final. Only `close()` can therefore tell that a message is complete:
it opens the final chunk. After its first error an opener repeats that error and nothing else.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from .encapsulation import CHUNKED, HEADER_SIZE, Exchange, accept_request, begin_request, select_key
from .errors import (
    LocalProtocolError,
    MalformedMessage,
    MessageTooLarge,
    RemoteProtocolError,
    TruncatedMessage,
)
from .hpke import N_TAG, PrivateKey, Suite
from .kem import kem_sizes
from .keyconfig import KeyConfig, KeyLookup
from .octets import Octets, decode_varint, encode_varint

MEDIA_TYPE_CHUNKED_REQUEST: Final = "message/ohttp-chunked-req"
MEDIA_TYPE_CHUNKED_RESPONSE: Final = "message/ohttp-chunked-res"

MAX_CHUNK: Final = 1 << 20
"""Default for the largest plaintext of one chunk, in bytes. The draft asks for at least 16384."""

_FINAL: Final = b"final"

_Open = Callable[[memoryview, bytes], bytes]


class _Sealer(ABC):
    """Frames sealed chunks; refuses everything after the final one."""

    def __init__(self) -> None:
        self._finished = False

    @property
    def finished(self) -> bool:
        """Whether the final chunk was sealed."""
        return self._finished

    def seal(self, chunk: Octets, *, final: bool = False) -> bytes:
        """The framed ciphertext of one chunk, which may be empty.

        Raises LocalProtocolError after the final chunk.
        """
        prefix, ciphertext = self.seal_parts(chunk, final=final)
        return prefix + ciphertext

    def seal_parts(self, chunk: Octets, *, final: bool = False) -> tuple[bytes, bytes]:
        """As seal, the length prefix and the ciphertext apart: a large chunk is then never copied."""
        if self._finished:
            raise LocalProtocolError("the final chunk was already sealed")
        self._finished = final
        if final:
            return b"\x00", self._encrypt(chunk, _FINAL)
        return encode_varint(len(chunk) + N_TAG), self._encrypt(chunk, b"")

    @abstractmethod
    def _encrypt(self, chunk: Octets, aad: bytes) -> bytes: ...


class ChunkedRequestSealer(_Sealer):
    """The client's side of one request. `header` (key, algorithms, enc) goes out before the first chunk.

    Raises UnsupportedSuite (not in the configuration), MalformedMessage (unusable public key).
    """

    def __init__(
        self, config: KeyConfig, suite: Suite | None = None, *, testing_ephemeral: PrivateKey | None = None
    ) -> None:
        super().__init__()
        self.header, self._context, self._exchange = begin_request(CHUNKED, config, suite, testing_ephemeral)

    @property
    def enc(self) -> bytes:
        """The encapsulated key: public, unique to this request."""
        return self._exchange.enc

    def response_opener(self, *, max_chunk: int = MAX_CHUNK) -> "ChunkedResponseOpener":
        """What opens the response to this request."""
        return ChunkedResponseOpener(self._exchange, max_chunk=max_chunk)

    def _encrypt(self, chunk: Octets, aad: bytes) -> bytes:
        return self._context.seal(chunk, aad)


class ChunkedResponseSealer(_Sealer):
    """The gateway's side of one response. `header` (the response nonce) goes out before the first chunk."""

    def __init__(self, exchange: Exchange, *, testing_nonce: bytes | None = None) -> None:
        super().__init__()
        self.header = exchange.new_response_nonce(testing_nonce)
        self._keys = exchange.chunk_keys(self.header)

    def _encrypt(self, chunk: Octets, aad: bytes) -> bytes:
        return self._keys.seal(chunk, aad)


class _Opener(ABC):
    """Cuts a stream into chunks and opens them. Holds at most one chunk beside what one `feed` brings."""

    def __init__(self, max_chunk: int) -> None:
        self._limit = max_chunk + N_TAG
        self._buffer = bytearray()
        self._open: _Open | None = None
        self._in_final = False
        self._finished = False
        self._error: RemoteProtocolError | None = None

    @property
    def finished(self) -> bool:
        """Whether the final chunk was opened, by `close`: the message is complete and authentic."""
        return self._finished

    def feed(self, data: Octets) -> list[bytes]:
        """The plaintexts of the chunks that `data` completes; the final chunk waits for `close`.

        Raises RemoteProtocolError of any kind, and again at every later call.
        """
        self._check()
        if self._finished:
            raise LocalProtocolError("the stream was already closed")
        self._buffer += data
        try:
            return self._advance()
        except RemoteProtocolError as error:
            self._fail(error)
            raise

    def close(self) -> list[bytes]:
        """Ends the stream: the plaintext of the final chunk, as `feed` returns it.

        Raises TruncatedMessage (no final chunk), DecryptionFailed (it was altered, or bytes follow it).
        """
        self._check()
        if self._finished:
            return []
        try:
            plaintext = self._open_final()
        except RemoteProtocolError as error:
            self._fail(error)
            raise
        self._finished = True
        self._buffer = bytearray()
        return [plaintext]

    def _check(self) -> None:
        if self._error is not None:
            raise self._error.with_traceback(None)

    def _fail(self, error: RemoteProtocolError) -> None:
        self._error = error
        self._buffer = bytearray()

    def _advance(self) -> list[bytes]:
        if self._open is None:
            self._open = self._begin()
        if self._open is None:
            return []
        plaintexts: list[bytes] = []
        offset = 0
        with memoryview(self._buffer) as view:
            while not self._in_final:
                frame = self._next_frame(view, offset)
                if frame is None:
                    break
                start, offset = frame
                if start < offset:
                    plaintexts.append(self._open(view[start:offset], b""))
        del self._buffer[:offset]
        if self._in_final and len(self._buffer) > self._limit:
            raise MessageTooLarge(f"a sealed chunk has at most {self._limit} bytes")
        return plaintexts

    def _next_frame(self, view: memoryview, offset: int) -> tuple[int, int] | None:
        """Start and end of the next whole sealed chunk; an empty one stands for the final indicator."""
        head = decode_varint(view, offset)
        if head is None:
            return None
        length, start = head
        if length == 0:
            self._in_final = True
            return start, start
        if length > self._limit:
            raise MessageTooLarge(f"a sealed chunk has at most {self._limit} bytes")
        if length < N_TAG:
            raise MalformedMessage("a sealed chunk has at least 16 bytes")
        return (start, start + length) if start + length <= len(view) else None

    def _open_final(self) -> bytes:
        if self._open is None or not self._in_final or len(self._buffer) < N_TAG:
            raise TruncatedMessage("the stream ended before its final chunk")
        with memoryview(self._buffer) as view:
            return self._open(view, _FINAL)

    def _take(self, size: int) -> bytes | None:
        """The first `size` bytes, removed, or None while they are not all there."""
        if len(self._buffer) < size:
            return None
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    @abstractmethod
    def _begin(self) -> _Open | None:
        """Reads what precedes the chunks: what opens them, or None while bytes are missing."""


class ChunkedResponseOpener(_Opener):
    """The client's side of one response. `max_chunk` bounds a chunk's plaintext, and so the memory held."""

    def __init__(self, exchange: Exchange, *, max_chunk: int = MAX_CHUNK) -> None:
        super().__init__(max_chunk)
        self._exchange = exchange

    def _begin(self) -> _Open | None:
        nonce = self._take(self._exchange.n_response_nonce)
        return None if nonce is None else self._exchange.chunk_keys(nonce).open


class ChunkedRequestOpener(_Opener):
    """The gateway's side of one request. `lookup` maps a key identifier to a GatewayKey or None.

    Beside the errors of every opener, `feed` raises UnknownKey and UnsupportedSuite.
    """

    def __init__(self, lookup: KeyLookup, *, max_chunk: int = MAX_CHUNK) -> None:
        super().__init__(max_chunk)
        self._lookup = lookup
        self._header = b""
        self._suite: Suite | None = None
        self._exchange: Exchange | None = None

    @property
    def key_id(self) -> int | None:
        """The key identifier, once the encapsulated key has arrived and the header names a key."""
        return None if self._suite is None else self._header[0]

    @property
    def suite(self) -> Suite | None:
        """The suite that the client chose, once known."""
        return self._suite

    @property
    def enc(self) -> bytes | None:
        """The encapsulated key, once it has arrived: unique to this request, what a replay repeats."""
        return None if self._exchange is None else self._exchange.enc

    def response_sealer(self, *, testing_nonce: bytes | None = None) -> ChunkedResponseSealer:
        """What seals the response; usable once `enc` is known, so that errors can be sealed as well."""
        if self._exchange is None:
            raise LocalProtocolError("the request's header has not arrived")
        return ChunkedResponseSealer(self._exchange, testing_nonce=testing_nonce)

    def _begin(self) -> _Open | None:
        if not self._header:
            self._header = self._take(HEADER_SIZE) or b""
            if not self._header:
                return None
        enc = self._take(kem_sizes(int.from_bytes(self._header[1:3])).n_enc)
        if enc is None:
            return None
        # Only now: whoever sends slowly must not keep a one-time key beyond the time its owner gives it.
        key, self._suite = select_key(self._header, self._lookup)
        context, self._exchange = accept_request(CHUNKED, self._header, enc, key, self._suite)
        return context.open
