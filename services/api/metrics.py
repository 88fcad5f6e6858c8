"""Metrics for Prometheus: answered requests, and jobs and attempts from the database."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from services.jobs.batches import BatchStore
from services.jobs.rows import PREFIXES
from services.jobs.states import AttemptStatus, BatchStatus, JobStatus
from services.jobs.store import JobStore

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
NO_ROUTE = "none"
"""Label of requests without a route, since the number of their paths is unlimited."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Metrics of one application.

    Args:
        store: The jobs, which are counted at each scrape.
        batches: The batches, which are counted at each scrape.
    """

    def __init__(self, store: JobStore, batches: BatchStore) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_JobCollector(store, batches))
        labels = ("route", "method", "status")
        self._requests = Counter("stillroom_http_requests", "Requests answered.", labels, registry=self._registry)
        self._seconds = Histogram(
            "stillroom_http_request_seconds",
            "Time until an answer begins; a stream may take longer.",
            labels,
            buckets=_BUCKETS,
            registry=self._registry,
        )

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Record an answer."""
        labels = (route, method if method in _METHODS else "OTHER", str(status))
        self._requests.labels(*labels).inc()
        self._seconds.labels(*labels).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _JobCollector(Collector):
    """Collector that counts rows of the database at each scrape, so that restarts of the service change nothing."""

    def __init__(self, store: JobStore, batches: BatchStore) -> None:
        self._store = store
        self._batches = batches

    def collect(self) -> Iterator[Metric]:
        """Yield the counts; empty states are reported as 0, so that their series have no gaps."""
        jobs, attempts = self._store.counts()
        family = GaugeMetricFamily("stillroom_jobs", "Jobs by kind and state.", labels=("kind", "status"))
        for kind in PREFIXES:
            for status in JobStatus:
                family.add_metric((kind, status), jobs.get((kind, status), 0))
        yield family
        family = GaugeMetricFamily("stillroom_attempts", "Attempts of jobs by state.", labels=("outcome",))
        for outcome in AttemptStatus:
            family.add_metric((outcome,), attempts.get(outcome, 0))
        yield family
        batches = self._batches.counts()
        family = GaugeMetricFamily("stillroom_batches", "Batches by state.", labels=("status",))
        for where in BatchStatus:
            family.add_metric((where,), batches.get(where, 0))
        yield family

    def describe(self) -> Iterator[Metric]:
        """Describe no metrics, so that registration does not query the database."""
        return iter(())
