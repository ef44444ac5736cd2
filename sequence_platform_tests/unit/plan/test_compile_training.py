"""What a training set compiles to, and what it is refused for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from sequence_platform.definition import Dedupe, Files, TrainingSet
from sequence_platform.plan.plan import TIME, TrainingPlan
from sequence_platform_tests.unit.plan.examples import compiled, feed, problem, problems

SCHEMA = {"label_id": pl.Int64, "user_id": pl.Int64, "asked_at": pl.Datetime("ms")}
FEED = feed()


def labels(**changes: Any) -> TrainingSet:
    given: dict[str, Any] = {
        "name": "next_pin",
        "owner": "team:feed",
        "sequence": FEED,
        "labels": Files("labels/*.parquet"),
        "schema": SCHEMA,
        "request_time": "asked_at",
    }
    return TrainingSet(**{**given, **changes})


def _first(case: object) -> str | None:
    """Name a case by the field it changes; an expression's text has an address in it."""
    return next(iter(case)) if isinstance(case, dict) else None


def plan_of(**changes: Any) -> TrainingPlan:
    return compiled(labels(**changes)).training["next_pin"]


def test_labels_say_whose_sequence_and_as_of_when() -> None:
    plan = plan_of()
    types = pl.LazyFrame(schema=plan.raw_schema).select(plan.entity, plan.request_time)
    assert list(types.collect_schema().values()) == [pl.Int64(), TIME]
    assert plan.columns == tuple(plan.sequence.columns)


def test_the_store_holds_what_is_asked_for_and_what_rules_need() -> None:
    ruled = feed(
        columns=["dwell", "pin_id"],
        dedupe=Dedupe(by=["pin_id", "event_type"]),
        derived={"id": pl.col("event_id").str.len_chars()},
    )
    assert plan_of(sequence=ruled, columns=["dwell"]).columns == ("dwell", "pin_id", "event_id")
    assert plan_of(sequence=feed(columns=["dwell", "pin_id"]), columns=["dwell"]).columns == (
        "dwell",
    )


def test_a_training_set_changes_no_fingerprint_of_others() -> None:
    alone, beside = compiled(FEED), compiled(labels())
    assert beside.fingerprint == alone.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"delay": timedelta(seconds=1)},
        {"known": "now"},
        {"columns": []},
        {"request_time": pl.col("asked_at").dt.offset_by("1h")},
        {"version": 2},
    ],
    ids=_first,
)
def test_what_decides_results_changes_the_fingerprint(change: dict[str, Any]) -> None:
    assert plan_of(**change).fingerprint != plan_of().fingerprint
    assert plan_of(description="other", owner="team:other").fingerprint == plan_of().fingerprint


@pytest.mark.parametrize(
    ("change", "field", "found"),
    [
        ({"entity": "user"}, "entity", "column 'user'"),
        ({"entity": pl.col("user_id").cast(pl.String)}, "entity", "type String"),
        ({"request_time": "label_id"}, "request_time", "type Int64"),
        ({"request_time": pl.col("asked_at").max()}, "request_time", "several rows"),
        ({"columns": ["pin"]}, "columns", "'pin'"),
        ({"delay": timedelta(seconds=-1)}, "delay", "-1 day"),
        ({"labels": Files("labels")}, "labels", "labels"),
        ({"schema": {**SCHEMA, "slot": pl.Int64}}, "schema", "'slot'"),
        ({"schema": {**SCHEMA, "event_time": TIME}, "lists": True}, "schema", "'event_time'"),
        ({"known": "later"}, "known", "'later'"),
        ({"owner": "me"}, "owner", "'me'"),
    ],
    ids=_first,
)
def test_what_cannot_be_compiled_is_refused(change: dict[str, Any], field: str, found: str) -> None:
    told = problem(labels(**change))
    assert told.definition == "training set 'next_pin'"
    assert told.field == field
    assert found in told.found


def test_all_problems_of_a_training_set_come_at_once() -> None:
    told = problems(labels(entity="user", request_time="when", columns=["pin"]))
    assert {each.field for each in told} == {"entity", "request_time", "columns"}


def test_names_are_told_apart_by_kind() -> None:
    assert set(compiled(labels(name="feed")).training) == {"feed"}
    told = problem(labels(), labels())
    assert (told.field, told.found) == ("name", "'next_pin'")
