"""Who may be the device: judged as clients judge it, at the start and again whenever the session was lost."""

import random
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from attestation.nvidia import GpuReport
from enclave.engine.interface import DeviceLost, EngineOptions
from enclave.gpu.bus import Side
from enclave.gpu.bus.geometry import LINE, Class
from enclave.gpu.device.keeper import DeviceUnavailable
from enclave.gpu.link import Link
from enclave.memory import MemoryUnavailable
from enclave.simulator.gpu import Mode
from enclave.tee.interface import EvidenceUnavailable
from enclave.worker import Worker
from tests.enclave.simulation import gpu
from tests.gpu.device.bench import ATTACH, Bench, MemoryFiles, bench, request, run_out, until
from tests.gpu.pairs import Beside

NONCE = bytes(range(32))


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        (gpu(mode=Mode.DEBUG), "nvidia.tcb-flags"),
        (gpu(mode=Mode.OFF), "nvidia.tcb-flags"),
        (gpu(code=bytes(48)), "nvidia.measurements"),
    ],
    ids=["debug", "cc off", "other firmware"],
)
def test_a_device_that_the_policy_refuses_gets_no_session(identity: object, reason: str) -> None:
    with bench(identity=identity, connect=False) as made:  # type: ignore[arg-type]
        with pytest.raises(DeviceUnavailable, match=reason):
            made.keeper.connect()
        assert not made.engine.attached and made.keeper.session == ""
        with pytest.raises(EvidenceUnavailable):
            made.keeper.report(NONCE)


def test_evidence_comes_from_the_session_that_carries_the_work() -> None:
    identity = gpu()
    with bench(identity=identity) as made:
        evidence = made.keeper.report(NONCE)
        assert GpuReport.from_bytes(evidence.report).request.nonce == NONCE
        assert evidence.chain == identity.chain
        assert len(made.keeper.session) == 32


def test_evidence_and_work_do_not_disturb_each_other() -> None:
    with bench() as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        failures: list[BaseException] = []

        def attest() -> None:
            try:
                for _ in range(20):
                    made.keeper.report(NONCE)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=attest) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(40):
            made.engine.submit(request(str(number)))
            assert len(run_out(made.engine)) == 4
        for thread in threads:
            thread.join()
        assert not failures


def test_a_restarted_device_is_attested_anew_and_loaded_again() -> None:
    with bench() as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        first = made.keeper.session
        made.watch()
        made.restart(gpu(seed=bytes(32)))
        until(lambda: made.told == ["lost", "restored"])
        assert made.keeper.session not in ("", first)
        assert len(made.engines) == 2 and made.engines[1].adapters == {"sailor"}
        made.engine.submit(request())
        assert len(run_out(made.engine)) == 4


def test_a_link_that_gets_no_protected_memory_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = iter([MemoryUnavailable("raise RLIMIT_MEMLOCK")])

    def link(*arguments: Any) -> Link:
        for refusal in refusals:
            raise refusal
        return Link(*arguments)

    with bench() as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        made.watch()
        monkeypatch.setattr("enclave.gpu.device.keeper.Link", link)
        made.restart(gpu())
        until(lambda: bool(made.resets))
        made.restart(gpu())
        until(lambda: made.told == ["lost", "restored"])


def test_a_device_that_was_swapped_for_one_in_debug_mode_is_refused_and_reset_until_it_is_gone() -> None:
    with bench() as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        made.watch()
        made.restart(gpu(mode=Mode.DEBUG))
        until(lambda: len(made.resets) > 1)
        assert made.told == ["lost"] and len(made.engines) == 1
        with pytest.raises(EvidenceUnavailable, match="attested anew"):
            made.keeper.report(NONCE)
        made.restart(gpu())
        until(lambda: made.told == ["lost", "restored"])


def test_a_host_that_scribbles_on_the_bus_ends_the_session_and_the_next_one_works() -> None:
    with bench() as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        made.watch()
        geometry, quiet = made.bus.geometry, threading.Event()
        first = geometry.ring_at(Side.WORKER, Class.CONTROL) + LINE
        stride = geometry.stride(Class.CONTROL)

        def scribble() -> None:
            while not quiet.is_set():
                for slot in range(geometry.control_slots):
                    made.bus.memory[first + slot * stride] = random.randrange(256)

        host = threading.Thread(target=scribble)
        host.start()
        try:
            with pytest.raises(DeviceLost):
                for number in range(1000):
                    made.engine.submit(request(str(number)))
                    run_out(made.engine)
        finally:
            quiet.set()
            host.join()
        until(lambda: made.told[:2] == ["lost", "restored"])
        made.engine.submit(request())
        assert len(run_out(made.engine)) == 4


