"""Every promise of ports.Lake, kept by every adapter in the register."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from sequence_platform.errors import ConflictError, FrameSchemaError, StateMismatchError, StoreError
from sequence_platform.plan.plan import KEY_ORDER, TIME
from sequence_platform.ports import Counts, Lake, TableSpec
from sequence_platform_tests.backends import LakePlace
from sequence_platform_tests.conformance.lakes import (
    CLICKS,
    DAY,
    NOON,
    build,
    click,
    clicks,
    correction,
    corrections,
    day_after,
    days,
    ids,
    letters,
    read_all,
    snapshot,
    snapshots,
)

HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)
NEXT_DAY = day_after(1)
TOMORROW = NOON + timedelta(days=1)


def parquet_files(place: LakePlace, spec: TableSpec | None = None) -> set[Path]:
    folder = Path(place.data_path, *(spec.name.split(".") if spec else ()))
    return set(folder.rglob("*.parquet"))


def ledger_row(lake: Lake, spec: TableSpec, day: date | None) -> dict[str, Any]:
    found = lake.ledger(spec.name).filter(pl.col("day").eq_missing(pl.lit(day, pl.Date)))
    return found.row(0, named=True)


# Tables


def test_tables_are_made_once_and_making_them_again_keeps_what_they_hold(
    lake: Lake, table: TableSpec, home: TableSpec, prices: TableSpec
) -> None:
    lake.ensure_tables([table, prices, home])
    build(lake, table, DAY, clicks(click(1, "a", NOON)))
    lake.ensure_tables([table, prices, home])
    assert ids(read_all(lake, table)) == ["a"]


def test_new_column_is_null_in_partitions_built_before(lake: Lake, table: TableSpec) -> None:
    build(lake, table, DAY, clicks(click(1, "a", NOON)))
    wider = TableSpec(
        table.name, pl.Schema(dict(table.columns) | {"price": pl.Float64()}), sort_by=KEY_ORDER
    )
    lake.ensure_tables([wider])
    build(lake, wider, NEXT_DAY, clicks(click(1, "b", TOMORROW, price=2.5), spec=wider))
    assert read_all(lake, wider).select("event_id", "price").rows() == [("a", None), ("b", 2.5)]


def test_column_of_another_type_is_refused_and_named(lake: Lake, table: TableSpec) -> None:
    retyped = TableSpec(
        table.name, pl.Schema(dict(table.columns) | {"surface": pl.Int64()}), sort_by=KEY_ORDER
    )
    with pytest.raises(StateMismatchError) as caught:
        lake.ensure_tables([retyped])
    assert "enriched.click" in str(caught.value)
    assert "surface" in caught.value.found
    assert caught.value.next_step


def test_type_that_the_lake_cannot_hold_is_refused_and_named(lake: Lake) -> None:
    for dtype in (pl.Duration("us"), pl.Null(), pl.Int128(), pl.List(pl.Duration("ms"))):
        spec = TableSpec("enriched.odd", pl.Schema({"entity": pl.Int64(), "odd": dtype}))
        with pytest.raises(FrameSchemaError) as caught:
            lake.ensure_tables([spec])
        assert caught.value.where == "enriched.odd.odd"


def test_values_of_every_type_come_back_as_they_were(lake: Lake, table: TableSpec) -> None:
    values: dict[str, tuple[pl.DataType, list[Any]]] = {
        "i8": (pl.Int8(), [-128, 127, None]),
        "u64": (pl.UInt64(), [0, 2**64 - 1, None]),
        "f32": (pl.Float32(), [float("inf"), -0.0, None]),
        "f64": (pl.Float64(), [float("nan"), 1e-300, None]),
        "flag": (pl.Boolean(), [True, False, None]),
        "text": (pl.String(), ["", "né\x00 \U0001f600 'quoted'", None]),
        "bytes": (pl.Binary(), [b"", b"\x00\xff", None]),
        "kind": (pl.Enum(["a", "b"]), ["b", "a", None]),
        "on": (pl.Date(), [date(1, 1, 1), date(2026, 2, 28), None]),
        "at": (TIME, [datetime(1969, 12, 31, 23, 59, 59, 999999, UTC), NOON + TICK, None]),
        "naive": (pl.Datetime("us"), [datetime(2026, 1, 1), datetime(1970, 1, 1), None]),  # noqa: DTZ001 - the case
        "cost": (pl.Decimal(18, 4), [Decimal("-12345678901234.5678"), Decimal(0), None]),
        "tags": (pl.List(pl.String()), [[], ["x", None, "y"], None]),
        "vector": (pl.Array(pl.Float32(), 2), [[1.5, -2.5], [0.0, 3e38], None]),
        "vectors": (pl.List(pl.Array(pl.Float32(), 2)), [[[1.0, 2.0], None], [], None]),
        "nested": (
            pl.Struct({"a": pl.Int32(), "b": pl.List(pl.Int8())}),
            [{"a": 1, "b": [2]}, {"a": None, "b": []}, None],
        ),
    }
    schema = {name: table.columns[name] for name in ("entity", "event_id", "event_time")}
    spec = TableSpec(
        "enriched.all_types",
        pl.Schema(schema | {n: t for n, (t, _) in values.items()}),
        sort_by=KEY_ORDER,
    )
    frame = pl.DataFrame(
        {"entity": [1, 2, 3], "event_id": ["a", "b", "c"], "event_time": [NOON] * 3}
        | {n: v for n, (_, v) in values.items()},
        schema=spec.columns,
    )
    lake.ensure_tables([spec])
    build(lake, spec, DAY, frame)
    assert_frame_equal(read_all(lake, spec), frame)


# Staging and committing


def test_staged_rows_are_invisible_until_they_are_committed(lake: Lake, table: TableSpec) -> None:
    lake.stage(table, DAY, [clicks(click(1, "a", NOON))])
    assert read_all(lake, table).is_empty()
    assert lake.ledger(table.name).is_empty()


def test_frame_with_other_columns_than_its_table_is_refused(
    lake: Lake, table: TableSpec, shared_place: LakePlace
) -> None:
    with pytest.raises(FrameSchemaError) as caught:
        lake.stage(table, DAY, [clicks(click(1, "a", NOON)).rename({"surface": "place"})])
    assert "surface" in caught.value.found
    assert not parquet_files(shared_place, table)


def test_commit_replaces_its_partition_and_no_other(lake: Lake, table: TableSpec) -> None:
    build(lake, table, DAY, clicks(click(1, "a", NOON), click(2, "b", NOON)))
    build(lake, table, NEXT_DAY, clicks(click(1, "c", TOMORROW)))
    done = build(lake, table, DAY, clicks(click(3, "d", NOON)))
    assert (done.version, done.changed, done.rows) == (2, True, 1)
    assert ids(read_all(lake, table)) == ["c", "d"]


def test_ledger_says_what_a_partition_was_built_from(lake: Lake, table: TableSpec) -> None:
    counts = Counts(
        received=9, admitted=2, filtered={"b": 1, "a": 2}, superseded=1, deleted=1, dead_lettered=2
    )
    assert counts.is_conserved
    rows = clicks(click(1, "a", NOON), click(2, "b", NOON))
    done = build(
        lake, table, DAY, rows, counts=counts, dead=letters("x", "y"), inputs="i", fingerprint="f9"
    )
    row = ledger_row(lake, table, DAY)
    assert row.pop("content_hash")
    assert row == {
        "table_name": table.name,
        "day": DAY,
        "state": "built",
        "version": 1,
        "rows": 2,
        "bytes": done.bytes,
        "received": 9,
        "admitted": 2,
        "filtered": '{"a": 2, "b": 1}',
        "superseded": 1,
        "deleted": 1,
        "dead_lettered": 2,
        "inputs": "i",
        "fingerprint": "f9",
        "arrival_watermark": None,
        "built_at": datetime(2026, 4, 1, tzinfo=UTC),
    }
    assert done.bytes > 0


def test_committing_the_same_again_changes_nothing(
    lake: Lake, table: TableSpec, shared_place: LakePlace
) -> None:
    rows = clicks(*(click(entity, f"e{entity}", NOON) for entity in range(9)))
    fix = corrections(correction(click(77, "z", NOON, revision=1)))
    build(lake, table, DAY, rows, dead=letters("x"), corrected_by=fix)
    ledger, files = lake.ledger(), parquet_files(shared_place, table)
    # In other files, in another order: the same rows.
    done = build(lake, table, DAY, [rows[5:], rows[:5]], dead=letters("x"), corrected_by=fix)
    assert (done.version, done.changed, done.rows) == (1, False, 9)
    assert_frame_equal(lake.ledger(), ledger)
    assert parquet_files(shared_place, table) == files


def test_commit_that_differs_in_anything_counts_as_a_change(lake: Lake, table: TableSpec) -> None:
    first: dict[str, Any] = {
        "frames": clicks(click(1, "a", NOON)),
        "dead": letters("x", "y"),
        "corrected_by": corrections(correction(click(7, "z", NOON, revision=1))),
    }
    changes: list[dict[str, Any]] = [
        {"inputs": "other"},
        {"fingerprint": "other"},
        {"dead": letters("x", "w")},
        {"counts": Counts(received=4, admitted=1, deleted=1, dead_lettered=2)},
        {"corrected_by": corrections(correction(click(7, "z", NOON, revision=2)))},
        {"frames": clicks(click(1, "a", NOON, surface="search"))},
        {"frames": clicks(click(1, "a", NOON, surface=None))},
    ]
    for change in changes:
        build(lake, table, DAY, **first)
        assert build(lake, table, DAY, **(first | change)).changed, change


def test_commit_on_a_version_that_is_gone_is_a_conflict_and_leaves_nothing(
    lake: Lake, table: TableSpec, shared_place: LakePlace
) -> None:
    build(lake, table, DAY, clicks(click(1, "a", NOON)))
    files = parquet_files(shared_place, table)
    with pytest.raises(ConflictError) as caught:
        build(lake, table, DAY, clicks(click(1, "b", NOON)), expected_version=0)
    assert caught.value.retryable
    assert (caught.value.found, ids(read_all(lake, table))) == ("version 1", ["a"])
    assert parquet_files(shared_place, table) == files


def test_empty_partition_can_be_committed_and_replaced(lake: Lake, table: TableSpec) -> None:
    assert build(lake, table, DAY, clicks()).rows == 0
    assert not build(lake, table, DAY, []).changed
    build(lake, table, DAY, clicks(click(1, "a", NOON)))
    assert build(lake, table, DAY, clicks()).changed
    assert read_all(lake, table).is_empty()
    assert ledger_row(lake, table, DAY)["rows"] == 0


def test_table_without_days_is_replaced_whole(lake: Lake, prices: TableSpec) -> None:
    build(
        lake,
        prices,
        None,
        pl.DataFrame(
            {"key": [1, 2], "available_time": [NOON, NOON], "price": [1.0, 2.0]}, prices.columns
        ),
    )
    again = pl.DataFrame({"key": [2], "available_time": [NOON], "price": [3.0]}, prices.columns)
    assert build(lake, prices, None, again).version == 2
    assert not build(lake, prices, None, again).changed
    assert lake.read_lookup(prices, pl.Series([1, 2, 3])).rows() == [(2, NOON, 3.0)]


def test_commit_that_does_not_fit_its_table_is_refused(lake: Lake, table: TableSpec) -> None:
    with pytest.raises(FrameSchemaError, match="does not fit"):
        build(lake, table, None, clicks())
    with pytest.raises(FrameSchemaError, match="does not fit"):
        build(lake, table, DAY, clicks(), dead=letters("x"), counts=Counts())


def test_dead_letters_are_replaced_with_their_partition_however_many(
    lake: Lake, table: TableSpec, shared_place: LakePlace
) -> None:
    build(lake, table, NEXT_DAY, clicks(), dead=letters("kept"))
    for rules in (["a"] * 2500, ["b"] * 3, ["c"] * 1200, []):
        build(lake, table, DAY, clicks(), dead=letters(*rules))
        with shared_place.connect() as connection:
            found = connection.sql(
                "SELECT day, rule, count(*) FROM platform.dead_letters "
                f"WHERE table_name = '{table.name}' GROUP BY ALL ORDER BY day"
            )
            expected = [(DAY, rules[0], len(rules))] if rules else []
            assert found.fetchall() == [*expected, (NEXT_DAY, "kept", 1)]
        assert ledger_row(lake, table, DAY)["dead_lettered"] == len(rules)


def test_lake_opened_for_reading_refuses_to_write(own_lake: Lake, place: LakePlace) -> None:
    own_lake.ensure_tables([CLICKS])
    with place.open(read_only=True) as reader:
        assert read_all(reader).is_empty()
        with pytest.raises(StoreError, match="reading only"):
            build(reader, CLICKS, DAY, clicks(click(1, "a", NOON)))
    assert not parquet_files(place)


# Corrections

MOVED = click(1, "a", TOMORROW, revision=1, surface="search")
DELETED = correction(click(2, "b", NOON, revision=1), removes=True)


def commit_both_days(lake: Lake, table: TableSpec, *, corrections_first: bool) -> None:
    old = clicks(click(1, "a", NOON), click(2, "b", NOON), click(3, "c", NOON))
    new = corrections(correction(MOVED), DELETED)
    if corrections_first:
        build(lake, table, NEXT_DAY, clicks(MOVED), corrected_by=new)
        done = build(lake, table, DAY, old, corrected_by=corrections())
        assert (done.superseded, done.corrected, done.rows) == (2, (), 1)
    else:
        build(lake, table, DAY, old, corrected_by=corrections())
        done = build(lake, table, NEXT_DAY, clicks(MOVED), corrected_by=new)
        assert (done.superseded, done.corrected, done.rows) == (0, (DAY,), 1)


@pytest.mark.parametrize("corrections_first", [True, False])
def test_corrections_beat_rows_of_other_days_in_whatever_order_days_are_built(
    lake: Lake, table: TableSpec, *, corrections_first: bool
) -> None:
    commit_both_days(lake, table, corrections_first=corrections_first)
    found = read_all(lake, table).select("entity", "event_id", "revision", "surface")
    assert found.rows() == [(1, "a", 1, "search"), (3, "c", 0, "feed")]
    row = ledger_row(lake, table, DAY)
    assert (row["rows"], row["received"], row["admitted"], row["superseded"]) == (1, 3, 1, 2)
    assert row["state"] == ("built" if corrections_first else "corrected")
    assert row["version"] == (1 if corrections_first else 2)


@pytest.mark.parametrize("corrections_first", [True, False])
def test_corrected_partition_built_again_is_the_same(
    lake: Lake, table: TableSpec, *, corrections_first: bool
) -> None:
    commit_both_days(lake, table, corrections_first=corrections_first)
    before = lake.ledger()
    old = clicks(click(1, "a", NOON), click(2, "b", NOON), click(3, "c", NOON))
    assert not build(lake, table, DAY, old, corrected_by=corrections()).changed
    again = build(
        lake, table, NEXT_DAY, clicks(MOVED), corrected_by=corrections(correction(MOVED), DELETED)
    )
    assert not again.changed
    assert_frame_equal(lake.ledger(), before)


def test_correction_beats_by_revision_arrival_removal_and_event_time(
    lake: Lake, table: TableSpec
) -> None:
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"revision": 4}, False),
        ({"revision": 6}, True),
        ({"arrival_time": NOON + HOUR}, True),
        ({"arrival_time": NOON - HOUR, "removes": True}, False),
        ({"removes": True}, True),
        ({"event_time": NOON + timedelta(days=1)}, True),
        ({"event_time": NOON - timedelta(days=1)}, False),
        ({"event_id": "other", "revision": 9}, False),
        ({"entity": 99, "revision": 9}, False),
    ]
    rows = [click(n, "a", NOON, revision=5) for n in range(len(cases))]
    newer = [correction(row, **change) for row, (change, _) in zip(rows, cases, strict=True)]
    left = [n for n, (_, is_beaten) in enumerate(cases) if not is_beaten]
    build(lake, table, DAY, clicks(*rows))
    done = build(lake, table, NEXT_DAY, clicks(), corrected_by=corrections(*newer))
    assert done.corrected == (DAY,)
    assert read_all(lake, table)["entity"].to_list() == left
    # And the other way: the corrections are there first.
    later = build(lake, table, DAY, clicks(*rows, click(100, "x", NOON)))
    assert later.superseded == 4
    assert read_all(lake, table)["entity"].to_list() == [*left, 100]


def test_corrections_of_a_day_do_not_beat_rows_of_their_own_commit(
    lake: Lake, table: TableSpec
) -> None:
    older, newer = click(1, "a", NOON), click(1, "a", NOON + HOUR, revision=1)
    done = build(
        lake, table, DAY, clicks(older, newer), corrected_by=corrections(correction(newer))
    )
    assert (done.rows, done.superseded, done.corrected) == (2, 0, ())


def test_correction_hits_many_partitions_at_once_and_counts_each(
    lake: Lake, table: TableSpec
) -> None:
    for n in range(4):
        at = NOON + timedelta(days=n)
        build(
            lake,
            table,
            day_after(n),
            clicks(*(click(e, f"{e}", at) for e in range(n + 2)), click(9, "keep", at)),
        )
    fixes = corrections(
        *(correction(click(e, f"{e}", NOON, revision=1), removes=True) for e in range(3))
    )
    done = build(lake, table, day_after(9), clicks(), corrected_by=fixes)
    assert done.corrected == (DAY, day_after(1), day_after(2), day_after(3))
    ledger = lake.ledger(table.name).filter(pl.col("day") < day_after(9))
    assert ledger.select("rows", "admitted", "superseded", "state").rows() == [
        (1, 1, 2, "corrected"),
        (1, 1, 3, "corrected"),
        (2, 2, 3, "corrected"),
        (3, 3, 3, "corrected"),
    ]
    left = (
        read_all(lake, table)
        .group_by(pl.col("event_time").dt.date().alias("day"))
        .len()
        .sort("day")
    )
    assert left["len"].to_list() == [1, 1, 2, 3]


# Cost follows use


def test_only_partitions_of_the_window_are_opened(own_lake: Lake, place: LakePlace) -> None:
    saves = TableSpec("enriched.save", CLICKS.columns, sort_by=KEY_ORDER, corrects=True)
    own_lake.ensure_tables([CLICKS, saves])
    removed = click(2, "b", NOON)
    removal = corrections(correction(removed, revision=1, removes=True))
    for spec in (CLICKS, saves):
        build(own_lake, spec, DAY, clicks(click(1, "a", NOON), removed))
        build(own_lake, spec, NEXT_DAY, clicks(click(1, "c", TOMORROW)))
    build(own_lake, saves, day_after(2), clicks(), corrected_by=removal)
    for file in Path(place.data_path).rglob(f"day={NEXT_DAY}/*.parquet"):
        file.unlink()
    for spec, expected in ((CLICKS, ["a", "b"]), (saves, ["a"])):
        found = own_lake.read_events(spec, ["event_id"], days(0, 1))
        assert ids(found) == expected
        assert own_lake.violations(spec, DAY)["unique_keys"] == 0
        with pytest.raises(StoreError):
            own_lake.read_events(spec, ["event_id"], days(0, 2))
    counts = own_lake.entity_counts([CLICKS, saves], days(0, 1), active=days(0, 1))
    assert counts.rows() == [(1, 2), (2, 1)]
    assert build(own_lake, CLICKS, DAY, clicks()).changed


# Guarantees recomputed


def test_rows_that_break_a_guarantee_are_counted(
    lake: Lake, table: TableSpec, prices: TableSpec
) -> None:
    rows = clicks(
        *(click(1, "a", NOON),) * 3,
        click(None, "b", NOON),
        click(2, "c", TOMORROW),
        click(2, "d", TOMORROW),
    )
    build(lake, table, DAY, rows)
    assert lake.violations(table, DAY) == {"unique_keys": 2, "null_entity": 1, "in_partition": 2}
    build(
        lake,
        prices,
        None,
        pl.DataFrame(
            {"key": [1, 1], "available_time": [NOON, NOON], "price": [1.0, 2.0]}, prices.columns
        ),
    )
    assert lake.violations(prices, None) == {"unique_keys": 1}


def test_snapshots_that_break_a_guarantee_are_counted(lake: Lake, home: TableSpec) -> None:
    short = snapshot(1, DAY, NOON) | {"surface": []}
    missing = snapshot(2, DAY, NOON) | {"event_id": None}
    falling = snapshot(3, DAY, NOON + HOUR, NOON)
    misplaced = snapshot(4, NEXT_DAY, NOON)
    build(lake, home, DAY, snapshots(short, missing, falling, misplaced, misplaced))
    assert lake.violations(home, DAY) == {
        "unique_keys": 1,
        "null_entity": 0,
        "in_partition": 2,
        "alignment": 2,
        "order": 1,
    }


# Keeping


def test_maintenance_keeps_every_row_and_leaves_fewer_files(
    own_lake: Lake, place: LakePlace
) -> None:
    own_lake.ensure_tables([CLICKS])
    rows = [clicks(*(click(e, f"{e}", NOON) for e in range(n, n + 10))) for n in (0, 10, 20)]
    for n in range(3):
        build(own_lake, CLICKS, DAY, rows[: n + 1], dead=letters("x"))
    build(
        own_lake,
        CLICKS,
        NEXT_DAY,
        clicks(),
        corrected_by=corrections(correction(click(0, "0", NOON, revision=1), removes=True)),
    )
    expected = read_all(own_lake)
    ledger = own_lake.ledger()
    done = own_lake.maintain(keep_snapshots=timedelta(0), orphans_older_than=timedelta(0))
    assert done.files_after < done.files_before
    assert done.bytes_after < done.bytes_before
    assert done.snapshots_expired > 0
    assert expected.height == 29
    assert_frame_equal(read_all(own_lake), expected)
    assert_frame_equal(own_lake.ledger(), ledger)
    assert len(parquet_files(place)) == done.files_after


def test_maintenance_keeps_the_versions_that_time_travel_may_ask_for(
    own_lake: Lake, place: LakePlace
) -> None:
    own_lake.ensure_tables([CLICKS])
    build(own_lake, CLICKS, DAY, clicks(click(1, "old", NOON)), dead=letters("x"))
    with place.connect() as connection:
        version = connection.execute("FROM ducklake_current_snapshot('lake')").fetchall()[0][0]
        build(own_lake, CLICKS, DAY, clicks(click(1, "new", NOON)))
        own_lake.maintain(keep_snapshots=timedelta(days=1), orphans_older_than=timedelta(0))
        for table, column, then, now in (
            ("enriched.click", "event_id", ["old"], ["new"]),
            ("platform.dead_letters", "rule", ["x"], []),
            ("platform.partitions", "version", [1], [2]),
        ):
            read = f"SELECT {column} FROM {table}"
            former = connection.execute(f"{read} AT (VERSION => {version})").fetchall()
            assert ([v for (v,) in former], table) == (then, table)
            assert [v for (v,) in connection.execute(read).fetchall()] == now


def test_maintained_partitions_are_committed_to_as_before(own_lake: Lake) -> None:
    own_lake.ensure_tables([CLICKS])
    rows = clicks(click(1, "a", NOON), click(2, "b", NOON))
    build(own_lake, CLICKS, DAY, [rows[:1], rows[1:]], dead=letters("x"))
    own_lake.maintain(keep_snapshots=timedelta(0), orphans_older_than=timedelta(0))
    assert not build(own_lake, CLICKS, DAY, rows, dead=letters("x")).changed
    assert build(own_lake, CLICKS, DAY, rows[:1]).version == 2
    assert ids(read_all(own_lake)) == ["a"]


def test_maintenance_spares_files_that_a_running_writer_has_staged(
    own_lake: Lake, place: LakePlace
) -> None:
    own_lake.ensure_tables([CLICKS])
    staged = own_lake.stage(CLICKS, DAY, [clicks(click(1, "a", NOON))])
    own_lake.maintain(keep_snapshots=timedelta(0), orphans_older_than=timedelta(hours=1))
    assert {str(path) for path in parquet_files(place)} == set(staged.files)
    own_lake.maintain(keep_snapshots=timedelta(0), orphans_older_than=timedelta(0))
    assert not parquet_files(place)


def test_manifest_is_in_force_from_its_publication(own_lake: Lake, place: LakePlace) -> None:
    assert own_lake.published() is None
    own_lake.publish('{"a":1}', "f1", NOON, replaces=None)
    own_lake.publish('{"a":2}', "f2", TOMORROW, replaces="f1")
    assert own_lake.published() == '{"a":2}'
    with place.open(read_only=True) as reader:
        assert reader.published() == '{"a":2}'


def test_manifest_is_not_replaced_by_who_has_not_seen_it(own_lake: Lake) -> None:
    own_lake.publish('{"a":1}', "f1", NOON, replaces=None)
    for replaces in (None, "f0"):
        with pytest.raises(ConflictError):
            own_lake.publish('{"a":2}', "f2", NOON, replaces=replaces)
    assert own_lake.published() == '{"a":1}'


def test_former_manifest_can_be_put_in_force_again(own_lake: Lake, place: LakePlace) -> None:
    own_lake.publish('{"a":1}', "f1", NOON, replaces=None)
    own_lake.publish('{"a":2}', "f2", NOON, replaces="f1")
    own_lake.publish('{"a":1}', "f1", TOMORROW, replaces="f2")
    assert own_lake.published() == '{"a":1}'
    manifests = sorted(Path(place.data_path, "manifests").iterdir())
    assert [(file.name, file.read_text()) for file in manifests] == [
        ("f1.json", '{"a":1}'),
        ("f2.json", '{"a":2}'),
    ]
