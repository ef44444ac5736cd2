"""Tables as a source: kinds of time columns, names, what a first day gets, what is an error."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path

import duckdb
import polars as pl
import pytest

from sequence_platform.definition import Table
from sequence_platform.errors import FrameSchemaError, StoreError
from sequence_platform.sources.sql_table import TableSource
from sequence_platform.stores.ducklake.connection import load_extensions
from sequence_platform_tests.backends import OneDatabase, table_source
from sequence_platform_tests.conformance.source_rows import (
    DAYS,
    POSSIBLE,
    SCHEMA,
    START,
    dead_in,
    event_times,
    ids_in,
    of_day,
)
from sequence_platform_tests.postgres import postgres_database

Run = Callable[[str], None]
EVENTS = """
    CREATE TABLE {schema}events AS SELECT * FROM (VALUES
        ('a', TIMESTAMPTZ '2026-03-01 00:00:00+00', 1, 0.5),
        ('b', TIMESTAMPTZ '2026-03-01 23:59:59.999+00', 2, NULL),
        ('c', TIMESTAMPTZ '2026-03-02 00:00:00+00', NULL, 1.5),
        ('old', TIMESTAMPTZ '1960-01-01 00:00:00+00', 4, 3.5),
        ('far', TIMESTAMPTZ '2100-01-01 00:00:00+00', 5, 4.5),
        ('none', NULL, 6, 5.5)
    ) AS events(id, "at", n, price)
