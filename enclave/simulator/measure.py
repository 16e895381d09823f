"""What the simulated security processor measures before a worker starts, and how.

Covered, by content: every file of the packages attestation, sealing, enclave and cloister (but the
models shipped in cloister, whose roots stand in the workload); every file that is installed,
distributions' RECORDs, .pth files, sitecustomize and usercustomize among them; the standard library;
the interpreter's binary, shared library and version; and the configuration, as JCS.

Not covered: bytecode in __pycache__ (own packages load from source only; dependencies' and the standard
library's bytecode is trusted as Python trusts it: it is used if its header fits the source's time and
size); headers, static libraries and stubs, which nothing loads; the C library and what else the
operating system supplies; environment variables, of which a worker is given few. Own packages are
hashed once more when they load (bootstrap.py); for everything else, what is loaded is what was
measured only if nobody wrote to the disk in between. All of this is software: whoever controls the
machine can have the processor sign anything.
"""

import hashlib
import os
import platform
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attestation.encoding import canonical

from .sources import (
    ROOT,
    MeasurementError,
    SearchPath,
    Source,
    interpreter_sources,
    needs_neutral,
    neutral,
    own_sources,
    site_sources,
    stdlib_sources,
)

DIGEST_SIZE = 48
_LABEL = b"cloister/measurement/v1\n"
_PIECE = 1 << 20
_SHARES = 16
_OWN = "packages/"


@dataclass(frozen=True, slots=True)
class Entry:
    """One measured thing: a path-like name and the SHA-256 of its content, hexadecimal."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """Everything measured, by name in order; `digest` (48 bytes) is the report's MEASUREMENT."""

    entries: tuple[Entry, ...] = field(repr=False)
    digest: bytes

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "Measurement":
        """The measurement of `entries`, in whatever order they come."""
        ordered = tuple(sorted(entries, key=lambda entry: os.fsencode(entry.name)))
        digest = hashlib.sha384(_LABEL)
        for entry in ordered:
            digest.update(f"{entry.sha256} ".encode() + os.fsencode(entry.name) + b"\n")
        return cls(ordered, digest.digest())

    def own_files(self) -> dict[str, str]:
        """SHA-256 of each file of the own packages, by its path from their common folder."""
        found = (entry for entry in self.entries if entry.name.startswith(_OWN))
        return {entry.name.removeprefix(_OWN): entry.sha256 for entry in found}

    def differences(self, other: "Measurement") -> list[str]:
        """The names that are not the same in both."""
        mine, theirs = ({entry.name: entry.sha256 for entry in each.entries} for each in (self, other))
        return sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))


def measure(
    configuration: Mapping[str, Any], *, root: Path = ROOT, search: SearchPath | None = None
) -> Measurement:
    """Measure the packages under `root`, the search path (default: this interpreter's) and `configuration`.

    Independent of where things are installed and of file times. `configuration` is JSON values.
    Raises MeasurementError for what cannot be read, rfc8785.CanonicalizationError for other values.
    """
    search = search or SearchPath.current()
    named = [
        *((_OWN, source) for source in own_sources(root)),
        *(("stdlib/", source) for source in stdlib_sources(search.stdlib)),
        *(("sites/", source) for source in site_sources(search.sites)),
        *(("python/", source) for source in interpreter_sources()),
    ]
    shares = [named[number::_SHARES] for number in range(_SHARES)]
    with ThreadPoolExecutor(2) as workers:  # hashing large pieces runs without the interpreter's lock
        entries = [
            entry for found in workers.map(lambda share: _entries(share, root), shares) for entry in found
        ]
    version = f"{platform.python_implementation()} {platform.python_version()} {platform.machine()}"
    entries.append(Entry("python/version", _sha256(version.encode())))
    entries.append(Entry("configuration", _sha256(canonical(dict(configuration)))))
    return Measurement.of(entries)


def _entries(share: Iterable[tuple[str, Source]], root: Path) -> list[Entry]:
    found = (_entry(prefix, source, root) for prefix, source in share)
    return [entry for entry in found if entry is not None]


def _entry(prefix: str, source: Source, root: Path) -> Entry | None:
    try:
        if needs_neutral(source.name):
            content = neutral(source.name, Path(source.path).read_bytes(), root)
            return None if content is None else Entry(prefix + source.name, _sha256(content))
        return Entry(prefix + source.name, _file_sha256(source.path))
    except OSError as error:
        raise MeasurementError(f"cannot read {source.path}: {error}") from error


def _file_sha256(path: str) -> str:
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while piece := os.read(descriptor, _PIECE):
            digest.update(piece)
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
