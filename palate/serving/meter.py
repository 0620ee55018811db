"""What the service counts for /metrics, and where its log goes. A registry of its own: two services in a process do not mix."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_STEPS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Meter:
    """Counters of one service. Labels are routes, methods, statuses and stage names: never anything a client can choose freely."""

    def __init__(self, log_file: TextIO | None = None) -> None:
        self.log_file: TextIO = log_file or sys.stderr
        self.registry = CollectorRegistry()
        self.calls = Counter("palate_calls", "Calls by route, method and status.", ("route", "method", "status"), registry=self.registry)
        self.seconds = Histogram("palate_call_seconds", "Seconds a call took.", ("route",), registry=self.registry, buckets=_STEPS)
        self.degraded = Counter("palate_degraded", "Answers that had to do without a part.", ("part",), registry=self.registry)
        self.events = Counter("palate_events", "Events by outcome.", ("outcome",), registry=self.registry)
        self.waiting = Gauge("palate_calls_under_way", "Calls that wait for or use a worker.", registry=self.registry)
        self.as_of = Gauge("palate_sequence", "Sequence number of the last event applied.", registry=self.registry)
        self._known: dict[tuple[str, str, int], tuple[Any, Any]] = {}

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one call."""
        known = self._known.get((route, method, status))
        if known is None:
            known = (self.calls.labels(route, method, str(status)), self.seconds.labels(route))
            self._known[(route, method, status)] = known
        known[0].inc()
        known[1].observe(seconds)

    def text(self) -> bytes:
        """The exposition for Prometheus."""
        return generate_latest(self.registry)
