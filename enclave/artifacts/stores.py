"""Where sealed artifacts lie. A store is not trusted: what it gives is verified by whoever reads it."""

import os
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from sealing.artifact import CHUNKS_NAME, MANIFEST_NAME, MAX_MANIFEST

from ..files import FilesError

HTTP_SCHEMES = ("http://", "https://")
BLOB_SCHEME = "azblob:"


class StoreError(FilesError):
    """A store did not give what was asked for; the message says where and what to do."""


class Store(Protocol):
    """One sealed artifact's objects. Two threads may read at a time."""

    @property
    def label(self) -> str:
        """Where it lies, without credentials."""

    @property
    def distant(self) -> bool:
        """Whether reading takes so long that it pays to ask ahead."""

    def manifest(self) -> bytes:
        """The manifest file, at most one byte more than it may have. Raises StoreError."""

    def read_into(self, offset: int, into: memoryview) -> None:
        """Fill `into` from byte `offset` of the chunks. Raises StoreError if the store has not that much."""

    def close(self) -> None:
        """Let go of files and connections."""


def store_at(place: str) -> Store:
    """The store that `place` names: a directory, an http(s) address, or azblob: and a blob address."""
    if place.startswith(BLOB_SCHEME):
        from .blob import BlobStore

        return BlobStore(place.removeprefix(BLOB_SCHEME))
    if place.startswith(HTTP_SCHEMES):
        from .http import HttpStore

        return HttpStore(place)
    return DirectoryStore(Path(place))


def split_address(url: str) -> SplitResult:
    """The parts of an http(s) address; StoreError for one that names no host or carries a password."""
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
        whole = bool(parts.hostname) and parts.username is None and url.isascii() and parts.port != 0
    except ValueError:
        whole = False
    if not whole:
        raise StoreError("a store's address is http(s)://HOST[:PORT]/PATH in ASCII, without user or password")
    return parts


def is_sealed(place: str) -> bool:
    """Whether `place` names a sealed artifact rather than a directory of plain files."""
    return place.startswith((*HTTP_SCHEMES, BLOB_SCHEME)) or (Path(place) / MANIFEST_NAME).is_file()


class DirectoryStore:
    """A local directory. Its bytes are copied before they are looked at: the disk is the operator's."""

    distant = False

    def __init__(self, directory: Path) -> None:
        """Raises StoreError if there are no chunks."""
        self._directory = directory
        try:
            self._chunks = os.open(directory / CHUNKS_NAME, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StoreError(f"{directory / CHUNKS_NAME}: {error.strerror}") from None

    @property
    def label(self) -> str:
        return str(self._directory)

    def manifest(self) -> bytes:
        try:
            with (self._directory / MANIFEST_NAME).open("rb") as file:
                return file.read(MAX_MANIFEST + 1)
        except OSError as error:
            raise StoreError(f"{self._directory / MANIFEST_NAME}: {error.strerror}") from None

    def read_into(self, offset: int, into: memoryview) -> None:
        done = 0
        while done < len(into):
            try:
                count = os.preadv(self._chunks, [into[done:]], offset + done)
            except OSError as error:
                raise StoreError(f"{self.label}: {error.strerror}") from None
            if not count:
                raise StoreError(f"{self.label}: {CHUNKS_NAME} ends before byte {offset + len(into)}")
            done += count

    def close(self) -> None:
        if self._chunks >= 0:
            os.close(self._chunks)
            self._chunks = -1
