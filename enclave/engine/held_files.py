"""A model's files read into secret memory beforehand, so that nobody waits while they come. No torch."""

from collections.abc import Iterator, Mapping
from itertools import accumulate

from ..files import CHUNK, FilesError, ModelFiles
from ..memory import PROTECTED, Kind, SecretMemory

MAX_HELD = 4 * 1024**3
"""What an owner's manifest can have the worker set aside: no adapter of rank 64 is larger."""


class HeldFiles:
    """Another `ModelFiles`' content, whole. Implements `ModelFiles`; `close` erases it."""

    def __init__(self, files: ModelFiles) -> None:
        """Reads everything, at most 4 GiB. Raises FilesError."""
        self.label = files.label
        self.sizes: Mapping[str, int] = dict(files.sizes)
        ends = accumulate(self.sizes.values())
        self._places = {name: end - size for (name, size), end in zip(self.sizes.items(), ends, strict=True)}
        total = sum(self.sizes.values())
        if total > MAX_HELD:
            raise FilesError(f"{self.label} has {total} bytes; at most {MAX_HELD} are loaded while serving")
        self._memory = SecretMemory(max(1, total), kinds=(*PROTECTED, Kind.UNLOCKED))
        try:
            for name, size in self.sizes.items():
                files.fill(name, 0, self._part(name, 0, size))
        except BaseException:
            self.close()
            raise

    def read(self, name: str) -> bytes:
        """A whole file. Raises FilesError."""
        return bytes(self._part(name, 0, self._size(name)))

    def chunks(self, name: str) -> Iterator[memoryview]:
        """A file in order."""
        for offset in range(0, self._size(name), CHUNK):
            yield self._part(name, offset, min(CHUNK, self._size(name) - offset))

    def fill(self, name: str, offset: int, into: memoryview) -> None:
        """Copy a part of a file. Raises FilesError."""
        if offset + len(into) > self._size(name):
            raise FilesError(f"{self.label}: {name} ends before byte {offset + len(into)}")
        into[:] = self._part(name, offset, len(into))

    def close(self) -> None:
        """Erase what was read."""
        self._memory.close()

    def _size(self, name: str) -> int:
        if name not in self.sizes:
            raise FilesError(f"{self.label} has no file {name}")
        return self.sizes[name]

    def _part(self, name: str, offset: int, size: int) -> memoryview:
        start = self._places[name] + offset
        return self._memory.buffer[start : start + size]