"""
TIME_COLUMNS = {
    "at": (None, '"at"'),
    "plain": (None, '"at"::TIMESTAMP'),
    "day": (None, '"at"::DATE'),
    "seconds": ("s", 'CAST(floor(epoch("at")) AS BIGINT)'),
    "milliseconds": ("ms", 'CAST(floor(epoch("at") * 1000) AS BIGINT)'),
    "microseconds": ("us", 'CAST(floor(epoch("at") * 1000) AS BIGINT) * 1000'),
}


@contextmanager
def duckdb_file(folder: Path) -> Iterator[tuple[Run, str, str]]:
    with duckdb.connect(str(folder / "warehouse.duckdb")) as connection:
        yield lambda sql: void(connection.execute(sql)), "warehouse.duckdb", "main."


@contextmanager
def postgres(folder: Path) -> Iterator[tuple[Run, str, str]]:
    url = postgres_database()
    with duckdb.connect() as connection:
        load_extensions(connection, ["postgres_scanner"])
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"ATTACH '{url}' AS pg (TYPE postgres)")
        yield lambda sql: void(connection.execute(sql)), url, "pg.public."


def void(_: object) -> None:
    """Return nothing."""


DATABASES = {"duckdb": duckdb_file, "postgres": postgres}
database = pytest.mark.parametrize("kind", sorted(DATABASES))


def warehouse(folder: Path, kind: str, *statements: str) -> str:
    """Make a database with some tables, and return its address."""
    with DATABASES[kind](folder) as (run, url, schema):
        run("SET TimeZone = 'UTC'")
        for statement in statements:
            run(statement.format(schema=schema))
    return url


def error_of(source: TableSource) -> StoreError:
    with pytest.raises(StoreError) as raised:
        of_day(source, START)
    assert all(
        (raised.value.where, raised.value.found, raised.value.expected, raised.value.next_step)
    )
    return raised.value


@database
@pytest.mark.parametrize("column", sorted(TIME_COLUMNS))
def test_every_kind_of_time_column_gives_each_row_one_day(
    tmp_path: Path, kind: str, column: str
) -> None:
    unit, expression = TIME_COLUMNS[column]
    add = f"CREATE TABLE {{schema}}timed AS SELECT *, {expression} AS clock FROM {{schema}}events"
    url = warehouse(tmp_path, kind, EVENTS, add)
    table = Table("timed", time_column="clock", time_unit=unit)  # type: ignore[arg-type]
    source = table_source(tmp_path, table, url)
    assert [ids_in(of_day(source, day)) for day in DAYS[:3]] == [
        ["a", "b", "far", "none", "old"],
        ["c"],
        [],
    ]
    assert [dead_in(of_day(source, day)) for day in DAYS[:3]] == [[], [], []]
    assert len(ids_in(list(source.read(None)))) == 6


@database
def test_views_schemas_and_names_with_any_character_are_read(tmp_path: Path, kind: str) -> None:
    hostile = 'a "b"; DROP TABLE events; --'
    name = hostile.replace('"', '""')
    url = warehouse(
        tmp_path,
        kind,
        EVENTS,
        f'CREATE TABLE {{schema}}"{name}" AS SELECT id AS "{name}", "at" FROM {{schema}}events',
    )
    schema = pl.Schema({hostile: pl.String(), "at": SCHEMA["at"]})
    databases = OneDatabase(tmp_path, {"warehouse": url})
    source = TableSource(
        Table(hostile, time_column="at"), schema, event_times, databases, START, POSSIBLE
    )
    [batch] = of_day(source, DAYS[1])
    assert batch.frame[hostile].to_list() == ["c"]


def test_a_view_in_a_schema_is_read(tmp_path: Path) -> None:
    warehouse(
        tmp_path,
        "duckdb",
        EVENTS,
        "CREATE SCHEMA sales",
        "CREATE VIEW sales.march AS SELECT * FROM main.events",
    )
    source = table_source(tmp_path, Table("sales.march", time_column="at"))
    assert ids_in(of_day(source, DAYS[1])) == ["c"]


@database
def test_a_row_whose_event_time_is_another_day_is_a_dead_letter(tmp_path: Path, kind: str) -> None:
    add = "CREATE TABLE {schema}loaded AS SELECT *, DATE '2026-03-03' AS loaded FROM {schema}events"
    url = warehouse(tmp_path, kind, EVENTS, add)
    source = table_source(tmp_path, Table("loaded", time_column="loaded"), url)
    assert ids_in(of_day(source, DAYS[2])) == ["far", "none", "old"]
    assert dead_in(of_day(source, DAYS[2])) == [("warehouse:loaded", None, "outside_partition")] * 3


@database
def test_infinite_times_are_dead_letters_of_the_first_day(tmp_path: Path, kind: str) -> None:
    rows = "('endless', 'infinity', 1, 1), ('ever', '-infinity', 1, 1)"
    add = f"INSERT INTO {{schema}}events VALUES {rows}"
    url = warehouse(tmp_path, kind, EVENTS, add)
    source = table_source(tmp_path, Table("events", time_column="at"), url)
    assert dead_in(of_day(source, START)) == [("warehouse:events", None, "wrong_type:at")] * 2
    assert dead_in(of_day(source, DAYS[1])) == []


def test_types_of_databases_become_the_raw_schema(tmp_path: Path) -> None:
    warehouse(
        tmp_path,
        "duckdb",
        "CREATE TYPE kind AS ENUM ('x', 'y')",
        """
        CREATE TABLE main.wide AS SELECT
            5::HUGEINT AS huge, [1, 2]::FLOAT[2] AS vector, 'y'::kind AS kind,
            1.25::DECIMAL(8, 3) AS price, '6ba7b810-9dad-11d1-80b4-00c04fd430c8'::UUID AS id,
            TIMESTAMP '2026-03-01 12:00:00' AS "at", {{'lat': 1.5::FLOAT, 'tags': ['a']}} AS place
        """,
    )
    schema = pl.Schema(
        {
            "huge": pl.Int64(),
            "vector": pl.Array(pl.Float32, 2),
            "kind": pl.String(),
            "price": pl.Float64(),
            "id": pl.String(),
            "at": pl.Datetime("us", "UTC"),
            "place": pl.Struct({"lat": pl.Float64(), "tags": pl.List(pl.String())}),
        }
    )
    source = TableSource(Table("wide"), schema, None, OneDatabase(tmp_path))
    [batch] = source.read(None)
    assert batch.frame.schema == schema
    assert batch.frame.rows() == [
        (
            *(5, [1.0, 2.0], "y", 1.25, "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
            datetime(2026, 3, 1, 12, tzinfo=UTC),
            {"lat": 1.5, "tags": ["a"]},
        )
    ]


def test_a_database_may_be_a_file_named_in_the_definition(tmp_path: Path) -> None:
    warehouse(tmp_path, "duckdb", EVENTS)
    (tmp_path / "warehouse.duckdb").rename(tmp_path / "it's mine.duckdb")
    source = table_source(tmp_path, Table("events", "at", database="it's mine.duckdb"))
    assert ids_in(of_day(source, DAYS[1])) == ["c"]


def test_reading_changes_nothing(tmp_path: Path) -> None:
    warehouse(tmp_path, "duckdb", EVENTS)
    path = tmp_path / "warehouse.duckdb"
    before = sha256(path.read_bytes()).hexdigest()
    of_day(table_source(tmp_path, Table("events", time_column="at")), START)
    assert sha256(path.read_bytes()).hexdigest() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["warehouse.duckdb"]


# ---- errors


def test_a_table_without_time_column_cannot_be_read_by_day(tmp_path: Path) -> None:
    warehouse(tmp_path, "duckdb", EVENTS)
    with pytest.raises(FrameSchemaError):
        of_day(table_source(tmp_path, Table("events")), START)


@database
def test_a_missing_table_is_told_with_the_nearest_name(tmp_path: Path, kind: str) -> None:
    url = warehouse(tmp_path, kind, EVENTS)
    error = error_of(table_source(tmp_path, Table("event", time_column="at"), url))
    assert error.where == "warehouse:event"
    assert error.found == "close: 'events'; present: events"


@database
def test_missing_columns_are_all_told(tmp_path: Path, kind: str) -> None:
    add = "CREATE TABLE {schema}narrow AS SELECT id, price AS prize FROM {schema}events"
    url = warehouse(tmp_path, kind, EVENTS, add)
    error = error_of(table_source(tmp_path, Table("narrow", time_column="when"), url))
    assert error.expected == "also at, n, price, when"
    assert error.found == "present: id, prize"


def test_an_unknown_database_is_told_with_the_known_ones(tmp_path: Path) -> None:
    error = error_of(table_source(tmp_path, Table("events", "at", database="lakehouse")))
    assert error.what == "a database is not known"
    assert "warehouse" in error.found
    assert "SEQUENCE_PLATFORM_DATABASES__LAKEHOUSE" in error.next_step


def test_a_database_file_that_is_gone_is_told(tmp_path: Path) -> None:
    error = error_of(table_source(tmp_path, Table("events", time_column="at")))
    assert error.what == "a database file is missing"
    assert str(tmp_path / "warehouse.duckdb") in error.found


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "warehouse.duckdb").write_bytes(b"not a database" * 1000)
    assert "valid" in error_of(table_source(tmp_path, Table("events", time_column="at"))).found


def test_a_database_that_another_process_writes_is_an_error_that_a_retry_helps(
    tmp_path: Path,
) -> None:
    warehouse(tmp_path, "duckdb", EVENTS)
    program = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); input()"
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "warehouse.duckdb")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert error_of(table_source(tmp_path, Table("events", time_column="at"))).retryable
        writer.communicate(b"\n")
    assert ids_in(of_day(table_source(tmp_path, Table("events", "at")), DAYS[1])) == ["c"]


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    for url in ("postgresql://ann:secret@127.0.0.1:1/x", "postgresql://h:1/x?password=secret"):
        error = error_of(table_source(tmp_path, Table("events", time_column="at"), url))
        assert "secret" not in str(error)
        assert error.retryable


@pytest.mark.parametrize(
    ("expression", "found"),
    [("5", "INTEGER without time_unit"), ("'x'", "VARCHAR"), ("0.5", "DECIMAL")],
)
def test_a_time_column_of_another_kind_is_an_error(
    tmp_path: Path, expression: str, found: str
) -> None:
    add = f"CREATE TABLE main.odd AS SELECT *, {expression} AS clock FROM main.events"
    warehouse(tmp_path, "duckdb", EVENTS, add)
    error = error_of(table_source(tmp_path, Table("odd", time_column="clock")))
    assert error.found.startswith(found)


def test_the_first_day_is_not_read_twice_where_its_own_time_is_not_possible(tmp_path: Path) -> None:
    warehouse(tmp_path, "duckdb", EVENTS)
    possible = (datetime(2026, 3, 1, 12, tzinfo=UTC), POSSIBLE[1])
    databases = OneDatabase(tmp_path)
    source = TableSource(
        Table("events", "at"), SCHEMA, event_times, databases, date(2026, 3, 1), possible
    )
    assert ids_in(of_day(source, START)) == ["a", "b", "far", "none", "old"]
