"""SQL text from names and values: identifiers quoted, literals escaped.

Nothing else may put values into SQL.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from sequence_platform.plan.plan import Window

CATALOG = "lake"
"""What the lake is attached as, in every connection."""

CATALOG_TABLES = f"__ducklake_metadata_{CATALOG}"
"""What DuckLake attaches the tables of its own catalog as."""


def quoted(name: str) -> str:
    """Return a name as a SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def columns_of(names: Iterable[str], *, prefix: str = "") -> str:
    """Return names as a list of identifiers, each after ``prefix``."""
    return ", ".join(prefix + quoted(name) for name in names)


def text(value: str) -> str:
    """Return a string literal."""
    return "'" + value.replace("'", "''") + "'"


def day_literal(day: date) -> str:
    """Return a DATE literal."""
    return f"DATE '{day.isoformat()}'"


def time_literal(at: datetime) -> str:
    """Return a TIMESTAMPTZ literal."""
    return f"TIMESTAMPTZ '{at.astimezone(UTC).isoformat(sep=' ')}'"


def interval(span: timedelta) -> str:
    """Return an expression of a span, exact to the microsecond."""
    return f"to_microseconds({span // timedelta(microseconds=1)})"


def split_name(name: str) -> tuple[str, str]:
    """Return schema and table of ``schema.table``."""
    schema, _, table = name.partition(".")
    return schema, table


def table(name: str) -> str:
    """Return ``schema.table`` as a qualified identifier of the lake."""
    schema, plain = split_name(name)
    return f"{CATALOG}.{quoted(schema)}.{quoted(plain)}"


def in_schema(name: str) -> str:
    """Return ``schema.table`` as views name it: whatever the lake is attached as."""
    schema, plain = split_name(name)
    return f"{quoted(schema)}.{quoted(plain)}"


def day_is(day: date | None, column: str = "day") -> str:
    """Return the condition that a row is of a partition.

    None is the partition of tables that have none.
    """
    return f"{quoted(column)} IS NULL" if day is None else f"{quoted(column)} = {day_literal(day)}"


def days_of(window: Window) -> tuple[date, date]:
    """Return the first and the last day that a window touches."""
    last = (window.end.astimezone(UTC) - timedelta(microseconds=1)).date()
    return window.start.astimezone(UTC).date(), last


def in_window(window: Window) -> str:
    """Return the condition that a row of a daily table is in a window.

    The bounds of ``day`` let the catalog leave files unopened; those of event_time are exact.
    """
    first, last = days_of(window)
    return (
        f"day >= {day_literal(first)} AND day <= {day_literal(last)} "
        f"AND event_time >= {time_literal(window.start)} AND event_time < "
        f"{time_literal(window.end)}"
    )
