"""A compiled definition in words: the project's own definitions, and what they do not have."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from sequence_platform.catalog import load_plan
from sequence_platform.definition import Dedupe, Log, Sessions, Table
from sequence_platform.errors import FrameSchemaError
from sequence_platform.plan.explain import explain
from sequence_platform_tests.unit.plan.examples import click, compiled, feed, pins, save

ROOT = Path(__file__).parents[3]
SNAPSHOTS = ROOT / "sequence_platform_tests" / "snapshots" / "explain"
PLAN = load_plan(ROOT / "definitions")
NAMES = [*PLAN.enrichments, *PLAN.events, *PLAN.sequences, *PLAN.training]


@pytest.mark.parametrize("name", NAMES)
def test_every_definition_of_the_project_explains_itself(
    name: str, assert_snapshot: Callable[[str, str], None]
) -> None:
    assert_snapshot(f"explain/{name}", explain(PLAN, name))


def test_no_snapshot_is_left_of_a_definition_that_is_gone() -> None:
    assert {file.stem for file in SNAPSHOTS.iterdir()} == set(NAMES)


def lines(name: str, *definitions: object) -> list[str]:
    plan = compiled(*definitions)  # type: ignore[arg-type] # of any kind
    return explain(plan, name).splitlines()


def test_what_shares_a_name_is_explained_together() -> None:
    text = explain(compiled(click(name="pins"), pins()), "pins")
    assert [part.splitlines()[0] for part in text.split("\n\n") if " (version " in part] == [
        "event type pins (version 1, team:feed)",
        "enrichment pins (version 1, team:pins)",
    ]


def test_an_unknown_name_is_answered_with_the_closest() -> None:
    with pytest.raises(FrameSchemaError, match="no definition is called 'clik'") as caught:
        explain(compiled(click(), save()), "clik")
    assert caught.value.expected == "close: 'click'; present: click, save"


def test_an_event_type_of_a_log_only_has_no_history() -> None:
    found = lines("click", click(batch=None, log=Log("clicks")))
    assert "  live from log 'clicks'" in found
    assert not any("history" in line for line in found)


def test_a_table_and_corrections_are_told() -> None:
    source = Table("shop.clicks", time_column="ts", database="warehouse")
    found = lines(
        "click", click(batch=source, revision=pl.col("dwell"), arrival_time=pl.from_epoch("ts"))
    )
    assert "  history from table shop.clicks of warehouse, from 2020-01-01" in found
    assert "  arrival recorded; sealed 6 hours after the day; kept 730 days" in found
    assert "  corrected: the highest revision of an event wins, a deletion removes it" in found
    assert "  (everything)" in found


def keep_long(frame: pl.LazyFrame, above: int) -> pl.LazyFrame:
    return frame.filter(pl.col("dwell") > above)


def test_an_executor_is_named_whatever_it_is() -> None:
    assert any(
        line.startswith("then its own executor, functools.partial")
        for line in lines("click", click(executor=partial(keep_long, above=3)))
    )


def test_trimming_is_told_in_its_order() -> None:
    found = lines(
        "feed",
        feed(
            max_age=None,
            sessions=Sessions(gap=timedelta(seconds=90), keep=3),
            dedupe=Dedupe(by=["pin_id", "event_type"], keep="first", within=timedelta(minutes=1)),
            quotas={"save": 7},
            max_length=20,
        ),
    )
    start = found.index("what stays, in this order:")
    assert found[start + 1 : start + 6] == [
        "  max_age     events of the last 730 days (retention; no max_age)",
        "  sessions    the newest 3; a pause of more than 90 seconds ends one",
        "  dedupe      the oldest of events at most 1 minute apart with equal pin_id, event_type",
        "  quotas      the newest 7 of save",
        "  max_length  the newest 20",
    ]


def test_a_column_says_which_events_have_it() -> None:
    found = lines("feed", feed(events=[click(enrich=[pins()]), save()], columns=["vector"]))
    (line,) = [line for line in found if line.startswith("  vector")]
    assert line.endswith("Vector(2)      of click; else null; late: read when asked for")


def test_an_unversioned_enrichment_and_a_rejecting_one_say_so() -> None:
    text = explain(compiled(pins(available_time=None, on_missing="reject")), "pins")
    assert (
        "looked up by pin_id: one row a key, known at all times; "
        "no row: the event is rejected (missing:pins)" in text
    )
