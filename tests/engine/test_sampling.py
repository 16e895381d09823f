"""Sampling follows its distribution and its seed, whoever shares the batch."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from enclave.engine.interface import InvalidRequest, Sampling
from enclave.engine.sampling import Chosen, Rules, choose
from tests.engine.models import DEVICE, VOCABULARY, drain, expected, load, reference, request

PROMPT = (5, 9, 33, 60)


def _rules(sampling: Sampling, vocabulary: int, **fields: Any) -> Rules:
    return Rules(request("x", PROMPT, sampling=sampling, **fields), vocabulary, torch.device("cpu"))


def _many(logits: torch.Tensor, rule: Sampling, count: int = 4000) -> torch.Tensor:
    chosen = choose(logits.expand(count, -1), [_rules(rule, logits.shape[-1])] * count)
    return torch.tensor([one.token for one in chosen if one]).bincount(minlength=logits.shape[-1]) / count


def test_draws_follow_the_softmax() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -30.0])
    found = _many(logits, Sampling(temperature=1.5, seed=1))
    assert torch.allclose(found, (logits / 1.5).softmax(-1), atol=0.03)


def test_top_k_keeps_the_most_likely_and_their_shares() -> None:
    logits = torch.tensor([0.0, 2.0, 1.0, -1.0])
    found = _many(logits, Sampling(top_k=2, seed=1))
    assert torch.allclose(found, torch.tensor([0.0, *logits[1:3].softmax(-1), 0.0]), atol=0.03)


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    found = _many(logits, Sampling(top_p=0.79, seed=1))
    assert torch.allclose(found, torch.tensor([0.625, 0.375, 0.0, 0.0]), atol=0.03)
    assert _many(logits, Sampling(top_p=0.81, seed=1))[2] > 0
    assert _many(logits, Sampling(top_p=1e-9, seed=1))[0] == 1


def test_a_tiny_temperature_is_greedy_and_no_accident() -> None:
    logits = torch.tensor([1.0, 3.0, 2.0])
    assert _many(logits, Sampling(temperature=1e-300, seed=1), 10)[1] == 1


def test_only_the_row_that_is_not_finite_has_no_token() -> None:
    logits = torch.zeros(4, 5)
    logits[1, 2], logits[2, 0], logits[3, 4] = math.nan, math.inf, 9.0
    rules = [Sampling(seed=1), Sampling(temperature=0), Sampling(top_p=0.5), Sampling(temperature=0)]
    found = choose(logits, [_rules(rule, 5) for rule in rules])
    assert found[0] is not None
    assert found[1:] == [None, None, Chosen(4)]


def test_a_seed_gives_the_same_answer_alone_and_in_any_batch(llama: Path) -> None:
    rules = [Sampling(temperature=1.0, top_p=0.9, top_k=row % 3 * 20, seed=7 + row) for row in range(6)]
    engine = load(llama)
    alone = []
    for rule in rules:
        engine.submit(request("x", PROMPT, 20, sampling=rule, eos=frozenset()))
        alone.append(drain(engine)[0]["x"])
    for row, rule in enumerate(rules):
        engine.submit(request(str(row), PROMPT, 20, sampling=rule, eos=frozenset()))
    engine.submit(request("greedy", PROMPT, 20))
    tokens, _ = drain(engine)
    assert [tokens[str(row)] for row in range(6)] == alone
    assert len({tuple(answer) for answer in alone}) == 6


def test_without_a_seed_answers_differ(llama: Path) -> None:
    engine = load(llama)
    for row in range(4):
        engine.submit(request(str(row), PROMPT, 20, sampling=Sampling(temperature=1.5), eos=frozenset()))
    tokens, _ = drain(engine)
    assert len({tuple(answer) for answer in tokens.values()}) == 4


def test_bias_and_penalties_move_the_logits_as_openai_defines_them() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5]])
    sampling = Sampling(
        temperature=0, frequency_penalty=0.6, presence_penalty=0.5, logit_bias=((0, 0.2), (2, -100.0))
    )
    rules = _rules(sampling, 3, logprobs=3)
    answers = []
    for _ in range(4):
        (chosen,) = choose(logits, [rules])
        assert chosen is not None
        answers.append(chosen.token)
        rules.note(chosen.token)
    # 1: 2.0 against 1.2; then 0.9 against 1.2; then 0.9 against 0.1; then 0.3 against 0.1
    assert answers == [1, 0, 1, 1]
    assert dict(chosen.top)[1] == pytest.approx(float(logits.log_softmax(-1)[0, 1]))  # before all of that
    assert chosen.logprob == dict(chosen.top)[1]
    rules.erase()
    assert rules.added is not None
    assert not rules.added.any()


def test_only_rows_with_penalties_are_changed_by_them(llama: Path) -> None:
    engine = load(llama)
    engine.submit(request("plain", PROMPT, 20, eos=frozenset()))
    engine.submit(request("held", PROMPT, 20, eos=frozenset(), sampling=_GREEDY_PENALISED))
    engine.submit(request("biased", PROMPT, 5, sampling=Sampling(temperature=0, logit_bias=((50, 100.0),))))
    tokens, _ = drain(engine)
    assert tokens["plain"] == expected(llama, PROMPT, 20, eos=-1)
    assert len(set(tokens["held"])) > len(set(tokens["plain"]))
    assert tokens["biased"] == [50] * 5


_GREEDY_PENALISED = Sampling(temperature=0, frequency_penalty=2.0, presence_penalty=2.0)


def test_log_probabilities_are_the_models_own(llama: Path) -> None:
    engine = load(llama)
    engine.submit(request("x", PROMPT, 6, logprobs=3, eos=frozenset(), sampling=Sampling(seed=1)))
    engine.submit(request("y", PROMPT, 6, logprobs=0, eos=frozenset()))
    engine.submit(request("z", PROMPT, 6, eos=frozenset()))
    events: dict[str, list] = {"x": [], "y": [], "z": []}
    while engine.has_work():
        for event in engine.step():
            events[event.id].append(event)
    ids = torch.tensor([[*PROMPT, *(event.token for event in events["x"])]], device=DEVICE)
    with torch.no_grad():
        likelihoods = reference(llama)(ids).logits.log_softmax(-1)[0, len(PROMPT) - 1 : -1]
    for event, likelihood in zip(events["x"], likelihoods, strict=True):
        assert event.logprob == pytest.approx(float(likelihood[event.token]), abs=1e-4)
        assert [token for token, _ in event.top] == likelihood.topk(3).indices.tolist()
        assert [value for _, value in event.top] == pytest.approx(
            likelihood.topk(3).values.tolist(), abs=1e-4
        )
    assert all(event.logprob is not None and event.top == () for event in events["y"])
    assert all(event.logprob is None for event in events["z"])


@pytest.mark.parametrize(
    "fields",
    [
        {"frequency_penalty": math.nan},
        {"presence_penalty": 2.1},
        {"logit_bias": ((1, math.inf),)},
        {"logit_bias": ((1, -101.0),)},
        {"logit_bias": tuple((token, 0.0) for token in range(2000))},
    ],
)
def test_penalties_and_bias_have_ranges(fields: dict) -> None:
    with pytest.raises(ValueError):
        Sampling(**fields)


def test_a_bias_on_a_token_that_does_not_exist_is_refused(llama: Path) -> None:
    with pytest.raises(InvalidRequest, match="vocabulary"):
        load(llama).submit(request("x", PROMPT, sampling=Sampling(logit_bias=((VOCABULARY, 1.0),))))
