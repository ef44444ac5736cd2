"""One entity's sequence at a moment: what is settled and what is fresh, merged, ordered, trimmed.

Two ways that give one answer. Where no key repeats and nothing removes anything, which is nearly
always, numpy orders and trims keys and gathers the columns asked for. Where one does, frames go
through ``resolve`` and ``assemble``, as in batch. The rules are in those two and in ``trim``; this
module only decides whether they can be skipped. ``properties/test_point_laws.py`` holds both ways
equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from sequence_platform.engine.assemble import assemble, dedupe_columns, derive
from sequence_platform.engine.columns import Column, Ints, concat, frame_of
from sequence_platform.engine.resolve import resolve, without_beaten
from sequence_platform.engine.trim import NO_KEY, TrimPolicy, trim_events
from sequence_platform.plan.plan import ENVELOPE, TIME, TRIMMED, EventPlan, SequencePlan

Hashes = npt.NDArray[np.uint64]

US = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_US = 86_400_000_000

OF_THE_PLATFORM = ("event_type", "event_time", "event_id")
"""Columns that every sequence has beside its own."""


class Rows(Protocol):
    """Rows of one event type and one entity, sorted by (event_time, event_id), no key twice."""

    @property
    def time_us(self) -> Ints:
        """When each happened."""
        ...

    @property
    def id_hash(self) -> Hashes:
        """``hash_ids`` of each."""
        ...

    def column(self, name: str, start: int, stop: int) -> Column:
        """Return a column of the event type's schema, of the rows of ``[start, stop)``."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Removals:
    """Deletions and rejected rows of one event type and one entity.

    Attributes:
        id_hash: ``hash_ids`` of each.
        read: Returns ENVELOPE and rule of each; perhaps of other entities, too.
    """

    id_hash: Hashes
    read: Callable[[], pl.DataFrame]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """What may count of one event type and one entity.

    Attributes:
        event: The event type.
        settled: Rows of segments.
        fresh: Rows that streamed in since, or None. Keys may repeat those of ``settled`` and each
            other.
        removals: Settled and fresh; none if nothing is fresh: what is settled has been resolved.
        is_hashed: Whether all of ``id_hash`` come from one way of hashing.
    """

    event: EventPlan
    settled: Rows
    fresh: Rows | None = None
    removals: Sequence[Removals] = ()
    is_hashed: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """A sequence of one entity.

    Attributes:
        length: Events.
        columns: What was asked for, aligned, oldest event first.
        trimmed: How many events each rule cut; age is not counted.
    """

    length: int
    columns: Mapping[str, Column]
    trimmed: Mapping[str, int]


Where = Mapping[str, pl.Series]
"""Values that a column may have; an event without it, or with null, does not count."""


def narrowed(
    sequence: SequencePlan,
    *,
    limit: int | None = None,
    max_age: timedelta | None = None,
    types: Sequence[str] | None = None,
) -> SequencePlan:
    """Return a sequence that keeps less: newest events, of an age, of some event types.

    Event types are chosen before anything is trimmed, as if the others did not exist.
    """
    policy = sequence.definition
    if limit is not None:
        policy = replace(policy, max_length=min(limit, policy.max_length))
    lookback = sequence.lookback if max_age is None else min(max_age, sequence.lookback)
    events = sequence.events
    if types is not None:
        events = tuple(event for event in events if event.name in types)
    return replace(sequence, definition=policy, lookback=lookback, events=events)


HASHER = "polars " + ".".join(pl.__version__.split(".")[:2])
"""Who hashes ids; another version may do it differently: see ``Candidates.is_hashed``."""


def hash_ids(ids: pl.Series) -> Hashes:
    """Return a number per event id; different ids seldom have the same."""
    return ids.hash(seed=7).to_numpy()


def read_point(  # noqa: PLR0913, PLR0917 - what, of whom, when, how much
    sequence: SequencePlan,
    found: Sequence[Candidates],
    entity: object,
    as_of: datetime,
    columns: Sequence[str],
    where: Where | None = None,
) -> Point:
    """Return an entity's sequence as of a time.

    Args:
        sequence: The compiled sequence, perhaps ``narrowed``.
        found: What may count, in the order of ``sequence.events``, each of them once.
        entity: Whose it is.
        as_of: Excluded end, UTC.
        columns: Of the sequence: event_type, event_time, event_id, carried (late ones too) or
            derived.
        where: Applied before trimming.

    Guarantees:
        Equals ``assemble`` of what resolving settled rows, fresh rows and removals leaves.
    """
    span = _Span.of(sequence, as_of)
    if where or any(_must_resolve(each, span) for each in found):
        return _by_frames(sequence, found, entity, as_of, columns, where or {})
    return _by_keys(sequence, found, span, columns) or _by_frames(
        sequence, found, entity, as_of, columns, {}
    )


