"""What is looked up when a sequence is read: keys of its events, and the row that counts for each.

One rule, for notebooks and for requests, wherever the rows are: of the rows of a key the newest
with ``available_time <= as_of`` counts, whenever the event happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import numpy as np
import polars as pl
import pyarrow as pa

from sequence_platform.engine.columns import Column, Ints, frame_of, key_runs
from sequence_platform.engine.point import EPOCH, US
from sequence_platform.plan.plan import EnrichmentPlan, EventPlan, ReadLookupPlan, SequencePlan

ReadRows = Callable[[EnrichmentPlan, pl.Series], pl.DataFrame]
"""Returns an enrichment's rows (EnrichmentPlan.schema) with one of the keys given.

Sorted by key and available_time.
"""


def freshest(time_us: Ints | None, starts: Ints, stops: Ints, at: datetime) -> Ints:
    """Return the position of the row that counts for each key, -1 where none does.

    Args:
        time_us: available_time of all rows, rising within a key; None: they are known at all times.
        starts: Where the rows of each key begin.
        stops: Where they end, excluded; equal to ``starts`` for a key without rows.
        at: What was available then, included.

    Guarantees:
        Equals the oracle (properties/test_freshest_laws.py).
    """
    low, high, at_us = starts, stops, (at - EPOCH) // US
    if time_us is None or not len(time_us):
        return np.where(low < high, high - 1, -1)
    # Nearly always nothing is newer than now. (For a key without rows any row is looked at, which
    # at worst spoils the shortcut.)
    if bool((time_us[high - 1] <= at_us).all()):
        return np.where(low < high, high - 1, -1)
    while (is_open := low < high).any():
        middle = (low + high) >> 1
        is_known = is_open & (time_us[np.minimum(middle, len(time_us) - 1)] <= at_us)
        low, high = np.where(is_known, middle + 1, low), np.where(is_known, high, middle)
    return np.where(low > starts, low - 1, -1)


def freshest_of(
    enrichment: EnrichmentPlan, rows: pl.DataFrame, keys: Column, at: datetime
) -> dict[str, Column]:
    """Return the columns of an enrichment for keys, null where no row counts.

    Args:
        enrichment: The compiled enrichment.
        rows: In its schema, sorted by key and available_time; those of the keys suffice.
        keys: Of the key's type; a null finds nothing.
        at: What was available then, included.
    """
    held = key_runs(rows["key"])
    places = (
        keys.to_series("key").to_frame().join(held, on="key", how="left", maintain_order="left")
    )
    starts, stops_of = (places[name].fill_null(0).to_numpy() for name in ("start", "stop"))
    time = None
    if enrichment.is_versioned:
        time = rows["available_time"].to_physical().to_numpy()
    at_rows = freshest(time, starts, stops_of, at)
    return {name: Column.of(rows[name]).take_or_null(at_rows) for name in enrichment.columns}


# ---- keys


def key_columns(sequence: SequencePlan, lookup: ReadLookupPlan) -> list[str]:
    """Return the columns that tell the key of each event."""
    one = _one_key(sequence, lookup)
    if one is not None:
        return [one]
    return ["event_type", *dict.fromkeys(key for _, key in _keys(sequence, lookup))]


def keys_of(
    sequence: SequencePlan, lookup: ReadLookupPlan, columns: Mapping[str, Column], length: int
) -> Column:
    """Return the key of each event; null where its type has none.

    Args:
        sequence: The compiled sequence, perhaps ``narrowed``.
        lookup: One of its lookups.
        columns: At least ``key_columns``, of its events.
        length: How many events there are.
    """
    dtype = lookup.enrichment.schema["key"]
    one = _one_key(sequence, lookup)
    if one is not None:
        return columns[one].cast(dtype)
    keys = _keys(sequence, lookup)
    if not keys:
        return Column.nulls(dtype, length)
    frame = frame_of((name, columns[name]) for name in key_columns(sequence, lookup))
    by_type = [
        pl.when(pl.col("event_type") == event.name).then(pl.col(key).cast(dtype))
        for event, key in keys
    ]
    return Column.of(frame.select(key=pl.coalesce(by_type))["key"])


def _keys(sequence: SequencePlan, lookup: ReadLookupPlan) -> list[tuple[EventPlan, str]]:
    return [(event, lookup.by[event.name]) for event in sequence.events if event.name in lookup.by]


def _one_key(sequence: SequencePlan, lookup: ReadLookupPlan) -> str | None:
    """Return the column that alone tells the key: null in events whose type looks nothing up."""
    names = {key for _, key in _keys(sequence, lookup)}
    if len(names) != 1:
        return None
    (name,) = names
    others = [event for event in sequence.events if event.name not in lookup.by]
    return None if any(name in event.schema for event in others) else name


# ---- whole sequences


def attach_read(
    sequence: SequencePlan,
    sequences: pl.DataFrame,
    lookups: Sequence[ReadLookupPlan],
    read_rows: ReadRows,
    at: datetime,
) -> pl.DataFrame:
    """Return sequences with lists of read columns appended.

    Args:
        sequence: The compiled sequence.
        sequences: With entity, event_id and the ``key_columns`` of what is looked up.
        lookups: What to look up: lookups of the sequence, perhaps with fewer columns.
        read_rows: Where rows are.
        at: What was available then, included.

    Guarantees:
        Each list is as long as event_id.
    """
    lengths = sequences["event_id"].list.len().to_numpy()
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    owners = pl.Series(np.repeat(np.arange(len(lengths)), lengths), dtype=pl.UInt32)

    def flat(name: str) -> Column:
        held = sequences[name]
        return Column.of(held.gather(owners) if name == "entity" else held.explode())

    lists = []
    for lookup in lookups:
        given = {name: flat(name) for name in key_columns(sequence, lookup)}
        keys = keys_of(sequence, lookup, given, int(offsets[-1]))
        distinct = keys.to_series("key").unique().drop_nulls().sort()
        rows = read_rows(lookup.enrichment, distinct)
        found = freshest_of(lookup.enrichment, rows, keys, at)
        for name in lookup.columns:
            values = pa.LargeListArray.from_arrays(pa.array(offsets), found[name].to_arrow())
            lists.append(pl.Series(name, values, dtype=pl.List(sequence.read[name])))
    return sequences.hstack(lists)
