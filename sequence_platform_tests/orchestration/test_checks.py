"""Every check fails when its guarantee is broken, names the day, and holds back what follows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import dagster as dg
import polars as pl
import pytest

from sequence_platform.orchestration.checks import ENRICHED_CHECKS, SEQUENCE_CHECKS, check_results
from sequence_platform.orchestration.definitions import build_definitions
from sequence_platform.orchestration.keys import range_tags
from sequence_platform.plan.plan import TIME
from sequence_platform.ports import Counts, Staged, TableSpec
from sequence_platform.runtimes.batch import Report
from sequence_platform.settings import Settings
from sequence_platform.wiring import Platform, open_platform
from sequence_platform_tests.orchestration.project import DAY, START, Project

Corrupt = Callable[[pl.DataFrame], pl.DataFrame]
BAD_DAY = date(2026, 1, 2)


class CorruptingLake:
    """A real lake, except that rows of one table and day are spoiled before they are written."""

    def __init__(self, lake: Any, table: str, corrupt: Corrupt) -> None:
        self._lake = lake
        self._table = table
        self._corrupt = corrupt

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lake, name)

    def stage(self, spec: TableSpec, day: date | None, frames: Iterable[pl.DataFrame]) -> Staged:
        if (spec.name, day) == (self._table, BAD_DAY):
            frames = [self._corrupt(frame) for frame in frames]
        staged: Staged = self._lake.stage(spec, day, frames)
        return staged


@contextmanager
def corrupting(settings: Settings, table: str, corrupt: Corrupt) -> Iterator[Platform]:
    with open_platform(settings) as platform:
        lake: Any = CorruptingLake(platform.lake, table, corrupt)
        yield replace(platform, lake=lake)


def twice(frame: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([frame, frame])


def nobody(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(entity=pl.lit(None, frame.schema["entity"]))


def a_day_later(column: str) -> Corrupt:
    return lambda frame: frame.with_columns((pl.col(column) + timedelta(days=1)).cast(TIME))


def one_too_long(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col("length") + 1)


def backwards(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col("event_time").list.reverse())


@pytest.mark.parametrize(
    ("table", "check", "corrupt"),
    [
        ("enriched.click", "unique_keys", twice),
        ("enriched.click", "null_entity", nobody),
        ("enriched.click", "in_partition", a_day_later("event_time")),
        ("sequences.feed", "unique_keys", twice),
        ("sequences.feed", "null_entity", nobody),
        ("sequences.feed", "in_partition", a_day_later("as_of")),
        ("sequences.feed", "alignment", one_too_long),
        ("sequences.feed", "order", backwards),
    ],
)
def test_a_check_fails_when_its_guarantee_is_broken(
    project: Project, instance: dg.DagsterInstance, table: str, check: str, corrupt: Corrupt
) -> None:
    definitions = build_definitions(project.settings)
    job = definitions.resolve_job_def("build_feed")
    with corrupting(project.settings, table, corrupt) as platform:
        result = job.execute_in_process(
            instance=instance,
            resources={"platform": platform, "io_manager": dg.mem_io_manager},
            tags=range_tags(START, START + 2 * DAY),
            raise_on_error=False,
        )
    assert not result.success
    key = dg.AssetKey(table.split("."))
    found = {e.check_name: e for e in result.get_asset_check_evaluations() if e.asset_key == key}
    assert not found[check].passed
    assert found[check].metadata["bad_partitions"].value == 1
    by_day = found[check].metadata["violations_by_day"].value
    assert isinstance(by_day, dict)
    assert list(by_day) == [BAD_DAY.isoformat()]


def test_a_failed_check_holds_back_what_is_built_from_the_table(
    project: Project, instance: dg.DagsterInstance
) -> None:
    job = build_definitions(project.settings).resolve_job_def("build_feed")
    with corrupting(project.settings, "enriched.click", twice) as platform:
        result = job.execute_in_process(
            instance=instance,
            resources={"platform": platform, "io_manager": dg.mem_io_manager},
            tags=range_tags(START, START + 2 * DAY),
            raise_on_error=False,
        )
    assert instance.get_materialized_partitions(dg.AssetKey(["sequences", "feed"])) == set()
    assert not result.success


def report(counts: Counts, day: date) -> Report:
    none = dict.fromkeys((*ENRICHED_CHECKS, *SEQUENCE_CHECKS), 0)
    return Report("enriched.click", day, 1, True, counts, counts.admitted, 10, 0.1, none)


def test_conservation_fails_when_a_row_is_in_no_outcome() -> None:
    key = dg.AssetKey(["enriched", "click"])
    kept = report(
        Counts(received=5, admitted=3, filtered={"dwelt": 1}, deleted=1), date(2026, 1, 1)
    )
    lost = report(Counts(received=5, admitted=3, filtered={"dwelt": 1}), date(2026, 1, 2))
    (good,) = check_results(key, ["conservation"], [kept])
    (bad,) = check_results(key, ["conservation"], [kept, lost])
    assert good.passed
    assert not bad.passed
    assert bad.metadata["violations_by_day"].value == {"2026-01-02": 1}
