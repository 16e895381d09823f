"""Files that other processes may read and write at the same time."""

import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, raw: bytes) -> None:
    """Put `raw` at `path`, whole or not at all; readers see the old file or the new one.

    Makes the directories above it. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_bounded(path: Path, limit: int) -> bytes | None:
    """The bytes of the file `path`; None if it is not there, or has more than `limit` of them."""
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    return raw if len(raw) <= limit else None
