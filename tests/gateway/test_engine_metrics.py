"""What /metrics says of the engine: how busy it is, and nothing that tells of lengths, hits or names."""

from enclave.engine.interface import EngineStats, Priority
from enclave.gateway.metrics import Metrics

STATS = EngineStats(
    waiting=9,
    waiting_by_priority={Priority.PREMIUM: 1, Priority.STANDARD: 3, Priority.BASIC: 5},
    running=7,
    blocks=2048,
    blocks_used=333,
    blocks_cached=77,
    step_budget=512,
    step_used=137,
    steps=1000,
    preemptions=4,
    prompt_tokens=123_456,
    prefix_tokens=54_321,
    generated_tokens=98_765,
    adapters=12,
    adapters_resident=6,
)


def _values(stats: EngineStats) -> dict[str, float]:
    lines = Metrics(stats=lambda: stats).render().decode().splitlines()
    pairs = [line.split() for line in lines if line.startswith("cloister_engine_")]
    return {name.removeprefix("cloister_engine_"): float(value) for name, value in pairs}


def test_the_engines_load_is_shown() -> None:
    assert _values(STATS) == {
        "waiting_premium": 1,
        "waiting_standard": 3,
        "waiting_basic": 5,
        "rows": 7,
        "blocks_use": 0.2,
        "budget_use": 0.3,
        "adapters_resident": 6,
        "steps_total": 1000,
        "failed_steps_total": 0,
        "preemptions_total": 4,
    }


def test_a_little_more_of_a_prompt_or_a_prefix_hit_changes_nothing() -> None:
    other = {"blocks_used": 340, "step_used": 140, "blocks_cached": 0, "prefix_tokens": 0, "prompt_tokens": 9}
    kept = {name: getattr(STATS, name) for name in EngineStats.__dataclass_fields__}
    assert _values(EngineStats(**{**kept, **other})) == _values(STATS)


def test_an_engine_that_has_not_begun_is_shown_as_idle() -> None:
    assert set(_values(EngineStats()).values()) == {0.0}
