"""Streamed rows in LMDB, by event type, entity and time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from sequence_platform.online_format.entity import entity_key
from sequence_platform.online_format.offsets import place_of
from sequence_platform.online_format.packed import Layout
from sequence_platform.online_format.tail import EARLIEST, Messages
from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports.lake import OffsetMove
from sequence_platform.stores.local_online.environment import Environment, Transaction

KEY = np.dtype(
    [
        ("table", "V8"),
        ("entity", "V16"),
        ("time", ">u8"),
        ("flush", ">u8"),
        ("row", ">u4"),
    ]
)


def table_key(event: EventPlan) -> bytes:
    """Return the bytes that keys of an event type's rows start with."""
    return _table_key(event.table)


@lru_cache
def _table_key(table: str) -> bytes:
    return blake2b(table.encode(), digest_size=8).digest()


def messages_of(keys: Sequence[bytes], values: Sequence[bytes]) -> Messages:
    """Return rows of the tail by their keys and values."""
    places = np.frombuffer(b"".join(keys), dtype=KEY)
    return Messages((places["time"] - np.uint64(EARLIEST)).astype(np.int64), values)


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
    return messages_of(keys, values)


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
    return table_key(event) + blake2b(place_of(move), digest_size=16).digest()
