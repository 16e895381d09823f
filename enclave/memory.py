"""Memory for raw keys: out of the kernel's own reach where it offers that, else locked, never in a core dump.

What this cannot do: Python and OpenSSL copy what is read out of it, into memory of the ordinary kind.
"""

import ctypes
import errno
import mmap
import os
import resource
import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

_MEMFD_SECRET: Final = 447
_O_CLOEXEC: Final = os.O_CLOEXEC
_PR_SET_DUMPABLE: Final = 4
_MADV_DONTDUMP: Final = 16
_MADV_DONTFORK: Final = 10
_UNSHARED: Final = 2  # the attribute, and the argument of getrefcount itself
_MAP_FAILED: Final = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
for _name in ("munmap", "mlock"):
    getattr(_libc, _name).argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.getrandom.restype = ctypes.c_ssize_t
_libc.getrandom.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class MemoryUnavailable(Exception):
    """No memory of the kind that was asked for; the message says what to do."""


class Kind(StrEnum):
    """How memory is kept from others, the best first.

    MEMFD_SECRET: unmapped from the kernel, so that neither it nor another process's ptrace or /proc/mem
    reads it. LOCKED: never swapped, never in a core dump. UNLOCKED: never in a core dump.
    """

    MEMFD_SECRET = "memfd_secret"  # noqa: S105
    LOCKED = "locked"
    UNLOCKED = "unlocked"


PROTECTED: Final = (Kind.MEMFD_SECRET, Kind.LOCKED)


class SecretMemory:
    """`size` bytes, zero at first and zeroed at `close`; `kind` says of which kind they are.

    The first of `kinds` that the kernel grants is taken; UNLOCKED memory is given only to a caller
    who lists it. Children of a fork do not get it. Raises MemoryUnavailable.
    """

    def __init__(self, size: int, *, kinds: tuple[Kind, ...] = PROTECTED) -> None:
        if size < 1:
            raise ValueError("size is at least one byte")
        self.kind, address, length = _first(kinds, size)
        self._block = (ctypes.c_ubyte * size).from_address(address)
        self._address, self._length, self._size = address, length, size
        self._view: memoryview | None = memoryview(self._block).cast("B")

    @property
    def buffer(self) -> memoryview:
        """The bytes, to be read and written. ValueError after `close`."""
        if self._view is None:
            raise ValueError("secret memory is closed")
        return self._view

    def fill_random(self, start: int = 0, stop: int | None = None) -> None:
        """Fill the bytes from `start` to `stop` with the kernel's random ones, without a copy elsewhere."""
        end = start + len(self.buffer[start:stop])
        while start < end:
            got = _libc.getrandom(self._address + start, end - start, 0)
            if got < 0 and ctypes.get_errno() != errno.EINTR:
                raise _error("getrandom")
            start += max(got, 0)

    def wipe(self, start: int = 0, stop: int | None = None) -> None:
        """Zero the bytes from `start` to `stop`."""
        view = self.buffer[start:stop]
        ctypes.memset(self._address + start, 0, len(view))

    def close(self) -> None:
        """Zero the bytes and give them up; nothing happens the second time.

        A slice of `buffer` that somebody still holds keeps the pages, now zero, mapped to the end of the
        process: it must never read what the address would be used for next.
        """
        if self._view is not None:
            self.wipe()
            self._view.release()
            self._view = None
            if sys.getrefcount(self._block) == _UNSHARED:
                _libc.munmap(self._address, self._length)

    def __len__(self) -> int:
        return self._size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_view", None) is not None:
            self.close()

    def __repr__(self) -> str:
        return (
            f"<SecretMemory of {self._size} bytes, {self.kind}{'' if self._view is not None else ', closed'}>"
        )

    def __reduce__(self) -> str:
        raise TypeError("secret memory is neither pickled nor copied")


@dataclass(frozen=True, slots=True)
class Hardening:
    """What the kernel granted: no core files, and no ptrace or /proc/mem by the same user."""

    core_dumps_off: bool
    not_dumpable: bool


def harden_process() -> Hardening:
    """Turn core dumps off and make this process undumpable, which also keeps its user's debuggers out."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError):
        core = False
    else:
        core = resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
    return Hardening(core_dumps_off=core, not_dumpable=_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)


def _first(kinds: tuple[Kind, ...], size: int) -> tuple[Kind, int, int]:
    """The first kind that is granted, the address, and the length in whole pages."""
    length = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    refusals: list[str] = []
    for kind in kinds:
        try:
            return kind, _map(kind, length), length
        except OSError as error:
            refusals.append(f"{kind}: {error.strerror}")
    raise MemoryUnavailable(
        f"{size} bytes of protected memory: {'; '.join(refusals) or 'no kind was asked for'};"
        " raise RLIMIT_MEMLOCK (ulimit -l), or allow unlocked memory explicitly"
    )


def _map(kind: Kind, length: int) -> int:
    if kind is Kind.MEMFD_SECRET:
        return _advised(_map_secret(length), length)
    address = _mmap(length, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1)
    if kind is Kind.LOCKED and _libc.mlock(address, length):
        error = _error("mlock")
        _libc.munmap(address, length)
        raise error
    return _advised(address, length)


def _map_secret(length: int) -> int:
    """Pages of memfd_secret; the descriptor is closed, so nobody can map them again."""
    descriptor = _libc.syscall(_MEMFD_SECRET, _O_CLOEXEC)
    if descriptor < 0:
        raise _error("memfd_secret")
    try:
        os.ftruncate(descriptor, length)
        return _mmap(length, mmap.MAP_SHARED, descriptor)
    finally:
        os.close(descriptor)


def _mmap(length: int, flags: int, descriptor: int) -> int:
    address = _libc.mmap(None, length, mmap.PROT_READ | mmap.PROT_WRITE, flags, descriptor, 0)
    if address is None or address == _MAP_FAILED:
        raise _error("mmap")
    return int(address)


def _advised(address: int, length: int) -> int:
    """The mapping, left out of core dumps and of forked children."""
    for advice in (_MADV_DONTDUMP, _MADV_DONTFORK):
        if _libc.madvise(address, length, advice):
            error = _error("madvise")
            _libc.munmap(address, length)
            raise error
    return address


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
