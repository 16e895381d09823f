"""Which files of a model or adapter directory count, and the one hash over them. Imports no torch."""

import hashlib
from pathlib import Path

from sealing.artifact.contents import content_root, loading_reads

_PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".ckpt"})
_CHUNK = 1 << 20


def used_files(directory: Path) -> list[Path]:
    """What loading may read: configuration, tokenizer, chat template, pooling, weights. Sorted by name."""
    paths = [*directory.iterdir(), *directory.glob("*/config.json")]
    return sorted(path for path in paths if path.is_file() and loading_reads(name_in(directory, path)))


def name_in(directory: Path, path: Path) -> str:
    """A file's name as `ModelFiles` has it: its path below the directory, with slashes."""
    return path.relative_to(directory).as_posix()


def pickled_files(directory: Path) -> list[str]:
    """Names of files that could hold pickled objects, which run code when opened. Sorted."""
    return sorted(path.name for path in directory.iterdir() if path.suffix in _PICKLES)


def model_root(directory: Path) -> bytes:
    """SHA-256 over JCS of the sorted list of [name, SHA-256 in hex] of the files that are used.

    Any changed, added, removed or renamed file of them changes the root. Raises OSError.
    """
    return content_root({name_in(directory, path): _file_hash(path) for path in used_files(directory)})


def _file_hash(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.digest()
