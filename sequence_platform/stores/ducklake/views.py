"""Views and macros for people.

Newest snapshots, snapshots as of a time, vectors of a fixed length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from sequence_platform.ports import TableSpec
from sequence_platform.stores.ducklake.sql import in_schema, interval, quoted
from sequence_platform.stores.ducklake.types import vector_type


@dataclass(frozen=True, slots=True)
class View:
    """A view or a macro: its name as ``schema.name`` and the statement that makes it."""

    name: str
    sql: str


def views_of(spec: TableSpec) -> Iterator[View]:
    """Yield the views of a table.

    Names in them are of schemas, not of the catalog, so that the lake may be attached as anything.
    """
    vectors = {
        name: vector for name, dtype in spec.columns.items() if (vector := vector_type(dtype))
    }
    if vectors:
        yield _vectors(spec, vectors)
    if spec.is_snapshot:
        yield _latest(spec)
        yield _as_of(spec)


def _vectors(spec: TableSpec, vectors: dict[str, str]) -> View:
    casts = ", ".join(
        f"{quoted(name)}::{vector} AS {quoted(name)}" for name, vector in vectors.items()
    )
    name = f"{spec.name}_vectors"
    return View(
        name,
        f"CREATE OR REPLACE VIEW {in_schema(name)} AS SELECT * REPLACE ({casts}) FROM "
        f"{in_schema(spec.name)}",
    )


def _latest(spec: TableSpec) -> View:
    source, name = in_schema(spec.name), f"{spec.name}_latest"
    newest = f"SELECT entity, max(day) AS day FROM {source} GROUP BY entity"
    # The newest day of each entity first: lists are read for the chosen rows only.
    sql = f"SELECT * FROM {source} SEMI JOIN ({newest}) AS newest USING (entity, day)"
    return View(name, f"CREATE OR REPLACE VIEW {in_schema(name)} AS {sql}")


def _as_of(spec: TableSpec) -> View:
    source, name = in_schema(spec.name), f"{spec.name}_as_of"
    at = "t::TIMESTAMPTZ"
    seen = f"as_of <= {at}"
    if spec.max_age is not None:
        # An older snapshot has no event that is young enough: event_time < as_of.
        seen += f" AND as_of > {at} - {interval(spec.max_age)}"
    newest = f"SELECT entity, max(day) AS day FROM {source} WHERE {seen} GROUP BY entity"
    chosen = (
        f"SELECT * FROM {source} SEMI JOIN ({newest}) AS newest USING (entity, day) WHERE {seen}"
    )
    sql = chosen if spec.max_age is None else _cut(spec, chosen, f"{at} - {interval(spec.max_age)}")
    return View(name, f"CREATE OR REPLACE MACRO {in_schema(name)}(t) AS TABLE {sql}")


def _cut(spec: TableSpec, chosen: str, oldest: str) -> str:
    lists = [name for name, dtype in spec.columns.items() if isinstance(dtype, pl.List)]
    shorter = ", ".join(f"{quoted(name)}[cut_ + 1:] AS {quoted(name)}" for name in lists)
    return (
        f"SELECT * EXCLUDE (cut_) REPLACE ((length - cut_)::INTEGER AS length, {shorter}) FROM ("
        f"SELECT *, len(list_filter(event_time, x -> x < {oldest})) AS cut_ FROM ({chosen})) "
        f"WHERE cut_ < length"
    )
