"""Rows I6 and I7: memory and company of other people's requests in the engine."""

from typing import Any

import torch

from enclave.engine.embedded import EmbeddedEngine
from enclave.engine.grammar import regex_grammar
from enclave.engine.interface import Sampling, TokenEvent
from enclave.files import DirectoryFiles
from tests.engine.models import load, request
from tests.running import FAQ

VICTIM = tuple(100 + (at * 37) % 1500 for at in range(70))
ADAPTER = FAQ.parent / "adapters" / "sailor"


def _run(engine: EmbeddedEngine, steps: int = 10_000) -> list[TokenEvent]:
    events = []
    while engine.has_work() and steps:
        events += [event for event in engine.step() if isinstance(event, TokenEvent)]
        steps -= 1
    return events


def test_i6_blocks_that_a_request_gives_back_hold_nothing_of_it() -> None:
    engine = load(FAQ, kv_tokens=160, block_tokens=8)
    engine.submit(request("ends", VICTIM, 4, eos=frozenset()))
    _run(engine, 2)
    assert not engine._arena.is_blank()  # the control: while it runs its keys and values are there
    _run(engine)
    assert engine._arena.is_blank()
    engine.submit(request("leaves", VICTIM, 60, eos=frozenset()))
    _run(engine, 3)
    engine.cancel("leaves")
    assert engine._arena.is_blank()
    engine.submit(request("shares", VICTIM, 4, share=b"v" * 32, eos=frozenset()))
    _run(engine)
    assert not engine._arena.is_blank()  # kept for its own share
    others = [request(str(row), VICTIM[row:], 60, eos=frozenset()) for row in range(1, 4)]
    for one in others:
        engine.submit(one)
    _run(engine)
    assert engine.stats().preemptions > 0
    assert engine.stats().blocks_cached == 0
    assert engine._arena.is_blank()


def _answer(events: list[TokenEvent], name: str) -> list[tuple[Any, ...]]:
    return [
        (e.token, e.finish, [token for token, _ in e.top], torch.tensor(e.logprob or 0.0).round(decimals=3))
        for e in events
        if e.id == name
    ]


def test_i7_company_in_a_batch_changes_nothing_of_an_answer_and_shows_nothing_of_it() -> None:
    engine = load(FAQ, step_tokens=40, max_rows=16)
    engine.load_adapter("voice", DirectoryFiles(ADAPTER))
    mine = {"sampling": Sampling(temperature=0.9, seed=5), "logprobs": 3, "eos": frozenset[int]()}
    engine.submit(request("mine", VICTIM[:20], 24, **mine))
    alone = _answer(_run(engine), "mine")
    engine.submit(request("mine", VICTIM[:20], 24, **mine))
    company: list[dict[str, Any]] = [
        {"adapter": "voice"},
        {"grammar": regex_grammar("[ab]{20}")},
        {"sampling": Sampling(temperature=2.0, logit_bias=((7, 100.0),), frequency_penalty=2.0)},
        {"share": b"x" * 32, "logprobs": 20},
    ]
    for row, fields in enumerate(company):
        engine.submit(request(f"other{row}", VICTIM[:20], 24, **fields))
    events = _run(engine)
    together = _answer(events, "mine")
    assert [line[:3] for line in together] == [line[:3] for line in alone]
    assert all(abs(one[3] - other[3]) < 0.01 for one, other in zip(together, alone, strict=True))
    for event in events:  # log-probabilities go to those who asked, and nobody's prompt to anybody
        assert (event.logprob is not None) == (event.id in ("mine", "other3") and event.token is not None)
        assert str(VICTIM[3]) not in repr(event)
