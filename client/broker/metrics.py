"""Counters for /metrics: requests and decisions, no names of artifacts, no contents."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from .sessions import Sessions


class Metrics:
    """The broker's metrics in a registry of their own."""

    def __init__(self, sessions: Sessions) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "cloister_broker_requests",
            "Requests by step and status.",
            ["step", "status"],
            registry=self._registry,
        )
        self.decisions = Counter(
            "cloister_broker_decisions", "Releases and refusals.", ["decision"], registry=self._registry
        )
        gauge = Gauge("cloister_broker_sessions", "Sessions that are open.", registry=self._registry)
        gauge.set_function(lambda: len(sessions))

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)
