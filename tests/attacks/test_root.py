"""Root on the host against a process that is set up as worker and device are: the table of THREAT_MODEL.md.

Every cell is tried, against ordinary, locked and memfd_secret memory. The first column is the control: where
it cannot be read, the attack itself is broken.
"""

import contextlib
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from enclave.identity import Identity
from enclave.memory import Kind, MemoryUnavailable, SecretMemory
from tests.attacks import root
from tests.attacks.root import Attack, Victim
from tests.running import RunningWorker

REASON = root.why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")
COLUMNS = ("ordinary", "locked", "memfd_secret")
ATTACKS: dict[str, Attack] = {
    "`process_vm_readv`": root.vm_readv,
    "`/proc/PID/mem`": root.proc_mem,
    "`pidfd_getfd`": root.steal_descriptor,
    "ptrace injection": root.inject,
    "core dump, if they were on": root.core_dump,
}
VICTIM = """
import ctypes, os, resource, sys
from enclave.memory import Kind, SecretMemory, harden_process
kind, seed, directory, hardened = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4] == "True"
os.chdir(directory)
if kind == "ordinary":
    view = memoryview(bytearray(32))
else:
    memory = SecretMemory(32, kinds=(Kind(kind),))
    view = memory.buffer
for place in range(32):  # byte by byte: no copy of the whole lies anywhere else
    view[place] = seed * (place + 1) * 2654435761 >> 9 & 255
if hardened:
    harden_process()
else:
    resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
print(ctypes.addressof(ctypes.c_ubyte.from_buffer(view)), flush=True)
os.read(0, 1)
"""


def secret(seed: int) -> bytes:
    return bytes(seed * (place + 1) * 2654435761 >> 9 & 255 for place in range(32))


@contextmanager
def victim(kind: str, directory: Path, code: str = VICTIM, hardened: bool = True) -> Iterator[Victim]:
    """A process with a secret in memory of this kind, hardened as the worker is."""
    if kind != "ordinary":
        try:
            SecretMemory(1, kinds=(Kind(kind),)).close()
        except MemoryUnavailable:
            pytest.skip(f"this kernel grants no memory of kind {kind}")
    seed = int.from_bytes(os.urandom(4), "big") | 1
    process = subprocess.Popen(
        [sys.executable, "-c", code, kind, str(seed), str(directory), str(hardened)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        address = int(process.stdout.readline())
        yield Victim(process, address, secret(seed), directory)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def documented() -> dict[str, tuple[str, ...]]:
    """The table: attack to what it reads, by column."""
    text = (Path(__file__).parents[2] / "THREAT_MODEL.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| (reads|refused) \| (reads|refused) \| (reads|refused) \|", text, re.M)
    return {name.strip(): tuple(cells) for name, *cells in rows}


@pytest.mark.parametrize("column", range(3), ids=COLUMNS)
@pytest.mark.parametrize("name", ATTACKS)
def test_g14_root_reads_what_the_table_says_and_no_more(name: str, column: int, tmp_path: Path) -> None:
    core = name == "core dump, if they were on"
    if core and not cores_can_be_had():
        pytest.skip("core files of this machine are off, or go to a program")
    with victim(COLUMNS[column], tmp_path, hardened=not core) as process:
        found = ATTACKS[name](process)
        outcome = "reads" if found == process.expected else "refused"
    assert outcome == documented()[name][column], (name, COLUMNS[column], found)


def test_g14_a_hardened_process_leaves_no_core(tmp_path: Path) -> None:
    if not cores_can_be_had():
        pytest.skip("core files of this machine are off, or go to a program")
    with victim("ordinary", tmp_path) as process:
        assert root.core_dump(process) == b""


def cores_can_be_had() -> bool:
    return root.core_files_are_plain() and resource.getrlimit(resource.RLIMIT_CORE)[1] != 0


def test_g14_an_open_descriptor_of_secret_memory_would_be_stolen(tmp_path: Path) -> None:
    """Why SecretMemory closes it after mapping: with the descriptor open, root maps the same pages."""
    code = VICTIM.replace(
        "memory = SecretMemory(32, kinds=(Kind(kind),))\n    view = memory.buffer",
        "import mmap; n = ctypes.CDLL(None).syscall(447, 0); os.ftruncate(n, 4096)\n"
        "    libc = ctypes.CDLL(None); libc.mmap.restype = ctypes.c_void_p\n"
        "    at = libc.mmap(None, ctypes.c_size_t(4096), 3, 1, n, ctypes.c_long(0))\n"
        "    view = memoryview((ctypes.c_ubyte * 32).from_address(at)).cast('B')",
    )
    assert code != VICTIM
    with victim("memfd_secret", tmp_path, code) as process:
        assert root.steal_descriptor(process) == process.expected
        assert root.vm_readv(process) == b""


def below(pid: int) -> list[int]:
    """Every process that descends from `pid`."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]


def areas(pid: int, name: str) -> list[int]:
    """Where memory of this name begins in a process."""
    with open(f"/proc/{pid}/maps") as maps:
        return [int(line.split("-")[0], 16) for line in maps if line.rstrip().endswith(name)]


def test_g14_keys_of_a_running_worker_and_its_device_are_out_of_reach(worker: RunningWorker) -> None:
    """The real processes: their secret memory refuses what their ordinary memory (the control) allows."""
    if Identity().memory is not Kind.MEMFD_SECRET:
        pytest.skip("this kernel has no memfd_secret (secretmem.enable)")
    guarded = 0
    for pid in below(worker.pid):
        places = areas(pid, "/secretmem (deleted)")
        for address in places:
            assert root.read(pid, address) == (b"", b"")
        if places:
            (heap, *_) = areas(pid, "[heap]")
            direct, file = root.read(pid, heap)
            assert len(direct) == len(file) == root.SIZE
            guarded += 1
    assert guarded >= 2  # worker and device
