"""What a change means for readers, and what it makes necessary."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

from sequence_platform.definition import Dedupe, Definition, Files, Log
from sequence_platform.plan.diff import Change, Impact, diff
from sequence_platform.plan.manifest import build_manifest
from sequence_platform_tests.unit.plan.examples import click, compiled, feed, pins, save

METADATA, COMPATIBLE, BREAKING = Impact.METADATA, Impact.COMPATIBLE, Impact.BREAKING


def changes(old: Definition, new: Definition) -> list[Change]:
    return diff(build_manifest(compiled(old)), build_manifest(compiled(new)))


def of_click(old: Any, new: Any) -> list[Change]:
    found = changes(click(**old), click(**new))
    assert all(change.definition == "event type 'click'" for change in found)
    return found


def of_feed(old: Any, new: Any) -> list[tuple[str, Impact, str]]:
    """Return the changes of a sequence over the same events."""
    events = [click(), save()]
    found = changes(feed(**({"events": events} | old)), feed(**({"events": events} | new)))
    assert {change.definition for change in found} <= {"sequence 'feed'"}
    return [(change.field, change.impact, change.text) for change in found]


def test_nothing_changed_between_equal_definitions() -> None:
    assert changes(feed(), feed()) == []


def test_against_nothing_everything_is_added() -> None:
    found = diff(None, build_manifest(compiled(feed(events=[click(enrich=[pins()])]))))
    assert [str(change) for change in found] == [
        "compatible enrichment 'pins', definition: added; backfill enrichments.pins",
        "compatible event type 'click', definition: added; backfill enriched.click",
        "compatible sequence 'feed', definition: added; backfill sequences.feed",
    ]


def test_a_definition_that_goes_breaks_its_readers() -> None:
    old = build_manifest(compiled(click(), save()))
    (change,) = diff(old, build_manifest(compiled(click())))
    assert change == Change("event type 'save'", "definition", BREAKING, "removed")


@pytest.mark.parametrize(
    ("old", "new", "field", "text"),
    [
        ({}, {"owner": "team:x"}, "owner", "'team:feed' -> 'team:x'"),
        ({}, {"description": "New."}, "description", "'' -> 'New.'"),
        ({}, {"log": Log("click")}, "log", "None -> 'click'"),
        ({}, {"retention": timedelta(days=800)}, "retention_s", "63072000.0 -> 69120000.0"),
        ({}, {"allowed_lateness": timedelta(0)}, "allowed_lateness_s", "21600.0 -> 0.0"),
        ({}, {"start": date(2021, 1, 1)}, "start", "2020-01-01 -> 2021-01-01"),
    ],
)
def test_what_changes_no_row_is_metadata(old: Any, new: Any, field: str, text: str) -> None:
    assert of_click(old, new) == [Change("event type 'click'", field, METADATA, text)]


def test_an_earlier_start_makes_a_backfill_necessary() -> None:
    (change,) = of_click({"start": date(2021, 1, 1)}, {"start": date(2020, 5, 1)})
    assert (change.impact, change.backfill) == (METADATA, "enriched.click")


DWELL = pl.col("dwell")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            {},
            {"columns": {"x": DWELL + 1}},
            [("schema", COMPATIBLE, "column 'x' added")],
        ),
        (
            {"columns": {"x": DWELL + 1}},
            {},
            [("columns", BREAKING, "'x' removed"), ("schema", BREAKING, "column 'x' removed")],
        ),
        (
            {"columns": {"x": DWELL + 1}},
            {"columns": {"x": DWELL + 2}},
            [("columns", BREAKING, "'x' means something else")],
        ),
        (
            {"columns": {"x": DWELL + 1}},
            {"columns": {"x": DWELL / 2}},
            [
                ("columns", BREAKING, "'x' means something else"),
                ("schema", BREAKING, "column 'x' is Float64, was Int32"),
            ],
        ),
        (
            {},
            {"batch": Files("other/{day}.parquet")},
            [("source", COMPATIBLE, "the source changed")],
        ),
        (
            {},
            {"schema": {**click().schema, "more": pl.Int64}},
            [
                ("raw_schema", COMPATIBLE, "the source changed"),
                ("schema", COMPATIBLE, "column 'more' added"),
            ],
        ),
        ({}, {"where": DWELL > 0}, [("where", BREAKING, "the meaning changed")]),
        (
            {"where": DWELL > 0},
            {"where": DWELL > 1},
            [("where", BREAKING, "the meaning changed")],
        ),
        ({}, {"executor": lambda f: f}, [("executor", BREAKING, "the meaning changed")]),
        ({}, {"revision": DWELL}, [("envelope", BREAKING, "'revision' changed")]),
        (
            {},
            {"enrich": [pins(columns=["topic"])]},
            [
                ("enrich", COMPATIBLE, "a lookup was added"),
                ("schema", COMPATIBLE, "column 'topic' added"),
            ],
        ),
    ],
)
def test_changes_of_rows_are_judged_by_what_readers_see(
    old: Any, new: Any, expected: list[tuple[str, Impact, str]]
) -> None:
    found = [c for c in changes(click(**old), click(**new)) if c.definition.startswith("event")]
    assert [(change.field, change.impact, change.text) for change in found] == expected
    assert {change.backfill for change in found} == {"enriched.click"}


def test_a_raised_version_makes_any_change_compatible_in_a_table_of_its_own() -> None:
    (change,) = of_click({}, {"version": 2, "where": DWELL > 0, "entity": "pin_id"})
    assert (change.field, change.impact) == ("version", COMPATIBLE)
    assert (change.text, change.backfill) == ("1 -> 2: a table of its own", "enriched.click_v2")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, {"max_length": 501}, [("trim", COMPATIBLE, "max_length 500 -> 501")]),
        ({}, {"max_length": 499}, [("trim", BREAKING, "max_length 500 -> 499")]),
        (
            {},
            {"max_age": timedelta(days=31)},
            [("trim", COMPATIBLE, "max_age 2592000.0 -> 2678400.0")],
        ),
        (
            {},
            {"max_age": timedelta(days=29)},
            [("trim", BREAKING, "max_age 2592000.0 -> 2505600.0")],
        ),
        ({}, {"quotas": {"click": 3}}, [("trim", BREAKING, "quotas {} -> {'click': 3}")]),
        (
            {},
            {"dedupe": Dedupe(by="pin_id")},
            [
                (
                    "trim",
                    BREAKING,
                    "dedupe None -> {'by': ['pin_id'], 'keep': 'last', 'within': 'consecutive'}",
                )
            ],
        ),
        ({}, {"columns": ["pin_id", "dwell"]}, [("columns", COMPATIBLE, "column 'dwell' added")]),
        ({}, {"columns": []}, [("columns", BREAKING, "column 'pin_id' removed")]),
        (
            {},
            {"derived": {"n": pl.len()}},
            [("derived_schema", COMPATIBLE, "column 'n' added")],
        ),
        (
            {"derived": {"n": pl.len()}},
            {"derived": {"n": pl.len() + 1}},
            [("derived", BREAKING, "'n' means something else")],
        ),
        ({}, {"late": ["pin_id"]}, [("late", BREAKING, "'pin_id' leaves the snapshots")]),
        ({"late": ["pin_id"]}, {}, [("late", COMPATIBLE, "'pin_id' joins the snapshots")]),
    ],
)
def test_changes_of_sequences_are_judged_by_what_readers_see(
    old: Any, new: Any, expected: list[tuple[str, Impact, str]]
) -> None:
    assert of_feed(old, new) == expected


def test_request_columns_and_context_need_no_backfill() -> None:
    one, two = {"request": {"n": pl.lit(1)}}, {"request": {"n": pl.lit(2)}}
    assert of_feed({}, one) == [("request", COMPATIBLE, "'n' added")]
    assert of_feed(one, two) == [("request", BREAKING, "'n' means something else")]
    assert of_feed(one, {}) == [("request", BREAKING, "'n' removed")]
    with_context = {"context": {"shown": pl.Int64}}
    assert of_feed({}, with_context) == [("context", COMPATIBLE, "column 'shown' added")]
    (change,) = changes(feed(), feed(request={"n": pl.lit(1)}))
    assert change.backfill == ""


def test_other_event_types_break_and_changed_ones_are_followed() -> None:
    both = [click(), save()]
    (order,) = changes(feed(events=both), feed(events=both[::-1]))
    assert (order.impact, order.text) == (BREAKING, "click, save -> save, click")
    found = changes(feed(events=both), feed(events=[click(where=DWELL > 0), save()]))
    assert [(c.definition, c.field, c.impact, c.text, c.backfill) for c in found] == [
        ("event type 'click'", "where", BREAKING, "the meaning changed", "enriched.click"),
        (
            "sequence 'feed'",
            "events",
            COMPATIBLE,
            "follows the change of 'click'",
            "sequences.feed",
        ),
    ]


def test_a_change_of_an_enrichment_reaches_events_and_sequences() -> None:
    def project(**fields: Any) -> Definition:
        return feed(events=[click(enrich=[pins(**fields)])], columns=["topic"])

    lower = pl.col("topic").str.to_lowercase()
    before = {"columns": {"topic": pl.col("topic")}}
    found = changes(project(**before), project(columns={"topic": lower}))
    assert [(c.definition, c.impact, c.text, c.backfill) for c in found] == [
        (
            "enrichment 'pins'",
            BREAKING,
            "'topic' means something else",
            "enrichments.pins",
        ),
        (
            "event type 'click'",
            COMPATIBLE,
            "follows the change of an enrichment",
            "enriched.click",
        ),
        ("sequence 'feed'", COMPATIBLE, "follows the change of 'click'", "sequences.feed"),
    ]


def test_a_lookup_removed_or_done_in_another_way_breaks() -> None:
    text = "a lookup was removed, or looks up or treats missing rows in another way"
    old = click(enrich=[pins()])
    for new in (click(enrich=[pins().by("ts")]), click(enrich=[pins(on_missing="reject")])):
        (change,) = changes(old, new)
        assert (change.definition, change.field, change.impact, change.text) == (
            "event type 'click'",
            "enrich",
            BREAKING,
            text,
        )
    gone = [c for c in changes(old, click()) if c.field == "enrich"]
    assert [change.text for change in gone] == [text]
