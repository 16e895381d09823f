"""Bounds, endings, cancellation, and failures that stay with whom they belong to."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from enclave.engine.interface import (
    EngineOptions,
    GenerationRequest,
    InvalidRequest,
    ModelRefused,
    Overloaded,
    PromptTooLong,
    Sampling,
    UnknownAdapter,
)
from tests.engine.models import CONTEXT, VOCABULARY, collect, drain, expected, load, request

PROMPT = (5, 9, 33, 60)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": math.nan},
        {"top_k": -1},
        {"top_k": 2.5},
        {"seed": 2**63},
        {"seed": True},
    ],
)
def test_sampling_refuses_what_is_out_of_range(fields: dict) -> None:
    with pytest.raises(ValueError):
        Sampling(**fields)


def test_sampling_accepts_the_ends_of_its_ranges() -> None:
    Sampling(temperature=0.0, top_p=1.0, top_k=0, seed=None)
    Sampling(temperature=2.0, top_p=1e-6, top_k=2**31 - 1, seed=-(2**63))


@pytest.mark.parametrize(
    "fields",
    [
        {"step_tokens": 64, "max_rows": 64},
        {"kv_tokens": 8},
        {"max_waiting": 0},
        {"dtype": "int8"},
        {"threads": 0},
    ],
)
def test_options_that_contradict_each_other_are_refused(fields: dict) -> None:
    with pytest.raises(ValueError):
        EngineOptions(**fields)


def test_a_request_keeps_its_prompt_out_of_repr() -> None:
    assert "33" not in repr(request("x", PROMPT))
    with pytest.raises(ValueError):
        GenerationRequest(id="x", prompt=(), sampling=Sampling(), max_tokens=1, eos=frozenset())
    with pytest.raises(ValueError):
        request("x", PROMPT, 0)


def test_a_prompt_that_can_never_fit_is_refused_and_the_longest_that_fits_runs(llama: Path) -> None:
    engine = load(llama)
    assert engine.context_length == CONTEXT
    with pytest.raises(PromptTooLong):
        engine.submit(request("x", (5,) * (CONTEXT - 3), 4))
    engine.submit(request("x", (5,) * (CONTEXT - 4), 4, eos=frozenset()))
    assert drain(engine)[1]["x"].finish == "length"


def test_key_value_memory_bounds_the_context_too(llama: Path) -> None:
    engine = load(llama, kv_tokens=50, block_tokens=16)
    assert engine.context_length == 48
    with pytest.raises(PromptTooLong):
        engine.submit(request("x", PROMPT, 45))
    engine.submit(request("x", PROMPT, 44, eos=frozenset()))
    assert len(drain(engine)[0]["x"]) == 44


def test_a_full_queue_is_refused_and_what_waits_is_served_later(llama: Path) -> None:
    engine = load(llama, kv_tokens=32, max_waiting=3)
    for row in range(3):
        engine.submit(request(str(row), PROMPT, 20))
    with pytest.raises(Overloaded):
        engine.submit(request("3", PROMPT, 20))
    tokens: dict[str, list[int]] = {}
    collect(engine.step(), tokens, {})
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.blocks_used) == (1, 2, 1)
    while engine.has_work():
        collect(engine.step(), tokens, {})
    assert [tokens[str(row)] for row in range(3)] == [expected(llama, PROMPT, 20)] * 3


def test_what_makes_no_sense_is_refused_before_it_is_queued(llama: Path) -> None:
    engine = load(llama)
    with pytest.raises(InvalidRequest):
        engine.submit(request("x", (5, VOCABULARY)))
    with pytest.raises(InvalidRequest):
        engine.submit(request("x", (-1,)))
    with pytest.raises(UnknownAdapter):
        engine.submit(request("x", PROMPT, adapter="nobody"))
    engine.submit(request("x", PROMPT))
    with pytest.raises(InvalidRequest):
        engine.submit(request("x", PROMPT))
    assert engine.stats().waiting == 1


def test_an_end_token_stops_and_is_not_reported(llama: Path) -> None:
    answer = expected(llama, PROMPT, 12)
    engine = load(llama)
    engine.submit(request("x", PROMPT, eos=frozenset({answer[4]})))
    tokens, ends = drain(engine)
    assert tokens["x"] == answer[: answer.index(answer[4])]
    assert (ends["x"].finish, ends["x"].token) == ("stop", None)


def test_cancelling_frees_at_once_and_is_reported_once(llama: Path) -> None:
    engine = load(llama, kv_tokens=32)
    engine.submit(request("running", PROMPT, 20))
    engine.submit(request("waiting", PROMPT, 20))
    engine.submit(request("next", PROMPT, 20))
    engine.step()
    engine.cancel("running")
    engine.cancel("waiting")
    engine.cancel("nobody")
    assert engine.stats().blocks_used == 0
    assert engine._arena.is_blank()
    tokens, ends = drain(engine)
    assert (ends["running"].finish, ends["waiting"].finish) == ("cancelled", "cancelled")
    assert tokens["next"] == expected(llama, PROMPT, 20)


def test_logits_that_are_not_numbers_end_their_request_alone(llama: Path) -> None:
    engine = load(llama)
    poison = 90
    with torch.no_grad():
        engine._forward._model.get_input_embeddings().weight[poison] = math.nan
    for row in range(4):
        engine.submit(request(str(row), PROMPT if row % 2 else (*PROMPT, poison)))
    tokens, ends = drain(engine)
    assert [ends[str(row)].finish == "error" for row in range(4)] == [True, False, True, False]
    assert "finite" in (ends["0"].error or "")
    assert tokens["1"] == tokens["3"] == expected(llama, PROMPT, 12)
    assert engine._arena.is_blank()


def test_a_step_that_raises_ends_its_requests_and_the_engine_goes_on(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(llama, max_rows=2)
    for row in range(3):
        engine.submit(request(str(row), PROMPT))
    engine.step()

    def exhausted(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("tensor of the secret 33")

    with monkeypatch.context() as patch:
        patch.setattr(engine._forward, "_model", exhausted)
        events = engine.step()
    assert {(event.id, event.finish) for event in events} == {("0", "error"), ("1", "error")}
    assert all(
        "OutOfMemoryError" in (event.error or "") and "33" not in (event.error or "") for event in events
    )
    assert engine.stats().failed_steps == 1
    assert drain(engine)[0]["2"] == expected(llama, PROMPT, 12)
    assert engine._arena.is_blank()


def test_counts_add_up(llama: Path) -> None:
    engine = load(llama)
    for row in range(3):
        engine.submit(request(str(row), PROMPT, 7, eos=frozenset()))
    drain(engine)
    stats = engine.stats()
    assert (stats.prompt_tokens, stats.generated_tokens, stats.waiting, stats.running) == (12, 21, 0, 0)


def test_a_step_that_is_too_large_is_read_in_smaller_parts(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(llama, max_rows=4)
    model = engine._forward._model

    def small(*args: Any, input_ids: torch.Tensor, **fields: Any) -> object:
        if len(input_ids) > 3:
            raise torch.OutOfMemoryError("no room")
        return model(*args, input_ids=input_ids, **fields)

    monkeypatch.setattr(engine._forward, "_model", small)
    prompts = [PROMPT, tuple(range(3, 40)), (5, 9), (33, 60, 5)]
    for row, prompt in enumerate(prompts):
        engine.submit(request(str(row), prompt))
    tokens, _ = drain(engine)
    assert [tokens.get(str(row), []) for row in range(4)] == [expected(llama, p, 12) for p in prompts]
    assert engine.stats().failed_steps > 0


def test_only_the_request_that_makes_a_step_fail_is_ended(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(llama)
    model = engine._forward._model

    def poisoned(*args: Any, input_ids: torch.Tensor, **fields: Any) -> object:
        if bool((input_ids == 90).any()):
            raise RuntimeError("token 90")
        return model(*args, input_ids=input_ids, **fields)

    monkeypatch.setattr(engine._forward, "_model", poisoned)
    prompts = [(*PROMPT, 90 if row == 3 else 60 + row) for row in range(6)]
    answers = {row: expected(llama, prompts[row], 3, eos=-1) for row in (0, 1, 2, 4, 5)}
    assert all(90 not in answer for answer in answers.values())
    for row, prompt in enumerate(prompts):
        engine.submit(request(str(row), prompt, 3, eos=frozenset()))
    tokens, ends = drain(engine)
    assert [ends[str(row)].finish for row in range(6)] == ["length"] * 3 + ["error"] + ["length"] * 2
    assert {row: tokens[str(row)] for row in answers} == answers
    assert engine._arena.is_blank()


def test_key_value_memory_that_is_not_there_is_refused_with_what_to_do(llama: Path) -> None:
    with pytest.raises(ModelRefused, match="lower kv_tokens"):
        load(llama, kv_tokens=2**42)
