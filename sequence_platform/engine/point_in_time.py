"""Sequences as they were at many moments at once: what training rows see.

A request sees an event if it happened before ``as_of`` and had arrived by ``known_at``. Of several
copies of an event it sees the winner among those it sees. Then the sequence's trim policy runs, the
very code that batch and serving run, with a request where they have an entity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from sequence_platform.engine.assemble import as_lists, dedupe_keys_of, derive, gather, in_order
from sequence_platform.engine.resolve import copies_of
from sequence_platform.engine.trim import NO_KEY, Ints, TrimPolicy, trim_events
from sequence_platform.plan.plan import TIME, SequencePlan

REQUESTS: dict[str, pl.DataType] = {"as_of": TIME, "known_at": TIME}
"""Columns of requests beside ``entity``: excluded end of event_time; included end of arrival_time,
null for all that is known today."""

ALL_KNOWN = np.iinfo(np.int64).max
"""``known_us`` of a request that sees whatever has arrived since."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Events that requests may see, each request's in sequence order, one request after the other.

    Attributes:
        runs: The request of each, a number that does not fall.
        time_us: event_time.
        types: The number of the event type.
        arrival_us: arrival_time; None if every event had arrived when it happened.
        copies: A number that copies of one event share, NO_KEY for events without; None if no
            event has copies.
        ranks: Of copies that a request sees the one with the largest wins.
    """

    runs: Ints
    time_us: Ints
    types: npt.NDArray[np.integer]
    arrival_us: Ints | None = None
    copies: Ints | None = None
    ranks: Ints | None = None


def seen(
    policy: TrimPolicy,
    events: Candidates,
    known_us: Ints,
    dedupe_keys_at: Callable[[Ints], Ints],
) -> Ints:
    """Return the positions of events that requests see and that trimming leaves, in order.

    Args:
        policy: Of the sequence.
        events: All that happened within the lookback of each request.
        known_us: By request, until when what arrived counts, inclusive.
        dedupe_keys_at: As for ``trim_events``, of events at positions.
    """
    at = np.arange(len(events.runs))
    if events.arrival_us is not None:
        at = np.flatnonzero(events.arrival_us <= known_us[events.runs])
    if events.copies is not None and events.ranks is not None:
        at = at[_wins(events.runs[at], events.copies[at], events.ranks[at])]
    trim = trim_events(
        policy,
        events.runs[at],
        events.time_us[at],
        events.types[at],
        lambda kept: dedupe_keys_at(at[kept]),
    )
    return at[trim.kept]


def first_not_before(
    times_at: Callable[[Ints], Ints], start: Ints, stop: Ints, targets: Ints
) -> Ints:
    """Return for each range of sorted times the first position whose time is not before a target.

    Binary search of all ranges at once: as many steps as the longest range needs, and only the
    times looked at are read.

    >>> times = np.array([1, 5, 9, 2, 4])
    >>> bounds = np.array([0, 3]), np.array([3, 5])
    >>> first_not_before(times.take, *bounds, np.array([5, 9])).tolist()
    [1, 5]
    """
    low, high = start.astype(np.int64), stop.astype(np.int64)
    for _ in range(int((high - low).max(initial=0)).bit_length()):
        middle = (low + high) >> 1
        is_open = low < high
        is_before = is_open.copy()
        is_before[is_open] = times_at(middle[is_open]) < targets[is_open]
        low = np.where(is_before, middle + 1, low)
        high = np.where(is_open & ~is_before, middle, high)
    return low


def positions_of(start: Ints, stop: Ints) -> tuple[Ints, Ints]:
    """Return all positions of ranges, one range after the other, and the range of each.

    >>> [found.tolist() for found in positions_of(np.array([4, 0, 7]), np.array([6, 0, 8]))]
    [[4, 5, 7], [0, 0, 2]]
    """
    held = np.flatnonzero(stop > start)
    lengths = (stop - start)[held]
    # One step each, but for the first of a range: sums are several times as fast as repeats.
    steps, ranges = np.ones((2, int(lengths.sum())), dtype=np.int64)
    ranges[:] = 0
    if len(held):
        first = np.cumsum(lengths) - lengths
        steps[first] = np.diff(start[held], prepend=0)
        steps[first[1:]] -= lengths[:-1] - 1
        ranges[first] = np.diff(held, prepend=0)
    return np.cumsum(steps), np.cumsum(ranges)


def point_in_time(
    sequence: SequencePlan,
    rows: Mapping[str, pl.DataFrame],
    requests: pl.DataFrame,
    columns: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Return the sequence of each request, in the order of requests.

    An event counts when ``as_of - lookback <= event_time < as_of`` and
    ``arrival_time <= known_at``; the newest version among those wins its key.

    Args:
        sequence: The compiled sequence.
        rows: By event type name: the envelope and those of the columns that the event type has; any
            order; several versions of an event are allowed.
        requests: ``entity`` and REQUESTS; any order, repeats allowed.
        columns: Lists to return, late columns among them. None: those that snapshots hold.

    Frames:
        returns: entity, as_of, length, and a list per column, oldest event first; one row a
            request. An entity without an event has empty lists.

    Guarantees:
        Law 7: an event that happened at or after ``as_of``, or arrived after ``known_at``, changes
        nothing. Equals the oracle, and ``assemble`` where known_at is null (properties/).
    """
    wanted = list(_listed(sequence, columns))
    ordered = in_order(sequence, rows)
    start, stop = _ranges(sequence, ordered, requests)
    at, runs = positions_of(start, stop)
    events, known_us = _candidates(sequence, rows, ordered, at, runs), _known(requests)
    kept = seen(
        TrimPolicy.of(sequence),
        events,
        known_us,
        lambda some: dedupe_keys_of(sequence, ordered[at[some]], rows),
    )
    needed = [name for name in sequence.columns if name in _needed(sequence, wanted)]
    flat = gather(sequence, ordered[at[kept]], rows, needed)
    flat = derive(sequence, flat.with_columns(entity=pl.Series(runs[kept], dtype=pl.Int64)), wanted)
    lengths = np.bincount(runs[kept], minlength=requests.height)
    lists = as_lists(flat.select(wanted), np.append(0, np.cumsum(lengths)))
    heads = requests.select(pl.col("entity").cast(sequence.entity_type), "as_of")
    return heads.with_columns(length=pl.Series(lengths, dtype=pl.Int32), **lists)


