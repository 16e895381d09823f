"""A process of its own kind: no network, another user, where the machine allows it; it says what it got."""

import ctypes
import os
import resource
import sys
from dataclasses import dataclass
from typing import Final

_CLONE_NEWNET: Final = 0x40000000
_CLONE_NEWIPC: Final = 0x08000000
_CLONE_NEWUSER: Final = 0x10000000
FIRST_USER: Final = 61184
"""The first of the user ids that systemd keeps for services without an account."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Isolation:
    """What was achieved, in words for a log."""

    network: str
    user: str


def leave_network() -> str:
    """Move into a network and IPC namespace of its own, which has no interfaces. Before any thread starts."""
    for flags in (_CLONE_NEWNET | _CLONE_NEWIPC, _CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC):
        if _libc.unshare(flags) == 0:
            return "none"
    return f"the host's ({os.strerror(ctypes.get_errno())})"


def leave_user(number: int) -> str:
    """Become user and group `number`, for good, if this is root and that user can still import modules.

    Locked memory is raised to the limit that the machine grants, which other users than root are held to.
    Re-arm what the kernel clears with the user, such as the parent-death signal.
    """
    if os.geteuid() != 0:
        return f"the worker's ({os.geteuid()}): only root can change it"
    if unreadable := _unreadable(number):
        return f"root: {unreadable} is closed to other users"
    _raise_locked_memory()
    try:
        os.setgroups([])
        os.setresgid(number, number, number)
        os.setresuid(number, number, number)
    except OSError as error:
        return f"root ({error.strerror})"
    os.environ |= {"HOME": "/nonexistent", "USER": f"gpu{number}", "LOGNAME": f"gpu{number}"}
    return f"its own ({number})"


def _raise_locked_memory() -> None:
    unlimited = resource.RLIM_INFINITY
    for limit in (unlimited, resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]):
        try:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
            return
        except (ValueError, OSError):
            continue  # a root without the right to raise limits


def _unreadable(number: int) -> str | None:
    """A directory of the search path that user `number` could not read, or None."""
    os.setegid(number)
    os.seteuid(number)
    try:
        return next((place for place in sys.path if _closed(place)), None)
    finally:
        os.seteuid(0)
        os.setegid(0)


def _closed(place: str) -> bool:
    return not place.endswith(".zip") and not os.access(place, os.R_OK | os.X_OK, effective_ids=True)
