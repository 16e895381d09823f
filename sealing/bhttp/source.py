"""Bytes that arrive in pieces, read by coroutines that yield while too few are there."""

from collections.abc import Generator

from ..errors import TruncatedMessage
from ..octets import Octets, decode_varint

_COMPACT_ABOVE = 1 << 16


class Source:
    """A queue of bytes with an end. With bytes given at once it is already closed."""

    __slots__ = ("_buffer", "_closed", "_offset")

    def __init__(self, whole: Octets | None = None) -> None:
        self._buffer = bytearray(whole or b"")
        self._offset = 0
        self._closed = whole is not None

    def feed(self, data: Octets) -> None:
        if self._offset == len(self._buffer):
            self._buffer.clear()
            self._offset = 0
        elif self._offset > _COMPACT_ABOVE:
            del self._buffer[: self._offset]
            self._offset = 0
        self._buffer += data

    def close(self) -> None:
        self._closed = True

    def at_end(self) -> Generator[None, None, bool]:
        """Whether no byte is left and none will come; waits until that is known."""
        while self._offset == len(self._buffer):
            if self._closed:
                return True
            yield
        return False

    def varint(self) -> Generator[None, None, int]:
        """The next variable-length integer. Raises TruncatedMessage."""
        while (found := decode_varint(self._buffer, self._offset)) is None:
            self._wait()
            yield
        value, self._offset = found
        return value

    def take(self, size: int) -> Generator[None, None, bytes]:
        """Exactly `size` bytes; the caller has bounded size. Raises TruncatedMessage."""
        while len(self._buffer) - self._offset < size:
            self._wait()
            yield
        return self.take_available(size)

    def take_available(self, most: int) -> bytes:
        """What is there, at most `most` bytes."""
        end = min(len(self._buffer), self._offset + most)
        taken = bytes(memoryview(self._buffer)[self._offset : end])
        self._offset = end
        return taken

    def _wait(self) -> None:
        if self._closed:
            raise TruncatedMessage("the message stops inside one of its parts")
