"""Segments in Redis: of each entity a hash, in it of each segment the entity's rows by column.

A field is ``<segment>`` (times and hashes of ids), ``<segment>.<column>`` (a chunk) or
``<segment>-`` (what was removed). A segment is never changed once a manifest names it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from hashlib import blake2b
from itertools import islice
from typing import TypeVar

import numpy as np
import polars as pl

from sequence_platform.engine.columns import Column, Ints, concat
from sequence_platform.engine.point import Hashes, hash_ids
from sequence_platform.errors import StoreError
from sequence_platform.online_format.coverage import DAY_US, EPOCH_DAY
from sequence_platform.online_format.entity import KEY_BYTES, entity_key
from sequence_platform.online_format.manifests import to_us
from sequence_platform.online_format.packed import Layout
from sequence_platform.plan.plan import ENVELOPE, EventPlan
from sequence_platform.ports.online import DayVersion, Segment
from sequence_platform.stores.redis_online.chunks import (
    Slice,
    column_of,
    frame_of_chunk,
    keys_of_chunk,
    packed_frame,
    packed_keys,
    slicer,
)
from sequence_platform.stores.redis_online.connection import Client
from sequence_platform.stores.redis_online.keys import Keys, keys

NOT_CHUNKED = ("entity", "event_time")
"""The key and the times say these."""
HASHER = "polars " + ".".join(pl.__version__.split(".")[:2])
"""Who hashed the ids; another version may do it differently."""
AT_ONCE = 500
"""Entities written, read or removed with one message."""
T = TypeVar("T")


@dataclass(frozen=True)
class Written:
    """How a segment was written.

    Attributes:
        name: Its number, as text.
        schema: Of its chunks, in the order of their numbers.
        is_hashed: Whether its hashes are those of this process.
        has_removals: Whether something was removed in its days.
        created_us: When, by the clock of the publisher.
    """

    name: str
    schema: pl.Schema
    is_hashed: bool
    has_removals: bool
    created_us: int

    @classmethod
    def from_json(cls, name: str, text: bytes, known: pl.Schema) -> Written:
        """Return what a segment's JSON says; types are those of ``known`` where names agree."""
        said = json.loads(text)
        schema = Layout.from_json(said["layout"], known).schema
        is_hashed = said["hasher"] == HASHER
        return cls(name, schema, is_hashed, said["removals"], said["created_us"])

    def to_json(self) -> bytes:
        """Return it as JSON."""
        said = {
            "layout": Layout(self.schema).to_json(),
            "hasher": HASHER,
            "removals": self.has_removals,
            "created_us": self.created_us,
        }
        return json.dumps(said).encode()

    @cached_property
    def rows_field(self) -> bytes:
        """The field of times and hashes."""
        return self.name.encode()

    @cached_property
    def removals_field(self) -> bytes:
        """The field of what was removed."""
        return self.rows_field + b"-"

    @cached_property
    def chunk_fields(self) -> Mapping[str, bytes]:
        """The field of each column."""
        return {name: b"%s.%d" % (self.rows_field, at) for at, name in enumerate(self.schema)}

    @cached_property
    def fields(self) -> list[bytes]:
        """All fields that an entity may have of it."""
        return [self.rows_field, self.removals_field, *self.chunk_fields.values()]


@dataclass(frozen=True, slots=True, eq=False)
class EntityRows:
    """Rows of one entity, to be written."""

    entity: bytes
    count: int
    fields: Mapping[bytes, bytes]


def write_days(  # noqa: PLR0913, PLR0917 - what, and for which manifest
    client: Client,
    event: EventPlan,
    rows: pl.DataFrame,
    removals: pl.DataFrame,
    days: Mapping[date, DayVersion],
    at: datetime,
) -> Segment:
    """Write rows as a new segment; only the manifest makes it count.

    Args:
        client: Where to.
        event: The event type.
        rows: Sorted by KEY_ORDER.
        removals: ENVELOPE and rule, any order.
        days: Those it holds.
        at: When.
    """
    columns = rows.drop(*NOT_CHUNKED).schema
    written = _new(client, keys(event), columns, at, has_removals=not removals.is_empty())
    return _write(client, keys(event), written, _split(written, rows, removals), days)


def merge(client: Client, event: EventPlan, group: Sequence[Segment], at: datetime) -> Segment:
    """Write what segments hold of the days they answer for as one segment.

    Raises:
        StoreError: one of them was dropped meanwhile.
    """
    names = keys(event)
    parts = [(segment, how) for segment, how in zip(group, hows(client, event, group), strict=True)]
    schema = pl.Schema({n: t for n, t in event.schema.items() if n not in NOT_CHUNKED})
    has_removals = any(how.has_removals for _, how in parts)
    merged = _new(client, names, schema, at, has_removals=has_removals)
    days = {day: version for each in group for day, version in each.days.items()}
    reading = _Merging(client, event, merged, parts)
    segment = _write(client, names, merged, reading.entities(), days)
    reading.ensure_whole()
    return segment


