"""A host that writes into a record while it is worked on gets it refused, never a wrong byte accepted."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from enclave.gpu.bus import Geometry, LinkBroken, Side
from enclave.gpu.bus.geometry import LEAD, Class
from enclave.gpu.link.keys import Secrets
from enclave.gpu.link.loads import loads_once
from enclave.gpu.link.records import Opener, Sealer
from tests.gpu.pairs import ANY, MASTER, SESSION, Beside, link_over, two_ends

GEOMETRY = Geometry(bulk_slots=2, bulk_bytes=64 * 1024)
SECONDS = 1.0
FLIP = """
import mmap, sys
memory = memoryview(mmap.mmap(int(sys.argv[1]), 0))
place = int(sys.argv[2])
print("flipping", flush=True)
while True:
    for _ in range(1000):
        memory[place] ^= 1
"""


def lasts(begin: float, enough: bool) -> bool:
    """For a second, and on a busy machine until there was something of everything."""
    spent = time.monotonic() - begin
    return spent < SECONDS or (spent < 15 and not enough)


@contextmanager
def flipping(descriptor: int, place: int) -> Iterator[None]:
    """A process that flips a bit at `place` as fast as it can."""
    command = [sys.executable, "-c", FLIP, str(descriptor), str(place)]
    process = subprocess.Popen(command, pass_fds=[descriptor], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_a_host_that_writes_while_a_record_is_opened_is_refused() -> None:
    data = os.urandom(64 * 1024)
    refused = right = 0
    begin = time.monotonic()
    with two_ends(GEOMETRY) as (bus, one, other):
        place = GEOMETRY.ring_at(Side.WORKER, Class.BULK) + LEAD + 1000
        with flipping(bus.descriptors.memory, place):
            while lasts(begin, refused > 0 and right > 0):
                worker, device = link_over(one), link_over(other)
                into = memoryview(bytearray(len(data)))
                sending = Beside(lambda worker=worker: worker.send_bulk([data], timeout=2.0))
                try:
                    device.receive_bulk(into, timeout=2.0)
                    assert into == data, "a byte that nobody sent was accepted"
                    right += 1
                except LinkBroken:
                    refused += 1
                try:
                    sending.result()
                except LinkBroken:
                    refused += 1
                device.close()
                reattach = Beside(lambda: other.attach(5.0))
                one.attach(5.0)
                reattach.result()
    assert refused > 0


@pytest.mark.skipif(not loads_once(), reason="this processor's AES-GCM works on private copies only")
@pytest.mark.parametrize("seal", [True, False])
def test_where_records_are_worked_on_in_place_each_byte_is_read_once(seal: bool) -> None:
    """The attack of docs/adr/0010 at full speed, on records in shared memory."""
    data, size = os.urandom(8192), 8192
    outcomes = {"right": 0, "refused": 0}
    secrets = Secrets(MASTER, kinds=ANY)
    with two_ends(GEOMETRY) as (bus, _, _other):
        start = GEOMETRY.ring_at(Side.WORKER, Class.BULK) + LEAD
        slot = bus.memory[start : start + size + 16]
        with flipping(bus.descriptors.memory, start + 4000):
            begin = time.monotonic()
            while lasts(begin, all(outcomes.values())):
                sealer = Sealer(secrets, Side.WORKER, Class.BULK, SESSION, 10)
                opener = Opener(secrets, Side.WORKER, Class.BULK, SESSION, 10)
                if seal:
                    sealer.seal_into(data, size, slot)
                    taken = memoryview(bytes(slot))
                else:
                    slot[:] = sealer.seal(data, size)
                    taken = slot
                out = memoryview(bytearray(size))
                try:
                    opener.open_into(taken, size, out)
                    assert out == data, "a byte that nobody sent was accepted"
                    outcomes["right"] += 1
                except LinkBroken:
                    assert not any(out)
                    outcomes["refused"] += 1
        slot.release()
    assert outcomes["refused"] > 0


def test_an_override_of_openssl_turns_direct_work_off() -> None:
    code = "from enclave.gpu.link.loads import loads_once; print(loads_once())"
    environment = {
        **os.environ,
        "OPENSSL_ia32cap": ":0:0",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False"]
