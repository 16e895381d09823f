"""Bytes read front to back, each field named, nothing left over."""

from .errors import MalformedEvidence


class Reader:
    """Reads `raw` once, in order; MalformedEvidence names the structure that ends too early."""

    def __init__(self, raw: bytes, what: str) -> None:
        self._raw, self._what, self._offset = raw, what, 0

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return len(self._raw) - self._offset

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        if size > self.left:
            raise MalformedEvidence(f"{self._what} ends {size - self.left} bytes early")
        start, self._offset = self._offset, self._offset + size
        return self._raw[start : self._offset]

    def big(self, size: int) -> int:
        """An unsigned big-endian integer of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def little(self, size: int) -> int:
        """An unsigned little-endian integer of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def sized(self) -> bytes:
        """A TPM2B: two bytes of length, big-endian, and as many bytes."""
        return self.take(self.big(2))

    def end(self) -> None:
        """MalformedEvidence if bytes are left."""
        if self.left:
            raise MalformedEvidence(f"{self.left} bytes after the {self._what}")
