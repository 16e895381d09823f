"""Every enumeration of checks in the package, found by where they are kept."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module

from .checks import CheckId


def enumerations() -> tuple[type[CheckId], ...]:
    """The enumerations of `checks` modules, anywhere in the package, ordered by module and place."""
    found: dict[str, type[CheckId]] = {}
    for module in sorted(_modules(), key=lambda name: (name.count("."), name)):
        for item in vars(import_module(module)).values():
            if isinstance(item, type) and issubclass(item, CheckId) and item.__module__ == module and [*item]:
                found[f"{module}.{item.__name__}"] = item
    return tuple(found.values())


def _modules() -> Iterator[str]:
    package = import_module(__package__ or "attestation")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if module.name.rpartition(".")[2] == "checks":
            yield module.name
