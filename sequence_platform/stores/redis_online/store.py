"""The online store on Redis: what belongs together is read in one transaction, changed by a script.

A reader sees one moment of an event type and an entity: the manifest, what its segments hold, and
the tail. Two event types of one view may be milliseconds apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime, timedelta
from secrets import randbits

import polars as pl

from sequence_platform.online_format.coverage import Coverage
from sequence_platform.online_format.manifests import from_json, to_json, to_us
from sequence_platform.online_format.offsets import (
    fenced,
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
from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports.lake import OffsetMove
from sequence_platform.ports.online import (
    DayRows,
    Manifest,
    OnlineView,
    Reflected,
    TailAppend,
    TailSize,
)
from sequence_platform.stores.redis_online.connection import address_of, connect, translated
from sequence_platform.stores.redis_online.keys import TABLES, keys, keys_of
from sequence_platform.stores.redis_online.known import ATTEMPTS, Known, unsettled
from sequence_platform.stores.redis_online.scripts import APPEND, HEARD, SWITCH
from sequence_platform.stores.redis_online.segments import (
    all_hows,
    merge,
    remove,
    write_days,
)
from sequence_platform.stores.redis_online.tail import (
    appended_rows,
    drop_covered,
)
from sequence_platform.stores.redis_online.view import View

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
        self._known = Known(self.client, self.address)
        self._noted: set[str] = set()

    def close(self) -> None:
        """Close all connections."""
        self.client.close()

    # ---- reading

    @contextmanager
    def view(self, known_at: datetime | None = None) -> Iterator[OnlineView]:
        """Open the store as it is, or as it was: ports.OnlineReader."""
        yield View(self._known, known_at)

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
        names, layouts = keys(append.event), self._known.layouts(append.event)
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
        raise unsettled(append.event, self.address)

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
        return self._known.manifest(event)

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
        raise unsettled(event, self.address)

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
        if event.table not in self._noted:
            self.client.sadd(TABLES, event.table)
            self._noted.add(event.table)


def _arguments(move: OffsetMove, committed_at: datetime) -> list[object]:
    """Return place, start, next and JSON of a move."""
    text = json.dumps(stored_offset(move, committed_at))
    return [place_of(move), "" if move.start is None else move.start, move.next, text]
