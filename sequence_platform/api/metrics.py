"""What a server counts, for Prometheus.

Workers of one server count in files of one folder, so that any of them answers for all; without
such a folder (tests, one process) a registry in memory does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST
BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
EVENT_BUCKETS = (0, 1, 10, 50, 100, 250, 500, 1_000, 5_000, 20_000, 100_000)


class Metrics:
    """The counters of one worker.

    Args:
        folder: What workers share; prometheus_client itself learns it from the environment
            (``settings.share_metrics``).
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self.registry = CollectorRegistry()
        registry = self.registry
        self._requests = Counter(
            "sequence_platform_requests",
            "Requests answered.",
            ("endpoint", "status", "sequence"),
            registry=registry,
        )
        self._seconds = Histogram(
            "sequence_platform_request_seconds",
            "From the request to its last byte handed to the server.",
            ("endpoint",),
            buckets=BUCKETS,
            registry=registry,
        )
        self._events = Histogram(
            "sequence_platform_events_returned",
            "Events of an answer.",
            ("endpoint", "sequence"),
            buckets=EVENT_BUCKETS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "sequence_platform_in_flight",
            "Requests being answered.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._rejected = Counter(
            "sequence_platform_rejected",
            "Requests refused to protect the server or other tenants.",
            ("reason",),
            registry=registry,
        )
        self._lookups = Counter(
            "sequence_platform_lookups",
            "Lookups of values by key, a request and an enrichment: answered, timed_out, failed.",
            ("enrichment", "outcome"),
            registry=registry,
        )
        self._lookup_seconds = Histogram(
            "sequence_platform_lookup_seconds",
            "How long a request waited for an enrichment.",
            ("enrichment",),
            buckets=BUCKETS,
            registry=registry,
        )
        # Finding a child by its labels costs as much as counting does.
        self._request = lru_cache(maxsize=4096)(self._requests.labels)
        self._second = lru_cache(maxsize=64)(self._seconds.labels)
        self._event = lru_cache(maxsize=4096)(self._events.labels)
        self._lookup = lru_cache(maxsize=4096)(self._lookups.labels)
        self._lookup_second = lru_cache(maxsize=1024)(self._lookup_seconds.labels)

    def answered(self, endpoint: str, status: int, sequence: str, started: float) -> None:
        """Count an answer; ``started`` is of ``perf_counter``."""
        self._request(endpoint, str(status), sequence).inc()
        self._second(endpoint).observe(perf_counter() - started)

    def returned(self, endpoint: str, sequence: str, events: int) -> None:
        """Count events of an answer."""
        self._event(endpoint, sequence).observe(events)

    def looked_up(self, enrichment: str, outcome: str, seconds: float) -> None:
        """Count a lookup."""
        self._lookup(enrichment, outcome).inc()
        self._lookup_second(enrichment).observe(seconds)

    def rejected(self, reason: str) -> None:
        """Count a refusal."""
        self._rejected.labels(reason).inc()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Count a request as in flight within the block."""
        self.in_flight.inc()
        try:
            yield
        finally:
            self.in_flight.dec()

    def text(self) -> bytes:
        """Return all counters, those of other workers too."""
        if self._folder is None:
            return generate_latest(self.registry)
        _forget_ended(self._folder)
        registry = CollectorRegistry()
        collector: Any = MultiProcessCollector  # it has no types
        collector(registry, str(self._folder))
        return generate_latest(registry)


def _forget_ended(folder: Path) -> None:
    """Remove what workers that ended had in flight; their counters stay."""
    for file in folder.glob("gauge_live*_*.db"):
        number = file.stem.rpartition("_")[2]
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            file.unlink(missing_ok=True)
        except (ValueError, PermissionError):
            continue
