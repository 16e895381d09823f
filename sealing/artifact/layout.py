"""Where each chunk of an artifact begins: in its file, and in the one stream of ciphertext."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

TAG: Final = 16
MIN_CHUNK: Final = 4 * 1024
MAX_CHUNK: Final = 2 * 1024 * 1024
MANIFEST_NAME: Final = "manifest.cose"
CHUNKS_NAME: Final = "chunks"
LEAVES_NAME: Final = "leaves"
"""What a store holds of one artifact: the signed manifest, the stream of chunks, their leaf hashes."""
MAX_CHUNKS: Final = 1 << 32
"""Chunks of one artifact, and so of one run key: within what AES-GCM with a counter may carry."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of an artifact: its path in it, its plaintext bytes."""

    path: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One chunk: number `counter` of the artifact, `index` of the `count` chunks of file `path`.

    `start` and `size` in plaintext bytes of the file, `offset` and `length` in the ciphertext stream.
    """

    counter: int
    path: str
    index: int
    count: int
    final: bool
    start: int
    size: int
    offset: int

    @property
    def length(self) -> int:
        """Bytes of ciphertext and tag."""
        return self.size + TAG


class Layout:
    """Files in order, cut into chunks of `chunk_size`, each last one shorter; an empty file has one chunk."""

    def __init__(self, files: Sequence[FileEntry], chunk_size: int) -> None:
        self.files = tuple(files)
        self.chunk_size = chunk_size
        self._counts = [max(1, -(-file.size // chunk_size)) for file in files]
        self._firsts = [0, *accumulate(self._counts)]
        self._before = [0, *accumulate(file.size for file in files)]
        pairs = zip(self._before, self._firsts, strict=True)
        self._offsets = [before + TAG * first for before, first in pairs][:-1]
        self._places = {file.path: place for place, file in enumerate(files)}

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return self._firsts[-1]

    @property
    def plaintext(self) -> int:
        """Bytes of all files together."""
        return self._before[-1]

    @property
    def ciphertext(self) -> int:
        """Bytes of the whole stream of chunks."""
        return self.plaintext + TAG * self.chunks

    def chunk(self, counter: int) -> Chunk:
        """Chunk number `counter`, from 0."""
        place = bisect_right(self._firsts, counter) - 1
        return self._chunk(place, counter - self._firsts[place])

    def at(self, offset: int) -> int:
        """The counter of the chunk that byte `offset` of the ciphertext stream belongs to."""
        place = bisect_right(self._offsets, offset) - 1
        return self._firsts[place] + (offset - self._offsets[place]) // (self.chunk_size + TAG)

    def of(self, path: str) -> range:
        """The counters of a file's chunks. KeyError if there is no such file."""
        place = self._places[path]
        return range(self._firsts[place], self._firsts[place + 1])

    def __iter__(self) -> Iterator[Chunk]:
        for place, count in enumerate(self._counts):
            for index in range(count):
                yield self._chunk(place, index)

    def _chunk(self, place: int, index: int) -> Chunk:
        file, counter = self.files[place], self._firsts[place] + index
        start = index * self.chunk_size
        return Chunk(
            counter=counter,
            path=file.path,
            index=index,
            count=self._counts[place],
            final=counter == self.chunks - 1,
            start=start,
            size=min(self.chunk_size, file.size - start),
            offset=self._before[place] + start + TAG * counter,
        )
