"""The simulated GPU as a process: what it is kept from, and what a worker does when it dies."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from attestation import Bundle, Keyset, Workload
from attestation.binding import sha256
from client.errors import ClientError
from client.sdk import AsyncClient
from cloister.cli.serving import shipped_model
from enclave.configuration import Configuration
from enclave.engine.interface import EngineOptions
from enclave.gpu.device.engine import DEADLINE
from enclave.simulator.gpu import Mode
from enclave.simulator.processor import launch
from tests.running import RunningWorker

LONG = {"temperature": 1.5, "max_tokens": 800, "seed": 1}
RESTORED = 90.0


def device_of(running: RunningWorker) -> int:
    """The pid of the device's process: the one under the launcher that has torch mapped."""
    found = [pid for pid in descendants(running.pid) if "libtorch" in maps(pid)]
    assert len(found) == 1, found
    return found[0]


def descendants(pid: int) -> list[int]:
    children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(each for child in children for each in descendants(child))]


def maps(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def until_device(running: RunningWorker, other_than: int) -> int:
    """The pid of the next device, once it is up."""
    deadline = time.monotonic() + RESTORED
    while time.monotonic() < deadline:
        found = [pid for pid in descendants(running.pid) if pid != other_than and "libtorch" in maps(pid)]
        if found:
            return found[0]
        time.sleep(0.2)
    raise AssertionError(f"no other device came up:\n{running.output}")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningWorker]:
    """A worker whose device a test may harm."""
    running = RunningWorker(tmp_path).start()
    yield running
    running.stop()


def test_the_worker_process_has_no_torch_and_the_device_no_network(worker: RunningWorker) -> None:
    device = device_of(worker)
    processor = descendants(worker.pid)[0]
    others = [pid for pid in descendants(processor) if pid != device]
    assert others
    for pid in others:
        assert not any(name in maps(pid) for name in ("libtorch", "safetensors", "transformers"))
    namespace = os.readlink(f"/proc/{device}/ns/net")
    isolated = namespace != os.readlink("/proc/self/ns/net")
    assert ("network: none" in worker.output) is isolated
    assert "user: " in worker.output and "keys are in" in worker.output
    opened = [os.readlink(item) for item in Path(f"/proc/{device}/fd").iterdir() if item.is_symlink()]
    assert opened and not any("secretmem" in name for name in opened)


async def test_the_workload_names_the_session_that_the_evidence_comes_from(worker: RunningWorker) -> None:
    async with AsyncClient(worker.url, worker.policy) as client:
        bundle = (await client.attest()).bundle
    assert len(str(Workload.from_bytes(bundle.workload).engine["gpu_session"])) == 32
    assert [device.tee for device in bundle.devices] == ["nvidia-gpu"]


async def test_a_device_killed_mid_stream_is_a_clear_error_and_the_next_one_is_attested_anew(
    own: RunningWorker,
) -> None:
    async with AsyncClient(own.url, own.policy) as client:
        before = (await client.attest()).bundle
        killed = device_of(own)
        with pytest.raises(ClientError) as caught:
            async for _ in client.stream("What is attestation?", **LONG):
                os.kill(killed, signal.SIGKILL)
        assert "device was lost" in str(caught.value)
        until_device(own, killed)
        await answered(client, own)
        after = (await client.attest()).bundle
    assert distinct(before) != distinct(after)
    assert Keyset.from_bytes(before.keyset) != Keyset.from_bytes(after.keyset)
    assert Workload.from_bytes(before.workload).models == Workload.from_bytes(after.workload).models


async def answered(client: AsyncClient, own: RunningWorker) -> None:
    """Ask until there is an answer."""
    deadline = time.monotonic() + RESTORED
    while True:
        try:
            assert (await client.ask("hello", max_tokens=1)).usage["completion_tokens"] == 1
            return
        except ClientError:
            assert time.monotonic() < deadline, own.output
            await asyncio.sleep(0.5)


def distinct(bundle: Bundle) -> tuple[bytes, bytes]:
    return sha256(bundle.keyset), sha256(bundle.workload)


@pytest.mark.parametrize("mode", [Mode.DEBUG, Mode.OFF])
def test_a_worker_does_not_start_on_a_device_that_is_not_in_confidential_mode(
    mode: Mode, capfd: pytest.CaptureFixture[str]
) -> None:
    configuration = Configuration(model=shipped_model(), name="faq", engine=EngineOptions(threads=1))
    handle = launch(configuration.measured(), local=configuration.local(), device_mode=mode)
    assert handle.wait(90) == 10
    assert "the device was refused: nvidia.tcb-flags" in capfd.readouterr().err


async def test_a_worker_stops_beside_a_device_that_never_answers(own: RunningWorker) -> None:
    async with AsyncClient(own.url, own.policy) as client:
        await client.attest()
        os.kill(device_of(own), signal.SIGSTOP)
        asked = asyncio.create_task(client.ask("hello", max_tokens=1))
        await asyncio.sleep(0.5)
        start = time.monotonic()
        assert await asyncio.to_thread(own.interrupt) == 0
        assert time.monotonic() - start < DEADLINE / 2
        with pytest.raises(ClientError):
            await asked


@pytest.mark.slow
async def test_a_stopped_device_yields_no_token_and_is_reset(own: RunningWorker) -> None:
    async with AsyncClient(own.url, own.policy) as client:
        await client.ask("hello", max_tokens=1)
        stopped = device_of(own)
        os.kill(stopped, signal.SIGSTOP)
        with pytest.raises(ClientError, match="device was lost"):
            await client.ask("hello", max_tokens=1)
        until_device(own, stopped)
        await answered(client, own)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_fifty_restarts_of_the_device(own: RunningWorker) -> None:
    seen: set[tuple[bytes, bytes]] = set()
    async with AsyncClient(own.url, own.policy) as client:
        for _ in range(50):
            killed = device_of(own)
            os.kill(killed, signal.SIGKILL)
            until_device(own, killed)
            await answered(client, own)
            seen.add(distinct((await client.attest()).bundle))
    assert len(seen) == 50
