"""Enriched rows to sequences: resolve, merge event types, order, trim, derive, one row an entity.

Only keys are ordered and trimmed; columns are gathered once, for the events that stay.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
import pyarrow as pa

from sequence_platform.engine.resolve import unique_rows
from sequence_platform.engine.trim import (
    NO_KEY,
    Ints,
    Trim,
    TrimPolicy,
    trim_events,
)
from sequence_platform.plan.plan import TRIMMED, SequencePlan

ORDER = ["entity", "event_time", "type", "event_id"]
"""The order of sequences; ``type`` is the number of the event type, by priority."""


def assemble(
    sequence: SequencePlan, rows: Mapping[str, pl.DataFrame], as_of: datetime
) -> pl.DataFrame:
    """Return the sequence of every entity as of a time.

    An event counts when ``as_of - lookback <= event_time < as_of``.

    Args:
        sequence: The compiled sequence.
        rows: By event type name: the envelope and those of the sequence's carried columns that the
            event type has; any order. Event types without rows may be left out.
        as_of: Excluded end, UTC.

    Frames:
        returns: ``sequence.schema``, one row for each entity with an event left, sorted by entity.
            Lists run from oldest to newest by (event_time, priority of the event type, event_id),
            all of one length; nulls are kept.

    Guarantees:
        Does not depend on the order of rows or on repeats. Equals the oracle (properties/).
    """
    return assemble_current(sequence, unique_within(sequence, rows, as_of), as_of)


def assemble_current(
    sequence: SequencePlan, current: Mapping[str, pl.DataFrame], as_of: datetime
) -> pl.DataFrame:
    """Return what ``assemble`` does, from rows that are one a key and of the lookback.

    What decides between copies, arrival_time and revision, need not be among their columns.
    """
    found = merge_and_trim(sequence, current)
    trim, runs = found.trim, found.runs
    flat = gather(sequence, found.ordered[trim.kept], current)
    return _to_lists(sequence, flat, runs[trim.kept], _cut_by_entity(trim, runs), as_of)


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """The events of all event types in sequence order, and what trimming says of each.

    Attributes:
        ordered: entity, event_time, ``type`` (the event type's number), event_id and ``row`` (in
            its frame), in sequence order.
        runs: The entity of each, as a number that does not fall.
    """

    ordered: pl.DataFrame
    runs: Ints
    trim: Trim


def merge_and_trim(sequence: SequencePlan, current: Mapping[str, pl.DataFrame]) -> Merged:
    """Return in which order events come and which of them stay; arguments as assemble_current."""
    ordered = in_order(sequence, current)
    runs = ordered["entity"].rle_id().cast(pl.Int64).to_numpy()
    return Merged(ordered, runs, _trim(sequence, ordered, current, runs))


def unique_within(
    sequence: SequencePlan, rows: Mapping[str, pl.DataFrame], as_of: datetime
) -> dict[str, pl.DataFrame]:
    """Return the rows that count as of a time, one a key; arguments as ``assemble``."""
    return {
        event.name: unique_rows(
            _within(rows[event.name], as_of - sequence.lookback, as_of), event.payload
        )
        for event in sequence.events
        if event.name in rows
    }


def _within(rows: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    """Return the rows of ``[start, end)``; the frame itself if that is all, as it mostly is."""
    inside = rows.select(
        inside=pl.col("event_time").is_between(start, end, closed="left")
    ).to_series()
    return rows if inside.all() else rows.filter(inside)


def in_order(sequence: SequencePlan, current: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Return the keys of all events in sequence order, with their type's number and their row."""
    empty: dict[str, pl.DataType | type[pl.DataType]] = {
        "entity": sequence.entity_type,
        "event_time": pl.Datetime("us", "UTC"),
        "type": pl.UInt8,
        "event_id": pl.String,
    }
    keys = [
        current[event.name]
        .select("entity", "event_time", pl.lit(number, pl.UInt8).alias("type"), "event_id")
        .with_columns(row=pl.int_range(pl.len(), dtype=pl.UInt32))
        for number, event in enumerate(sequence.events)
        if event.name in current
    ]
    merged = pl.concat(keys) if keys else pl.DataFrame(schema=empty | {"row": pl.UInt32})
    # Days come one after the other, each sorted: for one event type it then suffices to bring an
    # entity's rows together, for several to compare numbers. Sorting by all four keys costs
    # several times as much as to see that their order has come out.
    nearly = merged.sort(ORDER[: 1 if len(keys) == 1 else 2], maintain_order=True)
    return nearly if _is_ordered(nearly) else nearly.sort(ORDER)


