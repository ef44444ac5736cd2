"""What a notebook sees: tables, views, macros and time travel through a plain DuckDB connection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import duckdb
import polars as pl
import pytest

from sequence_platform.plan.plan import Window
from sequence_platform.ports import Lake
from sequence_platform_tests.backends import LakePlace
from sequence_platform_tests.conformance.lakes import (
    CLICKS,
    DAY,
    HOME,
    NEXT_DAY,
    NOON,
    TOMORROW,
    build,
    click,
    clicks,
    day_after,
    letters,
    snapshot,
    snapshots,
)

SLOW = replace(HOME, name="sequences.forever", max_age=None)
END = Window.of_day(DAY).end


@pytest.fixture(scope="module")
def lake(shared_place: LakePlace) -> Iterator[Lake]:
    with shared_place.open() as lake:
        lake.ensure_tables([CLICKS, HOME, SLOW])
        build(lake, CLICKS, DAY, clicks(click(1, "a", NOON)), dead=letters("x"))
        for spec in (HOME, SLOW):
            first = snapshot(1, DAY, NOON - timedelta(days=5), NOON), snapshot(2, DAY, NOON)
            build(lake, spec, DAY, snapshots(*first))
            build(lake, spec, NEXT_DAY, snapshots(snapshot(1, NEXT_DAY, NOON, TOMORROW)))
        yield lake


@pytest.fixture
def connection(lake: Lake, shared_place: LakePlace) -> Iterator[duckdb.DuckDBPyConnection]:
    with shared_place.connect() as connection:
        yield connection


def rows(connection: duckdb.DuckDBPyConnection, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    return connection.execute(sql, values).fetchall()


def test_tables_are_read_by_schema_and_name(connection: duckdb.DuckDBPyConnection) -> None:
    assert rows(connection, "SELECT entity FROM enriched.click WHERE day = ?", DAY) == [(1,)]
    assert rows(connection, "SELECT rule FROM lake.platform.dead_letters") == [("x",)]
    names = [name for _, name in rows(connection, "SELECT schema, name FROM (SHOW ALL TABLES)")]
    assert {"click", "click_vectors", "home", "home_latest", "partitions"} <= set(names)


def test_times_are_shown_in_utc(connection: duckdb.DuckDBPyConnection) -> None:
    found = rows(connection, "SELECT event_time::VARCHAR FROM enriched.click WHERE day = ?", DAY)
    assert found == [("2026-03-01 12:00:00+00",)]


def test_notebook_cannot_write(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.Error, match="read-only"):
        connection.execute("DELETE FROM enriched.click")


def test_notebook_loads_no_extension_without_a_signature(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    assert rows(connection, "SELECT current_setting('allow_unsigned_extensions')") == [(False,)]
    with pytest.raises(duckdb.Error, match="while database is running"):
        connection.execute("SET GLOBAL allow_unsigned_extensions = true")


def test_notebook_sees_what_is_committed_while_it_is_open(
    lake: Lake, connection: duckdb.DuckDBPyConnection
) -> None:
    count = "SELECT count(*) FROM enriched.click WHERE day = ?"
    assert rows(connection, count, day_after(7)) == [(0,)]
    build(lake, CLICKS, day_after(7), clicks(click(1, "a", NOON + timedelta(days=7))))
    assert rows(connection, count, day_after(7)) == [(1,)]
    build(lake, CLICKS, day_after(7), clicks())


def test_vectors_are_of_a_fixed_length_in_their_view(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    vectors = "SELECT typeof(vector), vector FROM enriched.click_vectors WHERE day = ?"
    found = rows(connection, vectors, DAY)
    assert found == [("FLOAT[3]", (1.0, 2.0, 3.0))]


def test_latest_is_each_entitys_newest_snapshot(connection: duckdb.DuckDBPyConnection) -> None:
    found = rows(
        connection, "SELECT day, entity, length FROM sequences.home_latest ORDER BY entity"
    )
    assert found == [(NEXT_DAY, 1, 2), (DAY, 2, 1)]


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (DAY, []),
        (END - timedelta(microseconds=1), []),
        (END, [(1, ["24-12", "01-12"]), (2, ["01-12"])]),
        (NEXT_DAY, [(1, ["24-12", "01-12"]), (2, ["01-12"])]),
        (END + timedelta(days=1), [(1, ["01-12", "02-12"]), (2, ["01-12"])]),
        # max_age is 10 days: an event counts until 10 days after it, that instant included.
        (NOON + timedelta(days=10), [(1, ["01-12", "02-12"]), (2, ["01-12"])]),
        (NOON + timedelta(days=10, microseconds=1), [(1, ["02-12"])]),
        (TOMORROW + timedelta(days=10, microseconds=1), []),
    ],
    ids=str,
)
def test_as_of_takes_a_date_or_a_time_and_cuts_events_that_are_too_old(
    connection: duckdb.DuckDBPyConnection, at: object, expected: list[tuple[int, list[str]]]
) -> None:
    found = rows(
        connection,
        "SELECT entity, event_id, length, surface, len(event_time) "
        "FROM sequences.home_as_of(?) ORDER BY entity",
        at,
    )
    assert [(entity, names) for entity, names, *_ in found] == expected
    for _, names, length, surface, times in found:
        assert length == len(surface) == times == len(names)


def test_as_of_without_max_age_cuts_nothing(connection: duckdb.DuckDBPyConnection) -> None:
    found = rows(
        connection,
        "SELECT entity, event_id FROM sequences.forever_as_of(TIMESTAMPTZ '2030-01-01') ORDER BY 1",
    )
    assert found == [(1, ["01-12", "02-12"]), (2, ["01-12"])]


def test_views_and_macros_follow_a_table_that_gets_a_column(
    lake: Lake, shared_place: LakePlace
) -> None:
    columns = dict(HOME.columns)
    trimmed = columns.pop("trimmed")
    first = replace(HOME, name="sequences.grows")
    lake.ensure_tables([first])
    build(lake, first, DAY, snapshots(snapshot(1, DAY, NOON)))
    wider = pl.Schema(columns | {"price": pl.List(pl.Float64()), "trimmed": trimmed})
    second = replace(first, columns=wider, max_age=timedelta(hours=6))
    lake.ensure_tables([second])
    priced = [snapshot(2, DAY, NOON, NOON + timedelta(hours=8)) | {"price": [1.5, 2.5]}]
    build(lake, second, NEXT_DAY, pl.DataFrame(priced, schema=wider))
    with shared_place.connect() as connection:
        latest = "SELECT entity, price FROM sequences.grows_latest ORDER BY entity"
        assert rows(connection, latest) == [(1, None), (2, [1.5, 2.5])]
        # The macro has the new column and the new max_age of 6 hours.
        as_of = "SELECT entity, price, length FROM sequences.grows_as_of(?)"
        assert rows(connection, as_of, END) == [(2, [2.5], 1)]


def test_former_versions_can_be_read(lake: Lake, connection: duckdb.DuckDBPyConnection) -> None:
    day = day_after(20)
    at = NOON + timedelta(days=20)
    build(lake, CLICKS, day, clicks(click(1, "old", at)))
    version, when = rows(
        connection,
        "SELECT snapshot_id, snapshot_time FROM ducklake_snapshots('lake') "
        "ORDER BY snapshot_id DESC LIMIT 1",
    )[0]
    build(lake, CLICKS, day, clicks(click(1, "new", at)))
    read = "SELECT event_id FROM enriched.click {} WHERE day = ?"
    assert rows(connection, read.format(""), day) == [("new",)]
    assert rows(connection, read.format(f"AT (VERSION => {version})"), day) == [("old",)]
    assert rows(connection, read.format(f"AT (TIMESTAMP => '{when}')"), day) == [("old",)]


def test_snapshots_say_what_was_committed(connection: duckdb.DuckDBPyConnection) -> None:
    found = rows(connection, "SELECT author, commit_message FROM ducklake_snapshots('lake')")
    assert ("sequence_platform", f"enriched.click {DAY}") in found
