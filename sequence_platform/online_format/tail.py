"""Streamed rows, by entity and time; each knows how far its flush had read."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise

import numpy as np
import polars as pl

from sequence_platform.engine.columns import Column, Ints, concat
from sequence_platform.engine.point import Candidates, Hashes, Removals, Rows, hash_ids
from sequence_platform.online_format.coverage import MARK, Coverage, log_number
from sequence_platform.online_format.entity import entity_key
from sequence_platform.online_format.manifests import to_us
from sequence_platform.online_format.packed import Layout, Unpacked
from sequence_platform.plan.plan import ENVELOPE, TIME, EventPlan
from sequence_platform.ports.online import TailAppend, log_id

PLACE = struct.Struct(">QQI")
"""Orders rows of an entity: event_time (moved up, so that it sorts), flush, row of the flush."""
HEAD = np.dtype(
    [("layout", "<u2"), ("removes", "?"), ("received", "<i8"), ("id_hash", "<u8"), ("mark", "<u2")]
)
"""Before each packed row; ``mark``: the bytes of the mark that stands behind it.

A mark says the last offset that the flush had read of each partition.
"""
EARLIEST = 1 << 63
"""Added to event_time, so that times before 1970 sort first."""
NOT_PACKED = ("entity", "event_time")
"""The key says these."""


class Messages:
    """Rows of an event type and an entity as the tail holds them, in the order of their times.

    Attributes:
        time_us: When each event happened.
        values: HEAD, mark and packed row of each.
        heads: HEAD of each.
    """

    def __init__(self, time_us: Ints, values: Sequence[bytes]) -> None:
        self.time_us = time_us
        self.values = values
        heads = b"".join([value[: HEAD.itemsize] for value in values])
        self.heads = np.frombuffer(heads, dtype=HEAD)

    def marks(self) -> Iterator[bytes]:
        """Yield how far the flush of each had read; few differ."""
        size = HEAD.itemsize
        for value, length in zip(self.values, self.heads["mark"].tolist(), strict=True):
            yield value[size : size + length]

    @property
    def layouts(self) -> set[int]:
        """The numbers of all layouts that rows are packed in."""
        return set(self.heads["layout"].tolist())


class FreshRows:
    """Rows of one entity, unpacked column by column when asked for: engine.point.Rows."""

    def __init__(
        self, event: EventPlan, layouts: Mapping[int, Layout], messages: Messages, at: Ints
    ) -> None:
        self._event = event
        time_us, id_hash = messages.time_us[at], messages.heads["id_hash"][at]
        self._parts = unpacked(layouts, messages, at)
        self._order: Ints | None = None
        if len(time_us) > 1 and (time_us[1:] == time_us[:-1]).any():
            texts = self._packed("event_id").to_series("").to_list()
            order = sorted(range(len(at)), key=lambda i: (time_us[i], texts[i].encode()))
            self._order = np.asarray(order)
            time_us, id_hash = time_us[self._order], id_hash[self._order]
        self.time_us: Ints = time_us
        self.id_hash: Hashes = id_hash

    def column(self, name: str, start: int, stop: int) -> Column:
        """Return a column of the rows of ``[start, stop)``."""
        if name == "event_time":
            return Column(TIME, self.time_us[start:stop])
        column = self._packed(name)
        if self._order is not None:
            column = column.take(self._order)
        return column if stop - start == len(column) else column.slice(start, stop)

    def _packed(self, name: str) -> Column:
        dtype = self._event.schema[name]
        return concat(
            dtype,
            [
                part.column(name)
                if layout.schema.get(name) == dtype
                else Column.nulls(dtype, count)
                for layout, part, count in self._parts
            ],
        )


def unpacked(
    layouts: Mapping[int, Layout], messages: Messages, at: Ints
) -> list[tuple[Layout, Unpacked, int]]:
    """Return runs of rows of one layout."""
    numbers = messages.heads["layout"][at]
    starts = [0, *(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist(), len(at)]
    picked = at.tolist()
    size = HEAD.itemsize
    runs = []
    for start, stop in pairwise(starts):
        layout = layouts[int(numbers[start])]
        marks = messages.heads["mark"][at[start:stop]].tolist()
        rows = [
            messages.values[index][size + mark :]
            for index, mark in zip(picked[start:stop], marks, strict=True)
        ]
        runs.append((layout, layout.unpack(rows), stop - start))
    return runs


def removals_of(
    event: EventPlan, layouts: Mapping[int, Layout], messages: Messages, at: Ints, entity: object
) -> Removals:
    """Return rows that remove their key."""

    def read() -> pl.DataFrame:
        parts = unpacked(layouts, messages, at)
        names = [*(name for name in ENVELOPE if name not in NOT_PACKED), "rule"]
        packed = [
            pl.DataFrame([part.column(name).to_series(name) for name in names])
            for _, part, _ in parts
        ]
        owner = pl.lit(entity, event.schema["entity"]).alias("entity")
        time = Column(TIME, messages.time_us[at]).to_series("event_time")
        return pl.concat(packed).with_columns(owner, time).select(*ENVELOPE, "rule")

    return Removals(messages.heads["id_hash"][at], read)


def fresh_candidates(  # noqa: PLR0913, PLR0917 - both halves of the store
    event: EventPlan,
    entity: object,
    settled: Rows,
    messages: Messages | None,
    covered: Coverage,
    layouts: Callable[[Messages], Mapping[int, Layout]],
    removals: Callable[[], list[Removals]],
    known_at: datetime | None,
    *,
    is_hashed: bool,
) -> Candidates:
    """Return settled rows with those streamed ones that count beside them.

    Args:
        event: The event type.
        entity: Whose rows they are.
        settled: Its rows in segments.
        messages: Its rows in the tail.
        covered: What the segments hold of the tail.
        layouts: Returns how messages are packed.
        removals: Returns those of segments.
        known_at: Later rows do not count.
        is_hashed: Of ``settled``.
    """
    if messages is None:
        return Candidates(event, settled, is_hashed=is_hashed)
    counts = covered.counts(messages.time_us, messages.marks())
    if known_at is not None:
        known = to_us(known_at)
        counts &= messages.heads["received"] <= known
    removes = messages.heads["removes"]
    at = np.flatnonzero(counts & ~removes)
    gone = np.flatnonzero(counts & removes)
    if not len(at) and not len(gone):
        return Candidates(event, settled, is_hashed=is_hashed)
    known_layouts = layouts(messages)
    fresh = FreshRows(event, known_layouts, messages, at) if len(at) else None
    all_removals = removals()
    if len(gone):
        all_removals.append(removals_of(event, known_layouts, messages, gone, entity))
    is_hashed = is_hashed and all(known_layouts[number].is_hashed for number in messages.layouts)
    return Candidates(event, settled, fresh, all_removals, is_hashed)


def packed_rows(
    append: TailAppend, number_of: Callable[[Layout], int], flush: int
) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield entity key, place and value of all that an append brings.

    Args:
        append: What is brought.
        number_of: Returns the number of a layout, a new one if need be.
        flush: Tells this append from all others.
    """
    received = to_us(append.received_at)
    mark = np.array(
        [
            (log_number(log_id(move.at.topic, move.identity)), move.at.partition, move.next - 1)
            for move in append.moves
            if move.next
        ],
        dtype=MARK,
    ).tobytes()
    row = 0
    for frame, removes in ((append.rows, False), (append.removals, True)):
        if frame.is_empty():
            continue
        packed = frame.drop(*NOT_PACKED)
        layout = Layout.of(packed)
        heads = np.empty(frame.height, dtype=HEAD)
        heads["layout"], heads["removes"] = number_of(layout), removes
        heads["received"], heads["mark"] = received, len(mark)
        heads["id_hash"] = hash_ids(frame["event_id"])
        keys = zip(frame["entity"], frame["event_time"].to_physical(), strict=True)
        packed_heads, size = heads.tobytes(), HEAD.itemsize
        for at, ((entity, time_us), body) in enumerate(zip(keys, layout.pack(packed), strict=True)):
            place = PLACE.pack(time_us + EARLIEST, flush, row)
            head = packed_heads[at * size : (at + 1) * size]
            yield entity_key(entity), place, head + mark + body
            row += 1
