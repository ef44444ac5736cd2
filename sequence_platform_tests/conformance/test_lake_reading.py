"""What ports.LakeReader promises, on one lake of each kind that is only read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import polars as pl
import pytest

from sequence_platform.plan.plan import KEY_ORDER, Window
from sequence_platform.ports import Lake, TableSpec
from sequence_platform_tests.backends import LakePlace
from sequence_platform_tests.conformance.lakes import (
    CLICKS,
    DAY,
    HOME,
    NEXT_DAY,
    NOON,
    PRICES,
    TOMORROW,
    build,
    click,
    clicks,
    correction,
    corrections,
    day_after,
    days,
    ids,
    read_all,
    snapshot,
    snapshots,
)

HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)
START = Window.of_day(DAY).start
LAST = Window.of_day(day_after(2)).end - TICK

SAVES = TableSpec("enriched.save", CLICKS.columns, sort_by=KEY_ORDER, corrects=True)
NAMED = TableSpec(
    "enriched.named", pl.Schema(dict(CLICKS.columns) | {"entity": pl.String()}), sort_by=KEY_ORDER
)
NAMES = ["Z", "a", "", "é", "B'; DROP", "\U0001f600", "10", "9"]
PRICE_ROWS = pl.DataFrame(
    {
        "key": [1, 2, 2, 3],
        "available_time": [NOON, NOON, TOMORROW, NOON],
        "price": [1.0, 2.0, 2.5, None],
    },
    PRICES.columns,
)


@pytest.fixture(scope="module")
def lake(shared_place: LakePlace) -> Iterator[Lake]:
    """Three days of clicks in whole files; of saves, where corrections have removed a row."""
    with shared_place.open() as lake:
        lake.ensure_tables([CLICKS, SAVES, NAMED, PRICES, HOME])
        first = click(2, "b", START), click(1, "a", START + HOUR), click(2, "a", START)
        build(lake, CLICKS, DAY, clicks(*first))
        build(lake, CLICKS, NEXT_DAY, clicks(click(1, "c", TOMORROW), click(3, "d", TOMORROW)))
        build(lake, CLICKS, day_after(2), clicks(click(1, "e", LAST), click(4, "f", LAST)))
        removed = click(7, "r", NOON)
        build(lake, SAVES, DAY, clicks(click(1, "s", NOON), click(5, "t", NOON), removed))
        removal = corrections(correction(removed, revision=1, removes=True))
        build(lake, SAVES, NEXT_DAY, clicks(click(2, "u", TOMORROW)), corrected_by=removal)
        build(lake, NAMED, DAY, clicks(*(click(n, n, NOON) for n in NAMES), spec=NAMED))
        build(lake, PRICES, None, PRICE_ROWS)
        both = snapshot(1, DAY, NOON - HOUR, NOON), snapshot(2, DAY, NOON)
        build(lake, HOME, DAY, snapshots(*both))
        build(lake, HOME, NEXT_DAY, snapshots(snapshot(1, NEXT_DAY, NOON, TOMORROW)))
        build(lake, HOME, day_after(5), snapshots(snapshot(2, day_after(5), NOON)))
        yield lake


def test_events_come_with_just_the_columns_asked_for(lake: Lake) -> None:
    found = lake.read_events(CLICKS, ["surface", "event_id", "entity"], days(0, 3))
    assert found.columns == ["surface", "event_id", "entity"]
    rows = found.select("entity", "event_id").sort("entity", "event_id").rows()
    assert rows == [(1, "a"), (1, "c"), (1, "e"), (2, "a"), (2, "b"), (3, "d"), (4, "f")]


@pytest.mark.parametrize("spec", [CLICKS, SAVES], ids=["whole-files", "rows-removed"])
def test_events_come_in_the_types_of_the_platform(lake: Lake, spec: TableSpec) -> None:
    names = spec.columns.names()
    assert lake.read_events(spec, names, days(0, 1)).schema == spec.columns
    assert lake.read_events(spec, names, days(50, 51)).schema == spec.columns
    assert read_all(lake, spec)["vector"][0].to_list() == [1.0, 2.0, 3.0]


def test_events_that_corrections_removed_are_not_read(lake: Lake) -> None:
    assert ids(lake.read_events(SAVES, ["event_id"], days(0, 1))) == ["s", "t"]
    assert ids(read_all(lake, SAVES)) == ["s", "t", "u"]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (days(0, 1), ["a", "a", "b"]),
        (days(1, 3), ["c", "d", "e", "f"]),
        (Window(START + TICK, days(0, 1).end), ["a"]),
        (Window(START, START + TICK), ["a", "b"]),
        (Window(TOMORROW, TOMORROW), []),
        (Window(LAST, LAST + TICK), ["e", "f"]),
        (Window(days(2, 3).start, LAST), []),
        (days(0, 0), []),
    ],
)
def test_window_holds_its_start_and_not_its_end(
    lake: Lake, window: Window, expected: list[str]
) -> None:
    assert ids(lake.read_events(CLICKS, ["event_id"], window)) == expected


@pytest.mark.parametrize(
    ("entities", "expected"),
    [([3, 1, 99, 1], ["a", "c", "d", "e"]), ([99], []), ([], []), ([None, 4], ["f"])],
)
def test_events_are_of_the_entities_asked_for(
    lake: Lake, entities: list[int | None], expected: list[str]
) -> None:
    given = pl.Series(entities, dtype=pl.Int64)
    assert ids(lake.read_events(CLICKS, ["event_id"], days(0, 3), entities=given)) == expected


def test_events_are_of_a_closed_range_of_entities(lake: Lake) -> None:
    found = lake.read_events(CLICKS, ["event_id"], days(0, 3), between=(2, 3))
    assert ids(found) == ["a", "b", "d"]


def test_events_are_of_the_entities_asked_for_within_a_range(lake: Lake) -> None:
    given = pl.Series([1, 2, 4])
    found = lake.read_events(CLICKS, ["event_id"], days(0, 3), entities=given, between=(2, 9))
    assert ids(found) == ["a", "b", "f"]


def test_text_entities_are_ranged_by_their_bytes(lake: Lake) -> None:
    assert ids(read_all(lake, NAMED)) == ["", "10", "9", "B'; DROP", "Z", "a", "é", "\U0001f600"]
    between = lake.read_events(NAMED, ["event_id"], days(0, 1), between=("9", "a"))
    assert ids(between) == ["9", "B'; DROP", "Z", "a"]
    given = pl.Series(["é", "B'; DROP"])
    some = lake.read_events(NAMED, ["event_id"], days(0, 1), entities=given)
    assert ids(some) == ["B'; DROP", "é"]


def test_entity_counts_are_of_who_was_active_over_all_tables(lake: Lake) -> None:
    found = lake.entity_counts([CLICKS, SAVES], days(0, 3), active=days(1, 2))
    assert found.rows() == [(1, 4), (2, 3), (3, 1)]
    assert found.schema == {"entity": pl.Int64, "rows": pl.Int64}
    assert lake.entity_counts([SAVES], days(0, 3), active=days(2, 3)).is_empty()


def test_lookup_returns_all_versions_of_the_keys_sorted(lake: Lake) -> None:
    found = lake.read_lookup(PRICES, pl.Series([3, 2, 2, 8]))
    assert found.rows() == [(2, NOON, 2.0), (2, TOMORROW, 2.5), (3, NOON, None)]
    assert found.schema == PRICES.columns
    assert lake.read_lookup(PRICES, pl.Series([9])).schema == PRICES.columns


def test_a_whole_enrichment_is_read_sorted(lake: Lake) -> None:
    found = lake.read_whole(PRICES)
    assert found.schema == PRICES.columns
    assert found.equals(found.sort("key", "available_time"))
    assert found.filter(pl.col("key") < 4).equals(lake.read_lookup(PRICES, pl.Series([1, 2, 3])))


def test_snapshots_are_each_entitys_newest_until_a_day(lake: Lake) -> None:
    found = lake.read_snapshots(HOME, ["entity", "event_id"], NEXT_DAY)
    assert found.rows() == [(NEXT_DAY, 1, ["01-12", "02-12"]), (DAY, 2, ["01-12"])]
    last = lake.read_snapshots(HOME, ["length"], day_after(9), entities=pl.Series([2, 7]))
    assert last.rows() == [(day_after(5), 1)]
    none = lake.read_snapshots(HOME, HOME.columns.names(), day_after(-1))
    assert none.schema == {"day": pl.Date()} | dict(HOME.columns)
    assert none.is_empty()


def test_ledger_can_be_read_by_table_and_days(lake: Lake) -> None:
    assert lake.ledger()["table_name"].unique().sort().to_list() == [
        "enriched.click",
        "enriched.named",
        "enriched.save",
        "enrichments.price",
        "sequences.home",
    ]
    assert lake.ledger(CLICKS.name)["day"].to_list() == [DAY, NEXT_DAY, day_after(2)]
    assert lake.ledger(CLICKS.name, (NEXT_DAY, day_after(2)))["day"].to_list() == [NEXT_DAY]
    assert lake.ledger(PRICES.name)["day"].to_list() == [None]
    assert lake.ledger("enriched.none").is_empty()


def test_sound_partitions_break_no_guarantee(lake: Lake) -> None:
    of_events = {"unique_keys": 0, "null_entity": 0, "in_partition": 0}
    assert lake.violations(CLICKS, DAY) == of_events
    assert lake.violations(HOME, DAY) == of_events | {"alignment": 0, "order": 0}
    assert lake.violations(PRICES, None) == {"unique_keys": 0}
