"""`DeviceEngine` over a real link: the engine's protocol crosses, and what breaks ends with a clear error."""

import threading
import time

import pytest

from attestation.binding import sha256
from enclave.engine.interface import (
    DeviceLost,
    EmbeddingEvent,
    EmbeddingRequest,
    EngineOptions,
    Event,
    InvalidRequest,
    ModelRefused,
    Overloaded,
    TokenEvent,
)
from enclave.gpu.device.engine import DEADLINE, SHORT_STEP, DeviceEngine
from tests.gpu.device.bench import MODEL, MemoryFiles, bench, request, run_out, until


def test_a_request_and_its_events_cross_as_they_are() -> None:
    with bench() as made:
        made.engine.load_model(MemoryFiles(), EngineOptions(threads=1))
        asked = request(
            "a name of any kind/ü",
            tenant="somebody",
            share=bytes(32),
            grammar='{"type": "object"}',
            logprobs=2,
            adapter=None,
        )
        made.engine.submit(asked)
        assert run_out(made.engine) == [
            TokenEvent(id=asked.id, token=5),
            TokenEvent(id=asked.id, token=6),
            TokenEvent(id=asked.id, token=7, logprob=-0.5),
            TokenEvent(id=asked.id, finish="stop"),
        ]
        (arrived,) = made.engines[0].submitted
        assert arrived == request(
            "1", tenant="somebody", share=bytes(32), grammar='{"type": "object"}', logprobs=2, adapter=None
        )
        assert made.engine.context_length == 99 and made.engine.grammars
        assert made.engine.weights_memory == "tested"


def test_embeddings_cross() -> None:
    with bench() as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        made.engine.submit(EmbeddingRequest(id="e", prompt=(1, 2), encoder="small"))
        assert run_out(made.engine) == [EmbeddingEvent(id="e", vector=(0.6, -0.8))]


def test_files_arrive_whole_and_options_with_them() -> None:
    with bench() as made:
        options = EngineOptions(dtype="bfloat16", kv_tokens=64, threads=3)
        made.engine.load_model(MemoryFiles(), options)
        assert made.engines[0].options == options
        assert made.engines[0].digests == {name: sha256(content) for name, content in MODEL.items()}


def test_errors_keep_their_class_and_message() -> None:
    with bench() as made:
        with pytest.raises(DeviceLost, match="holds no model"):
            made.engine.submit(request())
        made.engine.load_model(MemoryFiles(), EngineOptions())
        with pytest.raises(InvalidRequest, match="cannot be followed"):
            made.engine.prepare(request(grammar="bad"))
        for name in "abc":
            made.engine.submit(request(name))
        with pytest.raises(Overloaded, match="three are enough") as caught:
            made.engine.submit(request("d"))
        assert caught.value.retry_after == 2.5
        with pytest.raises(InvalidRequest, match="is running"):
            made.engine.submit(request("a"))
        assert {event.id for event in run_out(made.engine)} == set("abc")


def test_a_cancelled_request_ends_and_unknown_ones_are_ignored() -> None:
    with bench() as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        made.engine.submit(request())
        made.engine.step()
        made.engine.cancel("r")
        made.engine.cancel("nobody")
        assert [event.last for event in run_out(made.engine)] == [True]
        made.engine.submit(request())
        assert made.engine.stats().running == 1
        run_out(made.engine)
        assert made.engine.stats().running == 0


def test_adapters_and_encoders_are_loaded_and_given_up() -> None:
    with bench() as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        made.engine.load_adapter("sailor", MemoryFiles({"adapter_config.json": b"{}"}))
        made.engine.load_encoder("small", MemoryFiles())
        assert made.engine.adapters == {"sailor"} and made.engine.encoders == {"small"}
        made.engine.unload_adapter("sailor")
        assert made.engine.adapters == frozenset()


def test_erasing_leaves_the_device_without_a_model() -> None:
    with bench() as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        made.engine.erase()
        assert made.engines[0].erased
        with pytest.raises(DeviceLost, match="holds no model"):
            made.engine.submit(request())


def test_a_file_that_the_worker_cannot_read_is_its_own_error_and_the_session_lives() -> None:
    with bench() as made:
        with pytest.raises(ModelRefused, match="a chunk does not open"):
            made.engine.load_model(MemoryFiles(broken="model.safetensors"), EngineOptions())
        made.engine.load_model(MemoryFiles(), EngineOptions())
        made.engine.submit(request())
        assert len(run_out(made.engine)) == 4


def test_without_a_device_nothing_is_generated_and_the_error_says_why() -> None:
    engine = DeviceEngine()
    with pytest.raises(DeviceLost, match="no device is attached"):
        engine.submit(request())
    assert not engine.has_work() and engine.step() == []


def test_a_device_that_dies_ends_the_requests_in_flight_with_an_error() -> None:
    with bench() as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        made.engine.submit(request("a"))
        made.engine.submit(EmbeddingRequest(id="e", prompt=(1,), encoder="small"))
        made.pull_out()
        events = {event.id: event for event in run_out(made.engine)}
        assert events["a"] == TokenEvent(id="a", finish="error", error=events["a"].error)
        assert "the device was lost" in str(events["a"].error) and "the device was lost" in str(
            events["e"].error
        )
        with pytest.raises(DeviceLost, match="ask again later"):
            made.engine.submit(request("b"))


