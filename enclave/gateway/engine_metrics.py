"""What the operator may see of the engine: who waits and runs by count, how full it is in tenths.

Tenths, because the exact number of blocks or of tokens in a step is the length of somebody's prompt when few
are here. Prefix hits, totals of tokens and the names of tenants and adapters are never shown.
"""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from enclave.engine.interface import EngineStats, Priority


class EngineCollector(Collector):
    """Reads the engine's counts whenever /metrics is rendered."""

    def __init__(self, stats: Callable[[], EngineStats]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """The families, without labels."""
        stats = self._stats()
        for priority in Priority:
            waiting = stats.waiting_by_priority.get(priority, 0)
            yield _gauge(
                f"waiting_{priority.value}", f"Requests of priority {priority.value} that wait", waiting
            )
        yield _gauge("rows", "Requests in the batch", stats.running)
        yield _gauge(
            "blocks_use",
            "Key-value memory lent to requests, in tenths",
            _tenths(stats.blocks_used, stats.blocks),
        )
        yield _gauge(
            "budget_use",
            "Use of the last step's budget, in tenths",
            _tenths(stats.step_used, stats.step_budget),
        )
        yield _gauge("adapters_resident", "Adapters on the device", stats.adapters_resident)
        yield _counter("steps", "Steps run", stats.steps)
        yield _counter("failed_steps", "Steps that failed at first", stats.failed_steps)
        yield _counter("preemptions", "Requests that gave their memory back for a while", stats.preemptions)


def _gauge(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"cloister_engine_{name}", words, value=value)


def _counter(name: str, words: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"cloister_engine_{name}", words, value=value)


def _tenths(part: int, whole: int) -> float:
    """Rounded up, so that a little is not nothing; a text may take more than the budget."""
    return min(10, -(-10 * part // whole)) / 10 if whole else 0.0
