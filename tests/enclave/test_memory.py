"""Secret memory: of the kind that was asked for, zeroed when it is given up, and never shown."""

import ctypes
import gc
import os
import pickle
import resource
import subprocess
import sys

import pytest

from enclave.memory import Kind, MemoryUnavailable, SecretMemory
from tests.descriptors import held, settled

PAGE = resource.getpagesize()


def granted(kind: Kind) -> bool:
    try:
        SecretMemory(1, kinds=(kind,)).close()
    except MemoryUnavailable:
        return False
    return True


@pytest.fixture(params=list(Kind))
def kind(request: pytest.FixtureRequest) -> Kind:
    wanted: Kind = request.param
    if not granted(wanted):
        pytest.skip(f"this kernel grants no memory of kind {wanted}")
    return wanted


def test_it_holds_what_is_written_and_starts_as_zeros(kind: Kind) -> None:
    with SecretMemory(PAGE + 1, kinds=(kind,)) as memory:
        assert memory.kind is kind and len(memory) == len(memory.buffer) == PAGE + 1
        assert not any(memory.buffer)
        memory.buffer[:6] = b"secret"
        assert bytes(memory.buffer[:6]) == b"secret"


def test_closing_zeroes_it_for_every_view_there_is(kind: Kind) -> None:
    memory = SecretMemory(64, kinds=(kind,))
    memory.fill_random()
    view = memory.buffer[8:]
    assert any(view)
    memory.close()
    memory.close()
    assert not any(view)
    with pytest.raises(ValueError, match="closed"):
        _ = memory.buffer
    del memory
    assert not any(view)  # still mapped, still zero


def test_closing_gives_the_pages_back() -> None:
    with SecretMemory(64 * PAGE, kinds=(Kind.UNLOCKED,)) as memory:
        memory.buffer[:] = b"x" * len(memory)
        address = ctypes.addressof(memory._block)
        assert mapped(address)
    assert not mapped(address)


def test_a_cycle_that_is_collected_is_zeroed_and_harmless() -> None:
    memory = SecretMemory(64, kinds=(Kind.UNLOCKED,))
    memory.fill_random()
    view = memory.buffer[:]
    cycle: list[object] = [memory, view]
    cycle.append(cycle)
    del memory, cycle
    gc.collect()
    assert not any(view)


def mapped(address: int) -> bool:
    with open("/proc/self/maps") as maps:
        areas = [[int(edge, 16) for edge in line.split()[0].split("-")] for line in maps]
    return any(start <= address < end for start, end in areas)


def test_wiping_a_part_leaves_the_rest(kind: Kind) -> None:
    with SecretMemory(96, kinds=(kind,)) as memory:
        memory.buffer[:] = b"\xff" * 96
        memory.wipe(32, 64)
        assert bytes(memory.buffer) == b"\xff" * 32 + bytes(32) + b"\xff" * 32
        memory.wipe(90, 1000)
        assert bytes(memory.buffer[88:]) == b"\xff\xff" + bytes(6)


def test_random_bytes_fill_all_of_it(kind: Kind) -> None:
    with SecretMemory(4096, kinds=(kind,)) as memory:
        memory.fill_random()
        assert len({*memory.buffer}) > 200


def test_it_shows_nothing_and_is_not_copied() -> None:
    with SecretMemory(16, kinds=tuple(Kind)) as memory:
        memory.buffer[:] = b"sixteen letters!"
        assert "sixteen" not in repr(memory) and str(memory.kind) in repr(memory)
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            pickle.dumps(memory)


def test_the_first_kind_that_is_granted_is_taken() -> None:
    with SecretMemory(1, kinds=(Kind.UNLOCKED, Kind.LOCKED)) as memory:
        assert memory.kind is Kind.UNLOCKED


def test_no_kind_is_a_refusal_with_a_remedy() -> None:
    with pytest.raises(MemoryUnavailable, match="RLIMIT_MEMLOCK"):
        SecretMemory(1, kinds=())
    with pytest.raises(ValueError, match="one byte"):
        SecretMemory(0)


def test_a_locked_page_counts_as_locked() -> None:
    if not granted(Kind.LOCKED):
        pytest.skip("this kernel locks no memory for this user")
    before = locked_kib()
    with SecretMemory(64 * 1024, kinds=(Kind.LOCKED,)):
        assert locked_kib() >= before + 64


def locked_kib() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmLck"))


def test_memfd_secret_is_out_of_reach_for_proc_mem() -> None:
    if not granted(Kind.MEMFD_SECRET):
        pytest.skip("this kernel has no memfd_secret (secretmem.enable)")
    with SecretMemory(32, kinds=(Kind.MEMFD_SECRET,)) as memory, open("/proc/self/mem", "rb", 0) as mem:
        memory.buffer[:] = b"x" * 32
        address = ctypes.addressof(ctypes.c_ubyte.from_buffer(memory.buffer))
        with pytest.raises(OSError):
            os.pread(mem.fileno(), 32, address)


def test_locked_memory_is_within_reach_for_proc_mem() -> None:
    """The control of the test above: the same read finds what is not in memfd_secret."""
    with SecretMemory(32, kinds=(Kind.UNLOCKED,)) as memory, open("/proc/self/mem", "rb", 0) as mem:
        memory.buffer[:] = b"x" * 32
        address = ctypes.addressof(ctypes.c_ubyte.from_buffer(memory.buffer))
        assert os.pread(mem.fileno(), 32, address) == b"x" * 32


def test_no_descriptor_stays_open() -> None:
    before = settled()
    with SecretMemory(32, kinds=tuple(Kind)):
        assert held() <= before


def run(code: str) -> str:
    """What `code` prints in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True
    ).stdout


def test_without_a_right_to_lock_it_refuses_unless_told_otherwise() -> None:
    code = """
import ctypes, os, resource
from enclave.memory import Kind, MemoryUnavailable, SecretMemory
resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
if os.getuid() == 0:  # root may lock whatever the limit: drop CAP_IPC_LOCK by leaving root
    os.setgid(65534)
    os.setuid(65534)
try:
    SecretMemory(32)
except MemoryUnavailable:
    print("refused", SecretMemory(32, kinds=tuple(Kind)).kind)
"""
    assert run(code).split() == ["refused", "unlocked"]


def test_hardening_turns_dumps_off_and_says_so() -> None:
    code = """
import ctypes, resource
from enclave.memory import harden_process
print(harden_process().core_dumps_off, harden_process().not_dumpable)
print(resource.getrlimit(resource.RLIMIT_CORE) == (0, 0), ctypes.CDLL(None).prctl(3) == 0)
"""
    assert run(code).split() == ["True"] * 4
