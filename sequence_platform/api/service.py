"""What one worker serves with, opened once: the plan, the store, keys, counters and the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from sequence_platform.api.access import Access
from sequence_platform.api.answers import Lateness
from sequence_platform.api.keys import KeyRing
from sequence_platform.api.metrics import Metrics
from sequence_platform.api.query import QueryParser
from sequence_platform.api.readiness import Readiness, published_fingerprint
from sequence_platform.api.request_log import RequestLog
from sequence_platform.catalog import load_plan
from sequence_platform.clock import Clock, SystemClock
from sequence_platform.plan.plan import Plan
from sequence_platform.ports.online import OnlineReader
from sequence_platform.ports.values import ValueReader
from sequence_platform.runtimes.serving import Lookups, SequenceReader
from sequence_platform.settings import Settings
from sequence_platform.wiring import open_online, open_values, streamed_events


@dataclass(frozen=True, slots=True)
class Options:
    """What one start of a server decides; it is sent to every worker.

    Attributes:
        log_requests: Share of requests that are logged.
        logs_entities: Whether entities are logged as they are, not hashed.
        metrics: The folder in which workers count together; None: each for itself.
        is_secure: Whether the page's cookie is sent over TLS only.
    """

    log_requests: float = 0.0
    logs_entities: bool = False
    metrics: Path | None = None
    is_secure: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """The parts of a worker."""

    plan: Plan
    reader: SequenceReader
    lookups: Lookups
    parser: QueryParser
    access: Access
    metrics: Metrics
    log: RequestLog
    lateness: Lateness
    readiness: Readiness
    clock: Clock
    settings: Settings
    options: Options


def build_service(  # noqa: PLR0913, PLR0917 - what it serves, from where, and how
    plan: Plan,
    store: OnlineReader,
    values: ValueReader,
    clock: Clock,
    settings: Settings,
    options: Options,
) -> Service:
    """Return the parts of a worker over open stores; whoever builds it closes its lookups."""
    metrics = Metrics(options.metrics)
    lookups = Lookups(values, tell=metrics.looked_up)
    reader = SequenceReader(plan, store, clock, lookups)
    after = timedelta(seconds=settings.ready_lag_seconds)
    lateness = Lateness(frozenset(streamed_events(plan)), after)
    published = partial(published_fingerprint, settings)
    return Service(
        plan=plan,
        reader=reader,
        lookups=lookups,
        parser=QueryParser(clock),
        access=Access(KeyRing.of(settings)),
        metrics=metrics,
        log=RequestLog(options.log_requests, options.logs_entities),
        lateness=lateness,
        readiness=Readiness(
            reader,
            lateness,
            clock,
            published,
            partial(lookups.faults, plan.enrichments.values()),
        ),
        clock=clock,
        settings=settings,
        options=options,
    )


@contextmanager
def open_service(
    settings: Settings, options: Options, *, clock: Clock | None = None
) -> Iterator[Service]:
    """Compile the definitions, open the stores, and close them at the end.

    Raises:
        DefinitionError: the definitions are broken.
        StateMismatchError: the keys cannot be read.
        StoreError: a store cannot be opened.
    """
    plan = load_plan(settings.definitions)
    with open_online(settings) as store, open_values(settings) as values:
        service = build_service(plan, store, values, clock or SystemClock(), settings, options)
        with closing(service.lookups):
            yield service
