"""Who runs: shares, ranks, memory, admission. Simulated: a step computes nothing."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave.engine.blocks import BlockPool
from enclave.engine.interface import (
    EmbeddingRequest,
    EngineOptions,
    GenerationRequest,
    InvalidRequest,
    Overloaded,
    Priority,
    Sampling,
)
from enclave.engine.scheduler import Batch, Scheduler
from enclave.engine.sequences import HEAD_START, Sequence


class Simulation:
    """A scheduler whose steps take a second each; every answer runs to its max_tokens."""

    def __init__(self, **options: Any) -> None:
        self.options = EngineOptions(**{"block_tokens": 4, "kv_tokens": 4000, **options})
        self.now = 0.0
        self.erased: list[int] = []
        count = self.options.kv_tokens // self.options.block_tokens
        self.pool = BlockPool(count, self.options.block_tokens, self.erased.extend)
        self.scheduler = Scheduler(self.options, self.pool, lambda: self.now)
        self.tokens: Counter[str] = Counter()
        self.finished: list[str] = []
        self._next = 0

    def add(self, prompt: int, answer: int, **fields: Any) -> str:
        self._next += 1
        name = fields.pop("id", str(self._next))
        request = GenerationRequest(
            id=name,
            prompt=tuple(fields.pop("tokens", range(prompt))),
            sampling=Sampling(),
            max_tokens=answer,
            eos=frozenset(),
            **fields,
        )
        self.scheduler.check(request)
        self.scheduler.add(request)
        return name

    def text(self, size: int, **fields: Any) -> str:
        self._next += 1
        request = EmbeddingRequest(id=str(self._next), prompt=(1,) * size, encoder="e", **fields)
        self.scheduler.check(request)
        self.scheduler.add(request)
        return request.id

    def step(self) -> Batch:
        batch = self.scheduler.schedule()
        self.scheduler.advance(batch.pieces)
        for piece in batch.pieces:
            request = piece.sequence.request
            self.tokens[request.tenant] += piece.count
            assert len(piece.sequence.blocks) * self.options.block_tokens >= piece.sequence.computed
            if piece.sequence.computed == len(piece.sequence.tokens):
                piece.sequence.tokens.append(7)
                if piece.sequence.generated == request.max_tokens:
                    self._end(request.id)
        for text in batch.texts:
            self.tokens[text.request.tenant] += len(text.request.prompt)
            self._end(text.request.id)
        self.now += 1
        return batch

    def _end(self, name: str) -> None:
        self.scheduler.remove(name)
        self.scheduler.ended(1)
        self.finished.append(name)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()


def keep_full(simulation: Simulation, priority: Priority, prompt: int, answer: int) -> None:
    """Requests of a priority always wait."""
    while simulation.scheduler.waiting(priority) < 40:
        simulation.add(prompt, answer, tenant=priority.value, priority=priority)


@pytest.mark.parametrize("share", [10, 25, 50])
@pytest.mark.parametrize(("prompt", "answer"), [(4, 60), (200, 4), (40, 40)])
def test_premium_under_full_load_gets_its_share_of_the_tokens(share: int, prompt: int, answer: int) -> None:
    simulation = Simulation(premium_share=share, max_rows=32, step_tokens=128, kv_tokens=40_000)
    for _ in range(3000):
        for priority in Priority:
            keep_full(simulation, priority, prompt, answer)
        simulation.step()
    found = simulation.tokens
    assert found["premium"] / found.total() == pytest.approx(share / 100, rel=0.05)
    assert found["standard"] / found["basic"] == pytest.approx(3, rel=0.1)
    assert simulation.scheduler.preemptions < 100


@pytest.mark.parametrize("other", [Priority.STANDARD, Priority.BASIC])
def test_premium_beside_one_other_priority_gets_its_share_too(other: Priority) -> None:
    simulation = Simulation(premium_share=25, max_rows=32, step_tokens=128, kv_tokens=40_000)
    for _ in range(2000):
        keep_full(simulation, Priority.PREMIUM, 32, 24)
        keep_full(simulation, other, 32, 24)
        simulation.step()
    assert simulation.tokens["premium"] / simulation.tokens.total() == pytest.approx(0.25, rel=0.05)


def test_premium_does_not_wait_for_rows_that_others_took_while_it_was_away() -> None:
    simulation = Simulation(premium_share=50, max_rows=8, step_tokens=64)
    for _ in range(16):
        simulation.add(4, 500)
    simulation.run(5)
    name = simulation.add(4, 1, priority=Priority.PREMIUM)
    simulation.step()
    assert simulation.finished == [name]
    assert simulation.scheduler.preemptions == 1


def test_what_premium_does_not_use_others_get() -> None:
    simulation = Simulation(premium_share=90, max_rows=8, step_tokens=64)
    for _ in range(16):
        simulation.add(4, 500, priority=Priority.BASIC)
    assert len(simulation.step().pieces) == 8


def test_a_priority_that_was_away_has_saved_nothing() -> None:
    simulation = Simulation(premium_share=50, max_rows=16, step_tokens=64)
    for _ in range(2000):
        keep_full(simulation, Priority.STANDARD, 40, 20)
        simulation.step()
    before = simulation.tokens["standard"]
    for _ in range(300):
        keep_full(simulation, Priority.STANDARD, 40, 20)
        keep_full(simulation, Priority.PREMIUM, 40, 20)
        simulation.step()
    served = simulation.tokens["standard"] - before
    assert served / (served + simulation.tokens["premium"]) == pytest.approx(0.5, abs=0.1)


def test_tenants_of_one_priority_take_turns() -> None:
    simulation = Simulation(max_rows=2, step_tokens=64, max_waiting=100)
    for _ in range(30):
        simulation.add(4, 4, tenant="greedy")
    modest = simulation.add(4, 4, tenant="modest")
    simulation.run(12)
    assert modest in simulation.finished
    assert len(simulation.finished) < 12


def test_basic_is_served_beside_an_endless_stream_of_premium() -> None:
    simulation = Simulation(premium_share=90, max_rows=8, step_tokens=32, kv_tokens=256)
    name = simulation.add(60, 60, priority=Priority.BASIC)
    for _ in range(2000):
        keep_full(simulation, Priority.PREMIUM, 60, 30)
        simulation.step()
        if name in simulation.finished:
            return
    raise AssertionError("a basic request never ended")


def test_a_head_start_is_outlived_by_waiting() -> None:
    simulation = Simulation()
    simulation.add(4, 4, id="basic", priority=Priority.BASIC)
    simulation.now = HEAD_START[Priority.BASIC] + 1
    simulation.add(4, 4, id="premium", priority=Priority.PREMIUM)
    ranks = {item.request.id: item.rank for item in simulation.scheduler}
    assert ranks["basic"] < ranks["premium"]


def test_the_queue_says_no_early_and_keeps_places_for_premium() -> None:
    simulation = Simulation(max_waiting=8, premium_share=25, max_rows=1, step_tokens=16)
    simulation.add(4, 10)
    simulation.step()
    simulation.add(4, 10)
    for _ in range(5):
        simulation.add(4, 10)
    with pytest.raises(Overloaded) as refused:
        simulation.add(4, 10)
    assert refused.value.retry_after >= 1
    simulation.add(4, 10, priority=Priority.PREMIUM)
    simulation.add(4, 10, priority=Priority.PREMIUM)
    with pytest.raises(Overloaded):
        simulation.add(4, 10, priority=Priority.PREMIUM)
    simulation.run(100)  # ten steps an answer
    for _ in range(6):
        simulation.add(4, 10)
    with pytest.raises(Overloaded) as refused:
        simulation.add(4, 10)
    assert 10 <= refused.value.retry_after <= 60


def test_an_id_is_used_once() -> None:
    simulation = Simulation()
    simulation.add(4, 4, id="x")
    with pytest.raises(InvalidRequest):
        simulation.add(4, 4, id="x")
    simulation.scheduler.remove("x")
    simulation.add(4, 4, id="x")


def test_the_budget_bounds_a_step_and_a_text_alone_may_exceed_it() -> None:
    simulation = Simulation(max_rows=4, step_tokens=10)
    simulation.add(30, 5)
    small, large = simulation.text(6), simulation.text(40)
    seen = []
    for _ in range(12):
        batch = simulation.step()
        seen.append(batch.tokens)
        assert batch.tokens <= 10 or [len(text.request.prompt) for text in batch.texts] == [40]
    assert {small, large} <= set(simulation.finished)
    assert max(seen) <= 10 + 40


def test_more_adapters_than_fit_on_the_device_never_run_at_once() -> None:
    simulation = Simulation(resident_adapters=2, max_rows=8)
    for row in range(12):
        simulation.add(4, 6, adapter=f"a{row % 5}")
        simulation.add(4, 6)
    for _ in range(200):
        running = {piece.sequence.request.adapter for piece in simulation.step().pieces} - {None}
        assert len(running) <= 2
    assert len(simulation.finished) == 24


def test_equal_shares_reuse_blocks_and_any_other_does_not() -> None:
    simulation = Simulation()
    one, other = b"1" * 32, b"2" * 32
    simulation.add(18, 1, share=one, adapter="a")
    simulation.step()
    for fields, spared in [
        ({"share": one, "adapter": "a"}, 16),
        ({"share": other, "adapter": "a"}, 0),
        ({"share": None, "adapter": "a"}, 0),
        ({"share": one, "adapter": "b"}, 0),
        ({"share": one, "adapter": None}, 0),
        ({"share": one, "adapter": "a", "tokens": [9, *range(1, 18)]}, 0),
        ({"share": one, "adapter": "a", "tokens": [*range(8), 99, *range(9, 18)]}, 8),
    ]:
        before = simulation.scheduler.spared
        simulation.add(18, 1, **fields)
        (piece,) = simulation.step().pieces
        assert piece.count == 18 - spared, fields
        assert simulation.scheduler.spared - before == spared


def test_shared_blocks_leave_last_used_first_and_are_overwritten() -> None:
    simulation = Simulation(kv_tokens=64)
    simulation.add(16, 1, share=b"1" * 32)
    simulation.step()
    assert (simulation.pool.cached, simulation.pool.used) == (4, 0)
    kept = set(simulation.pool._cached)
    assert not kept & set(simulation.erased)
    simulation.add(63, 1)
    simulation.step()
    assert simulation.pool.cached == 0
    assert kept <= set(simulation.erased)


OPERATION = st.one_of(
    st.tuples(
        st.just("add"),
        st.integers(1, 30),
        st.integers(1, 20),
        st.sampled_from(Priority),
        st.sampled_from([None, b"x" * 32]),
    ),
    st.tuples(st.just("text"), st.integers(1, 30), st.sampled_from(Priority)),
    st.tuples(st.just("step")),
    st.tuples(st.just("cancel"), st.integers(1, 30)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(OPERATION, max_size=60), st.integers(1, 6), st.integers(13, 40))
def test_whatever_comes_blocks_are_never_lent_twice_and_everybody_ends(
    operations: list, rows: int, blocks: int
) -> None:
    simulation = Simulation(kv_tokens=4 * blocks, max_rows=rows, step_tokens=rows + 7)
    accepted: set[str] = set()
    for kind, *arguments in operations:
        if kind == "add":
            prompt, answer, priority, share = arguments
            accepted.add(simulation.add(prompt, answer, priority=priority, share=share))
        elif kind == "text":
            accepted.add(simulation.text(arguments[0], priority=arguments[1]))
        elif kind == "step":
            simulation.step()
        elif simulation.scheduler.remove(str(arguments[0])):
            accepted.discard(str(arguments[0]))
        _check_blocks(simulation)
    for _ in range(3000):
        if not len(simulation.scheduler):
            break
        simulation.step()
        _check_blocks(simulation)
    assert accepted <= set(simulation.finished)
    assert simulation.pool.used == 0


def _check_blocks(simulation: Simulation) -> None:
    held = Counter(
        block for item in simulation.scheduler if isinstance(item, Sequence) for block in item.blocks
    )
    pool = simulation.pool
    assert all(pool._holders[block] == count for block, count in held.items())
    assert all(count == 1 or block in pool._key_of for block, count in held.items())
    assert len(held) == pool.used
    assert 0 not in held
    assert not set(held) & set(pool._free) and not set(held) & set(pool._cached)