def test_an_spdm_session_that_was_lost_alone_is_mended_like_the_link() -> None:
    with bench() as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        made.watch()
        gpu_ = made.keeper._gpu
        assert gpu_ is not None
        gpu_.session.erase()
        with pytest.raises(EvidenceUnavailable):
            gpu_.report(NONCE)
        until(lambda: made.told == ["lost", "restored"])
        assert GpuReport.from_bytes(made.keeper.report(NONCE).report).request.nonce == NONCE


def test_evidence_can_be_had_while_a_model_is_being_loaded() -> None:
    class Slow(MemoryFiles):
        def fill(self, name: str, offset: int, into: memoryview) -> None:
            if not evidence:
                evidence.append(threading.Thread(target=made.keeper.report, args=(NONCE,)))
                evidence[0].start()
            super().fill(name, offset, into)

    evidence: list[threading.Thread] = []
    with bench() as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        made.engine.load_adapter("slow", Slow({"adapter_config.json": b"{}"}))
        evidence[0].join(10)
        assert not evidence[0].is_alive() and made.keeper.report(NONCE)


def waiting(made: Bench) -> Beside:
    """A step that the device does not answer, on a thread that holds the engine's lock meanwhile."""
    made.engines[-1].stuck_now = True
    made.engine.submit(request())
    step = Beside(made.engine.step)
    until(made.engines[-1].stepping.is_set)
    return step


def test_stopping_does_not_wait_for_a_device_that_never_answers() -> None:
    with bench(deadline=60) as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        made.watch()
        gpu_, step = made.keeper._gpu, waiting(made)
        evidence = Beside(lambda: made.keeper.report(NONCE))
        made.keeper.close()
        (event,) = step.result()
        assert made.engines[-1].steps == 0 and not made.engines[-1].stuck.is_set()
        assert gpu_ is not None and not gpu_.session.alive
        assert event.finish == "error" and "the worker stops" in event.error
        with pytest.raises(EvidenceUnavailable):
            evidence.result()
        assert made.told == [] and not made.engine.attached


def test_a_session_that_is_lost_erases_the_keys_before_a_device_that_never_answers_is_given_up() -> None:
    with bench(deadline=60) as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        made.watch()
        gpu_, step = made.keeper._gpu, waiting(made)
        assert gpu_ is not None
        gpu_.session.erase()
        until(lambda: made.told == ["lost"])
        assert step.result()[0].finish == "error"
        assert made.engines[-1].steps == 0 and not made.engines[-1].stuck.is_set()


def test_stopping_does_not_wait_for_a_device_that_is_being_looked_for() -> None:
    with bench(deadline=60) as made:
        made.watch()
        made.pull_out()
        until(lambda: made.told == ["lost"])
        looking = time.monotonic()
        made.keeper.close()
        assert time.monotonic() - looking < ATTACH


def test_a_worker_that_stops_erases_its_keys_first_and_leaves_a_device_that_never_answers() -> None:
    with bench(deadline=60) as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        step = waiting(made)
        seen: list[str] = []
        worker = object.__new__(Worker)
        vars(worker).update(
            _identity=SimpleNamespace(erase=lambda: seen.append("keys")),
            _runner=SimpleNamespace(close=lambda: seen.append(step.result()[0].finish)),
            _engine=made.engine,
            _part=made.keeper.close,
            _closed=False,
        )
        worker.close()
        worker.close()
        assert seen == ["keys", "error", "keys"]
        assert made.engines[-1].steps == 0 and not made.engines[-1].stuck.is_set()


def test_a_device_that_does_not_answer_is_reset_at_once_and_one_that_died_is_not() -> None:
    with bench(deadline=0.4) as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        made.watch()
        made.restart(gpu())
        until(lambda: made.told == ["lost", "restored"])
        assert not made.resets
        made.engines[-1].stuck_now = True
        made.engine.submit(request())
        run_out(made.engine)
        until(lambda: bool(made.resets))
        made.restart(gpu())
        until(lambda: made.told[-2:] == ["lost", "restored"])
