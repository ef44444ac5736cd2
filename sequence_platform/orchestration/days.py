"""Builds the days of a run one by one, each with its commit and its materialization."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dagster as dg

from sequence_platform.errors import (
    PartitionsFailedError,
    SequencePlatformError,
    StateMismatchError,
    StoreError,
    listed,
)
from sequence_platform.orchestration.checks import check_results
from sequence_platform.runtimes.batch import Report

ATTEMPTS = 3
"""Times a day is tried whose failure may pass (a lock, a busy database, another writer)."""

Progress = Callable[[Report], None]
"""Is told of every partition as it is committed."""

Events = Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]


@dataclass(slots=True)
class Outcome:
    """What became of the days of a run."""

    reports: list[Report] = field(default_factory=list)
    failures: dict[date, Exception] = field(default_factory=dict)


def materialize_days(
    context: dg.AssetExecutionContext,
    build: Callable[[date], Report],
    *,
    checks: tuple[str, ...],
    progress: Progress,
) -> Events:
    """Build every day of the run, each on its own, and report them to Dagster.

    A failed day is logged and the others go on. Those whose failure may pass are tried again last.

    Raises:
        PartitionsFailedError: some days failed; lists them with their reasons.
        StateMismatchError: the definitions are not the published ones, for no day.
    """
    outcome = Outcome()
    days = [date.fromisoformat(key) for key in context.partition_keys]
    for _ in range(ATTEMPTS):
        _build(context, build, days, outcome, progress)
        days = [day for day, error in outcome.failures.items() if _may_pass(error)]
    results = check_results(context.asset_key, checks, outcome.reports)
    if outcome.failures:
        yield from results
        raise _failed(context, outcome) from next(iter(outcome.failures.values()))
    yield dg.MaterializeResult(asset_key=context.asset_key, check_results=results)


def materialize_whole(
    context: dg.AssetExecutionContext,
    build: Callable[[], Report],
    *,
    checks: tuple[str, ...],
    progress: Progress,
) -> Events:
    """Build a table that is not partitioned, and report it to Dagster."""
    report = build()
    progress(report)
    yield dg.MaterializeResult(
        asset_key=context.asset_key,
        metadata=report_metadata(context, report),
        check_results=check_results(context.asset_key, checks, [report]),
    )


def report_metadata(context: dg.AssetExecutionContext, report: Report) -> dict[str, Any]:
    """Return a report as metadata of a materialization."""
    counts = report.counts
    metadata: dict[str, Any] = {
        "dagster/partition_row_count" if report.day else "dagster/row_count": report.rows,
        "bytes": report.bytes,
        "received": counts.received,
        "admitted": counts.admitted,
        "filtered": sum(counts.filtered.values()),
        "superseded": counts.superseded,
        "deleted": counts.deleted,
        "dead_lettered": counts.dead_lettered,
        "seconds": round(report.seconds, 3),
        "version": report.version,
        "changed": report.changed,
        "fingerprint": context.assets_def.get_asset_spec().code_version,
    }
    if report.is_beyond_retention:
        metadata["left_alone"] = "beyond retention"
    if counts.filtered:
        metadata["filtered_by_rule"] = dict(counts.filtered)
    if report.newest_event_time is not None:
        metadata["newest_event_time"] = dg.MetadataValue.timestamp(report.newest_event_time)
    if report.corrected:
        metadata["corrected_days"] = [day.isoformat() for day in report.corrected]
    return metadata


def _build(
    context: dg.AssetExecutionContext,
    build: Callable[[date], Report],
    days: list[date],
    outcome: Outcome,
    progress: Progress,
) -> None:
    for position, day in enumerate(days, start=1):
        where = f"day {position}/{len(days)} {day}"
        try:
            report = build(day)
        except StateMismatchError:
            raise
        except Exception as error:  # whatever a day fails of, its neighbours go on
            context.log.exception("%s: failed; the other days go on", where)
            outcome.failures[day] = error
            continue
        outcome.failures.pop(day, None)
        outcome.reports.append(report)
        _log(context, where, report)
        progress(report)


def _log(context: dg.AssetExecutionContext, where: str, report: Report) -> None:
    """Log the day now, so that a run that dies keeps it, and note its metadata for the end."""
    key, metadata = str(report.day), report_metadata(context, report)
    state = "" if report.changed else ", unchanged"
    if report.is_beyond_retention:
        state = ", left alone: beyond retention"
    text = f"{where}: {report.rows:,} rows in {report.seconds:.2f} s{state}"
    # The description is the event's line in the run's log: one stored event a day, not two.
    context.log_event(
        dg.AssetMaterialization(
            context.asset_key, description=text, partition=key, metadata=metadata
        )
    )
    # The closing MaterializeResult logs each day again; without this all would share one metadata.
    context.add_asset_metadata(metadata, partition_key=key)


def _may_pass(error: Exception) -> bool:
    return isinstance(error, StoreError) and error.retryable


def _failed(context: dg.AssetExecutionContext, outcome: Outcome) -> PartitionsFailedError:
    failures = sorted(outcome.failures.items())
    by_reason: dict[str, list[date]] = {}
    for day, error in failures:
        by_reason.setdefault(_reason(error), []).append(day)
    table = ".".join(context.asset_key.path)
    return PartitionsFailedError(
        f"{len(failures)} of {len(failures) + len(outcome.reports)} days failed",
        where=f"{table}, days {listed(day for day, _ in failures)}",
        found="".join(f"\n    {listed(days)}: {why}" for why, days in by_reason.items()),
        expected="every day built; the others are, and are committed",
        next_step="mend the cause (the log has each in full), then materialize the failed days of "
        f"{context.asset_key.to_user_string()} ('Failed and missing' in the UI)",
    )


def _reason(error: Exception) -> str:
    if isinstance(error, SequencePlatformError):
        return f"{error.what} ({error.where}: {error.found})"
    return f"{type(error).__name__} {str(error).partition(chr(10))[0]}"
