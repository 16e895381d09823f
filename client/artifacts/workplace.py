"""The directory that sealing writes to, and what it needs to go on after a crash.

While sealing, `sealing.json` says what is being sealed and by which runs; `chunks` and `leaves` grow. A
chunk counts as finished if its bytes hash to what stands in `leaves` and open to the source's bytes of now.
"""

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sealing import documents
from sealing.artifact import (
    CHUNKS_NAME,
    LEAVES_NAME,
    MANIFEST_NAME,
    Chunk,
    FileEntry,
    Layout,
    RunCipher,
    leaf,
)
from sealing.artifact.chunks import ARTIFACT_ID, RUN_ID, key_commitment
from sealing.artifact.manifest import MAX_MANIFEST, MAX_RUNS, Run
from sealing.artifact.tree import DIGEST
from sealing.errors import ChunkRefused, MalformedDocument

from .errors import DiskFull, OwnerError, TargetRefused

JOURNAL_NAME: Final = "sealing.json"
_FORMAT: Final = "cloister/sealing/v1"
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(slots=True)
class _Journal:
    """What is being sealed; `runs` are ids with the first chunk of each."""

    id: bytes
    layout: Layout
    commitment: bytes
    runs: list[tuple[bytes, int]]

    def to_bytes(self) -> bytes:
        return documents.encode(
            {
                "format": _FORMAT,
                "id": documents.b64url(self.id),
                "commitment": documents.b64url(self.commitment),
                "chunk_size": self.layout.chunk_size,
                "files": [{"path": file.path, "size": file.size} for file in self.layout.files],
                "runs": [{"id": documents.b64url(run), "first": first} for run, first in self.runs],
            }
        )


class Workplace:
    """A directory in which one artifact is being sealed. Made by `opened`."""

    def __init__(self, directory: Path, journal: _Journal, data_key: bytes, kept: int) -> None:
        self.directory = directory
        self.kept = kept
        """Chunks that an earlier run left, before they are looked at."""
        self._journal = journal
        self._data_key = data_key
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._chunks = os.open(directory / CHUNKS_NAME, flags, 0o644)
        self._leaves = os.open(directory / LEAVES_NAME, flags, 0o644)
        self._ciphers = [RunCipher(data_key, journal.id, run) for run, _ in journal.runs]
        self._buffer = memoryview(bytearray(journal.layout.chunk_size + 16))
        self._scratch = memoryview(bytearray(journal.layout.chunk_size))
        self._sealing = False

    @property
    def artifact_id(self) -> bytes:
        """The artifact's id, the same in every run."""
        return self._journal.id

    def finished(self, chunk: Chunk, plaintext: memoryview) -> bytes | None:
        """The leaf of a chunk that an earlier run finished from the same plaintext; None if it did not."""
        if self._sealing or chunk.counter >= self.kept:
            return None
        stored = os.pread(self._leaves, DIGEST, chunk.counter * DIGEST)
        ciphertext = self._buffer[: chunk.length]
        if os.preadv(self._chunks, [ciphertext], chunk.offset) != chunk.length or leaf(ciphertext) != stored:
            return None
        place = max(n for n, (_, first) in enumerate(self._journal.runs) if first <= chunk.counter)
        opened = self._scratch[: chunk.size]
        try:
            self._ciphers[place].open_into(chunk, ciphertext, opened)
        except ChunkRefused:
            return None
        return stored if opened == plaintext else None

    def seal(self, chunk: Chunk, plaintext: memoryview) -> bytes:
        """Seal one chunk and write it; returns its leaf. The first call starts a run. Raises DiskFull."""
        if not self._sealing:
            self._start_run(chunk.counter)
        ciphertext = self._buffer[: chunk.length]
        self._ciphers[-1].seal_into(chunk, plaintext, ciphertext)
        found = leaf(ciphertext)
        with told(self.directory, chunk.counter):
            _write(self._chunks, ciphertext, chunk.offset)
            _write(self._leaves, memoryview(found), chunk.counter * DIGEST)
        return found

    def runs(self) -> tuple[Run, ...]:
        """The runs that sealed what stands there now."""
        firsts = [first for _, first in self._journal.runs] + [self._journal.layout.chunks]
        return tuple(
            Run(run, end - first)
            for (run, first), end in zip(self._journal.runs, firsts[1:], strict=True)
            if end > first
        )

    def finish(self, manifest: bytes) -> None:
        """Put the manifest there, last; from now on the directory is a sealed artifact. Raises DiskFull."""
        with told(self.directory, self._journal.layout.chunks):
            os.ftruncate(self._chunks, self._journal.layout.ciphertext)
            os.ftruncate(self._leaves, self._journal.layout.chunks * DIGEST)
            os.fsync(self._chunks)
            os.fsync(self._leaves)
            _replace(self.directory, MANIFEST_NAME, manifest)
        (self.directory / JOURNAL_NAME).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the files."""
        os.close(self._chunks)
        os.close(self._leaves)

    def _start_run(self, first: int) -> None:
        """A run's key seals each chunk once: whatever was begun under an old id is never sealed again."""
        runs = [(run, start) for run, start in self._journal.runs if start < first]
        if len(runs) >= MAX_RUNS:
            raise TargetRefused(f"{self.directory} was begun {MAX_RUNS} times: remove it and seal anew")
        self._journal.runs = [*runs, (secrets.token_bytes(RUN_ID), first)]
        with told(self.directory, first):
            os.ftruncate(self._leaves, first * DIGEST)
            _replace(self.directory, JOURNAL_NAME, self._journal.to_bytes())
        self._ciphers = [RunCipher(self._data_key, self._journal.id, run) for run, _ in self._journal.runs]
        self._sealing = True


