"""Reading little-endian fields from the front of a message."""

from .errors import MalformedMessage


class Reader:
    """Takes fields from the front of `raw`; MalformedMessage when there are too few bytes."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.offset = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        end = self.offset + size
        if end > len(self._raw):
            raise MalformedMessage(f"{len(self._raw)} bytes, cut short: {end} are needed")
        taken = self._raw[self.offset : end]
        self.offset = end
        return taken

    def number(self, size: int) -> int:
        """The next `size` bytes as an unsigned number."""
        return int.from_bytes(self.take(size), "little")

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._raw) - self.offset)

    def left(self) -> int:
        """How many bytes are left."""
        return len(self._raw) - self.offset


def number(value: int, size: int) -> bytes:
    """`value` in `size` bytes."""
    return value.to_bytes(size, "little")
