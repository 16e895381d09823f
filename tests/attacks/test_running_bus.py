"""The host writes into the memory between a running worker and its device, while it answers."""

import mmap
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.blocking import Client
from client.errors import ClientError
from enclave.gpu.bus import Geometry
from enclave.gpu.link.watch import find
from tests.attacks.test_root import below
from tests.running import RunningWorker

QUESTION = "What is remote attestation?"
PATIENCE = 90.0


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningWorker]:
    worker = RunningWorker(tmp_path).start()
    yield worker
    worker.stop()


def bus_of(worker: RunningWorker) -> memoryview:
    """The bus, mapped for writing by somebody outside."""
    processes = set(below(worker.pid))
    found = next(each for each in find() if each.pid in processes)
    number = os.open(found.path, os.O_RDWR)
    try:
        return memoryview(mmap.mmap(number, Geometry().size))
    finally:
        os.close(number)


def answer(client: Client) -> str:
    return client.ask(QUESTION, temperature=0.0).text


def answered_at_last(client: Client) -> str:
    """An answer, once the device is attested anew and the model is loaded again."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return answer(client)
        except ClientError:
            assert time.monotonic() < until, "the worker did not mend"
            time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_g17_scribbling_on_the_bus_of_a_running_worker_gives_errors_and_no_wrong_token(
    own: RunningWorker,
) -> None:
    chance, refused, round_ = random.Random(7), 0, 0
    with Client(own.url, own.policy) as client:
        right = answer(client)
        memory = bus_of(own)
        while round_ < 6 or (not refused and round_ < 40):  # where answers are quick, few writes hit any
            pieces: list[str] = []
            try:
                for piece in client.stream(QUESTION, temperature=0.0):
                    pieces.append(piece)
                    for _ in range(1 + 400 * round_):
                        memory[chance.randrange(3 * 4096, len(memory))] ^= 1 << chance.randrange(8)
                    if round_ % 2:
                        memory[chance.randrange(4096, 3 * 4096)] = chance.randrange(256)
            except ClientError:
                refused += 1
            assert right.startswith("".join(pieces)), "a token that the model did not choose"
            assert answered_at_last(client) == right
            round_ += 1
    assert refused > 0
