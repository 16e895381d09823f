"""Small files for a library that insists on paths: a private directory in memory, never on a disk.

vLLM reads a model's configuration and tokenizer, and an adapter's weights, from paths. They are written to a
tmpfs that only this user may enter, and removed when they have been read. Base weights never pass here.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from ...files import ModelFiles
from ..interface import ModelRefused

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (a tmpfs: that is the point)
_TMPFS = {"tmpfs", "ramfs"}
_PLACES: "set[MemoryPlace]" = set()


class MemoryPlace:
    """A directory of mode 0700 in memory. Raises ModelRefused where the system has no tmpfs."""

    def __init__(self, parent: Path = SHARED_MEMORY) -> None:
        if _file_system(parent) not in _TMPFS:
            raise ModelRefused(f"{parent} is not in memory (tmpfs): vLLM's small files have no safe place")
        self.path = Path(tempfile.mkdtemp(prefix="cloister-", dir=parent))
        _PLACES.add(self)  # a process that is killed leaves it behind

    def put(self, files: ModelFiles, names: Iterable[str]) -> Path:
        """Write these files and return where they are. Raises FilesError."""
        for name in names:
            descriptor = os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as target:
                for piece in files.chunks(name):
                    target.write(piece)
        return self.path

    def remove(self) -> None:
        """Remove the directory and what is in it. May be called again."""
        shutil.rmtree(self.path, ignore_errors=True)
        _PLACES.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


@atexit.register
def remove_all() -> None:
    """Remove every directory that is left: also for a process that ends without running anything else."""
    for place in list(_PLACES):
        place.remove()


def _file_system(path: Path) -> str:
    """The type of the file system that `path` is on, as the kernel lists it; "" if it lists none."""
    try:
        target, lines = path.resolve(strict=True), Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    mounts = [line.split()[1:3] for line in lines]
    holding = [(len(place), kind) for place, kind in mounts if target.is_relative_to(place)]
    return max(holding, default=(0, ""))[1]
