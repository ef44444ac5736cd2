"""Streamed rows in LMDB, by event type, entity and time; each knows how far its flush had read."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from hashlib import blake2b
from itertools import pairwise
from zlib import crc32

import numpy as np
import polars as pl

from sequence_platform.engine.columns import Column, Ints, concat
from sequence_platform.engine.point import Hashes, Removals, hash_ids
from sequence_platform.plan.plan import ENVELOPE, TIME, EventPlan
from sequence_platform.ports.lake import OffsetMove
from sequence_platform.ports.online import LogId, TailAppend, log_id
from sequence_platform.stores.local_online.entity import entity_key
from sequence_platform.stores.local_online.environment import Environment, Transaction
from sequence_platform.stores.local_online.manifests import EPOCH, to_us
from sequence_platform.stores.local_online.packed import Layout, Unpacked

TABLE = struct.Struct(">8s")
PLACE = struct.Struct(">QQI")
"""Behind table and entity: event_time (moved up, so that it sorts), flush, row of the flush."""
HEAD = np.dtype(
    [("layout", "<u2"), ("removes", "?"), ("received", "<i8"), ("id_hash", "<u8"), ("mark", "<u2")]
)
"""Before each packed row; ``mark``: the bytes of the mark that stands behind it.

A mark says the last offset that the flush had read of each partition.
"""
MARK = np.dtype([("log", "<u4"), ("partition", "<u4"), ("offset", "<u8")])
KEY = np.dtype(
    [
        ("table", "V8"),
        ("entity", "V16"),
        ("time", ">u8"),
        ("flush", ">u8"),
        ("row", ">u4"),
    ]
)
EARLIEST = 1 << 63
"""Added to event_time, so that times before 1970 sort first."""
NOT_PACKED = ("entity", "event_time")
"""The key says these."""


def table_key(event: EventPlan) -> bytes:
    """Return the bytes that keys of an event type's rows start with."""
    return _table_key(event.table)


@lru_cache
def _table_key(table: str) -> bytes:
    return blake2b(table.encode(), digest_size=8).digest()


def log_number(log: LogId) -> int:
    """Return a number for a log."""
    return crc32(log.encode())


class Messages:
    """Rows of an event type and an entity as the tail holds them, in the order of their times.

    Attributes:
        keys: Of KEY.
        values: HEAD, mark and packed row of each.
    """

    def __init__(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        self.keys = np.frombuffer(b"".join(keys), dtype=KEY)
        self.values = values

    @cached_property
    def time_us(self) -> Ints:
        """When each event happened."""
        return (self.keys["time"] - np.uint64(EARLIEST)).astype(np.int64)

    @cached_property
    def heads(self) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        """HEAD of each."""
        size = HEAD.itemsize
        return np.frombuffer(b"".join([value[:size] for value in self.values]), dtype=HEAD)

    @cached_property
    def marks(self) -> list[bytes]:
        """How far the flush of each had read; few differ."""
        size = HEAD.itemsize
        lengths = self.heads["mark"].tolist()
        return [value[size : size + n] for value, n in zip(self.values, lengths, strict=True)]


@lru_cache(maxsize=4096)
def offsets_of(mark: bytes) -> tuple[tuple[tuple[int, int], int], ...]:
    """Return log and partition with the last offset read, of a mark."""
    found = np.frombuffer(mark, dtype=MARK)
    return tuple(((log, partition), offset) for log, partition, offset in found.tolist())


def read_messages(
    environment: Environment,
    transaction: Transaction,
    event: EventPlan,
    entity: object,
) -> Messages | None:
    """Return all rows of an entity, or None if there are none."""
    prefix = table_key(event) + entity_key(entity)
    cursor = transaction.cursor(environment.rows)
    if not cursor.set_range(prefix) or not cursor.key().startswith(prefix):
        return None
    keys, values = [], []
    for key, value in cursor.iternext():
        if not key.startswith(prefix):
            break
        keys.append(key)
        values.append(value)
    return Messages(keys, values)


def scan_messages(
    environment: Environment,
    transaction: Transaction,
    event: EventPlan,
    after: bytes = b"",
) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of all rows of an event type, from a key on."""
    prefix = table_key(event)
    cursor = transaction.cursor(environment.rows)
    if not cursor.set_range(after or prefix):
        return
    for key, value in cursor.iternext():
        if not key.startswith(prefix):
            return
        yield key, value


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


def packed_rows(
    append: TailAppend, register: LayoutRegister, flush: int
) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of all that an append brings; ``flush`` tells it from all others."""
    table = table_key(append.event)
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
        heads["layout"], heads["removes"] = register.number(layout), removes
        heads["received"], heads["mark"] = received, len(mark)
        heads["id_hash"] = hash_ids(frame["event_id"])
        keys = zip(frame["entity"], frame["event_time"].to_physical(), strict=True)
        packed_heads, size = heads.tobytes(), HEAD.itemsize
        for at, ((entity, time_us), body) in enumerate(zip(keys, layout.pack(packed), strict=True)):
            place = PLACE.pack(time_us + EARLIEST, flush, row)
            head = packed_heads[at * size : (at + 1) * size]
            yield table + entity_key(entity) + place, head + mark + body
            row += 1


class LayoutRegister:
    """Layouts by number, within a transaction that may add some."""

    def __init__(self, environment: Environment, transaction: Transaction) -> None:
        self._environment = environment
        self._transaction = transaction

    def number(self, layout: Layout) -> int:
        """Return the number of a layout, a new one if need be."""
        text = layout.to_json().encode()
        digest = b"n" + blake2b(text, digest_size=16).digest()
        database = self._environment.layouts
        found = self._transaction.get(digest, db=database)
        if found is not None:
            return int.from_bytes(found, "little")
        number = int(self._transaction.stat(database)["entries"]) // 2
        code = number.to_bytes(2, "little")
        self._transaction.put(digest, code, db=database)
        self._transaction.put(b"l" + code, text, db=database)
        return number


def offset_key(event: EventPlan, move: OffsetMove) -> bytes:
    """Return the key of a stored offset."""
    place = f"{move.at.topic}\0{move.at.partition}".encode()
    return table_key(event) + blake2b(place, digest_size=16).digest()


def time_of(us: int) -> datetime:
    """Return a time from microseconds since the epoch."""
    return EPOCH + timedelta(microseconds=us)
