"""A sensor that asks for sequence days whose events changed since they were built."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import date

import dagster as dg

from sequence_platform.orchestration.keys import (
    DAY,
    days_before,
    enriched_key,
    job_name,
    range_tags,
    sequence_key,
)
from sequence_platform.plan.plan import SequencePlan
from sequence_platform.ports import Lake
from sequence_platform.runtimes.batch import stale_days
from sequence_platform.wiring import Platform

SETTLE_SECONDS = 60
"""A change is acted upon when it stood still between two ticks: a burst of them is one run."""

IN_FLIGHT = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def stale_sensor(
    sequences: Mapping[str, SequencePlan], *, days_per_run: int
) -> dg.SensorDefinition:
    """Return the sensor over all sequences; it starts stopped.

    A request is named after its days and their inputs: the same change is never asked for twice,
    also when its run failed; the next change is.
    """
    keys = [sequence_key(sequence.table) for sequence in sequences.values()]

    @dg.sensor(
        name="stale_sequences",
        asset_selection=dg.AssetSelection.assets(*keys),
        minimum_interval_seconds=SETTLE_SECONDS,
        description="Rebuilds sequence days whose events changed since they were built.",
    )
    def stale_sequences(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.SensorResult:
        seen_before = set(json.loads(context.cursor or "[]"))
        runs = context.instance.get_runs(dg.RunsFilter(statuses=IN_FLIGHT))
        requests = [
            request
            for sequence in sequences.values()
            if not any(_touches(run, sequence, sequences.values()) for run in runs)
            for request in _requests(platform.lake, sequence, days_per_run)
        ]
        settled = [request for request in requests if request.run_key in seen_before]
        cursor = json.dumps(sorted(str(request.run_key) for request in requests))
        return dg.SensorResult(run_requests=settled, cursor=cursor)

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


def _requests(lake: Lake, sequence: SequencePlan, days_per_run: int) -> Iterator[dg.RunRequest]:
    for start, end in contiguous(stale_days(lake, sequence), days_per_run):
        inputs = _inputs(lake, sequence, start, end)
        yield dg.RunRequest(
            run_key=f"{sequence.table}:{start}:{end}:{inputs}",
            asset_selection=[sequence_key(sequence.table)],
            tags=range_tags(start, end),
        )


def _inputs(lake: Lake, sequence: SequencePlan, start: date, end: date) -> str:
    """Return a hash of the definition and of the versions of all partitions that the days read."""
    digest = hashlib.sha256(sequence.fingerprint.encode())
    window = (start - days_before(sequence.lookback) * DAY, end)
    for event in sequence.events:
        ledger = lake.ledger(f"enriched.{event.table}", window).sort("day")
        rows = ledger.select("table_name", "day", "content_hash").rows()
        digest.update(json.dumps(rows, default=str).encode())
    return digest.hexdigest()[:16]


def _touches(run: dg.DagsterRun, sequence: SequencePlan, others: Iterable[SequencePlan]) -> bool:
    """Return whether a run builds a sequence or its events; if so, it is waited for."""
    tables = {event.table for event in sequence.events}
    if run.asset_selection is not None:
        keys = {sequence_key(sequence.table), *(enriched_key(table) for table in tables)}
        return bool(keys & run.asset_selection)
    return run.job_name in {
        job_name(other.table)
        for other in others
        if other is sequence or tables & {event.table for event in other.events}
    }
