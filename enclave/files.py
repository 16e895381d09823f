"""The files of one model or adapter, wherever they lie: a directory, a sealed artifact, the link to a device.

Whoever loads a model reads it through `ModelFiles` and never asks for a path. Imports no torch.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from .model_files import name_in, pickled_files, used_files

CHUNK = 1 << 20


class FilesError(Exception):
    """A file is missing, unreadable, or not what its owner sealed; the message names file and remedy."""


class ModelFiles(Protocol):
    """One model's or adapter's files by name. What was read is what its owner meant, or FilesError is raised.

    One thread reads at a time. `chunks` and `fill` are quickest in order, from the start of each file.
    """

    @property
    def label(self) -> str:
        """What messages call it: a path, an artifact's id."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of every file, by name, in order of the names."""

    def read(self, name: str) -> bytes:
        """A whole file. For small ones: configuration, tokenizer. Raises FilesError."""

    def chunks(self, name: str) -> Iterator[memoryview]:
        """A file in order, in pieces of at most 2 MiB, each valid until the next is asked for."""

    def fill(self, name: str, offset: int, into: memoryview) -> None:
        """Fill `into` with the file's bytes from `offset` on, straight and without a copy in between."""


class FilledFiles(ABC):
    """`ModelFiles` by `sizes` and `fill` alone, a piece of `piece` bytes at a time."""

    piece = CHUNK

    @property
    @abstractmethod
    def label(self) -> str:
        """See `ModelFiles`."""

    @property
    @abstractmethod
    def sizes(self) -> Mapping[str, int]:
        """See `ModelFiles`."""

    @abstractmethod
    def fill(self, name: str, offset: int, into: memoryview) -> None:
        """See `ModelFiles`. Raises FilesError."""

    def read(self, name: str) -> bytes:
        """See `ModelFiles`."""
        content = bytearray(self._size(name))
        self.fill(name, 0, memoryview(content))
        return bytes(content)

    def chunks(self, name: str) -> Iterator[memoryview]:
        """See `ModelFiles`."""
        size = self._size(name)
        buffer = memoryview(bytearray(min(self.piece, size)))
        for offset in range(0, size, self.piece):
            piece = buffer[: min(self.piece, size - offset)]
            self.fill(name, offset, piece)
            yield piece

    def _size(self, name: str) -> int:
        if name not in self.sizes:
            raise FilesError(f"{self.label} has no file {name}")
        return self.sizes[name]


class DirectoryFiles(FilledFiles):
    """The used files of a local directory."""

    def __init__(self, directory: Path) -> None:
        """Raises FilesError if it cannot be listed, or holds pickled files."""
        self._directory = directory
        try:
            pickled = pickled_files(directory)
            self._sizes = {name_in(directory, path): path.stat().st_size for path in used_files(directory)}
        except OSError as error:
            raise FilesError(f"{directory} cannot be read: {error}") from None
        if pickled:
            raise FilesError(
                f"{directory} holds pickled files ({', '.join(pickled)}), which can run code when opened: "
                "convert the weights to safetensors and remove them"
            )

    @property
    def label(self) -> str:
        return str(self._directory)

    @property
    def sizes(self) -> Mapping[str, int]:
        return self._sizes

    def fill(self, name: str, offset: int, into: memoryview) -> None:
        self._size(name)
        try:
            descriptor = os.open(self._directory / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                done = 0
                while done < len(into):
                    count = os.preadv(descriptor, [into[done:]], offset + done)
                    if not count:
                        raise FilesError(f"{self._directory / name} ends before byte {offset + len(into)}")
                    done += count
            finally:
                os.close(descriptor)
        except OSError as error:
            raise FilesError(f"{self._directory / name} cannot be read: {error}") from None
