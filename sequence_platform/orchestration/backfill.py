"""Builds a range of days in this process, as runs of a Dagster instance whose UI shows them."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date

import dagster as dg

from sequence_platform.errors import SequencePlatformError, nearest
from sequence_platform.orchestration.definitions import build_definitions
from sequence_platform.orchestration.home import ensure_dagster_home, ensure_in_process_config
from sequence_platform.orchestration.keys import DAY, range_tags
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
        failures: What each failed step said, by run; its neighbours were committed.
    """

    run_ids: list[str] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


def materialize_range(
    settings: Settings,
    targets: Iterable[str],
    start: date,
    end: date,
    *,
    progress: Callable[[Progress], None] = lambda _: None,
) -> RunSummary:
    """Build the days ``[start, end)`` of some tables and of everything they are made from.

    Enrichments are built first, once; then days in order, at most
    ``settings.partitions_per_run`` in a run. A failed day or run is reported in the summary and
    the others go on.

    Args:
        settings: Where everything is; runs are kept in the Dagster home of these.
        targets: Assets as ``sequences/home_feed``; none means all.
        start: First day.
        end: The day after the last.
        progress: Is called as each partition is committed, in this thread.

    Raises:
        DefinitionError: the definitions are broken.
        SequencePlatformError: a target does not exist.
    """
    summary, began = RunSummary(), time.perf_counter()

    def committed(report: Report) -> None:
        summary.reports.append(report)
        progress(Progress(len(summary.reports), total, report))

    definitions = build_definitions(settings, committed)
    whole, daily = _selected(definitions, list(targets))
    runs = [_Run(whole, {}, len(whole))] if whole else []
    for first, keys in daily.items():
        for begin, stop in _chunks(max(first, start), end, settings.partitions_per_run):
            runs.append(_Run(keys, range_tags(begin, stop), len(keys) * (stop - begin).days))
    total = sum(run.partitions for run in runs)
    job = definitions.resolve_implicit_global_asset_job_def()
    home = ensure_dagster_home(settings)
    with dg.DagsterInstance.from_config(str(home), ensure_in_process_config(home)) as instance:
        for run in runs:
            result = job.execute_in_process(
                run_config=QUIET,
                instance=instance,
                asset_selection=run.keys,
                tags=run.tags,
                raise_on_error=False,
            )
            summary.run_ids.append(result.run_id)
            summary.failures.extend(_failures(result))
    summary.seconds = time.perf_counter() - began
    return summary


@dataclass(frozen=True, slots=True)
class _Run:
    """One run: what it builds, the tags that say which days, and how many partitions that is."""

    keys: list[dg.AssetKey]
    tags: dict[str, str]
    partitions: int


def _selected(
    definitions: dg.Definitions, targets: list[str]
) -> tuple[list[dg.AssetKey], dict[date, list[dg.AssetKey]]]:
    """Return what to build: whole tables, and tables of days by their first day."""
    assets = [asset for asset in definitions.assets or () if isinstance(asset, dg.AssetsDefinition)]
    days = {key: asset.partitions_def for asset in assets for key in asset.keys}
    names = {key.to_user_string(): key for key in days}
    for target in targets:
        if target not in names:
            raise SequencePlatformError(
                "no such table", found=f"'{target}'", expected=nearest(target, names)
            )
    asked = [names[target] for target in targets] or list(days)
    whole: list[dg.AssetKey] = []
    daily: dict[date, list[dg.AssetKey]] = {}
    for key in sorted(dg.AssetSelection.assets(*asked).upstream().resolve(assets) & days.keys()):
        match days[key]:
            case dg.DailyPartitionsDefinition(start=first):
                daily.setdefault(first.date(), []).append(key)
            case _:
                whole.append(key)
    return whole, daily


def _chunks(start: date, end: date, days: int) -> Iterator[tuple[date, date]]:
    while start < end:
        stop = min(start + days * DAY, end)
        yield start, stop
        start = stop


def _failures(result: dg.ExecuteInProcessResult) -> list[str]:
    errors = [
        (e.step_key, e.step_failure_data.error) for e in result.all_events if e.is_step_failure
    ]
    return [f"{step}: {(error.cause or error).message.strip()}" for step, error in errors if error]
