"""Sampling follows its distribution and its seed, whoever shares the batch."""

import math
from pathlib import Path

import torch

from enclave.engine.interface import Sampling
from enclave.engine.sampling import choose, draws
from tests.engine.models import drain, load, request

PROMPT = (5, 9, 33, 60)


def _many(logits: torch.Tensor, rule: Sampling, count: int = 4000) -> torch.Tensor:
    stream = draws(rule.seed)
    chosen = choose(logits.expand(count, -1), [rule] * count, [stream] * count)
    return torch.tensor(chosen).bincount(minlength=logits.shape[-1]) / count


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
    found = choose(logits, rules, [draws(1)] * 4)
    assert found[0] is not None
    assert found[1:] == [None, None, 4]


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
