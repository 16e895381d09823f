"""The first code of a worker's process: it loads the measured packages from source, and none in their stead.

Run by path with `python -I -S -B`, so that no environment variable, .pth file, site customisation,
user site or working directory has a say; it therefore imports the standard library alone. Orders come
as JSON on standard input: where the packages lie, the SHA-256 of each file, sys.path, the worker's
module and configuration, the processor's pid and socket.
"""

import ctypes
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from types import CodeType, ModuleType
from typing import Any

_PR_SET_PDEATHSIG = 1


class MeasuredLoader(importlib.machinery.SourceFileLoader):
    """Compiles a source file whose SHA-256 is the measured one; reads and writes no bytecode."""

    def __init__(self, fullname: str, path: str, sha256: str) -> None:
        super().__init__(fullname, path)
        self._sha256 = sha256

    def get_code(self, fullname: str) -> CodeType:
        """The code of the module. Raises ImportError if the file was changed since it was measured."""
        path = self.get_filename(fullname)
        source = self.get_data(path)
        if hashlib.sha256(source).hexdigest() != self._sha256:
            raise ImportError(f"{path} was changed since it was measured", name=fullname, path=path)
        code: CodeType = self.source_to_code(source, path)
        return code


class MeasuredFinder(importlib.abc.MetaPathFinder):
    """Finds modules of the packages in `names`: measured files under `root`, or nothing at all."""

    def __init__(self, root: str, files: Mapping[str, str], names: frozenset[str]) -> None:
        self._root = root
        self._files = files
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of a measured module; None for other people's packages.

        Raises ModuleNotFoundError for a module of ours that was not measured.
        """
        if fullname.partition(".")[0] not in self._names:
            return None
        stem = fullname.replace(".", "/")
        for name, package in ((f"{stem}/__init__.py", True), (f"{stem}.py", False)):
            if name in self._files:
                place = os.path.join(self._root, name)
                loader = MeasuredLoader(fullname, place, self._files[name])
                inside = [os.path.dirname(place)] if package else None
                return importlib.util.spec_from_file_location(
                    fullname, place, loader=loader, submodule_search_locations=inside
                )
        raise ModuleNotFoundError(f"{fullname} was not measured", name=fullname)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when process `parent` ends; exit if it has ended already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit("the security processor has ended")


def prepare(orders: Mapping[str, Any]) -> None:
    """Set the search path and take charge of the measured packages."""
    sys.path[:] = orders["path"]
    sys.prefix, sys.exec_prefix = orders["prefix"], orders["prefix"]  # as the site module would
    names = frozenset(orders["names"])
    sys.meta_path.insert(0, MeasuredFinder(orders["root"], orders["files"], names))


def main() -> None:
    """Read the orders and run the worker: `main(configuration, processor_socket)` of its module."""
    orders = json.loads(sys.stdin.buffer.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    die_with(orders["parent"])
    prepare(orders)
    end = socket.socket(fileno=orders["socket"])
    end.set_inheritable(False)
    if orders["worker"].partition(".")[0] not in orders["names"]:
        raise SystemExit(f"{orders['worker']} is not of the measured packages")
    worker = importlib.import_module(orders["worker"])
    raise SystemExit(worker.main(orders["configuration"], end))


if __name__ == "__main__":
    main()