@dataclass(frozen=True, slots=True)
class _Span:
    """Times that count, in microseconds since the epoch: ``[start, end)``."""

    start: int
    end: int

    @classmethod
    def of(cls, sequence: SequencePlan, as_of: datetime) -> _Span:
        end = (as_of - EPOCH) // US
        return cls(end - sequence.lookback // US, end)

    def within(self, time_us: Ints) -> tuple[int, int]:
        """Return which rows count; nearly always it is all of them."""
        count = len(time_us)
        if not count:
            return 0, 0
        first = 0 if time_us[0] >= self.start else int(time_us.searchsorted(self.start))
        last = count if time_us[-1] < self.end else int(time_us.searchsorted(self.end))
        return first, max(first, last)


def _must_resolve(found: Candidates, span: _Span) -> bool:
    """Return whether a key may repeat, or be removed.

    Rows of an event type that corrects compete whenever they happened, others within a day and
    within the span: so far must be looked for repeats.
    """
    fresh = found.fresh
    settled = found.settled.time_us
    first, last = span.within(settled)
    if fresh is None and not found.removals:
        hashes = found.settled.id_hash[first:last]
    else:
        if found.event.corrects:
            first, last = 0, len(settled)
        else:
            oldest = span.start if fresh is None else min(span.start, int(fresh.time_us[0]))
            end = -(-span.end // DAY_US) * DAY_US
            first, last = _Span(oldest // DAY_US * DAY_US, end).within(settled)
        parts = [found.settled.id_hash[first:last]]
        parts += [] if fresh is None else [fresh.id_hash]
        # Rejected copies of one event repeat no row.
        parts += (
            [np.unique(np.concatenate([each.id_hash for each in found.removals]))]
            if found.removals
            else []
        )
        hashes = np.concatenate(parts)
    if not found.is_hashed:
        return len(hashes) > 1
    ordered = np.sort(hashes)
    return bool((ordered[1:] == ordered[:-1]).any())


# ---- by keys


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Rows ``[start, stop)`` of one place."""

    event: EventPlan
    rows: Rows
    start: int
    stop: int

    @property
    def time_us(self) -> Ints:
        return self.rows.time_us[self.start : self.stop]

    def column(self, sequence: SequencePlan, name: str) -> Column:
        if name == "event_type":
            return Column.repeated(self.event.name, self.stop - self.start)
        if name in self.event.schema:
            return self.rows.column(name, self.start, self.stop)
        return Column.nulls(sequence.columns[name], self.stop - self.start)


def _by_keys(
    sequence: SequencePlan, found: Sequence[Candidates], span: _Span, columns: Sequence[str]
) -> Point | None:
    """Return the sequence where every key stands once; None if only ids can order some events."""
    pieces, types = _pieces(found, span)
    if not pieces:
        return Point(0, {name: Column.nulls(_type_of(sequence, name), 0) for name in columns}, _CUT)
    times = pieces[0].time_us if len(pieces) == 1 else np.concatenate([p.time_us for p in pieces])
    total = len(times)
    order = _order(times, types, [piece.stop - piece.start for piece in pieces])
    if order is None:
        return None
    policy = sequence.definition
    if policy.sessions is None and policy.dedupe is None and not policy.quotas:
        cut = max(0, total - policy.max_length)
        kept = slice(cut, total) if isinstance(order, slice) else order[cut:]
        trimmed = {**_CUT, "max_length": cut}
    else:
        at_all = np.arange(total) if isinstance(order, slice) else order
        lengths = [piece.stop - piece.start for piece in pieces]
        codes = np.repeat(np.asarray(types, dtype=np.int64), lengths)
        trim = trim_events(
            TrimPolicy.of(sequence),
            np.zeros(total, dtype=np.int64),
            times[at_all],
            codes[at_all],
            lambda at: _dedupe_keys(sequence, pieces, codes, at_all[at]),
        )
        kept = at_all[trim.kept]
        trimmed = {**_CUT, **{rule: len(cut) for rule, cut in trim.cut.items()}}
    return _gathered(sequence, pieces, kept, columns, trimmed)


_CUT = {field.name: 0 for field in TRIMMED.fields}


def _pieces(found: Sequence[Candidates], span: _Span) -> tuple[list[_Piece], list[int]]:
    pieces, types = [], []
    for number, each in enumerate(found):
        for rows in (each.settled, each.fresh):
            if rows is None:
                continue
            start, stop = span.within(rows.time_us)
            if start < stop:
                pieces.append(_Piece(each.event, rows, start, stop))
                types.append(number)
    return pieces, types


def _order(times: Ints, types: list[int], lengths: list[int]) -> slice | Ints | None:
    """Return the order of events by (time, type), or None where it takes ids to tell."""
    # Fresh rows mostly follow settled ones: then nothing has to move.
    ends = list(accumulate(lengths))
    if all(times[end] > times[end - 1] for end in ends[:-1]):
        return slice(0, ends[-1])
    piece = np.repeat(np.arange(len(lengths)), lengths)
    codes = np.asarray(types)[piece]
    order = np.lexsort((codes, times))
    tied = times[order[1:]] == times[order[:-1]]
    if tied.any():
        at, after = order[:-1][tied], order[1:][tied]
        if ((codes[at] == codes[after]) & (piece[at] != piece[after])).any():
            return None
    return order


def _dedupe_keys(
    sequence: SequencePlan, pieces: Sequence[_Piece], codes: Ints, picked: Ints
) -> Ints:
    """Return the dedupe key of each event: ``trim_events``."""
    keys = np.zeros(len(picked), dtype=np.int64)
    is_null = np.zeros(len(picked), dtype=np.bool_)
    for name in dedupe_columns(sequence):
        found = (
            codes[picked]
            if name == "event_type"
            else _read(sequence, pieces, name).take(picked).codes()
        )
        is_null |= found < 0
        # Numbered anew each time, so that many columns cannot overflow the product.
        keys = np.unique(keys * (len(picked) + 2) + found + 1, return_inverse=True)[1]
    return np.where(is_null, NO_KEY, keys)


def _gathered(
    sequence: SequencePlan,
    pieces: Sequence[_Piece],
    kept: slice | Ints,
    columns: Sequence[str],
    trimmed: Mapping[str, int],
) -> Point:
    """Read the columns asked for, of the events kept and hardly any others."""
    near, at = _covering(pieces, kept)
    length = sum(piece.stop - piece.start for piece in near) if at is None else len(at)

    def read(name: str) -> Column:
        column = _read(sequence, near, name)
        return column if at is None else column.take(at)

    stored = [name for name in columns if name not in sequence.derived]
    result = {name: read(name) for name in stored}
    if len(stored) < len(columns):
        result |= _derived(sequence, columns, length, result, read)
    return Point(length, {name: result[name] for name in columns}, trimmed)


def _covering(pieces: Sequence[_Piece], kept: slice | Ints) -> tuple[list[_Piece], Ints | None]:
    """Return the least range of each piece that holds what is kept, and its positions in them."""
    ends = list(accumulate(piece.stop - piece.start for piece in pieces))
    near, base = [], 0
    if isinstance(kept, slice):
        for piece, end in zip(pieces, ends, strict=True):
            if end > kept.start:
                skipped = max(0, kept.start - base)
                near.append(replace(piece, start=piece.start + skipped) if skipped else piece)
            base = end
        return near, None
    moved, shift = kept.copy(), 0
    for piece, end in zip(pieces, ends, strict=True):
        here = (kept >= base) & (kept < end)
        inside = kept[here]
        if len(inside):
            low, high = int(inside.min()) - base, int(inside.max()) - base + 1
            near.append(replace(piece, start=piece.start + low, stop=piece.start + high))
            moved[here] = inside - base - low + shift
            shift += high - low
        base = end
    is_plain = len(moved) == shift and bool((moved == np.arange(shift)).all())
    return near, None if is_plain else moved


def _read(sequence: SequencePlan, pieces: Sequence[_Piece], name: str) -> Column:
    return concat(_type_of(sequence, name), [piece.column(sequence, name) for piece in pieces])


def _type_of(sequence: SequencePlan, name: str) -> pl.DataType:
    if name == "event_time":
        return TIME
    if name in OF_THE_PLATFORM:
        return pl.String()
    return sequence.derived[name] if name in sequence.derived else sequence.columns[name]


def _derived(
    sequence: SequencePlan,
    columns: Sequence[str],
    length: int,
    have: Mapping[str, Column],
    read: Callable[[str], Column],
) -> dict[str, Column]:
    """Return the derived columns asked for."""
    expressions = sequence.definition.derived or {}
    wanted = [name for name in columns if name in expressions]
    roots = {root for name in wanted for root in expressions[name].meta.root_names()}
    # First, so that expressions without any column still say something of each event.
    entity = ("entity", Column(pl.Int64(), np.zeros(length, dtype=np.int64)))
    stored = sorted(roots - {"entity"})
    flat = frame_of([entity, *((n, have[n] if n in have else read(n)) for n in stored)])
    only = replace(
        sequence,
        definition=replace(
            sequence.definition, derived={name: expressions[name] for name in wanted}
        ),
    )
    values = derive(only, flat)
    return {name: Column.of(values[name]) for name in wanted}


# ---- by frames


def _by_frames(  # noqa: PLR0913, PLR0917 - as read_point
    sequence: SequencePlan,
    found: Sequence[Candidates],
    entity: object,
    as_of: datetime,
    columns: Sequence[str],
    where: Where,
) -> Point:
    whole = replace(sequence, late=())
    rows = {}
    for each in found:
        current = current_rows(each.event, candidate_rows(each, entity), removal_rows(each, entity))
        rows[each.event.name] = current.filter(*are_allowed(each.event, where))
    assembled = assemble(whole, rows, as_of)
    if assembled.is_empty():
        none = {name: Column.nulls(_type_of(sequence, name), 0) for name in columns}
        return Point(0, none, _CUT)  # every rule leaves an event where there is one
    row = {name: Column.of(assembled[name].explode()) for name in columns}
    return Point(assembled["length"].item(), row, assembled["trimmed"].item())


def are_allowed(event: EventPlan, where: Where) -> Iterator[pl.Expr]:
    """Yield a condition a filter: an event without the column does not meet it."""
    for name, allowed in where.items():
        yield (
            pl.col(name).is_in(allowed.implode()) if name in event.schema else pl.lit(value=False)
        )


def candidate_rows(found: Candidates, entity: object) -> pl.DataFrame:
    """Return settled rows and then fresh ones, in the event type's schema."""
    event = found.event
    parts = [_frame(event, rows, entity) for rows in (found.settled, found.fresh) if rows]
    return pl.concat([pl.DataFrame(schema=event.schema), *parts])


def removal_rows(found: Candidates, entity: object) -> pl.DataFrame:
    """Return ENVELOPE and rule of deletions and rejected rows."""
    types = found.event.schema
    schema = {name: types[name] for name in ENVELOPE} | {"rule": pl.String()}
    removed = [pl.DataFrame(schema=schema), *(each.read() for each in found.removals)]
    return pl.concat(removed).filter(pl.col("entity") == pl.lit(entity, schema["entity"]))


def current_rows(event: EventPlan, rows: pl.DataFrame, removals: pl.DataFrame) -> pl.DataFrame:
    """Return winning rows as the lake will hold them; columns beside the schema stay with them."""
    return pl.concat(_resolved(event, rows, removals))


def _resolved(
    event: EventPlan, rows: pl.DataFrame, rejected: pl.DataFrame
) -> Iterator[pl.DataFrame]:
    """Yield winning rows by day, without those that corrections of other days beat."""
    yield rows.clear()
    day = pl.col("event_time").dt.date()
    days = pl.concat([rows["event_time"], rejected["event_time"]]).dt.date().unique()
    won = [resolve(event, rows.filter(day == at), rejected.filter(day == at)) for at in days]
    corrections = pl.concat([each.corrections for each in won]) if event.corrects and won else None
    for each in won:
        yield each.rows if corrections is None else without_beaten(each.rows, corrections)


def _frame(event: EventPlan, rows: Rows, entity: object) -> pl.DataFrame:
    count = len(rows.time_us)
    owner = pl.Series("entity", [entity], dtype=event.schema["entity"]).new_from_index(0, count)
    columns = [
        owner if name == "entity" else rows.column(name, 0, count).to_series(name)
        for name in event.schema
    ]
    return pl.DataFrame(columns)
