"""Builds a range of days in this process, as runs of a Dagster instance whose UI shows them."""

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from sequence_platform import errors
from sequence_platform.catalog import load_plan
from sequence_platform.errors import SequencePlatformError, StoreError, nearest
from sequence_platform.orchestration.definitions import build_definitions
from sequence_platform.orchestration.home import ensure_dagster_home, ensure_in_process_config
from sequence_platform.orchestration.keys import (
    DAY,
    days_before,
    range_tags,
    read_keys,
    sequence_key,
)
from sequence_platform.plan.plan import SequencePlan
from sequence_platform.plan.tables import enriched_table, sequence_table
from sequence_platform.runtimes.batch import Report
from sequence_platform.settings import Settings

QUIET: Mapping[str, object] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Dagster's own console lines would drown the progress; the instance keeps them all."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A partition was committed: the ``done``-th of ``total``."""

    done: int
    total: int
    report: Report


@dataclass(slots=True)
class RunSummary:
    """What a range of days became.

    Attributes:
        failures: What each failed step said; the days beside the failed ones were committed.
        withheld: By sequence table, days that were not built because they look back on a day that
            failed: they would have lacked its events.
    """

    run_ids: list[str] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    withheld: dict[str, list[date]] = field(default_factory=dict)
    seconds: float = 0.0


def materialize_range(
    settings: Settings,
    targets: Iterable[str],
    start: date,
    end: date,
    *,
    progress: Callable[[Progress], None] = lambda _: None,
) -> RunSummary:
    """Build the days ``[start, end)`` of some tables, and all they are made from and read with.

    Enrichments are built first, once; then the days of events, then those of sequences, at most
    ``settings.partitions_per_run`` days in a run. What fails is in the summary; the rest goes on.

    Args:
        settings: Where everything is; runs are kept in the Dagster home of these.
        targets: Assets as ``sequences/home_feed``; none means all.
        start: First day.
        end: The day after the last.
        progress: Is called as each partition is committed, in this thread.

    Raises:
        DefinitionError: the definitions are broken.
        SequencePlatformError: a target does not exist.
        StoreError: Dagster's own storage failed.
    """
    summary, began = RunSummary(), time.perf_counter()

    def committed(report: Report) -> None:
        summary.reports.append(report)
        progress(Progress(len(summary.reports), total, report))

    definitions = build_definitions(settings, committed)
    sequences = load_plan(settings.definitions).sequences.values()
    beside = {sequence_key(item.table): read_keys(item) for item in sequences}
    whole, daily = _selected(definitions, list(targets), beside)
    days = {first: _days(max(first, start), end) for first in daily}
    total = len(whole) + sum(len(keys) * len(days[first]) for first, keys in daily.items())
    job = definitions.resolve_implicit_global_asset_job_def()
    home = ensure_dagster_home(settings)
    with _instance(home) as instance:

        def run(keys: list[dg.AssetKey], tags: dict[str, str]) -> None:
            result = job.execute_in_process(
                run_config=QUIET,
                instance=instance,
                asset_selection=keys,
                tags=tags,
                raise_on_error=False,
            )
            summary.run_ids.append(result.run_id)
            summary.failures.extend(_failures(result))

        def run_days(keys: list[dg.AssetKey], wanted: list[date]) -> None:
            for begin, stop in _ranges(wanted, settings.partitions_per_run) if keys else ():
                run(keys, range_tags(begin, stop))

        if whole:
            run(whole, {})
        for first, keys in daily.items():
            run_days([key for key in keys if key.path[0] == "enriched"], days[first])
        for first, keys in daily.items():
            here = [item for item in sequences if sequence_key(item.table) in keys]
            for ready, items in _by_ready_days(here, days[first], summary).items():
                run_days([sequence_key(item.table) for item in items], list(ready))
    summary.seconds = time.perf_counter() - began
    return summary


