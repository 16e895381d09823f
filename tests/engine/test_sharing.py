"""Prefix blocks: found under the same 32 bytes, by nobody else; overwritten before anybody else gets them."""

from pathlib import Path
from typing import Any

import pytest

from enclave.engine.embedded import EmbeddedEngine
from enclave.engine.interface import TokenEvent
from enclave.files import DirectoryFiles
from tests.engine.models import collect, drain, expected, load, request

PROMPT = tuple(3 + at % 90 for at in range(50))
ONE, OTHER = b"1" * 32, b"2" * 32


def computed(engine: EmbeddedEngine, name: str, **fields: Any) -> tuple[int, list[int]]:
    """How many prompt tokens the model read for a request, and its answer."""
    before = engine.stats().prompt_tokens
    engine.submit(request(name, fields.pop("prompt", PROMPT), 8, **fields))
    tokens, _ = drain(engine)
    return engine.stats().prompt_tokens - before, tokens.get(name, [])


def test_the_same_share_hits_and_any_other_misses(llama: Path) -> None:
    engine = load(llama, block_tokens=4)
    answer = expected(llama, PROMPT, 8)
    assert computed(engine, "first", share=ONE) == (50, answer)
    assert computed(engine, "same", share=ONE) == (2, answer)
    assert computed(engine, "other", share=OTHER) == (50, answer)
    assert computed(engine, "none", share=None) == (50, answer)
    assert computed(engine, "none again", share=None) == (50, answer)
    assert computed(engine, "other again", share=OTHER) == (2, answer)
    assert engine.stats().prefix_tokens == 96


def test_an_answer_is_shared_with_the_next_turn_of_its_conversation(llama: Path) -> None:
    engine = load(llama, block_tokens=4)
    _, answer = computed(engine, "first", share=ONE)
    longer = (*PROMPT, *answer, 40, 41)
    count, _ = computed(engine, "next", share=ONE, prompt=longer)
    assert count <= len(longer) - len(PROMPT)


def test_requests_that_run_together_share_and_end_apart(llama: Path) -> None:
    engine = load(llama, block_tokens=4)
    tokens: dict[str, list[int]] = {}
    ends: dict[str, TokenEvent] = {}
    engine.submit(request("a", PROMPT, 20, share=ONE, eos=frozenset()))
    collect(engine.step(), tokens, ends)
    engine.submit(request("b", PROMPT, 8, share=ONE))
    engine.submit(request("c", PROMPT, 20, share=ONE, eos=frozenset()))
    collect(engine.step(), tokens, ends)
    engine.cancel("a")
    while engine.has_work():
        collect(engine.step(), tokens, ends)
    assert ends["a"].finish == "cancelled"
    assert tokens["b"] == expected(llama, PROMPT, 8)
    assert tokens["c"] == expected(llama, PROMPT, 20, eos=-1)


def test_what_is_not_shared_is_overwritten_at_once_and_what_was_when_its_place_is_needed(llama: Path) -> None:
    engine = load(llama, block_tokens=4, kv_tokens=128)
    computed(engine, "alone", share=None)
    assert engine._arena.is_blank()
    computed(engine, "shared", share=ONE)
    cached = engine.stats().blocks_cached
    assert cached == 14  # 57 tokens were read: 14 full blocks
    assert not engine._arena.is_blank()
    engine.submit(request("big", tuple(reversed(PROMPT)) * 2, 28, eos=frozenset()))
    while engine.has_work():
        engine.step()
    assert engine.stats().blocks_cached == 0
    assert engine._arena.is_blank()
    assert computed(engine, "evicted", share=ONE)[0] == 50


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_adapters_do_not_share_with_each_other_nor_over_a_reload(
    llama: Path, adapters: dict[str, Path]
) -> None:
    engine = load(llama, block_tokens=4)
    pirate = DirectoryFiles(adapters["pirate"])
    engine.load_adapter("voice", pirate)
    _, spoken = computed(engine, "a", share=ONE, adapter="voice")
    assert computed(engine, "b", share=ONE, adapter="voice") == (2, spoken)
    assert computed(engine, "c", share=ONE)[0] == 50
    engine.unload_adapter("voice")
    engine.load_adapter("voice", DirectoryFiles(adapters["a.b/poet"]))
    count, other = computed(engine, "d", share=ONE, adapter="voice")
    assert count == 50
    assert other != spoken