@contextmanager
def opened(
    directory: Path, layout: Layout, data_key: bytes, artifact_id: bytes | None = None
) -> Iterator[Workplace]:
    """A place to seal `layout` to: empty, or left by an earlier run, whose finished chunks are then kept.

    `artifact_id` for a new version of an artifact; a new one otherwise. Raises TargetRefused for a directory
    with anything else in it, or one begun with another data key.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TargetRefused(f"{directory} cannot be made: {error.strerror}") from None
    with _locked(directory):
        earlier = _earlier(directory)
        if earlier is None:
            journal, kept = _fresh(layout, data_key, artifact_id), 0
        else:
            journal, kept = _continued(directory, earlier, layout, data_key, artifact_id)
        workplace = Workplace(directory, journal, data_key, kept)
        try:
            yield workplace
        finally:
            workplace.close()


@contextmanager
def told(directory: Path, counter: int) -> Iterator[None]:
    """Turn the operating system's refusals to write into OwnerError and DiskFull."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskFull(
                f"no room in {directory} for chunk {counter} ({error.strerror}); what is sealed is kept"
            ) from None
        raise OwnerError(f"{directory} cannot be written: {error.strerror}") from None


def _fresh(layout: Layout, data_key: bytes, artifact_id: bytes | None) -> _Journal:
    chosen = artifact_id or secrets.token_bytes(ARTIFACT_ID)
    return _Journal(chosen, layout, key_commitment(data_key, chosen), [])


def _continued(
    directory: Path, earlier: _Journal, layout: Layout, data_key: bytes, artifact_id: bytes | None
) -> tuple[_Journal, int]:
    if key_commitment(data_key, earlier.id) != earlier.commitment:
        raise TargetRefused(f"{directory} was begun with another data key: give that one, or remove it")
    if artifact_id not in (None, earlier.id):
        raise TargetRefused(f"{directory} was begun as another artifact: remove it and seal anew")
    if (earlier.layout.files, earlier.layout.chunk_size) != (layout.files, layout.chunk_size):
        return _fresh(layout, data_key, earlier.id), 0
    kept = (directory / LEAVES_NAME).stat().st_size // DIGEST if (directory / LEAVES_NAME).exists() else 0
    return earlier, min(kept, layout.chunks) if earlier.runs else 0


def _earlier(directory: Path) -> _Journal | None:
    names = {path.name for path in directory.iterdir()}
    if MANIFEST_NAME in names:
        raise TargetRefused(f"{directory} holds a sealed artifact already: choose another --out")
    if JOURNAL_NAME in names:
        return _parse(directory / JOURNAL_NAME)
    if names - {CHUNKS_NAME, LEAVES_NAME, JOURNAL_NAME + ".new"}:
        raise TargetRefused(f"{directory} is not empty: choose another --out")
    return None


def _parse(path: Path) -> _Journal:
    try:
        members = documents.decode(path.read_bytes(), JOURNAL_NAME, limit=MAX_MANIFEST)
        members.exactly("format", _FORMAT)
        files = [
            FileEntry(one.text("path", limit=512), one.whole("size"))
            for one in members.objects("files", limit=1 << 20)
        ]
        return _Journal(
            id=members.octets("id", ARTIFACT_ID),
            layout=Layout(files, members.whole("chunk_size", 1)),
            commitment=members.octets("commitment", DIGEST),
            runs=[
                (one.octets("id", RUN_ID), one.whole("first"))
                for one in members.objects("runs", limit=MAX_RUNS)
            ],
        )
    except (OSError, MalformedDocument) as error:
        raise TargetRefused(f"{path} does not read: {error}; remove {path.parent} and seal anew") from None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TargetRefused(f"another process is sealing to {directory}") from None
        yield
    finally:
        os.close(descriptor)


def _write(descriptor: int, content: memoryview, offset: int) -> None:
    done = 0
    while done < len(content):
        done += os.pwrite(descriptor, content[done:], offset + done)


def _replace(directory: Path, name: str, content: bytes) -> None:
    """Write a file so that after a crash it is there whole or as it was before."""
    new = directory / f"{name}.new"
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(directory / name)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
