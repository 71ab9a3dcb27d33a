"""The service's metrics, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import CounterMetricFamily, Metric

from rewardkit.serve.batcher import Batcher
from rewardkit.types import ScoredRollout

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Counts requests, rollouts, failures and times."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "rewardkit_requests", "Requests by route and status.", ["route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "rewardkit_request_seconds", "Time to answer.", ["route"], buckets=SECONDS, registry=self.registry
        )
        self._rollouts = Counter("rewardkit_rollouts", "Rollouts by status.", ["status"], registry=self.registry)
        self._unscored = Counter("rewardkit_unscored", "Unscored rollouts by kind.", ["kind"], registry=self.registry)
        self._batches = Histogram(
            "rewardkit_batch_rollouts", "Rollouts scored in one call.", buckets=ROWS, registry=self.registry
        )
        self._scored = self._rollouts.labels("scored")

    def watch(self, batcher: Batcher) -> None:
        """Also tell what is in flight and each component's time."""
        self.registry.register(_Live(batcher))

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, rows: int, _seconds: float) -> None:
        """Count a batch."""
        self._batches.observe(rows)

    def scored(self, items: Iterable[ScoredRollout]) -> None:
        """Count rollouts."""
        count = 0
        for item in items:
            if item.unscored is None:
                count += 1
            else:
                self._rollouts.labels("unscored").inc()
                self._unscored.labels(item.unscored.kind).inc()
        self._scored.inc(count)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self.registry)


class _Live:
    """Values that are read when they are asked for."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        yield GaugeMetricFamily(
            "rewardkit_rollouts_in_flight", "Rollouts being scored or waiting.", value=self._batcher.in_flight
        )
        seconds = CounterMetricFamily(
            "rewardkit_component_seconds", "Seconds spent in each component.", labels=["component"]
        )
        for name, spent in self._batcher.reward.timings.items():
            seconds.add_metric([name], spent)
        yield seconds
