"""What root on the host can try on a running process, for real: x86-64 Linux, root or CAP_SYS_PTRACE.

Each attack gets the process, the address and the size of a secret, and returns what it read there, or b"" if
the kernel refused.
"""

import ctypes
import mmap
import os
import platform
import signal
import struct
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SIZE: Final = 32
_ATTACH, _PEEK, _STEP, _GETREGS, _SETREGS, _DETACH = 16, 1, 9, 12, 13, 17
_NAMES: Final = (
    "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base "
    "ds es fs gs"
)
_REGISTERS: Final = tuple(_NAMES.split())
_WRITE, _PIDFD_GETFD = 1, 438
_SYSCALL: Final = b"\x0f\x05"
_WALL: Final = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


@dataclass(frozen=True, slots=True)
class Victim:
    """A process that waits in read(2) with a secret at `address`; its standard output is a pipe of ours."""

    process: subprocess.Popen[bytes]
    address: int
    expected: bytes
    directory: Path

    @property
    def pid(self) -> int:
        return self.process.pid


Attack = Callable[[Victim], bytes]


def why_not() -> str | None:
    """Why these attacks cannot be tried here, or None."""
    if platform.machine() != "x86_64":
        return "the injection is written for x86-64"
    if os.geteuid() != 0:
        return "only root can play root on the host"
    return None


def read(pid: int, address: int) -> tuple[bytes, bytes]:
    """What process_vm_readv(2) and /proc/PID/mem give of a process's memory."""
    return _vm_readv(pid, address), _proc_mem(pid, address)


def vm_readv(victim: Victim) -> bytes:
    """process_vm_readv(2)."""
    return _vm_readv(victim.pid, victim.address)


def proc_mem(victim: Victim) -> bytes:
    """/proc/PID/mem."""
    return _proc_mem(victim.pid, victim.address)


def _vm_readv(pid: int, address: int) -> bytes:
    class Range(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    buffer = ctypes.create_string_buffer(SIZE)
    here = Range(ctypes.cast(buffer, ctypes.c_void_p), SIZE)
    there = Range(address, SIZE)
    done = _libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    return buffer.raw if done == SIZE else b""


def _proc_mem(pid: int, address: int) -> bytes:
    with suppress(OSError), open(f"/proc/{pid}/mem", "rb", 0) as memory:
        return os.pread(memory.fileno(), SIZE, address)
    return b""


def steal_descriptor(victim: Victim) -> bytes:
    """pidfd_getfd(2) on everything that is open, then a mapping of it."""
    process = os.pidfd_open(victim.pid)
    try:
        for name in os.listdir(f"/proc/{victim.pid}/fd"):
            number = _libc.syscall(_PIDFD_GETFD, process, int(name), 0)
            if number >= 0:
                found = _mapped(number)
                if found == victim.expected:
                    return found
    finally:
        os.close(process)
    return b""


def inject(victim: Victim) -> bytes:
    """ptrace(2): have the process itself write its secret to its standard output."""
    if _run(victim.pid, _WRITE, 1, victim.address, SIZE) != SIZE or victim.process.stdout is None:
        return b""
    return os.read(victim.process.stdout.fileno(), SIZE)


def core_dump(victim: Victim) -> bytes:
    """Kill it so that the kernel writes a core file, and look there."""
    victim.process.send_signal(signal.SIGABRT)
    victim.process.wait(20)
    for core in victim.directory.glob("core*"):
        return victim.expected if victim.expected in core.read_bytes() else b"not in it"
    return b""


def core_files_are_plain() -> bool:
    """Whether this machine writes core files into the working directory."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    return pattern.startswith("core")


def _mapped(number: int) -> bytes:
    try:
        with mmap.mmap(number, mmap.PAGESIZE, prot=mmap.PROT_READ) as memory:
            return memory[:SIZE]
    except (OSError, ValueError):
        return b""
    finally:
        os.close(number)


def _run(pid: int, call: int, *arguments: int) -> int:
    """Have a stopped process make one system call, and put everything back. -1 if it could not be had."""
    if _libc.ptrace(_ATTACH, pid, None, None):
        return -1
    os.waitpid(pid, _WALL)
    try:
        before = _registers(pid)
        at = before["rip"] - len(_SYSCALL)
        word = _libc.ptrace(_PEEK, pid, at, None) & 0xFFFF
        if word.to_bytes(2, "little") != _SYSCALL:
            return -1
        again = {**before, "rip": at, "orig_rax": 2**64 - 1}
        called = dict(zip(("rdi", "rsi", "rdx"), arguments, strict=True))
        _set_registers(pid, {**again, "rax": call, **called})
        _libc.ptrace(_STEP, pid, None, None)
        os.waitpid(pid, _WALL)
        result = struct.unpack("<q", struct.pack("<Q", _registers(pid)["rax"]))[0]
        _set_registers(pid, {**again, "rax": before["orig_rax"]})
        return int(result)
    finally:
        _libc.ptrace(_DETACH, pid, None, None)


def _registers(pid: int) -> dict[str, int]:
    values = (ctypes.c_uint64 * len(_REGISTERS))()
    if _libc.ptrace(_GETREGS, pid, None, ctypes.addressof(values)):
        raise OSError(ctypes.get_errno(), "PTRACE_GETREGS")
    return dict(zip(_REGISTERS, values, strict=True))


def _set_registers(pid: int, registers: dict[str, int]) -> None:
    values = (ctypes.c_uint64 * len(_REGISTERS))(*(registers[name] for name in _REGISTERS))
    if _libc.ptrace(_SETREGS, pid, None, ctypes.addressof(values)):
        raise OSError(ctypes.get_errno(), "PTRACE_SETREGS")
