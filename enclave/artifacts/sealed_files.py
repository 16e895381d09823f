"""A sealed artifact's files, decrypted straight into the caller's memory. Implements `ModelFiles`."""

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

from sealing.artifact import TAG, Chunk, ChunkOpener, Manifest, ReleasedSecret, SignedManifest
from sealing.errors import SealingError

from ..files import FilesError, FilledFiles
from .ahead import ReadAhead
from .stores import Store

HELPERS: Final = 1
"""Threads that decrypt beside the caller's own."""
_ZEROS: Final = bytes(1 << 16)


class ArtifactError(FilesError):
    """A sealed artifact that may not be used; the message names the chunk, or what else is wrong."""


def read_signed(store: Store) -> SignedManifest:
    """The manifest in a store, signed by the owner whom it names. Raises StoreError, ArtifactError."""
    try:
        return SignedManifest.from_bytes(store.manifest())
    except SealingError as error:
        raise ArtifactError(f"{store.label}: {error}") from None


class SealedFiles(FilledFiles):
    """The files of an artifact that was released. A context: leaving it erases what it holds.

    One thread reads at a time; another helps it. Every chunk's tag is checked before a byte of it is used;
    if one is refused, what was written for the call is erased. Plaintext goes nowhere but to the caller.
    """

    def __init__(self, store: Store, signed: SignedManifest, secret: ReleasedSecret, now: float) -> None:
        """`now` in Unix seconds. Raises ArtifactError unless `secret` was released for exactly this."""
        try:
            self._opener = ChunkOpener(signed, secret, now)
        except SealingError as error:
            raise ArtifactError(f"{store.label}: {error}") from None
        self.manifest: Manifest = signed.manifest
        self._store = store
        self._layout = signed.manifest.layout()
        self._sizes = {file.path: file.size for file in signed.manifest.files}
        self._ahead = ReadAhead(store, self._layout) if store.distant else None
        self._helper = ThreadPoolExecutor(HELPERS, "decrypt")
        self._room = threading.local()
        self._part = memoryview(bytearray(self._layout.chunk_size))
        self._part_of: Chunk | None = None

    @property
    def label(self) -> str:
        return f"{self.manifest.name} ({self._store.label})"

    @property
    def sizes(self) -> Mapping[str, int]:
        return self._sizes

    def chunks(self, name: str) -> Iterator[memoryview]:
        """One chunk's plaintext after the other; the next is decrypted while the caller has this one."""
        self._size(name)
        counters = iter(self._layout.of(name))
        rooms = [memoryview(bytearray(self._layout.chunk_size)) for _ in range(2)]
        try:
            coming = self._helper.submit(self._open_to, next(counters), rooms[0])
            for counter in counters:
                piece = coming.result()
                rooms.reverse()
                coming = self._helper.submit(self._open_to, counter, rooms[0])
                yield piece
            yield coming.result()
        finally:
            for room in rooms:
                erase(room)

    def fill(self, name: str, offset: int, into: memoryview) -> None:
        """See `ModelFiles`. Raises StoreError, ArtifactError; `into` is then zeros."""
        size = self._size(name)
        if offset < 0 or offset + len(into) > size:
            raise FilesError(f"{self.label}: {name} has {size} bytes, not {offset + len(into)}")
        into = into.cast("B")
        try:
            whole = deque[tuple[Chunk, memoryview]]()
            for chunk, start, piece in self._pieces(name, offset, into):
                if len(piece) == chunk.size and self._part_of != chunk:
                    whole.append((chunk, piece))
                else:
                    self._open_all(whole)  # in order: distant chunks are asked for ahead
                    self._fill_part(chunk, start, piece)
            self._open_all(whole)
        except BaseException:
            erase(into)
            raise

    def close(self) -> None:
        """Erase what was decrypted, forget the keys, let go of the store. May be called again."""
        self._helper.shutdown()
        if self._ahead is not None:
            self._ahead.close()
        erase(self._part)
        self._part_of = None
        self._opener.forget()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pieces(self, name: str, offset: int, into: memoryview) -> Iterator[tuple[Chunk, int, memoryview]]:
        """Which chunks `into` is made of: the chunk, the first byte of it that is wanted, where it goes."""
        first, size, done = self._layout.of(name).start, self._layout.chunk_size, 0
        while done < len(into):
            index, start = divmod(offset + done, size)
            chunk = self._layout.chunk(first + index)
            count = min(chunk.size - start, len(into) - done)
            yield chunk, start, into[done : done + count]
            done += count

    def _open_all(self, whole: "deque[tuple[Chunk, memoryview]]") -> None:
        """Whole chunks, by this thread and its helper."""
        if len(whole) < 2:
            return self._drain(whole)
        helping = self._helper.submit(self._drain, whole)
        try:
            self._drain(whole)
        except BaseException:
            whole.clear()
            helping.exception()  # what is being written must be over before it is erased
            raise
        helping.result()

    def _drain(self, whole: "deque[tuple[Chunk, memoryview]]") -> None:
        while True:
            try:
                chunk, piece = whole.popleft()
            except IndexError:
                return
            try:
                self._open(chunk, piece)
            except BaseException:
                whole.clear()  # nobody shall go on
                raise

    def _fill_part(self, chunk: Chunk, start: int, piece: memoryview) -> None:
        """A piece of a chunk, by way of the chunk that is kept: the next piece is often of the same."""
        if self._part_of != chunk:
            self._part_of = None
            self._open(chunk, self._part[: chunk.size])
            self._part_of = chunk
        piece[:] = self._part[start : start + len(piece)]

    def _open_to(self, counter: int, room: memoryview) -> memoryview:
        chunk = self._layout.chunk(counter)
        self._open(chunk, room[: chunk.size])
        return room[: chunk.size]

    def _open(self, chunk: Chunk, into: memoryview) -> None:
        try:
            self._opener.open_into(chunk, self._ciphertext(chunk), into)
        except SealingError as error:
            raise ArtifactError(f"{self.label}: {error}") from None
        except FilesError as error:
            where = f"chunk {chunk.counter} ({chunk.path})"
            raise ArtifactError(f"{self.manifest.name}: {where} cannot be read: {error}") from None

    def _ciphertext(self, chunk: Chunk) -> memoryview:
        """A private copy: what the tag was computed over is what is decrypted, whatever the disk does."""
        if self._ahead is not None:
            return self._ahead.get(chunk)
        room: memoryview | None = getattr(self._room, "buffer", None)
        if room is None:
            room = self._room.buffer = memoryview(bytearray(self._layout.chunk_size + TAG))
        self._store.read_into(chunk.offset, room[: chunk.length])
        return room[: chunk.length]


def erase(memory: memoryview) -> None:
    """Overwrite with zeros."""
    for start in range(0, len(memory), len(_ZEROS)):
        piece = memory[start : start + len(_ZEROS)]
        piece[:] = _ZEROS[: len(piece)]