def test_a_device_killed_in_the_middle_of_a_step_is_noticed_at_once() -> None:
    with bench() as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        made.engines[0].stuck_now = True
        made.engine.submit(request())
        threading.Timer(0.3, made.devices[0][1].detach).start()
        begin = time.monotonic()
        assert [event.error is not None for event in run_out(made.engine)] == [True]
        assert time.monotonic() - begin < 3


def test_a_device_that_does_not_answer_is_given_up_at_the_deadline() -> None:
    with bench(deadline=0.3) as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        made.engines[0].stuck_now = True
        made.engine.submit(request())
        (event,) = run_out(made.engine)
        assert isinstance(event, TokenEvent) and "nothing moved" in str(event.error)
        assert not made.engine.attached


def test_a_device_killed_while_it_loads_is_an_error_not_a_hang() -> None:
    class Slow(MemoryFiles):
        def fill(self, name: str, offset: int, into: memoryview) -> None:
            if offset:
                made.devices[0][1].detach()
            super().fill(name, offset, into)

    with bench() as made, pytest.raises(DeviceLost):
        made.engine.load_model(Slow(), EngineOptions())


def test_the_device_computes_on_while_tokens_are_handed_out() -> None:
    with bench() as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        made.engine.submit(request(prompt=(5, 6, 7)))
        (first,) = made.engine.step()
        until(lambda: made.engines[0].steps >= 2)
        assert isinstance(first, TokenEvent) and first.token == 5
        made.engine.submit(request("s", prompt=(8,)))  # its reply comes after that of the step under way
        told = [(event.id, event.token) for event in run_out(made.engine) if isinstance(event, TokenEvent)]
        assert [token for name, token in told if name == "r"] == [6, 7, None]
        assert [token for name, token in told if name == "s"] == [8, None]


@pytest.mark.parametrize(("seconds", "asked"), [(0.0, 2), (4 * SHORT_STEP, 1)])
def test_two_steps_are_asked_for_ahead_where_steps_are_short(seconds: float, asked: int) -> None:
    now = [0.0]
    with bench(clock=lambda: now[0]) as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        engine, step = made.engines[0], made.engines[0].step

        def timed() -> list[Event]:
            now[0] += seconds
            return step()

        engine.step = timed  # type: ignore[method-assign]
        prompt = tuple(range(5, 25))
        made.engine.submit(request(prompt=prompt))
        told = made.engine.step() + made.engine.step()
        assert len(made.engine._sent) == asked
        told += run_out(made.engine)
        assert [event.token for event in told if isinstance(event, TokenEvent)] == [*prompt, None]


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_as_many_steps_are_asked_for_ahead_as_was_said(ahead: int) -> None:
    with bench(ahead=ahead, clock=lambda: 0.0) as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        made.engine.submit(request(prompt=tuple(range(5, 25))))
        for _ in range(3):
            made.engine.step()
            assert len(made.engine._sent) == ahead


def test_a_step_that_grows_long_is_followed_by_one_alone() -> None:
    now = [0.0]
    with bench(clock=lambda: now[0]) as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        made.engine.submit(request(prompt=tuple(range(5, 25))))
        waiting = []
        for seconds in (0.0, 0.0, 1.0, 1.0, 0.0):
            now[0] += seconds
            made.engine.step()
            waiting.append(len(made.engine._sent))
        assert waiting == [2, 2, 1, 1, 2]


def test_what_is_cancelled_with_two_steps_ahead_says_nothing_more() -> None:
    with bench(clock=lambda: 0.0) as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        made.engine.submit(request("gone", prompt=tuple(range(5, 25))))
        made.engine.submit(request("stays", prompt=(8, 9)))
        made.engine.step()
        made.engine.step()
        assert len(made.engine._sent) == 2
        made.engine.cancel("gone")
        rest = run_out(made.engine)
        assert [event.last for event in rest if event.id == "gone"] == [True]
        assert [event.token for event in rest if isinstance(event, TokenEvent) and event.id == "stays"][
            -1
        ] is None


def test_a_step_has_the_time_that_the_models_options_give_it() -> None:
    with bench(deadline=None) as made:
        assert made.engine.deadline == DEADLINE
        made.engine.load_model(MemoryFiles(), EngineOptions(step_seconds=1))
        assert made.engine.deadline == 1
        made.engines[0].stuck_now = True
        made.engine.submit(request())
        begin = time.monotonic()
        (event,) = run_out(made.engine)
        assert isinstance(event, TokenEvent) and "nothing moved" in str(event.error)
        assert 0.9 < time.monotonic() - begin < 8


@pytest.mark.parametrize("seconds", [0, -1, 3601])
def test_a_deadline_out_of_bounds_is_refused(seconds: int) -> None:
    with pytest.raises(ValueError, match="step_seconds"):
        EngineOptions(step_seconds=seconds)


def test_an_end_is_not_followed_by_steps_that_nobody_wants() -> None:
    with bench() as made:
        made.engine.load_model(MemoryFiles(), EngineOptions())
        made.engine.submit(request(prompt=(5,)))
        assert len(run_out(made.engine)) == 2
        made.engine.stats()
        assert made.engines[0].steps == 2