def remove(client: Client, names: Keys, how: Written) -> None:
    """Remove all that a segment holds; what says that it exists goes last."""
    for entities in batched(_members(client, names, how.name), AT_ONCE):
        with client.pipeline(transaction=False) as pipe:
            for entity in entities:
                pipe.hdel(names.settled(entity), *how.fields)
            pipe.execute()
    client.delete(names.members(how.name))
    client.hdel(names.segments, how.name)


def hows(client: Client, event: EventPlan, segments: Sequence[Segment]) -> list[Written]:
    """Return how segments were written.

    Raises:
        StoreError: one is gone.
    """
    if not segments:
        return []
    found = client.hmget(keys(event).segments, [each.name for each in segments])
    if None in found:
        raise gone(event, segments[found.index(None)].name)
    return [
        Written.from_json(each.name, text, event.schema)
        for each, text in zip(segments, found, strict=True)
    ]


def all_hows(client: Client, event: EventPlan) -> list[Written]:
    """Return how all segments there are were written, whether a manifest names them or not."""
    found = client.hgetall(keys(event).segments)
    return [Written.from_json(n.decode(), text, event.schema) for n, text in found.items()]


def gone(event: EventPlan, name: str) -> StoreError:
    """Return the error of a segment that is not there."""
    return StoreError(
        "a segment was dropped while it was read",
        where=f"event type '{event.name}', segment {name}",
        found="no such field in the online store",
        next_step="ask again; if it stays so, publish its days again",
        retryable=True,
    )


def removed(event: EventPlan, chunk: bytes) -> pl.DataFrame:
    """Return what was removed of an entity: ENVELOPE and rule."""
    frame = frame_of_chunk(chunk)
    return frame.select(*(pl.col(name).cast(event.schema[name]) for name in ENVELOPE), "rule")


def stored_column(how: Written, name: str, dtype: pl.DataType, chunk: bytes, count: int) -> Column:
    """Return a column from its chunk, in the type it has now."""
    column = column_of(chunk, how.schema[name], count)
    if column.dtype == dtype:
        return column
    return Column.of(column.to_series(name).cast(dtype))


def _new(
    client: Client, names: Keys, schema: pl.Schema, at: datetime, *, has_removals: bool
) -> Written:
    """Take a number and say what will be written, so that it can be removed if it is left half."""
    number = client.hincrby(names.state, "segment", 1)
    how = Written(
        str(number),
        schema,
        is_hashed=True,
        has_removals=has_removals,
        created_us=to_us(at),
    )
    client.hset(names.segments, how.name, how.to_json())
    return how


def _write(
    client: Client,
    names: Keys,
    how: Written,
    entities: Iterable[EntityRows],
    days: Mapping[date, DayVersion],
) -> Segment:
    rows, size, digest = 0, 0, blake2b(digest_size=16)
    for some in batched(entities, AT_ONCE):
        with client.pipeline(transaction=False) as pipe:
            pipe.rpush(names.members(how.name), b"".join(each.entity for each in some))
            for each in some:
                pipe.hset(names.settled(each.entity), mapping=each.fields)
                rows += each.count
                for chunk in each.fields.values():
                    size += len(chunk)
                    digest.update(chunk)
            pipe.execute()
    return Segment(how.name, days, len(days), rows, size, digest.hexdigest())


def _members(client: Client, names: Keys, segment: str) -> Iterator[bytes]:
    for at in range(client.llen(names.members(segment))):
        found = client.lindex(names.members(segment), at)
        for start in range(0, len(found), KEY_BYTES):
            yield found[start : start + KEY_BYTES]


def _split(how: Written, rows: pl.DataFrame, removals: pl.DataFrame) -> Iterator[EntityRows]:
    """Yield each entity's rows as fields."""
    parts = {
        entity_key(entity): packed_frame(part)
        for (entity,), part in removals.partition_by("entity", as_dict=True).items()
    }
    times = rows["event_time"].to_physical().cast(pl.Int64).to_numpy()
    hashes = hash_ids(rows["event_id"])
    columns = [(field, slicer(Column.of(rows[name]))) for name, field in how.chunk_fields.items()]
    runs = rows["entity"].rle().struct.unnest()
    start = 0
    for length, value in runs.select("len", "value").iter_rows():
        stop = start + length
        entity = entity_key(value)
        fields = {how.rows_field: packed_keys(times[start:stop], hashes[start:stop])}
        fields |= {field: cut(start, stop) for field, cut in columns}
        if entity in parts:
            fields[how.removals_field] = parts.pop(entity)
        yield EntityRows(entity, length, fields)
        start = stop
    for entity, part in parts.items():
        yield EntityRows(entity, 0, {how.removals_field: part})