def _is_ordered(keys: pl.DataFrame) -> bool:
    """Return whether rows that stand together by entity are in sequence order."""
    later, equal = pl.lit(value=False), pl.col("entity").eq_missing(pl.col("entity").shift())
    for name in ORDER[1:]:
        before = pl.col(name).shift()
        later |= equal & (pl.col(name) < before)
        equal &= pl.col(name) == before
    return not keys.select(later.any()).item()


def _trim(
    sequence: SequencePlan, ordered: pl.DataFrame, current: Mapping[str, pl.DataFrame], runs: Ints
) -> Trim:
    """Apply the trim policy to the merged sequence."""
    return trim_events(
        TrimPolicy.of(sequence),
        runs,
        ordered["event_time"].to_physical().to_numpy(),
        ordered["type"].to_numpy(),
        lambda at: dedupe_keys_of(sequence, ordered[at], current),
    )


def dedupe_keys_of(
    sequence: SequencePlan, ordered: pl.DataFrame, current: Mapping[str, pl.DataFrame]
) -> Ints:
    """Return the dedupe key of each event, as ``trim_events`` wants them."""
    names = dedupe_columns(sequence)
    return dedupe_keys(
        gather(sequence, ordered, current, [name for name in names if name != "event_type"]).select(
            names
        )
    )


def dedupe_columns(sequence: SequencePlan) -> list[str]:
    """Return the columns that decide which events repeat each other."""
    if sequence.definition.dedupe is None:
        return []
    by = sequence.definition.dedupe.by
    return [by] if isinstance(by, str) else list(by)


def dedupe_keys(values: pl.DataFrame) -> Ints:
    """Return a number per row, equal where all columns are; NO_KEY where one is null."""
    keys, size = _numbered(values.to_series(0))
    for series in values.iter_columns():
        if series.name == values.columns[0]:
            continue
        codes, more = _numbered(series)
        if size * more > MOST_KEYS:  # so many columns, or so far apart, that the product overflows
            (keys, size), (codes, more) = _ranked(keys), _ranked(codes)
        keys, size = keys * more + codes, size * more
    return keys.fill_null(NO_KEY).to_numpy()


MOST_KEYS = 2**62


def _numbered(values: pl.Series) -> tuple[pl.Series, int]:
    """Return numbers from 0 that are equal where values are, and how many there may be."""
    if not (values.dtype.is_integer() or isinstance(values.dtype, pl.Boolean)):
        return _ranked(values)
    whole = values.cast(pl.Int64, strict=False) if values.dtype != pl.UInt64 else values
    low, high = whole.min(), whole.max()
    if not (isinstance(low, int) and isinstance(high, int)):
        return values.cast(pl.Int64), 1
    if high - low >= MOST_KEYS or high >= MOST_KEYS:
        return _ranked(values)
    return whole.cast(pl.Int64) - low, high - low + 1


def _ranked(values: pl.Series) -> tuple[pl.Series, int]:
    ranks = values.rank("dense").cast(pl.Int64) - 1
    highest = ranks.max()
    return ranks, highest + 1 if isinstance(highest, int) else 1


