"""Resolve, by hand: every tie-break in turn, what drops a key, and where the counts go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from sequence_platform.definition import EventType, Files
from sequence_platform.engine.resolve import Resolved, resolve, without_beaten
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.plan import ENVELOPE, EventPlan
from sequence_platform_tests.strategies import comparable

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
Row = dict[str, Any]
CLICK = EventType(
    name="click",
    owner="team:tests",
    schema={
        "id": pl.String,
        "user": pl.String,
        "at": pl.Datetime("us", "UTC"),
        "a": pl.Int64,
        "b": pl.Float64,
    },
    event_id="id",
    entity="user",
    event_time="at",
    batch=Files("clicks.parquet"),
)
EVENT = compile_plan([Located("tests.py", CLICK)]).events["click"]


def row(**changes: Any) -> Row:
    envelope = {
        "entity": "ann",
        "event_id": "1",
        "event_time": NOON,
        "arrival_time": NOON,
        "revision": 0,
    }
    return envelope | {"a": 1, "b": 1.0} | changes


def removal(rule: str, **changes: Any) -> Row:
    return {name: value for name, value in row(**changes).items() if name in ENVELOPE} | {
        "rule": rule
    }


def run(*rows: Row, event: EventPlan = EVENT) -> Resolved:
    schema = {name: event.schema[name] for name in ENVELOPE} | {"rule": pl.String()}
    admitted = pl.DataFrame([r for r in rows if "rule" not in r], schema=event.schema)
    return resolve(event, admitted, pl.DataFrame([r for r in rows if "rule" in r], schema=schema))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (row(revision=1), row(revision=0, arrival_time=NOON + HOUR)),  # revision before arrival
        (row(arrival_time=NOON + HOUR), row(event_time=NOON + HOUR)),  # arrival before event_time
        (row(event_time=NOON + HOUR), row(a=9)),  # event_time before payload
        (row(a=2, b=0.0), row(a=1, b=9.0)),  # payload in the order of the schema
        (row(a=None, b=2.0), row(a=None, b=1.0)),
        (row(a=-5), row(a=None)),  # null is smallest
        (row(b=float("nan")), row(b=float("inf"))),  # NaN is the largest number
    ],
)
def test_the_better_row_wins_in_either_order(better: Row, worse: Row, turned: bool) -> None:
    result = run(*((worse, better) if turned else (better, worse)))
    assert comparable(result.rows.to_dicts()) == comparable([better])
    assert result.superseded == 1


@pytest.mark.parametrize(
    ("removed", "kept"),
    [
        (removal("delete"), row(event_time=NOON + HOUR)),  # a removal before a later event_time
        (removal("delete", revision=2), row(revision=1, arrival_time=NOON + HOUR)),
        (removal("cheap", arrival_time=NOON + HOUR), row()),
    ],
)
def test_a_removal_that_stands_higher_drops_the_event(removed: Row, kept: Row) -> None:
    result = run(kept, removed)
    assert result.rows.is_empty()
    assert (result.superseded, result.deleted + sum(result.filtered.values())) == (1, 1)


def test_an_event_comes_back_with_a_newer_version_after_a_delete() -> None:
    result = run(removal("delete"), row(arrival_time=NOON + HOUR, a=5))
    assert result.rows["a"].to_list() == [5]
    assert (result.superseded, result.deleted) == (1, 0)


def test_a_delete_of_an_older_revision_changes_nothing() -> None:
    result = run(removal("delete", revision=1, arrival_time=NOON + HOUR), row(revision=2))
    assert (result.rows.height, result.superseded, result.deleted) == (1, 1, 0)


def test_exact_copies_leave_one() -> None:
    result = run(row(), row(), row())
    assert (result.rows.to_dicts(), result.superseded) == ([row()], 2)


def test_the_same_id_of_another_entity_is_another_event() -> None:
    assert run(row(), row(entity="bob")).rows["entity"].to_list() == ["ann", "bob"]


def test_removed_events_are_counted_by_rule() -> None:
    result = run(
        *(
            removal("cheap", event_id="1"),
            removal("cheap", event_id="2"),
            removal("bot", event_id="3"),
        ),
        *(removal("delete", event_id="4"), removal("delete", event_id="4"), row(event_id="5")),
    )
    assert result.filtered == {"cheap": 2, "bot": 1}
    assert (result.deleted, result.superseded, result.rows.height) == (1, 1, 1)


def test_corrections_are_winners_with_a_revision_and_deletes() -> None:
    result = run(
        row(event_id="plain"),
        row(event_id="revised", revision=3),
        removal("delete", event_id="deleted"),
        removal("cheap", event_id="filtered"),
        removal("cheap", event_id="revised and filtered", revision=1),
        *(removal("delete", event_id="beaten"), row(event_id="beaten", arrival_time=NOON + HOUR)),
    )
    found = result.corrections.select("event_id", "revision", "removes").sort("event_id").rows()
    assert found == [("deleted", 0, True), ("revised", 3, False), ("revised and filtered", 1, True)]


def test_rows_come_sorted_by_entity_time_and_bytes_of_the_id() -> None:
    rows = [
        row(entity="bob", event_id="1"),
        row(entity="ann", event_id="z", event_time=NOON + HOUR),
        row(entity="ann", event_id="é"),
        row(entity="ann", event_id="z2"),
        row(entity="ann", event_id="Z"),
    ]
    assert run(*rows).rows.select("entity", "event_id").rows() == [
        ("ann", "Z"),
        ("ann", "z2"),
        ("ann", "é"),
        ("ann", "z"),
        ("bob", "1"),
    ]


def test_nothing_resolves_to_nothing() -> None:
    result = run()
    assert result.rows.schema == EVENT.schema
    assert (result.rows.height, result.superseded, result.deleted, dict(result.filtered)) == (
        0,
        0,
        0,
        {},
    )


def test_payload_columns_may_have_any_names_and_types() -> None:
    names = (
        "row",
        "removes",
        "several",
        "match",
        "at2",
        "type",
        "number",
        "__row",
        "key",
        "winner",
        "n",
        "count",
    )
    schema = {
        **CLICK.schema,
        **dict.fromkeys(names, pl.Int64),
        "tags": pl.List(pl.String),
        "point": pl.Struct({"x": pl.Float64, "y": pl.Int8}),
        "vector": pl.Array(pl.Float32, 2),
        "blob": pl.Binary,
        "is_new": pl.Boolean,
        "day_of": pl.Date,
    }
    odd = EventType(
        name="odd",
        owner="team:tests",
        schema=schema,
        event_id="id",
        entity="user",
        event_time="at",
        batch=Files("odd.parquet"),
    )
    plan = compile_plan([Located("tests.py", odd)]).events["odd"]
    usual = row(**dict.fromkeys(names, 1))
    larger = {
        "tags": ["b"],
        "point": {"x": 1.0, "y": 1},
        "vector": [1.0, 2.0],
        "blob": b"b",
        "is_new": True,
    }
    smaller = {
        "tags": ["a", "z"],
        "point": {"x": 1.0, "y": 1},
        "vector": [9.0, 9.0],
        "blob": b"a",
        "is_new": True,
    }
    today = {"day_of": NOON.date()}
    result = run(usual | smaller | today, usual | larger | today, event=plan)
    assert result.rows["tags"].to_list() == [["b"]]


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("correction", "kept"),
    [
        (row(event_time=NOON + DAY), [0]),  # of the first revision: no correction
        (row(event_time=NOON + DAY, revision=1), []),
        (row(event_time=NOON + HOUR, revision=1), [0]),  # of its own day: resolve has seen it
        (removal("delete", event_time=NOON + DAY), []),
        (removal("delete", event_time=NOON + DAY, arrival_time=NOON - HOUR), [0]),  # older
        (removal("where", event_time=NOON + DAY), [0]),  # a filtered row of the first revision
    ],
)
def test_corrections_of_other_days_beat_a_row(correction: Row, kept: list[int]) -> None:
    rows = run(row()).rows
    left = without_beaten(rows, run(correction).corrections)
    assert left["revision"].to_list() == kept
