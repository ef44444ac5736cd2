"""Reading a store on Redis: every look is one transaction, and looks again if it was overtaken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sequence_platform.engine.point import Candidates
from sequence_platform.online_format.entity import entity_key
from sequence_platform.online_format.manifests import time_of, to_us
from sequence_platform.online_format.offsets import forgotten
from sequence_platform.online_format.tail import fresh_candidates
from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports.online import Freshness
from sequence_platform.stores.redis_online.connection import translated
from sequence_platform.stores.redis_online.keys import keys
from sequence_platform.stores.redis_online.known import ATTEMPTS, Known, unsettled
from sequence_platform.stores.redis_online.live import Live, SettledRows
from sequence_platform.stores.redis_online.tail import messages_of

STATE = ("live", "floor", "activated", "until")


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """ports.OnlineView: every look at it is one transaction."""

    known: Known
    known_at: datetime | None
    seen: dict[str, Freshness] = field(default_factory=dict)
    """What the first look at each event type told of it: later looks are no older."""

    def candidates(self, event: EventPlan, entity: object) -> Candidates:
        """Return all that may count: ports.OnlineView."""
        with translated(self.known.address):
            return self._candidates(event, entity)

    def freshness(self, event: EventPlan) -> Freshness:
        """Return how far the store is: ports.OnlineView."""
        if event.table in self.seen:
            return self.seen[event.table]
        with translated(self.known.address):
            for _ in range(ATTEMPTS):
                live, floor_us = self._live(event)
                state = self.known.client.hmget(keys(event).state, STATE)
                if self._is_still(event, live, floor_us, state):
                    return self.seen[event.table]
        raise unsettled(event, self.known.address)

    def _candidates(self, event: EventPlan, entity: object) -> Candidates:
        client, names = self.known.client, keys(event)
        key = entity_key(entity)
        habit = self.known.habit(event)
        habit.read()
        for _ in range(ATTEMPTS):
            live, floor_us = self._live(event)
            fields = live.fields(habit.usual)
            with client.pipeline() as pipe:
                pipe.hmget(names.state, STATE)
                pipe.zrange(names.tail(key), 0, -1)
                if fields:
                    pipe.hmget(names.settled(key), fields)
                state, members, *chunks = pipe.execute()
            if self._is_still(event, live, floor_us, state):
                break
        else:
            raise unsettled(event, self.known.address)
        found = dict(zip(fields, chunks[0], strict=True)) if fields else {}

        def fetch(fields: Sequence[bytes]) -> Sequence[bytes | None]:
            with translated(self.known.address):
                read: list[bytes | None] = client.hmget(names.settled(key), fields)
            return read

        return fresh_candidates(
            event,
            entity,
            SettledRows(live, entity, found, fetch, habit),
            messages_of(members),
            live.covered,
            self.known.layouts(event).of,
            lambda: live.removals(found),
            self.known_at,
            is_hashed=live.is_hashed,
        )

    def _live(self, event: EventPlan) -> tuple[Live, int]:
        """Return the manifest to read, and what the floor must not exceed."""
        if self.known_at is None:
            return self.known.live(event), 0
        names, known_us = keys(event), to_us(self.known_at)
        with self.known.client.pipeline() as pipe:
            pipe.hget(names.state, "floor")
            pipe.zrevrangebyscore(names.activated, known_us, "-inf", start=0, num=1)
            floor, numbers = pipe.execute()
        if floor is not None and known_us < int(floor):
            raise forgotten(event, self.known_at, int(floor))
        return self.known.older(event, int(numbers[0]) if numbers else 0), known_us

    def _is_still(
        self, event: EventPlan, live: Live, floor_us: int, state: Sequence[bytes | None]
    ) -> bool:
        """Return whether a manifest was the right one when the state was read."""
        number, floor, activated, until = (0 if each is None else int(each) for each in state)
        manifest = live.manifest
        # By its time, too: a replica that lost the last switch gives its number again.
        if self.known_at is None and (number, activated) != (
            manifest.number,
            to_us(manifest.activated_at),
        ):
            self.known.look(event)
            return False
        if self.known_at is not None and floor > floor_us:
            return False
        told = Freshness(
            manifest=manifest.number,
            settled_until=live.settled_until,
            streamed_until=time_of(until) if until else None,
            activated_at=manifest.activated_at if manifest.number else None,
        )
        self.seen.setdefault(event.table, told)
        return True
