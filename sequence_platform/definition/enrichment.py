"""Enrichment: columns looked up by key and attached to events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from sequence_platform.definition.source import Source


def Vector(length: int, dtype: type[pl.DataType] = pl.Float32) -> pl.Array:  # noqa: N802 - reads as the type it is
    """Return the type of a vector of fixed length.

    >>> Vector(3)
    Array(Float32, shape=(3,))
    """
    return pl.Array(dtype, length)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Enrichment:
    """Columns looked up by key and attached to events, versioned by the time they became available.

    A row counts for an event when ``available_time <= event_time`` and it is the newest such row of
    its key, so that batch, stream and training pick the same version.

    Attributes:
        name: Unique; ``[a-z][a-z0-9_]*``.
        key: Column of ``schema`` that events look rows up by.
        schema: The source's columns and types.
        source: Where the rows are.
        columns: What is attached: names of source columns, or new names with row-level expressions.
        available_time: Column or expression (a datetime). None: rows are known at all times, one a
            key.
        on_missing: An event whose key has no row gets nulls, or is rejected by the rule
            ``missing:<name>``.
        owner: An e-mail address or ``team:name``.
        description: What it is, for people.
        version: Raise it when the meaning changes.
    """

    name: str
    key: str
    schema: Mapping[str, pl.DataType | type[pl.DataType]]
    source: Source
    columns: Sequence[str] | Mapping[str, pl.Expr]
    available_time: str | pl.Expr | None = None
    on_missing: Literal["null", "reject"] = "null"
    owner: str = ""
    description: str = ""
    version: int = 1

    def by(self, column: str) -> Lookup:
        """Return this enrichment looked up by a column of the event not named like its key."""
        return Lookup(self, column)


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """An enrichment and the event's column that holds its key."""

    enrichment: Enrichment
    column: str
