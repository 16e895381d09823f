"""Counters for the operator: totals and gauges, nothing of content, tenants, tokens or cache hits."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)

from enclave.engine.interface import EngineStats

from .engine_metrics import EngineCollector

REFRESH = 10.0
"""Seconds for which one rendering is served: finer timing would tell requests apart."""

MEDIA_TYPE = CONTENT_TYPE_LATEST

disable_created_metrics()  # type: ignore[no-untyped-call]  # they would tell to the millisecond when something happened first


class Metrics:
    """What /metrics shows. Outcomes are a fixed set of words. `stats` are the engine's counts, if shown."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        stats: Callable[[], EngineStats] | None = None,
    ) -> None:
        self._clock = clock
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "cloister_requests", "Sealed requests by outcome", ["outcome"], registry=self._registry
        )
        self._evidence = Counter(
            "cloister_evidence", "Evidence requests by outcome", ["outcome"], registry=self._registry
        )
        self._running = Gauge("cloister_requests_running", "Requests being answered", registry=self._registry)
        if stats is not None:
            self._registry.register(EngineCollector(stats))
        self._rendered = b""
        self._until = float("-inf")

    def request(self, outcome: str) -> None:
        """Count one sealed request."""
        self._requests.labels(outcome).inc()

    def evidence(self, outcome: str) -> None:
        """Count one request for evidence."""
        self._evidence.labels(outcome).inc()

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Count a request as running for as long as the block lasts."""
        with self._running.track_inprogress():
            yield

    def render(self) -> bytes:
        """The exposition text, renewed at most every 10 s."""
        now = self._clock()
        if now >= self._until:
            self._rendered = generate_latest(self._registry)
            self._until = now + REFRESH
        return self._rendered
