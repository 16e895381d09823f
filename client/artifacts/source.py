"""A directory to be sealed: which of its files, in which order, and their bytes."""

import os
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

from sealing.artifact import Chunk, FileEntry, Kind, loading_reads
from sealing.artifact.contents import is_path
from sealing.artifact.manifest import MAX_FILES

from .errors import SourceRefused


def kind_of(directory: Path) -> Kind:
    """What a directory holds, by its configuration. Raises SourceRefused if that does not say."""
    if (directory / "adapter_config.json").is_file():
        return Kind.ADAPTER
    if (directory / "config.json").is_file():
        return Kind.MODEL
    raise SourceRefused(
        f"{directory} has neither config.json nor adapter_config.json: give --kind if it holds documents"
    )


class Source:
    """The files of `directory` that belong to its kind. A context: one file is open at a time."""

    def __init__(self, directory: Path, kind: Kind) -> None:
        """Raises SourceRefused if there is nothing to seal, or a name that cannot be sealed."""
        self.directory = directory
        found = _found(directory, kind)
        self.files = tuple(FileEntry(path, size) for path, size in sorted(found.items()))
        self.left_out = _left_out(directory, found)
        if not self.files:
            raise SourceRefused(f"{directory} holds no file of a {kind}")
        if len(self.files) > MAX_FILES:
            raise SourceRefused(f"{directory} holds more than {MAX_FILES} files")
        if kind is not Kind.DOCUMENTS and not any(file.path.endswith(".safetensors") for file in self.files):
            raise SourceRefused(f"{directory} holds no safetensors weights: convert them first")
        self._open: tuple[str, int] | None = None

    def read_into(self, chunk: Chunk, into: memoryview) -> None:
        """Fill `into`, of `chunk.size` bytes. Raises SourceRefused if the file has changed its size."""
        descriptor = self._descriptor(chunk.path)
        try:
            done = 0
            while done < len(into):
                count = os.preadv(descriptor, [into[done:]], chunk.start + done)
                if not count:
                    raise SourceRefused(f"{chunk.path} became shorter while it was sealed")
                done += count
            last = chunk.index == chunk.count - 1
            if last and os.pread(descriptor, 1, chunk.start + chunk.size):
                raise SourceRefused(f"{chunk.path} became longer while it was sealed")
        except OSError as error:
            raise SourceRefused(f"{chunk.path} cannot be read: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is not None:
            os.close(self._open[1])
            self._open = None

    def _descriptor(self, path: str) -> int:
        if self._open is None or self._open[0] != path:
            if self._open is not None:
                os.close(self._open[1])
                self._open = None
            try:
                self._open = path, os.open(self.directory / path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise SourceRefused(f"{path} cannot be opened: {error.strerror}") from None
        return self._open[1]


def _found(directory: Path, kind: Kind) -> dict[str, int]:
    try:
        walk = (
            directory.rglob("*")
            if kind is Kind.DOCUMENTS
            else chain(directory.iterdir(), directory.glob("*/*"))
        )
        paths = [path for path in walk if path.is_file()]
        sizes = {path.relative_to(directory).as_posix(): path.stat().st_size for path in paths}
    except OSError as error:
        raise SourceRefused(f"{directory} cannot be read: {error.strerror}") from None
    if kind is not Kind.DOCUMENTS:
        return {name: size for name, size in sizes.items() if loading_reads(name)}
    for name in sizes:
        if not is_path(name):
            raise SourceRefused(f"{name!r} is not a name that an artifact can hold: rename the file")
    return sizes


def _left_out(directory: Path, found: dict[str, int]) -> tuple[str, ...]:
    return tuple(
        sorted(path.name for path in directory.iterdir() if path.is_file() and path.name not in found)
    )