def _listed(sequence: SequencePlan, columns: Sequence[str] | None) -> Sequence[str]:
    if columns is not None:
        return columns
    return [name for name, dtype in sequence.schema.items() if isinstance(dtype, pl.List)]


def _needed(sequence: SequencePlan, columns: Sequence[str]) -> set[str]:
    """Return the columns themselves, and those that derived ones among them are made of."""
    derived = sequence.definition.derived or {}
    roots = [derived[name].meta.root_names() for name in columns if name in derived]
    return {*columns, *(name for names in roots for name in names)}


def _ranges(
    sequence: SequencePlan, ordered: pl.DataFrame, requests: pl.DataFrame
) -> tuple[Ints, Ints]:
    """Return the events within the lookback of each request, ``[start, stop)``."""
    spans = ordered.with_row_index("at").group_by("entity", maintain_order=True)
    of_entity = requests.select(pl.col("entity").cast(sequence.entity_type)).join(
        spans.agg(first=pl.col("at").min().cast(pl.Int64), events=pl.len().cast(pl.Int64)),
        on="entity",
        how="left",
        maintain_order="left",
    )
    first = of_entity["first"].fill_null(0).to_numpy()
    last = first + of_entity["events"].fill_null(0).to_numpy()
    time_us = ordered["event_time"].to_physical().to_numpy()
    as_of = requests["as_of"].cast(TIME).to_physical().to_numpy()
    lookback = sequence.lookback_us
    start = first_not_before(time_us.take, first, last, as_of - lookback)
    return start, first_not_before(time_us.take, start, last, as_of)


def _known(requests: pl.DataFrame) -> Ints:
    known = requests["known_at"].cast(TIME).to_physical()
    found: Ints = known.fill_null(ALL_KNOWN).to_numpy()
    return found


def _candidates(
    sequence: SequencePlan,
    rows: Mapping[str, pl.DataFrame],
    ordered: pl.DataFrame,
    at: Ints,
    runs: Ints,
) -> Candidates:
    arrival = gather(sequence, ordered, rows, ["arrival_time"])["arrival_time"]
    copies, ranks = _copies(sequence, rows, ordered)
    return Candidates(
        runs,
        ordered["event_time"].to_physical().to_numpy()[at],
        ordered["type"].to_numpy()[at],
        arrival.to_physical().to_numpy()[at],
        None if copies is None else copies[at],
        None if ranks is None else ranks[at],
    )


def _copies(
    sequence: SequencePlan, rows: Mapping[str, pl.DataFrame], ordered: pl.DataFrame
) -> tuple[Ints | None, Ints | None]:
    """Return ``copies`` and ``ranks`` of all events, or None if every key has one row."""
    found = [
        copies_of(rows[event.name], event.payload).with_columns(type=pl.lit(number, pl.UInt8))
        for number, event in enumerate(sequence.events)
        if event.name in rows
    ]
    contested = [frame for frame in found if not frame.is_empty()]
    if not contested:
        return None, None
    numbered = pl.concat(contested).with_columns(
        copy=pl.struct("type", "copy").rle_id().cast(pl.Int64),
        rank=pl.int_range(pl.len(), dtype=pl.Int64),
    )
    marks = ordered.select("type", "row").join(
        numbered, on=["type", "row"], how="left", maintain_order="left"
    )
    return marks["copy"].fill_null(NO_KEY).to_numpy(), marks["rank"].fill_null(0).to_numpy()


def _wins(runs: Ints, copies: Ints, ranks: Ints) -> npt.NDArray[np.bool_]:
    """Return which events no copy beats that the same request sees."""
    wins = np.ones(len(runs), dtype=np.bool_)
    contested = np.flatnonzero(copies != NO_KEY)
    order = contested[np.lexsort((ranks[contested], copies[contested], runs[contested]))]
    beaten = (copies[order[1:]] == copies[order[:-1]]) & (runs[order[1:]] == runs[order[:-1]])
    wins[order[:-1][beaten]] = False
    return wins
