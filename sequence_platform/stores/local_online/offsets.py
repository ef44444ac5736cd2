"""Offsets in LMDB: how far streams have read, and before when all of a log can be read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sequence_platform.online_format.manifests import time_of, to_us
from sequence_platform.online_format.offsets import fenced, stored_offset
from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports.lake import OffsetMove
from sequence_platform.stores.local_online.environment import Environment, Transaction
from sequence_platform.stores.local_online.tail import offset_key, table_key


@dataclass(frozen=True, slots=True, eq=False)
class Offsets:
    """The offsets of every event type, within transactions of others."""

    environment: Environment

    def ensure_at_start(self, transaction: Transaction, event: EventPlan, move: OffsetMove) -> None:
        """Raise FencedError if the stored offset is not the one a move starts from."""
        stored = self._stored(transaction, event, move)
        found = None if stored is None else stored["next"]
        if found != move.start:
            raise fenced(event, move, found)

    def all(self, transaction: Transaction, event: EventPlan) -> Iterator[dict[str, Any]]:
        """Yield what is stored of each partition."""
        prefix = table_key(event)
        cursor = transaction.cursor(self.environment.offsets)
        if cursor.set_range(prefix):
            for key, text in cursor.iternext():
                if not key.startswith(prefix):
                    return
                yield json.loads(text)

    def store(
        self,
        transaction: Transaction,
        event: EventPlan,
        move: OffsetMove,
        committed_at: datetime,
        until: datetime | None,
    ) -> None:
        """Store how far a partition was read; before ``until`` all of it was."""
        before = self._stored(transaction, event, move)
        known = None if before is None else before["until"]
        stored = {
            **stored_offset(move, committed_at),
            "until": known if until is None else max(known or 0, to_us(until)),
        }
        self._put(transaction, event, move, stored)

    def hear(
        self, transaction: Transaction, event: EventPlan, move: OffsetMove, until: datetime
    ) -> None:
        """Note that a partition was read to its end at a time, if it is still there."""
        stored = self._stored(transaction, event, move)
        if stored is not None and stored["next"] == move.next:
            stored["until"] = max(stored["until"] or 0, to_us(until))
            self._put(transaction, event, move, stored)

    def until(self, transaction: Transaction, event: EventPlan) -> datetime | None:
        """Return before when all that the log took can be read."""
        found = transaction.get(b"until" + table_key(event), db=self.environment.state)
        return None if found is None else time_of(int.from_bytes(found, "big"))

    def note_until(self, transaction: Transaction, event: EventPlan) -> None:
        """Store before when all that the log took can be read: readers ask at every request."""
        known = [each["until"] for each in self.all(transaction, event)]
        if known and None not in known:
            until = min(known).to_bytes(8, "big")
            transaction.put(b"until" + table_key(event), until, db=self.environment.state)

    def next_flush(self, transaction: Transaction) -> int:
        """Return the number of the next flush of any event type."""
        found = transaction.get(b"flush", db=self.environment.state)
        number = 1 + (0 if found is None else int.from_bytes(found, "big"))
        transaction.put(b"flush", number.to_bytes(8, "big"), db=self.environment.state)
        return number

    def _stored(
        self, transaction: Transaction, event: EventPlan, move: OffsetMove
    ) -> dict[str, Any] | None:
        text = transaction.get(offset_key(event, move), db=self.environment.offsets)
        return None if text is None else json.loads(text)

    def _put(
        self,
        transaction: Transaction,
        event: EventPlan,
        move: OffsetMove,
        stored: Mapping[str, Any],
    ) -> None:
        text = json.dumps(stored).encode()
        transaction.put(offset_key(event, move), text, db=self.environment.offsets)
