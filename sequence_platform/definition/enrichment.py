"""Enrichment: columns looked up by key, attached to events or filled in when a sequence is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import polars as pl

from sequence_platform.definition.source import Source

DEFAULT_DEADLINE = timedelta(milliseconds=20)
"""How long a request waits for an enrichment that says nothing else."""


def Vector(length: int, dtype: type[pl.DataType] = pl.Float32) -> pl.Array:  # noqa: N802 - reads as the type it is
    """Return the type of a vector of fixed length.

    >>> Vector(3)
    Array(Float32, shape=(3,))
    """
    return pl.Array(dtype, length)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Enrichment:
    """Columns looked up by key, versioned by the time they became available.

    With ``resolve="ingest"`` they are attached to events and stored with them: a row counts for an
    event when ``available_time <= event_time`` and it is the newest such row of its key, so that
    batch, stream and training pick the same version.

    With ``resolve="read"`` they are stored with no event. Whoever asks for a sequence gets, for
    each event, the newest row of its key with ``available_time <= as_of``: the price of now, not
    of when it was clicked. An earlier ``as_of`` gets what had become available by then; without
    ``available_time`` it gets what there is now.

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
        resolve: When rows are looked up: once, as events come in, or whenever a sequence is read.
        deadline: Of ``resolve="read"``: how long a request waits, for all its keys together. None:
            DEFAULT_DEADLINE.
        on_timeout: Of ``resolve="read"``: without an answer by then the columns are null and the
            answer says so, or the request fails. None: ``"null"``.
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
    resolve: Literal["ingest", "read"] = "ingest"
    deadline: timedelta | None = None
    on_timeout: Literal["null", "fail"] | None = None
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