def gather(
    sequence: SequencePlan,
    ordered: pl.DataFrame,
    current: Mapping[str, pl.DataFrame],
    columns: list[str] | None = None,
) -> pl.DataFrame:
    """Return entity, event_type, event_time, event_id and columns, in the order of ``ordered``."""
    names = list(sequence.carried) if columns is None else columns
    types = ordered["type"].to_numpy()
    parts, positions = [], []
    for number, event in enumerate(sequence.events):
        if event.name not in current:
            continue
        at = np.flatnonzero(types == number)
        frame = current[event.name]
        held = [name for name in names if name in frame.columns]
        missing = [
            pl.lit(None, sequence.columns[name]).alias(name) for name in names if name not in held
        ]
        picked = frame.select("entity", *held)[ordered["row"].gather(at)]
        parts.append(picked.with_columns(missing).select(names))
        positions.append(at)
    labels = pl.Series([event.name for event in sequence.events])
    flat = ordered.select(
        "entity",
        event_type=labels.gather(ordered["type"]),
        event_time="event_time",
        event_id="event_id",
    )
    if not names or not parts:
        return flat.with_columns(pl.lit(None, sequence.columns[name]).alias(name) for name in names)
    values = (
        parts[0] if len(parts) == 1 else pl.concat(parts)[np.argsort(np.concatenate(positions))]
    )
    return flat.hstack(values)


def as_lists(flat: pl.DataFrame, offsets: Ints) -> dict[str, pl.Series]:
    """Return a list column per column; list ``n`` has the rows ``[offsets[n], offsets[n + 1])``."""
    shared = pa.array(offsets, type=pa.int64())
    newest = pl.CompatLevel.newest()
    return {
        series.name: pl.Series(
            series.name,
            pa.LargeListArray.from_arrays(shared, series.rechunk().to_arrow(compat_level=newest)),
            dtype=pl.List(series.dtype),
        )
        for series in flat
    }


def derive(
    sequence: SequencePlan, flat: pl.DataFrame, asked: Collection[str] | None = None
) -> pl.DataFrame:
    """Return events, in the order of final sequences, with their derived columns.

    Args:
        sequence: The compiled sequence.
        flat: With ``entity``, a value a sequence.
        asked: Only these of the derived columns.
    """
    derived = sequence.definition.derived or {}
    return flat.with_columns(
        expr.over("entity").cast(sequence.derived[name]).alias(name)
        for name, expr in derived.items()
        if asked is None or name in asked
    )


def _cut_by_entity(trim: Trim, runs: Ints) -> dict[str, Ints]:
    """Return by rule how many events it cut of each entity."""
    entities = int(runs[-1]) + 1 if len(runs) else 0
    none = np.zeros(entities, dtype=np.int64)
    return {
        field.name: np.bincount(runs[trim.cut[field.name]], minlength=entities)
        if field.name in trim.cut
        else none
        for field in TRIMMED.fields
    }


def _to_lists(
    sequence: SequencePlan, flat: pl.DataFrame, runs: Ints, cut: Mapping[str, Ints], as_of: datetime
) -> pl.DataFrame:
    """Derive, and turn the events of each entity into a row of lists that share their offsets."""
    flat = derive(sequence, flat)
    starts = np.flatnonzero(np.diff(runs, prepend=-1)) if len(runs) else np.empty(0, dtype=np.int64)
    names = [name for name in sequence.schema if name in flat.columns and name != "entity"]
    lists = as_lists(flat.select(names), np.append(starts, len(runs)))
    entities = runs[starts]
    return pl.DataFrame(
        {
            "entity": flat["entity"].gather(starts),
            "as_of": pl.repeat(as_of, len(starts), dtype=pl.Datetime("us", "UTC"), eager=True),
            "length": pl.Series(np.diff(np.append(starts, len(runs))), dtype=pl.Int32),
            **lists,
            "trimmed": pl.DataFrame(
                {rule: counts[entities] for rule, counts in cut.items()}
            ).to_struct("trimmed"),
        }
    ).cast({"trimmed": TRIMMED})
