"""Greedy output equals `generate()` token for token: alone, in a batch, in pieces, over random arrivals."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave.engine.interface import Priority
from tests.engine.models import VOCABULARY, collect, configs, drain, expected, load, request

PROMPTS = [
    tuple((at * 31 + row * 17 + 3) % (VOCABULARY - 3) + 3 for at in range(2 + 9 * row)) for row in range(6)
]


@pytest.mark.parametrize("name", sorted(configs()))
def test_each_architecture_answers_as_generate_does_alone_and_in_a_batch(
    model_directory: Callable[[str], Path], name: str
) -> None:
    directory = model_directory(name)
    engine = load(directory, step_tokens=16, max_rows=8, block_tokens=4)
    answers = [expected(directory, prompt, 20) for prompt in PROMPTS]
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        engine.submit(request("alone", prompt, 20))
        assert drain(engine)[0].get("alone", []) == answer
    for row, prompt in enumerate(PROMPTS):
        engine.submit(request(str(row), prompt, 20))
    tokens, ends = drain(engine)
    assert [tokens.get(str(row), []) for row in range(len(PROMPTS))] == answers
    assert {end.finish for end in ends.values()} <= {"stop", "length"}


# Prompts begin alike, so that shares have something to share.
BEGINNING = PROMPTS[5][:24]
ARRIVAL = st.tuples(
    st.integers(0, 12),
    st.tuples(
        st.integers(0, 24).map(lambda count: BEGINNING[:count]),
        st.lists(st.integers(3, VOCABULARY - 1), min_size=1, max_size=20).map(tuple),
    ).map(lambda parts: parts[0] + parts[1]),
    st.integers(1, 20),
    st.sampled_from([None, b"a" * 32, b"b" * 32]),
    st.sampled_from(Priority),
)


@settings(max_examples=25, deadline=None)
@given(
    arrivals=st.lists(ARRIVAL, min_size=1, max_size=8),
    rows=st.integers(1, 6),
    spare=st.integers(1, 30),
    block=st.sampled_from([1, 3, 16]),
    memory=st.sampled_from([64, 90, 180]),
    cancelled=st.integers(0, 12),
)
def test_any_arrivals_budgets_and_memory_leave_every_answer_the_same(
    llama: Path, arrivals: list, rows: int, spare: int, block: int, memory: int, cancelled: int
) -> None:
    engine = load(
        llama,
        kv_tokens=memory,
        max_rows=rows,
        step_tokens=rows + spare,
        block_tokens=block,
        premium_share=50,
    )
    tokens: dict[str, list[int]] = {}
    ends: dict = {}
    pending = sorted(enumerate(arrivals), key=lambda item: item[1][0])
    step = 0
    while pending or engine.has_work():
        while pending and pending[0][1][0] <= step:
            row, (_, prompt, count, share, priority) = pending.pop(0)
            engine.submit(request(str(row), prompt, count, share=share, priority=priority))
        if step == cancelled:
            engine.cancel("0")
        collect(engine.step(), tokens, ends)
        step += 1
    assert len(ends) == len(arrivals)
    for row, (_, prompt, count, _, _) in enumerate(arrivals):
        answer, found = expected(llama, prompt, count), tokens.get(str(row), [])
        assert found == (answer[: len(found)] if ends[str(row)].finish == "cancelled" else answer)
    assert engine.stats().blocks_used == 0
    engine._pool.forget_cached()
    assert engine._arena.is_blank()


def test_memory_for_half_of_them_is_enough_by_preemption(llama: Path) -> None:
    engine = load(llama, kv_tokens=96, max_rows=8, block_tokens=4)
    for row, prompt in enumerate(PROMPTS[:4]):
        engine.submit(request(str(row), prompt, 40, eos=frozenset()))
    tokens, ends = drain(engine)
    assert engine.stats().preemptions > 0
    assert {end.finish for end in ends.values()} == {"length"}
    free = load(llama)
    for row, prompt in enumerate(PROMPTS[:4]):
        free.submit(request(str(row), prompt, 40, eos=frozenset()))
    assert tokens == drain(free)[0]
    assert free.stats().preemptions == 0


def test_a_step_stays_within_its_budget_and_a_long_prompt_lets_others_decode(llama: Path) -> None:
    engine = load(llama, step_tokens=9, max_rows=4)
    engine.submit(request("short", PROMPTS[0], 30, eos=frozenset()))
    engine.step()
    engine.submit(request("long", tuple(3 + at % 90 for at in range(80)), 5, eos=frozenset()))
    for _ in range(9):  # eight tokens of the long prompt a step, beside one of the other's answer
        assert [event.id for event in engine.step()] == ["short"]
    assert sorted(event.id for event in engine.step()) == ["long", "short"]


def test_long_and_short_rows_share_a_batch(llama: Path) -> None:
    long = tuple(3 + at % 90 for at in range(100))
    engine = load(llama)
    for row in range(3):
        engine.submit(request(f"long{row}", long[row:], 20))
        engine.submit(request(f"short{row}", long[row : row + 3], 20))
    tokens, _ = drain(engine)
    for row in range(3):
        assert tokens.get(f"long{row}", []) == expected(llama, long[row:], 20)
        assert tokens.get(f"short{row}", []) == expected(llama, long[row : row + 3], 20)
