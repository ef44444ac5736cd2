"""What depends on a request: which columns it takes to answer, and those computed anew for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import polars as pl

from sequence_platform.engine.columns import Column, frame_of
from sequence_platform.engine.freshest import key_columns
from sequence_platform.plan.plan import TIME, ReadLookupPlan, SequencePlan

REQUEST_TIME = "request_time"


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What a request brings.

    Attributes:
        request_time: When it was asked.
        values: By name, of the types that the sequence declares; null if not given.
    """

    request_time: datetime
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True, eq=False)
class Needed:
    """What it takes to answer for some columns.

    Attributes:
        stored: Columns to read from the store.
        lookups: What to look up then, with the columns needed of each.
        computes: Whether some are request columns.
    """

    stored: tuple[str, ...]
    lookups: tuple[ReadLookupPlan, ...]
    computes: bool


def columns_needed(sequence: SequencePlan, asked: Sequence[str]) -> Needed:
    """Return what it takes: columns asked for, what request columns need, and keys of lookups."""
    expressions = sequence.definition.request or {}
    brought = {REQUEST_TIME, *(sequence.definition.context or {})}
    needed: dict[str, None] = {}
    for name in asked:
        roots = expressions[name].meta.root_names() if name in expressions else [name]
        needed |= dict.fromkeys(root for root in roots if root not in brought)
    lookups = tuple(
        replace(lookup, columns=tuple(name for name in lookup.columns if name in needed))
        for lookup in sequence.read_lookups
        if not needed.keys().isdisjoint(lookup.columns)
    )
    keys = [name for lookup in lookups for name in key_columns(sequence, lookup)]
    stored = dict.fromkeys(
        name for name in (*needed, *keys) if name not in sequence.read and name != "entity"
    )
    return Needed(tuple(stored), lookups, not expressions.keys().isdisjoint(asked))


def compute(
    sequence: SequencePlan,
    columns: Mapping[str, Column],
    length: int,
    context: Context,
    asked: Sequence[str],
) -> dict[str, Column]:
    """Return the request columns asked for.

    Args:
        sequence: The compiled sequence.
        columns: At least what ``columns_needed`` names, stored and looked up.
        length: How many events there are.
        context: What the request brings.
        asked: Columns; those that are not request columns are left out.
    """
    expressions = sequence.definition.request or {}
    wanted = [name for name in asked if name in expressions]
    types = dict(pl.Schema(sequence.definition.context or {}))
    brought = [
        pl.Series(name, [context.values.get(name)], dtype=dtype) for name, dtype in types.items()
    ]
    brought.append(pl.Series(REQUEST_TIME, [context.request_time], dtype=TIME))
    # First, so that columns of the context alone still say something of each event.
    entity = ("entity", Column(pl.Int64(), np.zeros(length, dtype=np.int64)))
    flat = frame_of([entity, *((n, c) for n, c in columns.items() if n != "entity")])
    flat = flat.with_columns(
        **{series.name: series.new_from_index(0, length) for series in brought},
    )
    values = flat.with_columns(
        expressions[name].over("entity").cast(sequence.request[name]).alias(name) for name in wanted
    )
    return {name: Column.of(values[name]) for name in wanted}
