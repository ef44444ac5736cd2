"""Manifests in LMDB: which is live, which was at a time, and switching to another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sequence_platform.online_format.manifests import NOTHING, from_json, to_json, to_us
from sequence_platform.online_format.offsets import forgotten
from sequence_platform.online_format.switching import Change, following, kept_since
from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports.online import Manifest
from sequence_platform.stores.local_online.environment import Environment, Transaction
from sequence_platform.stores.local_online.tail import table_key


@dataclass(frozen=True, slots=True, eq=False)
class Manifests:
    """The manifests of every event type; 0 is the number of the empty one."""

    environment: Environment

    def number(
        self, transaction: Transaction, event: EventPlan, known_at: datetime | None = None
    ) -> int:
        """Return the number of the manifest that is live, or was at a time.

        Raises:
            StateMismatchError: that long ago is forgotten.
        """
        found = transaction.get(table_key(event), db=self.environment.manifests)
        newest = 0 if found is None else int.from_bytes(found, "big")
        if known_at is None:
            return newest
        return self._number_at(transaction, event, newest, known_at)

    def of(self, transaction: Transaction, event: EventPlan, number: int) -> Manifest:
        """Return the manifest of a number."""
        if not number:
            return NOTHING
        text = transaction.get(_key(event, number), db=self.environment.manifests)
        return from_json(bytes(text))

    def all(self, transaction: Transaction, event: EventPlan) -> Iterator[Manifest]:
        """Yield the manifests that are kept, oldest first."""
        prefix = table_key(event)
        cursor = transaction.cursor(self.environment.manifests)
        if cursor.set_range(prefix + bytes(8)):
            for key, text in cursor.iternext():
                if not key.startswith(prefix):
                    return
                yield from_json(text)

    def switch(self, event: EventPlan, at: datetime, reason: str, change: Change) -> Manifest:
        """Store a changed manifest as the live one; writers take turns, nothing is lost."""
        with self.environment.write() as transaction:
            current = self.of(transaction, event, self.number(transaction, event))
            new = following(current, change(current), at, reason)
            if new is None:
                return current
            database = self.environment.manifests
            transaction.put(_key(event, new.number), to_json(new), db=database)
            transaction.put(table_key(event), new.number.to_bytes(8, "big"), db=database)
        return new

    def drop_before(
        self, transaction: Transaction, event: EventPlan, before: datetime
    ) -> list[Manifest]:
        """Drop manifests that were replaced before a time; return the others."""
        all_ = list(self.all(transaction, event))
        kept = kept_since(all_, before)
        for each in all_[: len(all_) - len(kept)]:
            transaction.delete(_key(event, each.number), db=self.environment.manifests)
        if len(kept) < len(all_):
            floor = to_us(kept[0].activated_at).to_bytes(8, "big")
            transaction.put(b"floor" + table_key(event), floor, db=self.environment.state)
        return kept

    def _number_at(
        self, transaction: Transaction, event: EventPlan, newest: int, at: datetime
    ) -> int:
        floor = transaction.get(b"floor" + table_key(event), db=self.environment.state)
        if floor is not None and to_us(at) < int.from_bytes(floor, "big"):
            raise forgotten(event, at, int.from_bytes(floor, "big"))
        for number in range(newest, 0, -1):
            text = transaction.get(_key(event, number), db=self.environment.manifests)
            if text is None:
                break
            if json.loads(text)["activated_us"] <= to_us(at):
                return number
        return 0


def _key(event: EventPlan, number: int) -> bytes:
    return table_key(event) + number.to_bytes(8, "big")
