"""Values by key in Redis: a hash a version, all rows of a key packed, and a pointer to it.

A lookup is one round trip, which reads the pointer, too: if it has moved on, the lookup is made
again in the version that it names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl

from sequence_platform.engine.columns import Column, Ints, key_runs
from sequence_platform.engine.freshest import freshest
from sequence_platform.errors import StoreError
from sequence_platform.online_format.manifests import time_of, to_us
from sequence_platform.online_format.packed import LENGTH, Layout, Unpacked
from sequence_platform.plan.plan import EnrichmentPlan
from sequence_platform.ports.values import Found, ValuesVersion
from sequence_platform.stores.redis_online.connection import address_of, connect, translated

SENT_AT_ONCE = 1_000
"""Keys written in one round trip."""
ASKED_AT_ONCE = 10_000
"""Keys of one command: while it runs Redis answers nobody else."""
LOOKS = 5
"""At a pointer that moves on again and again."""
UNNAMED_SECONDS = 86_400
"""A version that is being written is gone after so long, unless the pointer names it by then."""
REPLACED_SECONDS = 3_600
"""A version that was replaced: lookups under way may still read it."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """What is published, and how."""

    name: str
    layout: str
    number: int
    content: str
    rows: int
    bytes: int
    published_us: int

    @property
    def version(self) -> ValuesVersion:
        """What is published."""
        at = time_of(self.published_us)
        return ValuesVersion(self.number, self.content, self.rows, self.bytes, at)


class RedisValueStore:
    """ports.ValueStore in Redis or Valkey.

    Args:
        url: ``redis://host:port/db``, or ``rediss://`` for TLS.

    Raises:
        StoreError: nothing answers there, or the server drops keys when its memory is full.
    """

    is_near = False

    def __init__(self, url: str) -> None:
        self.address = address_of(url)
        self.client = connect(url)
        self._seen: dict[str, tuple[Pointer, EnrichmentPlan, Layout]] = {}

    def close(self) -> None:
        """Close all connections."""
        self.client.close()

    # ---- reading

    def look_up(
        self, enrichment: EnrichmentPlan, keys: Column, at: datetime, columns: Sequence[str]
    ) -> Found:
        """Return columns of the row that counts for each key: ports.ValueReader."""
        fields: dict[object, int] = {}
        places = np.fromiter(
            (
                -1 if key is None else fields.setdefault(key, len(fields))
                for key in keys.to_series("key").to_list()
            ),
            np.int64,
            len(keys),
        )
        pointer, layout, values = self._read(enrichment, [_field(key) for key in fields])
        rows, starts, stops = _rows_of(values)
        unpacked = layout.unpack(rows) if rows else None
        time_us: Ints | None = None
        if unpacked is not None and "available_time" in layout.schema:
            time_us = unpacked.column("available_time").values
        newest = freshest(time_us, starts, stops, at)
        counts = np.where(places >= 0, newest[places], -1) if len(newest) else places
        return Found(
            {name: _column(enrichment, layout, unpacked, name, counts) for name in columns},
            pointer.version.published_at,
        )

    def _read(
        self, enrichment: EnrichmentPlan, fields: Sequence[bytes]
    ) -> tuple[Pointer, Layout, list[bytes | None]]:
        """Return what the version that counts holds of keys."""
        with translated(self.address):
            held = self._seen.get(enrichment.table)
            if held is None or held[1] is not enrichment:
                held = self._see(enrichment, self.client.get(_pointer_key(enrichment)))
            for _ in range(LOOKS):
                pointer, _, layout = held
                pipeline = self.client.pipeline(transaction=True)
                pipeline.get(_pointer_key(enrichment))
                for start in range(0, len(fields), ASKED_AT_ONCE):
                    asked = fields[start : start + ASKED_AT_ONCE]
                    pipeline.hmget(_values_key(enrichment, pointer.name), asked)
                text, *found = pipeline.execute()
                if _pointer(text) == pointer:
                    return pointer, layout, [value for part in found for value in part]
                held = self._see(enrichment, text)
        raise StoreError(
            f"the values of enrichment '{enrichment.name}' are replaced all the time",
            where=self.address,
            found=f"another version at each of {LOOKS} looks",
            next_step="publish them less often",
            retryable=True,
        )

    def _see(
        self, enrichment: EnrichmentPlan, text: bytes | None
    ) -> tuple[Pointer, EnrichmentPlan, Layout]:
        pointer = _pointer(text)
        if pointer is None:
            raise StoreError(
                f"nothing is published of enrichment '{enrichment.name}'",
                where=self.address,
                expected="its values, published after it was built",
                next_step=f"sequence-platform online publish {enrichment.name}",
            )
        layout = Layout.from_json(pointer.layout, enrichment.schema)
        self._seen[enrichment.table] = held = (pointer, enrichment, layout)
        return held

    # ---- publishing

    def publish(
        self, enrichment: EnrichmentPlan, rows: pl.DataFrame, content: str, at: datetime
    ) -> ValuesVersion:
        """Write a version and point to it: ports.ValuePublisher."""
        with translated(self.address):
            current = _pointer(self.client.get(_pointer_key(enrichment)))
            if current is not None and current.content == content:
                return current.version
            layout = Layout.of(rows.drop("key"))
            name = uuid4().hex
            key = _values_key(enrichment, name)
            size = 0
            packed = _packed(layout, rows)
            while part := dict(islice(packed, SENT_AT_ONCE)):
                pipeline: Any = self.client.pipeline(transaction=False)
                pipeline.hset(key, mapping=part)
                pipeline.expire(key, UNNAMED_SECONDS)
                pipeline.execute()
                size += sum(len(field) + len(value) for field, value in part.items())
            pointer = Pointer(
                name=name,
                layout=layout.to_json(),
                number=1 + (0 if current is None else current.number),
                content=content,
                rows=rows.height,
                bytes=size,
                published_us=to_us(at),
            )
            switch = self.client.pipeline(transaction=True)
            switch.persist(key)
            switch.set(_pointer_key(enrichment), json.dumps(asdict(pointer)))
            if current is not None:
                switch.expire(_values_key(enrichment, current.name), REPLACED_SECONDS)
            switch.execute()
        return pointer.version

    def version(self, enrichment: EnrichmentPlan) -> ValuesVersion | None:
        """Return what is published, or None: ports.ValuePublisher."""
        with translated(self.address):
            pointer = _pointer(self.client.get(_pointer_key(enrichment)))
        return None if pointer is None else pointer.version


def _pointer(text: bytes | None) -> Pointer | None:
    return None if text is None else Pointer(**json.loads(text))


def _column(
    enrichment: EnrichmentPlan, layout: Layout, unpacked: Unpacked | None, name: str, rows: Ints
) -> Column:
    if unpacked is None or name not in layout.schema:
        return Column.nulls(enrichment.schema[name], len(rows))
    return unpacked.column(name).take_or_null(rows)


def _packed(layout: Layout, rows: pl.DataFrame) -> Iterator[tuple[bytes, bytes]]:
    """Yield each key with its rows, oldest first, each after its length."""
    packed = layout.pack(rows)
    for key, start, stop in key_runs(rows["key"]).iter_rows():
        parts = [next(packed) for _ in range(stop - start)]
        yield _field(key), b"".join(LENGTH.pack(len(part)) + part for part in parts)


def _rows_of(values: Sequence[bytes | None]) -> tuple[list[bytes], Ints, Ints]:
    """Return all rows of several keys, and where each key's are, ``[start, stop)``."""
    rows: list[bytes] = []
    ends = [0]
    for value in values:
        at = 0
        while value is not None and at < len(value):
            (length,) = LENGTH.unpack_from(value, at)
            at += LENGTH.size
            rows.append(value[at : at + length])
            at += length
        ends.append(len(rows))
    bounds = np.asarray(ends, dtype=np.int64)
    return rows, bounds[:-1], bounds[1:]


def _field(key: object) -> bytes:
    return str(key).encode()


def _pointer_key(enrichment: EnrichmentPlan) -> bytes:
    return _prefix(enrichment) + b"current"


def _values_key(enrichment: EnrichmentPlan, name: str) -> bytes:
    return _prefix(enrichment) + b"v:" + name.encode()


def _prefix(enrichment: EnrichmentPlan) -> bytes:
    """Return what all keys of an enrichment begin with; no event type's do."""
    return b"sequence_platform:{values/" + enrichment.table.encode() + b"}:"
