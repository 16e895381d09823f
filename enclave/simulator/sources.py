"""Which files a worker can load: its own packages, the standard library, what is installed, the interpreter.

The worker gets exactly this search path (see bootstrap.py): no .pth file is run, no directory that
one adds is searched, and of the checkout nothing but the measured files of four packages loads.
"""

import csv
import io
import os
import site
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

PACKAGES: Final = ("attestation", "sealing", "enclave", "cloister")
"""The packages that are measured as one's own and load from source only."""

UNMEASURED: Final = ("client",)
"""Packages of this distribution that a worker has no use for: it cannot import them."""

ROOT: Final = Path(__file__).resolve().parents[2]
_CACHES = frozenset({"__pycache__", ".mypy_cache", ".ruff_cache"})
# Compilers and type checkers read them, workers do not.
_BUILD_ONLY = (".h", ".hpp", ".hh", ".cuh", ".cu", ".a", ".pyi", ".pxd")
_BY_INSTALLERS = frozenset({"INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"})
_OWN_DATA = ("cloister", "models")  # weights and texts: their roots stand in the workload


class MeasurementError(Exception):
    """What should be measured cannot be read; the message names it."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be measured: its name in the measurement, and where it lies."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class SearchPath:
    """Where Python finds modules: the standard library's places, then installed packages."""

    stdlib: tuple[Path, ...]
    sites: tuple[Path, ...]

    @classmethod
    def current(cls) -> Self:
        """This interpreter's own, without the working directory, user site and what .pth files added."""
        library = Path(os.__file__).parent
        others = (Path(item) for item in sys.path if item.endswith((".zip", "lib-dynload")))
        inner = tuple(item for item in others if item.exists())
        sites = dict.fromkeys(Path(item) for item in site.getsitepackages())
        return cls((library, *inner), tuple(item for item in sites if item.is_dir()))

    def entries(self) -> list[str]:
        """The worker's sys.path."""
        return [str(item) for item in (*self.stdlib, *self.sites)]


def own_sources(root: Path) -> Iterator[Source]:
    """Every file of the four packages under `root`, but bytecode and the shipped models."""
    for package in PACKAGES:
        folder = root / package
        if not folder.is_dir():
            raise MeasurementError(f"{folder} is missing: install the whole distribution")
        for parts, path in _walk(folder, (package,)):
            if parts[: len(_OWN_DATA)] != _OWN_DATA and not path.endswith(".pyc"):
                yield Source("/".join(parts), path)


def stdlib_sources(places: tuple[Path, ...]) -> Iterator[Source]:
    """Every file of the standard library, without what is installed beside it."""
    for number, place in enumerate(places):
        if place.is_file():
            yield Source(f"{number}/{place.name}", str(place))
            continue
        inner = [other.name for other in places if other != place and other.is_relative_to(place)]
        for parts, path in _walk(place, ()):
            if parts[0] not in ("site-packages", "dist-packages", *inner) and _loadable(path):
                yield Source("/".join((str(number), *parts)), path)


def site_sources(sites: tuple[Path, ...]) -> Iterator[Source]:
    """Every file of installed packages, RECORD and .pth files among them, but this distribution's own."""
    own = {*PACKAGES, *UNMEASURED}
    for number, place in enumerate(sites):
        for parts, path in _walk(place, ()):
            information = parts[0].endswith(".dist-info")
            ours = information and parts[0].startswith("cloister-")
            if parts[0] in own or (ours and parts[-1] == "RECORD"):  # its rows name where we are installed
                continue
            if not (information and parts[-1] in _BY_INSTALLERS) and _loadable(path):
                yield Source("/".join((str(number), *parts)), path)


def interpreter_sources() -> Iterator[Source]:
    """The interpreter's binary and its shared library, if it has one.

    Raises MeasurementError if a file beside them would redirect the worker to another standard library.
    """
    binary = Path(interpreter())
    for place in (binary.parent, binary.parent.parent):
        for name in ("pyvenv.cfg", "pybuilddir.txt", f"{binary.name}._pth"):
            if (place / name).exists():
                raise MeasurementError(
                    f"{place / name} would choose the worker's standard library: remove it"
                )
    yield Source("executable", str(binary))
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        mapped = {line.split(maxsplit=5)[-1].strip() for line in maps if "/libpython" in line}
    for path in sorted(mapped):
        yield Source(os.path.basename(path), path)


def interpreter() -> str:
    """The binary itself, behind the links of virtual environments."""
    base: str = getattr(sys, "_base_executable", sys.executable)
    return os.path.realpath(base)


def neutral(name: str, content: bytes, root: Path) -> bytes | None:
    """`content` without what depends on where things are installed; None if nothing is left.

    RECORD: rows of files outside site-packages (console scripts name their interpreter), of bytecode
    and of installers' notes are left out, the rest sorted. .pth: `root` is written as a placeholder.
    """
    if name.endswith(".dist-info/RECORD"):
        return _record(content)
    if name.endswith(".pth") and name.count("/") == 1:
        place = os.fsencode(root)
        return None if content.strip() == place else content.replace(place, b"<root>")
    return content


def needs_neutral(name: str) -> bool:
    """Whether `neutral` may change the file of this name."""
    return name.endswith((".dist-info/RECORD", ".pth"))


def _record(content: bytes) -> bytes:
    rows = csv.reader(io.StringIO(content.decode("utf-8", "surrogateescape")))
    kept = sorted(row for row in rows if row and not _drops(row[0]))
    lines = (",".join(row) + "\n" for row in kept)
    return "".join(lines).encode("utf-8", "surrogateescape")


def _drops(path: str) -> bool:
    outside = path.startswith(("../", "/"))
    return outside or path.endswith(".pyc") or os.path.basename(path) in (*_BY_INSTALLERS, "RECORD")


def _loadable(path: str) -> bool:
    return not path.endswith(_BUILD_ONLY)


def _walk(folder: Path | str, parts: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """(name parts, path) of every regular file; links are followed, 64 levels at most."""
    if len(parts) > 64:
        raise MeasurementError(f"{folder}: too deep; is there a link that leads back?")
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    if entry.name not in _CACHES:
                        yield from _walk(entry.path, (*parts, entry.name))
                elif entry.is_file():
                    yield (*parts, entry.name), entry.path
    except OSError as error:
        raise MeasurementError(f"cannot read {folder}: {error}") from error