class _Merging:
    """Reads segments entity by entity, so that memory does not grow with them."""

    def __init__(
        self,
        client: Client,
        event: EventPlan,
        merged: Written,
        parts: Sequence[tuple[Segment, Written]],
    ) -> None:
        self._client = client
        self._event = event
        self._names = keys(event)
        self._merged = merged
        self._parts = parts
        self._days = [
            np.array([(day - EPOCH_DAY).days for day in segment.days]) for segment, _ in parts
        ]
        self._read = [0] * len(parts)

    def entities(self) -> Iterator[EntityRows]:
        """Yield each entity that has anything."""
        client, names = self._client, self._names
        all_ = dict.fromkeys(
            entity for _, how in self._parts for entity in _members(client, names, how.name)
        )
        fields = [field for _, how in self._parts for field in how.fields]
        for some in batched(all_, AT_ONCE):
            with client.pipeline(transaction=False) as pipe:
                for entity in some:
                    pipe.hmget(names.settled(entity), fields)
                found = pipe.execute()
            for entity, chunks in zip(some, found, strict=True):
                each = self._entity(entity, dict(zip(fields, chunks, strict=True)))
                if each.fields:
                    yield each

    def ensure_whole(self) -> None:
        """Raise StoreError if a segment was dropped while it was read."""
        for (segment, _), rows in zip(self._parts, self._read, strict=True):
            if rows != segment.rows:
                raise gone(self._event, segment.name)

    def _entity(self, entity: bytes, found: Mapping[bytes, bytes | None]) -> EntityRows:
        times, hashes, picked = [], [], []
        for at, (_, how) in enumerate(self._parts):
            chunk = found[how.rows_field]
            if chunk is None:
                continue
            time_us, id_hash = keys_of_chunk(chunk)
            self._read[at] += len(time_us)
            kept = np.flatnonzero(np.isin(time_us // DAY_US, self._days[at]))
            if len(kept):
                times.append(time_us[kept])
                hashes.append(id_hash[kept])
                picked.append((how, len(time_us), kept))
        fields: dict[bytes, bytes] = {}
        if picked:
            fields = self._fields(np.concatenate(times), np.concatenate(hashes), picked, found)
        gone_ = self._removals(found)
        if gone_ is not None:
            fields[self._merged.removals_field] = packed_frame(gone_)
        return EntityRows(entity, sum(map(len, times)), fields)

    def _fields(
        self,
        time_us: Ints,
        id_hash: Hashes,
        picked: Sequence[tuple[Written, int, Ints]],
        found: Mapping[bytes, bytes | None],
    ) -> dict[bytes, bytes]:
        # Days do not overlap: equal times come from one segment, which has them in order.
        order = np.argsort(time_us, kind="stable")
        columns: dict[str, Column] = {}
        for name, dtype in self._merged.schema.items():
            parts = [self._column(how, name, dtype, found, n).take(at) for how, n, at in picked]
            columns[name] = concat(dtype, parts).take(order)
        if not all(how.is_hashed for how, *_ in picked):
            id_hash = hash_ids(columns["event_id"].to_series(""))
        else:
            id_hash = id_hash[order]
        fields = {self._merged.rows_field: packed_keys(time_us[order], id_hash)}
        count = len(time_us)
        cuts: dict[bytes, Slice] = {
            field: slicer(columns[name]) for name, field in self._merged.chunk_fields.items()
        }
        return fields | {field: cut(0, count) for field, cut in cuts.items()}

    def _column(
        self,
        how: Written,
        name: str,
        dtype: pl.DataType,
        found: Mapping[bytes, bytes | None],
        count: int,
    ) -> Column:
        field = how.chunk_fields.get(name)
        if field is None:
            return Column.nulls(dtype, count)
        chunk = found[field]
        if chunk is None:
            raise gone(self._event, how.name)
        return stored_column(how, name, dtype, chunk, count)

    def _removals(self, found: Mapping[bytes, bytes | None]) -> pl.DataFrame | None:
        parts = []
        for segment, how in self._parts:
            chunk = found[how.removals_field]
            if chunk is not None:
                frame = removed(self._event, chunk)
                parts.append(frame.filter(pl.col("event_time").dt.date().is_in(list(segment.days))))
        parts = [frame for frame in parts if not frame.is_empty()]
        return pl.concat(parts) if parts else None


def batched(values: Iterable[T], count: int) -> Iterator[list[T]]:
    """Yield values, so many at a time."""
    rest = iter(values)
    while some := list(islice(rest, count)):
        yield some
