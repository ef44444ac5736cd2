"""The online store on Redis: what belongs together is read in one transaction, changed by a script.

A reader sees one moment of an event type and an entity: the manifest, what its segments hold, and
the tail. Two event types of one view may be milliseconds apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from secrets import randbits

import polars as pl

from sequence_platform.engine.point import Candidates
from sequence_platform.errors import StoreError
from sequence_platform.online_format.coverage import Coverage
from sequence_platform.online_format.entity import entity_key
from sequence_platform.online_format.manifests import NOTHING, from_json, time_of, to_json, to_us
from sequence_platform.online_format.offsets import (
    fenced,
    forgotten,
    offset_frame,
    place_of,
    stored_offset,
)
from sequence_platform.online_format.switching import (
    Change,
    changed_days,
    confirming,
    expiring,
    following,
    kept_since,
    merging,
    publishing,
    rolled_back,
    to_merge,
)
from sequence_platform.online_format.tail import fresh_candidates
from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports.lake import OffsetMove
from sequence_platform.ports.online import (
    DayRows,
    Freshness,
    Manifest,
    OnlineView,
    Reflected,
    TailAppend,
    TailSize,
)
from sequence_platform.stores.redis_online.connection import address_of, connect, translated
from sequence_platform.stores.redis_online.keys import TABLES, keys, keys_of
from sequence_platform.stores.redis_online.live import Habit, Live, SettledRows
from sequence_platform.stores.redis_online.scripts import APPEND, HEARD, SWITCH
from sequence_platform.stores.redis_online.segments import (
    all_hows,
    hows,
    merge,
    remove,
    write_days,
)
from sequence_platform.stores.redis_online.tail import (
    LayoutRegister,
    appended_rows,
    drop_covered,
    messages_of,
)

ATTEMPTS = 20
"""Looks at a manifest that is switched again and again."""
STATE = ("live", "floor", "activated", "until")
OLDER = 16
"""Earlier manifests that are remembered."""
YOUNG_US = 3_600_000_000
"""A segment that no manifest names is left alone so long: it may be being written."""


class RedisOnlineStore:
    """ports.OnlineStore in Redis or Valkey.

    Args:
        url: ``redis://host:port/db``, or ``rediss://`` for TLS.

    Raises:
        StoreError: nothing answers there, or the server drops keys when its memory is full.
    """

    def __init__(self, url: str) -> None:
        self.address = address_of(url)
        self.client = connect(url)
        self._append = self.client.register_script(APPEND)
        self._heard = self.client.register_script(HEARD)
        self._switch_script = self.client.register_script(SWITCH)
        self._live: dict[str, Live] = {}
        self._older: dict[tuple[str, int], Live] = {}
        self._habits: dict[str, Habit] = {}
        self._layouts: dict[str, LayoutRegister] = {}
        self._known: set[str] = set()

    def close(self) -> None:
        """Close all connections."""
        self.client.close()

    # ---- reading

    @contextmanager
    def view(self, known_at: datetime | None = None) -> Iterator[OnlineView]:
        """Open the store as it is, or as it was: ports.OnlineReader."""
        yield _View(self, known_at)

    def habit(self, event: EventPlan) -> Habit:
        """Return which columns of an event type are asked for."""
        return self._habits.setdefault(event.table, Habit())

    def layouts(self, event: EventPlan) -> LayoutRegister:
        """Return the layouts of an event type's tail."""
        found = self._layouts.get(event.table)
        if found is None or found.event is not event:
            found = self._layouts[event.table] = LayoutRegister(self.client, event)
        return found

    def live(self, event: EventPlan) -> Live:
        """Return the manifest that was live when it was last looked for."""
        found = self._live.get(event.table)
        return found if found is not None and found.event is event else self.look(event)

    def look(self, event: EventPlan) -> Live:
        """Return the manifest that is live."""
        manifest = self.manifest(event)
        live = Live(event, manifest, hows(self.client, event, manifest.segments))
        self._live[event.table] = live
        return live

    def older(self, event: EventPlan, number: int) -> Live:
        """Return an earlier manifest."""
        found = self._older.get((event.table, number))
        if found is None or found.event is not event:
            text = self.client.hget(keys(event).manifests, str(number)) if number else None
            if number and text is None:
                raise _unsettled(event, self.address)
            manifest = NOTHING if text is None else from_json(text)
            found = Live(event, manifest, hows(self.client, event, manifest.segments))
            if len(self._older) > OLDER:
                self._older.clear()
            self._older[event.table, number] = found
        return found

    # ---- appending

    def append(self, append: TailAppend) -> None:
        """Add rows, removals and offsets at once: ports.OnlineAppender."""
        event = append.event
        flush = randbits(63)
        moves: list[object] = [flush, len(append.moves)]
        for move in append.moves:
            until = append.appended_until.get(move.at)
            moves += _arguments(move, append.received_at)
            moves.append("" if until is None else to_us(until))
        with translated(self.address):
            self._note_table(event)
            answer = self._appended(append, flush, moves)
        if answer:
            place, found = answer
            move = next(each for each in append.moves if place_of(each) == place)
            raise fenced(event, move, int(found) if found else None)

    def _appended(self, append: TailAppend, flush: int, moves: Sequence[object]) -> Sequence[bytes]:
        """Run APPEND; return the place and offset of a fence."""
        names, layouts = keys(append.event), self.layouts(append.event)
        for _ in range(ATTEMPTS):
            entities, rows = appended_rows(append, layouts, flush)
            tails = [names.tail(entity) for entity in entities]
            every = [names.next, names.offsets, names.until, names.flushes, names.state]
            answer: Sequence[bytes] = self._append(
                keys=[*every, names.tails, names.layouts, *tails], args=[*moves, *rows]
            )
            if not answer or answer[0]:
                return answer
            layouts.read()  # the number is another's
        raise _unsettled(append.event, self.address)

    def heard(self, event: EventPlan, moves: Iterable[OffsetMove], until: datetime) -> None:
        """Note that partitions are quiet, not behind: ports.OnlineAppender."""
        names = keys(event)
        read = [part for move in moves for part in (place_of(move), move.next)]
        with translated(self.address):
            self._heard(keys=[names.next, names.until, names.state], args=[to_us(until), *read])

    def offsets(self, event: EventPlan) -> pl.DataFrame:
        """Return how far the log was read: ports.OnlineAppender."""
        with translated(self.address):
            return offset_frame(self.client.hvals(keys(event).offsets))

    def reset_offsets(
        self, event: EventPlan, moves: Iterable[OffsetMove], committed_at: datetime
    ) -> None:
        """Store offsets as an operator decided: ports.OnlineAppender."""
        names = keys(event)
        with translated(self.address), self.client.pipeline() as pipe:
            self._note_table(event)
            for move in moves:
                place, _, next_, text = _arguments(move, committed_at)
                pipe.hset(names.next, place, next_)
                pipe.hset(names.offsets, place, text)
                pipe.hdel(names.flushes, place)
            pipe.execute()

    # ---- publishing

    def publish(self, event: EventPlan, days: Sequence[DayRows], at: datetime) -> Manifest:
        """Store days as segments and switch to them: ports.OnlinePublisher."""
        with translated(self.address):
            self._note_table(event)
            changed = changed_days(self.manifest(event), days)
            written = [write_days(self.client, event, changed, at)] if changed else []
            reason, change = publishing(days, changed, written)
            return self._switch(event, at, reason, change)

    def confirm(
        self, event: EventPlan, unchanged: Mapping[date, str], reflected: Reflected, at: datetime
    ) -> Manifest:
        """Move on how far the log is in days that have not changed: ports.OnlinePublisher."""
        with translated(self.address):
            return self._switch(event, at, "confirm", confirming(unchanged, reflected))

    def manifest(self, event: EventPlan) -> Manifest:
        """Return the live manifest: ports.OnlinePublisher."""
        names = keys(event)
        with translated(self.address):
            for _ in range(ATTEMPTS):
                number = self.client.hget(names.state, "live")
                if number is None:
                    return NOTHING
                text = self.client.hget(names.manifests, number)
                if text is not None:
                    return from_json(text)
        raise _unsettled(event, self.address)

    def manifests(self, event: EventPlan) -> list[Manifest]:
        """Return all manifests kept: ports.OnlinePublisher."""
        with translated(self.address):
            found = map(from_json, self.client.hvals(keys(event).manifests))
            return sorted(found, key=lambda each: each.number)

    def rollback(self, event: EventPlan, number: int, at: datetime) -> Manifest:
        """Make an earlier manifest live again: ports.OnlinePublisher."""

        def change(current: Manifest) -> Manifest:
            segments = rolled_back(event.name, self.manifests(event), number)
            return replace(current, segments=segments)

        with translated(self.address):
            return self._switch(event, at, f"rollback to {number}", change, source=str(number))

    def expire(self, event: EventPlan, before: date, at: datetime) -> Manifest:
        """Let the days before one go: ports.OnlinePublisher."""
        with translated(self.address):
            return self._switch(event, at, f"expire before {before}", expiring(before))

    def compact(self, event: EventPlan, at: datetime) -> Manifest:
        """Merge segments into longer ones: ports.OnlinePublisher."""
        with translated(self.address):
            current = self.manifest(event)
            group = to_merge(current.segments)
            if not group:
                return current
            merged = merge(self.client, event, group, at)
            return self._switch(event, at, f"merge {len(group)} segments", merging(group, merged))

    def collect(self, event: EventPlan, *, keep: timedelta, at: datetime) -> int:
        """Drop what nobody can ask for any more: ports.OnlinePublisher."""
        with translated(self.address):
            kept = self._drop_manifests(event, at - keep)
            # One that was rolled back to meanwhile is among them now, or its rollback failed.
            kept.append(self.manifest(event))
            self._drop_segments(event, kept)
            covered = [Coverage(event, manifest) for manifest in kept]
            return drop_covered(self.client, event, covered)

    def tail_size(self) -> TailSize:
        """Return how much the tail holds: ports.OnlinePublisher."""
        with translated(self.address):
            states = [keys_of(table.decode()).state for table in self.client.smembers(TABLES)]
            with self.client.pipeline(transaction=False) as pipe:
                for state in states:
                    pipe.hmget(state, "rows", "bytes")
                found = pipe.execute()
        rows, size = (sum(int(each[at] or 0) for each in found) for at in (0, 1))
        return TailSize(rows, size)

    # ---- manifests

    def _switch(
        self, event: EventPlan, at: datetime, reason: str, change: Change, source: str = ""
    ) -> Manifest:
        """Store a changed manifest as the live one; who is overtaken looks again."""
        names = keys(event)
        for _ in range(ATTEMPTS):
            current = self.manifest(event)
            new = following(current, change(current), at, reason)
            if new is None:
                return current
            activated_us = to_us(new.activated_at)
            arguments = [current.number, new.number, to_json(new), activated_us, source]
            if self._switch_script(
                keys=[names.state, names.manifests, names.activated], args=arguments
            ):
                return new
        raise _unsettled(event, self.address)

    def _drop_manifests(self, event: EventPlan, before: datetime) -> list[Manifest]:
        """Drop manifests that were replaced before a time; return the others."""
        names = keys(event)
        all_ = self.manifests(event)
        kept = kept_since(all_, before)
        dropped = [str(each.number) for each in all_[: len(all_) - len(kept)]]
        if dropped:
            with self.client.pipeline() as pipe:
                pipe.hset(names.state, "floor", to_us(kept[0].activated_at))
                pipe.hdel(names.manifests, *dropped)
                pipe.zrem(names.activated, *dropped)
                pipe.execute()
        return kept

    def _drop_segments(self, event: EventPlan, kept: Sequence[Manifest]) -> None:
        """Remove segments that no manifest names; a young one may be being written."""
        named = {segment.name for manifest in kept for segment in manifest.segments}
        newest = max(to_us(manifest.activated_at) for manifest in kept)
        for how in all_hows(self.client, event):
            if how.name not in named and how.created_us < newest - YOUNG_US:
                remove(self.client, keys(event), how)

    def _note_table(self, event: EventPlan) -> None:
        if event.table not in self._known:
            self.client.sadd(TABLES, event.table)
            self._known.add(event.table)


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """ports.OnlineView: every look at it is one transaction."""

    store: RedisOnlineStore
    known_at: datetime | None
    seen: dict[str, Freshness] = field(default_factory=dict)
    """What the first look at each event type told of it: later looks are no older."""

    def candidates(self, event: EventPlan, entity: object) -> Candidates:
        """Return all that may count: ports.OnlineView."""
        with translated(self.store.address):
            return self._candidates(event, entity)

    def freshness(self, event: EventPlan) -> Freshness:
        """Return how far the store is: ports.OnlineView."""
        if event.table in self.seen:
            return self.seen[event.table]
        with translated(self.store.address):
            for _ in range(ATTEMPTS):
                live, floor_us = self._live(event)
                state = self.store.client.hmget(keys(event).state, STATE)
                if self._is_still(event, live, floor_us, state):
                    return self.seen[event.table]
        raise _unsettled(event, self.store.address)

    def _candidates(self, event: EventPlan, entity: object) -> Candidates:
        client, names = self.store.client, keys(event)
        key = entity_key(entity)
        habit = self.store.habit(event)
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
            raise _unsettled(event, self.store.address)
        found = dict(zip(fields, chunks[0], strict=True)) if fields else {}

        def fetch(fields: Sequence[bytes]) -> Sequence[bytes | None]:
            with translated(self.store.address):
                read: list[bytes | None] = client.hmget(names.settled(key), fields)
            return read

        return fresh_candidates(
            event,
            entity,
            SettledRows(live, entity, found, fetch, habit),
            messages_of(members),
            live.covered,
            self.store.layouts(event).of,
            lambda: live.removals(found),
            self.known_at,
            is_hashed=live.is_hashed,
        )

    def _live(self, event: EventPlan) -> tuple[Live, int]:
        """Return the manifest to read, and what the floor must not exceed."""
        if self.known_at is None:
            return self.store.live(event), 0
        names, known_us = keys(event), to_us(self.known_at)
        with self.store.client.pipeline() as pipe:
            pipe.hget(names.state, "floor")
            pipe.zrevrangebyscore(names.activated, known_us, "-inf", start=0, num=1)
            floor, numbers = pipe.execute()
        if floor is not None and known_us < int(floor):
            raise forgotten(event, self.known_at, int(floor))
        return self.store.older(event, int(numbers[0]) if numbers else 0), known_us

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
            self.store.look(event)
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


def _arguments(move: OffsetMove, committed_at: datetime) -> list[object]:
    """Return place, start, next and JSON of a move."""
    text = json.dumps(stored_offset(move, committed_at))
    return [place_of(move), "" if move.start is None else move.start, move.next, text]


def _unsettled(event: EventPlan, address: str) -> StoreError:
    return StoreError(
        "manifests are switched faster than they are read",
        where=f"{address}, event type '{event.name}'",
        found=f"{ATTEMPTS} looks, each at another one",
        expected="one publisher",
        next_step="look for publishers that run in a circle; ask again",
        retryable=True,
    )
