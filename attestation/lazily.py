"""Public names of a package, loaded when they are first asked for.

A verifier that judges one TEE does not pay for importing the others. The names' modules must not be
called as the names are: importing a submodule would put it in the name's place.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` for `names`: by module, the names in it, separated by spaces."""
    where = {name: module for module, listed in names.items() for name in listed.split()}

    def find(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(where[name], package), name)
        setattr(sys.modules[package], name, found)
        return found

    return find
