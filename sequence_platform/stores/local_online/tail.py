"""Streamed rows in LMDB, by event type, entity and time; each knows how far its flush had read."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from hashlib import blake2b
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
HEAD = struct.Struct("<HBqH")
"""Before each packed row: layout, whether it removes its key, when it was received, bytes of mark.

Behind it stands the mark: the last offset that the flush had read of each partition.
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
    def heads(self) -> list[tuple[int, int, int, int]]:
        """HEAD of each."""
        return [HEAD.unpack_from(value) for value in self.values]

    @cached_property
    def marks(self) -> list[bytes]:
        """How far the flush of each had read; few differ."""
        return [
            value[HEAD.size : HEAD.size + length]
            for value, (_, _, _, length) in zip(self.values, self.heads, strict=True)
        ]


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
        time_us = messages.time_us[at]
        self._parts = _unpacked(layouts, messages, at)
        ids = self._packed("event_id")
        if len(time_us) > 1 and (time_us[1:] == time_us[:-1]).any():
            texts = ids.to_series("").to_list()
            order = sorted(range(len(at)), key=lambda i: (time_us[i], texts[i].encode()))
            self._order: Ints | None = np.asarray(order)
            time_us, ids = time_us[self._order], ids.take(self._order)
        else:
            self._order = None
        self.time_us: Ints = time_us
        self._ids = ids

    @cached_property
    def id_hash(self) -> Hashes:
        """Hash of each event id."""
        return hash_ids(self._ids.to_series("event_id"))

    def column(self, name: str, start: int, stop: int) -> Column:
        """Return a column of the rows of ``[start, stop)``."""
        if name == "event_time":
            return Column(TIME, self.time_us[start:stop])
        if name == "event_id":
            return self._ids.slice(start, stop)
        column = self._packed(name)
        return (column if self._order is None else column.take(self._order)).slice(start, stop)

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


def _unpacked(
    layouts: Mapping[int, Layout], messages: Messages, at: Ints
) -> list[tuple[Layout, Unpacked, int]]:
    """Return runs of rows of one layout."""
    runs: list[tuple[int, list[bytes]]] = []
    for index in at.tolist():
        value = messages.values[index]
        number, _, _, mark = HEAD.unpack_from(value)
        if not runs or runs[-1][0] != number:
            runs.append((number, []))
        runs[-1][1].append(value[HEAD.size + mark :])
    return [(layouts[number], layouts[number].unpack(rows), len(rows)) for number, rows in runs]


def removals_of(
    event: EventPlan, layouts: Mapping[int, Layout], messages: Messages, at: Ints, entity: object
) -> Removals:
    """Return rows that remove their key."""
    parts = _unpacked(layouts, messages, at)
    ids = concat(event.schema["event_id"], [part.column("event_id") for _, part, _ in parts])

    def read() -> pl.DataFrame:
        names = [*(name for name in ENVELOPE if name not in NOT_PACKED), "rule"]
        packed = [
            pl.DataFrame([part.column(name).to_series(name) for name in names])
            for _, part, _ in parts
        ]
        owner = pl.lit(entity, event.schema["entity"]).alias("entity")
        time = Column(TIME, messages.time_us[at]).to_series("event_time")
        return pl.concat(packed).with_columns(owner, time).select(*ENVELOPE, "rule")

    return Removals(hash_ids(ids.to_series("event_id")), read)


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
        head = HEAD.pack(register.number(layout), removes, received, len(mark)) + mark
        keys = zip(frame["entity"], frame["event_time"].to_physical(), strict=True)
        for (entity, time_us), body in zip(keys, layout.pack(packed), strict=True):
            place = PLACE.pack(time_us + EARLIEST, flush, row)
            yield table + entity_key(entity) + place, head + body
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
