"""Assemble, by hand: what counts, in which order, what each trim rule cuts, derived columns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from sequence_platform.definition import Dedupe, EventType, Files, Sequence, Sessions, Vector
from sequence_platform.engine.assemble import assemble
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.plan import ENVELOPE, SequencePlan

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
AS_OF = NOON + timedelta(hours=6)
US = timedelta(microseconds=1)
SCHEMA: dict[str, Any] = {
    "id": pl.String,
    "user": pl.String,
    "at": pl.Datetime("us", "UTC"),
    "item": pl.Int64,
}
Row = dict[str, Any]


def event_type(name: str, **more: Any) -> EventType:
    return EventType(
        name=name,
        owner="team:tests",
        schema={**SCHEMA, **more},
        event_id="id",
        entity="user",
        event_time="at",
        batch=Files(f"{name}.parquet"),
    )


VIEW = event_type("view", surface=pl.String)
SAVE = event_type("save", vector=Vector(2))


def compiled(**policy: Any) -> SequencePlan:
    given: dict[str, Any] = {
        "name": "feed",
        "owner": "team:tests",
        "events": [VIEW, SAVE],
        "columns": ["item"],
    }
    return compile_plan([Located("tests.py", Sequence(**(given | policy)))]).sequences["feed"]


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def row(event_id: str, minutes: float, **changes: Any) -> Row:
    time = at(minutes)
    envelope = {
        "entity": "ann",
        "event_id": event_id,
        "event_time": time,
        "arrival_time": time,
        "revision": 0,
    }
    return envelope | {"item": 1} | changes


def run(sequence: SequencePlan, as_of: datetime = AS_OF, **rows: list[Row]) -> pl.DataFrame:
    frames = {}
    for event in sequence.events:
        names = [*ENVELOPE, *(name for name in sequence.carried if name in event.schema)]
        schema = {name: event.schema[name] for name in names}
        given = [{name: r.get(name) for name in names} for r in rows.get(event.name, [])]
        frames[event.name] = pl.DataFrame(given, schema=schema, orient="row")
    return assemble(sequence, frames, as_of)


def ids(frame: pl.DataFrame) -> list[list[str]]:
    return frame["event_id"].to_list()


def cut(frame: pl.DataFrame) -> dict[str, int]:
    return {rule: n for rule, n in frame["trimmed"].to_list()[0].items() if n}


# ---- one row per entity, lists of equal length


def test_events_of_all_types_become_one_row_of_lists_per_entity() -> None:
    rows = run(
        compiled(columns=["item", "surface"]),
        view=[row("v1", 2, surface="home"), row("v2", 0, entity="bob", surface=None)],
        save=[row("s1", 1, item=None)],
    )
    nothing = {"sessions": 0, "dedupe": 0, "quotas": 0, "max_length": 0}
    assert rows.to_dicts() == [
        {
            "entity": "ann",
            "as_of": AS_OF,
            "length": 2,
            "event_type": ["save", "view"],
            "event_time": [at(1), at(2)],
            "event_id": ["s1", "v1"],
            "item": [None, 1],
            "surface": [None, "home"],
            "trimmed": nothing,
        },
        {
            "entity": "bob",
            "as_of": AS_OF,
            "length": 1,
            "event_type": ["view"],
            "event_time": [at(0)],
            "event_id": ["v2"],
            "item": [1],
            "surface": [None],
            "trimmed": nothing,
        },
    ]


def test_no_events_give_no_rows() -> None:
    sequence = compiled(derived={"gap": pl.col("event_time").diff().dt.total_seconds()})
    assert run(sequence).schema == sequence.schema
    assert run(sequence).is_empty()


def test_event_types_without_rows_may_be_left_out() -> None:
    sequence = compiled()
    assert assemble(sequence, {}, AS_OF).is_empty()


def test_an_entity_whose_events_are_all_too_old_gives_no_row() -> None:
    rows = run(
        compiled(max_age=timedelta(hours=6)),
        view=[row("1", -1), row("2", -1, entity="bob")],
        save=[row("3", 0)],
    )
    assert rows.select("entity", "event_id").rows() == [("ann", ["3"])]


def test_vectors_stay_out_of_snapshots_unless_asked_for() -> None:
    assert "vector" not in run(compiled(columns=["vector"]), save=[row("1", 0)]).columns
    rows = run(
        compiled(columns=["vector"], late=()),
        save=[row("1", 0, vector=[0.5, 1.0])],
        view=[row("2", 1)],
    )
    assert rows["vector"].to_list() == [[[0.5, 1.0], None]]


# ---- order


def test_events_of_one_moment_go_by_type_and_then_by_the_bytes_of_their_id() -> None:
    views = [row(event_id, 0) for event_id in ("b", "é", "a", "B", "10", "9", "", "\uffff", "😀")]
    rows = run(compiled(events=[SAVE, VIEW]), view=views, save=[row("z", 0)])
    assert ids(rows) == [["z", "", "10", "9", "B", "a", "b", "é", "\uffff", "😀"]]


def test_the_order_of_types_is_that_of_the_definition() -> None:
    once = [row("1", 0)]
    assert run(compiled(), view=once, save=once)["event_type"].to_list() == [["view", "save"]]
    assert run(compiled(events=[SAVE, VIEW]), view=once, save=once)["event_type"].to_list() == [
        ["save", "view"]
    ]


def test_time_goes_before_type() -> None:
    assert ids(run(compiled(), view=[row("late", 1)], save=[row("early", 0.5)])) == [
        ["early", "late"]
    ]


# ---- which events count


@pytest.mark.parametrize(
    ("time", "counts"),
    [
        (AS_OF, False),
        (AS_OF - US, True),
        (AS_OF - timedelta(hours=2), True),
        (AS_OF - timedelta(hours=2) - US, False),
    ],
)
def test_an_event_counts_from_max_age_up_to_but_without_as_of(time: datetime, counts: bool) -> None:
    rows = run(compiled(max_age=timedelta(hours=2)), view=[row("1", 0, event_time=time)])
    assert rows.height == counts
    assert not counts or cut(rows) == {}


def test_without_max_age_events_count_as_long_as_they_are_kept() -> None:
    kept = timedelta(days=730)
    old = [row("gone", 0, event_time=AS_OF - kept - US), row("kept", 0, event_time=AS_OF - kept)]
    assert ids(run(compiled(max_age=None), view=old)) == [["kept"]]


def test_of_several_rows_of_one_event_the_newest_arrival_counts() -> None:
    views = [row("1", 0, item=5, arrival_time=at(9)), row("1", 3, item=6), row("1", 3, item=6)]
    rows = run(compiled(), view=views)
    assert rows.select("event_time", "item").rows() == [([at(0)], [5])]


def test_a_version_from_the_future_does_not_replace_one_from_the_past() -> None:
    views = [row("1", 0, item=5), row("1", 60, item=6, revision=1)]
    assert run(compiled(), as_of=at(60), view=views)["item"].to_list() == [[5]]
    assert run(compiled(), as_of=at(61), view=views)["item"].to_list() == [[6]]


def test_the_same_id_in_two_event_types_is_two_events() -> None:
    assert ids(run(compiled(), view=[row("1", 0)], save=[row("1", 1)])) == [["1", "1"]]


# ---- trim


def test_max_length_keeps_the_newest_of_the_merged_sequence() -> None:
    rows = run(
        compiled(max_length=2), view=[row("1", 1), row("3", 3)], save=[row("0", 0), row("2", 2)]
    )
    assert ids(rows) == [["2", "3"]]
    assert cut(rows) == {"max_length": 2}


def test_a_quota_keeps_the_newest_of_its_type() -> None:
    rows = run(
        compiled(quotas={"view": 1}),
        view=[row("1", 1), row("3", 3)],
        save=[row("0", 0), row("2", 2)],
    )
    assert ids(rows) == [["0", "2", "3"]]
    assert cut(rows) == {"quotas": 1}


def test_a_session_ends_after_a_longer_pause_of_the_merged_sequence() -> None:
    views, saves = [row("0", 0), row("60", 60)], [row("30", 30), row("91", 91)]
    sessions = Sessions(gap=timedelta(minutes=30), keep=1)
    assert ids(run(compiled(sessions=sessions), view=views)) == [["60"]]
    rows = run(compiled(sessions=sessions), view=views, save=saves)
    assert ids(rows) == [["91"]]
    assert cut(rows) == {"sessions": 3}
    two = run(
        compiled(sessions=Sessions(gap=timedelta(minutes=30), keep=2)), view=views, save=saves
    )
    assert ids(two) == [["0", "30", "60", "91"]]


@pytest.mark.parametrize(
    ("keep", "expected"), [("first", ["1", "3", "4"]), ("last", ["2", "3", "5"])]
)
def test_of_consecutive_repeats_one_stays(keep: Any, expected: list[str]) -> None:
    views = [
        row("1", 1, item=7),
        row("2", 2, item=7),
        row("3", 3, item=8),
        row("4", 4, item=7),
        row("5", 5, item=7),
    ]
    rows = run(compiled(dedupe=Dedupe(by="item", keep=keep)), view=views)
    assert ids(rows) == [expected]
    assert cut(rows) == {"dedupe": 2}


def test_an_event_of_another_type_between_repeats_ends_the_run() -> None:
    views, saves = [row("1", 1), row("3", 3)], [row("2", 2, item=9)]
    assert ids(run(compiled(dedupe=Dedupe(by="item")), view=views, save=saves)) == [["1", "2", "3"]]


def test_repeats_may_be_of_different_types_unless_the_type_is_part_of_the_key() -> None:
    views, saves = [row("1", 1)], [row("2", 2)]
    assert ids(run(compiled(dedupe=Dedupe(by="item")), view=views, save=saves)) == [["2"]]
    assert ids(run(compiled(dedupe=Dedupe(by=["item", "event_type"])), view=views, save=saves)) == [
        ["1", "2"]
    ]


def test_a_key_of_several_columns_agrees_in_all_of_them() -> None:
    pairs = [(1, "b"), (2, "a"), (2, "a"), (1, "a"), (2, "b")]
    views = [row(str(n), n, item=item, surface=surface) for n, (item, surface) in enumerate(pairs)]
    sequence = compiled(
        columns=["item", "surface"], dedupe=Dedupe(by=["item", "surface"], within=timedelta(days=1))
    )
    assert ids(run(sequence, view=views)) == [["0", "2", "3", "4"]]


@pytest.mark.parametrize("within", ["consecutive", timedelta(days=1)])
def test_a_null_in_the_key_repeats_nothing(within: Any) -> None:
    views = [row("1", 1, item=None), row("2", 2, item=None)]
    assert ids(
        run(compiled(dedupe=Dedupe(by=["item", "event_type"], within=within)), view=views)
    ) == [["1", "2"]]


def test_a_column_that_an_event_type_lacks_is_null_and_repeats_nothing() -> None:
    dedupe = Dedupe(by="surface")
    rows = run(compiled(columns=["surface"], dedupe=dedupe), save=[row("1", 1), row("2", 2)])
    assert ids(rows) == [["1", "2"]]


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("last", ["b", "2", "3"]),  # 1 has 2 ten minutes later; 2 has 3 more than ten minutes later
        ("first", ["1", "b", "3"]),
    ],
)
def test_a_repeat_within_a_duration_goes_whatever_stands_between(
    keep: Any, expected: list[str]
) -> None:
    views = [row("1", 0, item=7), row("b", 5, item=8), row("2", 10, item=7), row("3", 20.5, item=7)]
    rows = run(
        compiled(dedupe=Dedupe(by="item", keep=keep, within=timedelta(minutes=10))), view=views
    )
    assert ids(rows) == [expected]


@pytest.mark.parametrize(("keep", "survivor"), [("last", "4"), ("first", "1")])
def test_a_burst_collapses_into_one_however_long_it_lasts(keep: Any, survivor: str) -> None:
    views = [row("1", 0), row("2", 6), row("3", 12), row("4", 18)]
    rows = run(
        compiled(dedupe=Dedupe(by="item", keep=keep, within=timedelta(minutes=10))), view=views
    )
    assert ids(rows) == [[survivor]]


def test_every_rule_sees_what_the_one_before_left() -> None:
    policy = compiled(
        sessions=Sessions(gap=timedelta(minutes=30), keep=1),
        dedupe=Dedupe(by="item", keep="first"),
        quotas={"save": 1},
        max_length=2,
    )
    old = [row("old", 0, item=1)]
    views = [*old, row("100", 100, item=1), row("101", 101, item=1), row("104", 104, item=4)]
    saves = [row("102", 102, item=2), row("103", 103, item=3)]
    rows = run(policy, view=views, save=saves)
    # sessions cuts old, so 100 is the first of its run; dedupe 101, quotas 102, max_length 100.
    assert ids(rows) == [["103", "104"]]
    assert cut(rows) == {"sessions": 1, "dedupe": 1, "quotas": 1, "max_length": 1}


def test_dedupe_measures_between_the_events_that_sessions_left() -> None:
    policy = compiled(
        sessions=Sessions(gap=timedelta(minutes=30), keep=1),
        dedupe=Dedupe(by="item", within=timedelta(minutes=10)),
    )
    rows = run(policy, view=[row("0", 0), row("2", 2), row("100", 100), row("120", 120)])
    assert ids(rows) == [["100", "120"]]


def test_quotas_count_after_dedupe() -> None:
    views = [row("1", 1, item=1), row("2", 2, item=2), row("3", 3, item=2)]
    assert ids(run(compiled(dedupe=Dedupe(by="item"), quotas={"view": 2}), view=views)) == [
        ["1", "3"]
    ]


# ---- derived columns


def test_derived_columns_see_the_final_sequence_of_one_entity() -> None:
    derived = {
        "gap_s": pl.col("event_time").diff().dt.total_seconds(),
        "position": pl.int_range(pl.len()),
        "before": pl.col("item").shift(1),
        "total": pl.col("item").sum(),
        "one": pl.lit(1, pl.Int8),
    }
    views = [
        row("1", 0, item=100),
        row("2", 1, item=2),
        row("3", 3, item=3),
        row("4", 9, item=4, entity="bob"),
    ]
    rows = run(compiled(max_length=2, derived=derived), view=views)
    assert rows.select(*derived).rows() == [
        ([None, 120], [0, 1], [None, 2], [5, 5], [1, 1]),
        ([None], [0], [None], [4], [1]),
    ]


def test_integer_entities_sort_as_numbers() -> None:
    number = EventType(
        name="number",
        owner="team:tests",
        schema={"id": pl.String, "user": pl.Int64, "at": pl.Datetime("us", "UTC")},
        event_id="id",
        entity="user",
        event_time="at",
        batch=Files("number.parquet"),
    )
    sequence = compiled(events=[number], columns=[])
    rows = run(sequence, number=[row("1", 0, entity=entity) for entity in (10, 9, -1, 2**60)])
    assert rows["entity"].to_list() == [-1, 9, 10, 2**60]