@contextmanager
def _instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """Open the Dagster instance of a folder; the error of its own storage says whose it is.

    Raises:
        StoreError: runs and events cannot be kept: a full disk, a damaged file.
    """
    try:
        with dg.DagsterInstance.from_config(str(home), ensure_in_process_config(home)) as instance:
            yield instance
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise StoreError(
            "Dagster's own records of runs cannot be kept",
            where=str(home),
            found=str(error).partition("\n")[0],
            expected="a folder with space left, and databases that are whole",
            next_step="free space, or move damaged files of it away (Dagster makes them anew); the "
            "lake keeps what was committed; then run the same again",
        ) from error


def _by_ready_days(
    sequences: Iterable[SequencePlan], days: list[date], summary: RunSummary
) -> dict[tuple[date, ...], list[SequencePlan]]:
    """Return the days on which sequences can be built, and note those withheld."""
    ready: dict[tuple[date, ...], list[SequencePlan]] = {}
    for sequence in sequences:
        events = [event for event in sequence.events if event.definition.batch is not None]
        tables = {enriched_table(event).name for event in events}
        built = {(report.table, report.day) for report in summary.reports}
        failed = [day for day in days if any((table, day) not in built for table in tables)]
        back = days_before(sequence.lookback) * DAY
        able = tuple(day for day in days if not any(day - back <= bad <= day for bad in failed))
        if len(able) < len(days):
            withheld = sorted(set(days) - set(able))
            summary.withheld[sequence_table(sequence).name] = withheld
        ready.setdefault(able, []).append(sequence)
    return ready


def _selected(
    definitions: dg.Definitions,
    targets: list[str],
    beside: Mapping[dg.AssetKey, list[dg.AssetKey]],
) -> tuple[list[dg.AssetKey], dict[date, list[dg.AssetKey]]]:
    """Return what to build: whole tables, and tables of days by their first day.

    Args:
        definitions: All assets.
        targets: What was asked for; none means all.
        beside: What is built with a table, though it is not made from it.
    """
    assets = [asset for asset in definitions.assets or () if isinstance(asset, dg.AssetsDefinition)]
    days = {key: asset.partitions_def for asset in assets for key in asset.keys}
    names = {key.to_user_string(): key for key in days}
    for target in targets:
        if target not in names:
            raise SequencePlatformError(
                "no such table", found=f"'{target}'", expected=nearest(target, names)
            )
    asked = [names[target] for target in targets] or list(days)
    asked += [key for target in asked for key in beside.get(target, ())]
    whole: list[dg.AssetKey] = []
    daily: dict[date, list[dg.AssetKey]] = {}
    for key in sorted(dg.AssetSelection.assets(*asked).upstream().resolve(assets) & days.keys()):
        match days[key]:
            case dg.DailyPartitionsDefinition(start=first):
                daily.setdefault(first.date(), []).append(key)
            case _:
                whole.append(key)
    return whole, daily


def _days(start: date, end: date) -> list[date]:
    return [start + number * DAY for number in range((end - start).days)]


def _ranges(days: list[date], limit: int) -> Iterator[tuple[date, date]]:
    """Yield the days as ranges ``[begin, stop)`` without gaps, each of at most ``limit`` days."""
    at = 0
    while at < len(days):
        length = 1
        while length < limit and at + length < len(days):
            if days[at + length] - days[at + length - 1] > DAY:
                break
            length += 1
        yield days[at], days[at + length - 1] + DAY
        at += length


def _failures(result: dg.ExecuteInProcessResult) -> list[str]:
    """Return what each failed step said, led by its table; or what kept the run from any step."""
    failed = [
        (f"{str(event.step_key).replace('__', '/', 1)}: ", event.step_failure_data.error)
        for event in result.all_events
        if event.is_step_failure
    ] or [
        ("", event.job_failure_data.error)  # a resource did not open: the lake, say
        for event in result.all_events
        if event.is_job_failure
    ]
    causes = [(table, error.cause or error) for table, error in failed if error]
    # The names of our classes are for code that catches them.
    ours = f"{errors.__name__}."
    return [
        f"{table}{error.message.strip().removeprefix(f'{ours}{error.cls_name}: ')}"
        for table, error in causes
    ]
