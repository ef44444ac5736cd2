"""Sensors that ask for days: stale sequences, unsealed days of streams, days not served yet.

A change is acted upon day by day once it stood still, so that a day that streams still fill does
not keep others waiting.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date

import dagster as dg
import polars as pl

from sequence_platform.clock import Clock
from sequence_platform.orchestration.keys import (
    DAY,
    days_before,
    enriched_key,
    job_name,
    online_key,
    range_tags,
    sequence_key,
)
from sequence_platform.plan.plan import EventPlan, Plan, SequencePlan
from sequence_platform.ports import Lake
from sequence_platform.runtimes.batch import stale_days, unsealed_days
from sequence_platform.runtimes.segments import unpublished_days
from sequence_platform.wiring import Platform, open_online, streamed_events

IN_FLIGHT = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def stale_sensor(
    sequences: Mapping[str, SequencePlan], *, days_per_run: int, settle_seconds: int
) -> dg.SensorDefinition:
    """Return the sensor over all sequences; it starts stopped.

    A request is named after its days and their inputs: the same change is never asked for twice,
    also when its run failed; the next change is.
    """
    keys = [sequence_key(sequence.table) for sequence in sequences.values()]

    @dg.sensor(
        name="stale_sequences",
        asset_selection=dg.AssetSelection.assets(*keys),
        minimum_interval_seconds=settle_seconds,
        description="Rebuilds sequence days whose events changed since they were built.",
    )
    def stale_sequences(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.SensorResult:
        runs = context.instance.get_runs(dg.RunsFilter(statuses=IN_FLIGHT))
        stale = {
            sequence.table: _stale(platform.lake, sequence, platform.clock)
            for sequence in sequences.values()
            if not any(_touches(run, sequence, sequences.values()) for run in runs)
        }
        return _settled(context.cursor, stale, sequence_key, days_per_run)

    return stale_sequences


def contiguous(days: Iterable[date], most: int) -> Iterator[tuple[date, date]]:
    """Yield ranges ``[start, end)`` of at most ``most`` days that cover exactly the given days.

    >>> [(a.day, b.day) for a, b in contiguous([date(2026, 1, d) for d in (1, 2, 3, 7)], most=2)]
    [(1, 3), (3, 4), (7, 8)]
    """
    start = end = None
    for day in sorted(days):
        if start is not None and end is not None and (day != end or (day - start).days >= most):
            yield start, end
            start = None
        start = day if start is None else start
        end = day + DAY
    if start is not None and end is not None:
        yield start, end


def unsealed_sensor(
    plan: Plan, *, days_per_run: int, settle_seconds: int
) -> list[dg.SensorDefinition]:
    """Return the sensor that seals days of event types with a log; it starts stopped."""
    events = streamed_events(plan)
    if not events:
        return []
    keys = [enriched_key(event.table) for event in events.values()]

    @dg.sensor(
        name="unsealed_days",
        asset_selection=dg.AssetSelection.assets(*keys),
        minimum_interval_seconds=settle_seconds,
        description="Seals days whose allowed lateness is over: joins what the log and the batch "
        "source brought, and again when late events came.",
    )
    def unsealed_days_(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.SensorResult:
        runs = context.instance.get_runs(dg.RunsFilter(statuses=IN_FLIGHT))
        sequences = plan.sequences.values()
        unsealed = {
            event.table: _unsealed(platform, event)
            for event in events.values()
            if not any(_builds(run, {event.table}, sequences) for run in runs)
        }
        return _settled(context.cursor, unsealed, enriched_key, days_per_run)

    return [unsealed_days_]


def unpublished_sensor(
    plan: Plan, *, days_per_run: int, settle_seconds: int
) -> dg.SensorDefinition:
    """Return the sensor that publishes days to the online store; it starts stopped."""
    keys = [online_key(event.table) for event in plan.events.values()]

    @dg.sensor(
        name="unpublished_days",
        asset_selection=dg.AssetSelection.assets(*keys),
        minimum_interval_seconds=settle_seconds,
        description="Publishes days that the online store does not hold as the lake does; what "
        "streams bring is served at once, published or not.",
    )
    def unpublished_days_(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.SensorResult:
        with open_online(platform.settings) as store:
            unpublished = {
                event.table: unpublished_days(platform.lake, store, event)
                for event in plan.events.values()
            }
        return _settled(context.cursor, unpublished, online_key, days_per_run)

    return unpublished_days_


Stamps = Mapping[date, str]
"""By day that is asked for, what tells its present state from another."""


def _settled(
    cursor: str | None,
    wanted: Mapping[str, Stamps],
    key_of: Callable[[str], dg.AssetKey],
    days_per_run: int,
) -> dg.SensorResult:
    """Return requests for the days that stood still since the last tick."""
    stored = json.loads(cursor or "{}")
    before: dict[str, dict[str, str]] = stored if isinstance(stored, dict) else {}
    now = {
        table: {day.isoformat(): stamp for day, stamp in stamps.items()}
        for table, stamps in wanted.items()
    }
    requests = []
    for table, stamps in wanted.items():
        still = [
            day
            for day, stamp in stamps.items()
            if before.get(table, {}).get(day.isoformat()) == stamp
        ]
        for start, end in contiguous(still, days_per_run):
            within = [stamps[day] for day in still if start <= day < end]
            digest = hashlib.sha256(json.dumps(within).encode()).hexdigest()[:16]
            requests.append(
                dg.RunRequest(
                    run_key=f"{table}:{start}:{end}:{digest}",
                    asset_selection=[key_of(table)],
                    tags=range_tags(start, end),
                )
            )
    return dg.SensorResult(run_requests=requests, cursor=json.dumps(now, sort_keys=True))


def _unsealed(platform: Platform, event: EventPlan) -> Stamps:
    ledger = platform.lake.ledger(f"enriched.{event.table}")
    versions = dict(ledger.select("day", "version").iter_rows())
    days = unsealed_days(platform.lake, event, platform.clock)
    return {day: f"{event.fingerprint}:{versions[day]}" for day in days}


def _stale(lake: Lake, sequence: SequencePlan, clock: Clock) -> Stamps:
    """Return stale days, each with a hash of the definition and of all that it reads."""
    days = stale_days(lake, sequence, clock)
    if not days:
        return {}
    reach = days_before(sequence.lookback) * DAY
    ledgers = [
        lake.ledger(f"enriched.{event.table}", (days[0] - reach, days[-1] + DAY))
        for event in sequence.events
    ]
    content = pl.concat(ledgers).select("table_name", "day", "content_hash").sort(pl.all())
    return {
        day: _digest(
            sequence.fingerprint, content.filter(pl.col("day").is_between(day - reach, day)).rows()
        )
        for day in days
    }


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


def _touches(run: dg.DagsterRun, sequence: SequencePlan, others: Iterable[SequencePlan]) -> bool:
    """Return whether a run builds a sequence or its events; if so, it is waited for."""
    tables = {event.table for event in sequence.events}
    if run.asset_selection is not None:
        keys = {sequence_key(sequence.table), *(enriched_key(table) for table in tables)}
        return bool(keys & run.asset_selection)
    return run.job_name == job_name(sequence.table) or _builds(run, tables, others)


def _builds(run: dg.DagsterRun, tables: set[str], sequences: Iterable[SequencePlan]) -> bool:
    """Return whether a run builds one of some enriched tables."""
    if run.asset_selection is not None:
        return bool({enriched_key(table) for table in tables} & run.asset_selection)
    return run.job_name in {
        job_name(sequence.table)
        for sequence in sequences
        if tables & {event.table for event in sequence.events}
    }
