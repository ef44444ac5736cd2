"""Why an entity's sequence is what it is: every row that may count, where it is, what became of it.

For people who ask why an event is there, or is not. It reads as ``read_point`` does and takes the
rules from where that takes them; only the names of what they did are given here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from sequence_platform.engine.assemble import merge_and_trim, unique_within
from sequence_platform.engine.point import (
    Candidates,
    Where,
    are_allowed,
    candidate_rows,
    current_rows,
    removal_rows,
)
from sequence_platform.plan.plan import ENVELOPE, EventPlan, SequencePlan

KEPT = "kept"
REMOVED = "removed"
SUPERSEDED = "superseded"
FILTERED = "filtered"
TOO_OLD = "too old"
NOT_YET = "not yet"
FATES = {
    KEPT: "in the sequence",
    "sessions": "cut: of an older session",
    "dedupe": "cut: repeats another event",
    "quotas": "cut: newer events of its type fill the quota",
    "max_length": "cut: newer events fill the sequence",
    TOO_OLD: "cut: older than max_age",
    NOT_YET: "not before as_of",
    FILTERED: "not asked for",
    SUPERSEDED: "another row of its key counts",
    REMOVED: "its key was deleted, or rejected by a rule",
}
"""What may become of a row; the rules of trimming by their own names."""
SETTLED, FRESH = "segment", "tail"

_NUMBER = "\0number"
"""A column that no event type has."""


def account_for(
    sequence: SequencePlan,
    found: Sequence[Candidates],
    entity: object,
    as_of: datetime,
    where: Where | None = None,
) -> pl.DataFrame:
    """Return every candidate row with its origin and fate; arguments as ``read_point``.

    Frames:
        returns: event_type, event_time, event_id, arrival_time, revision, ``origin`` (SETTLED or
            FRESH), ``fate`` (of FATES), then the sequence's columns; newest row first.

    Guarantees:
        The rows that are KEPT are the events of ``read_point``.
    """
    parts, fates, rows = [], [], {}
    for each in found:
        candidates = candidate_rows(each, entity).with_row_index(_NUMBER)
        current = current_rows(each.event, candidates, removal_rows(each, entity))
        rows[each.event.name] = current.filter(*are_allowed(each.event, where or {}))
        parts.append(_described(sequence, each, candidates))
        fates.append(_first_fates(candidates, current, rows[each.event.name], sequence, as_of))
    counted = unique_within(sequence, rows, as_of)
    merged = merge_and_trim(sequence, counted)
    types, which = (merged.ordered[name].to_numpy() for name in ("type", "row"))
    for number, event in enumerate(sequence.events):
        numbers = counted[event.name][_NUMBER].to_numpy()
        for fate, at in [*merged.trim.cut.items(), (KEPT, merged.trim.kept)]:
            fates[number][numbers[which[at[types[at] == number]]]] = fate
    told = [
        part.with_columns(fate=pl.Series(fate, dtype=pl.String))
        for part, fate in zip(parts, fates, strict=True)
    ]
    return pl.concat(told).sort("event_time", "event_id", descending=True, maintain_order=True)


def _first_fates(
    candidates: pl.DataFrame,
    current: pl.DataFrame,
    asked: pl.DataFrame,
    sequence: SequencePlan,
    as_of: datetime,
) -> npt.NDArray[np.object_]:
    """Return what became of rows before trimming; those it sees are SUPERSEDED until it speaks."""
    fates = np.full(candidates.height, SUPERSEDED, dtype=object)
    has_winner = candidates["event_id"].is_in(current["event_id"].implode()).to_numpy()
    fates[~has_winner] = REMOVED
    filtered = current.filter(~pl.col(_NUMBER).is_in(asked[_NUMBER].implode()))
    fates[filtered[_NUMBER].to_numpy()] = FILTERED
    for fate, outside in (
        (TOO_OLD, pl.col("event_time") < as_of - sequence.lookback),
        (NOT_YET, pl.col("event_time") >= as_of),
    ):
        fates[asked.filter(outside)[_NUMBER].to_numpy()] = fate
    return fates


def _described(sequence: SequencePlan, found: Candidates, candidates: pl.DataFrame) -> pl.DataFrame:
    """Return rows with what a person wants to see of them."""
    event: EventPlan = found.event
    settled = len(found.settled.time_us)
    origin = pl.when(pl.col(_NUMBER) < settled).then(pl.lit(SETTLED)).otherwise(pl.lit(FRESH))
    columns = [
        pl.col(name) if name in event.schema else pl.lit(None, dtype).alias(name)
        for name, dtype in sequence.columns.items()
        if name not in ENVELOPE
    ]
    return candidates.select(
        pl.lit(event.name).alias("event_type"),
        "event_time",
        "event_id",
        "arrival_time",
        "revision",
        origin.alias("origin"),
        *columns,
    )
