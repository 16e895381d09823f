"""The documents that a worker holds, by name: read whole into memory, never written anywhere."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from enclave.files import FilesError
from sealing.artifact import content_root
from sealing.artifact.contents import is_path

from .bm25 import Index
from .passages import Passage, passages

MAX_BYTES = 64 * 1024 * 1024
MAX_PASSAGES = 100_000


class Files(Protocol):
    """What documents are read from; `enclave.files.ModelFiles` is enough."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of every file, by path."""

    def read(self, name: str) -> bytes:
        """A whole file. Raises FilesError."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage and its BM25 score, which orders hits and means nothing by itself."""

    passage: Passage
    score: float


@dataclass(frozen=True, slots=True)
class Documents:
    """Documents by one name. `root` is the content root of what was read, hashed here.

    `not_after`: until when they may be searched, Unix seconds; None for ever.
    """

    root: bytes
    _passages: tuple[Passage, ...] = field(repr=False)
    _index: Index = field(repr=False)
    not_after: int | None = None

    @classmethod
    def read(cls, files: Files) -> "Documents":
        """Read every file. Raises FilesError for what is no UTF-8 text, or too much of it."""
        if sum(files.sizes.values()) > MAX_BYTES:
            raise FilesError(f"documents of more than {MAX_BYTES} bytes do not fit")
        digests: dict[str, bytes] = {}
        found: list[Passage] = []
        for path in sorted(files.sizes):
            raw = files.read(path)
            digests[path] = hashlib.sha256(raw).digest()
            found += passages(path, _text(path, raw))
        if not found or len(found) > MAX_PASSAGES:
            raise FilesError(f"documents have 1 to {MAX_PASSAGES} paragraphs, not {len(found)}")
        return cls(content_root(digests), tuple(found), Index([each.text for each in found]))

    def search(self, query: str, limit: int) -> list[Hit]:
        """The best passages, best first."""
        return [Hit(self._passages[number], score) for number, score in self._index.search(query, limit)]


class Folder:
    """The files of a plain directory and those below it, by relative path. Implements `Files`."""

    def __init__(self, directory: Path) -> None:
        """Raises FilesError if it cannot be listed or a name cannot be shown."""
        self._directory = directory
        if not directory.is_dir():
            raise FilesError(f"{directory} is no directory")
        try:
            self._sizes = dict(self._listed())
        except OSError as error:
            raise FilesError(f"{directory} cannot be read: {error}") from None

    @property
    def sizes(self) -> Mapping[str, int]:
        return self._sizes

    def read(self, name: str) -> bytes:
        try:
            return (self._directory / name).read_bytes()
        except OSError as error:
            raise FilesError(f"{self._directory / name} cannot be read: {error}") from None

    def _listed(self) -> Iterator[tuple[str, int]]:
        for path in self._directory.rglob("*"):
            if path.is_file() and not path.is_symlink():
                name = path.relative_to(self._directory).as_posix()
                if not is_path(name):
                    raise FilesError(f"{self._directory}: a file's name cannot be used")
                yield name, path.stat().st_size


def _text(path: str, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise FilesError(f"{path} is not UTF-8 text; documents are text files") from None
