"""The online store on one machine: segments in a folder, the tail and manifests in LMDB.

A reader takes manifest and tail in one LMDB transaction, so a switch is atomic across processes.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl

from sequence_platform.engine.point import Candidates
from sequence_platform.errors import FencedError, StateMismatchError
from sequence_platform.plan.plan import KEY_ORDER, EventPlan
from sequence_platform.ports.lake import OffsetMove
from sequence_platform.ports.online import (
    DayRows,
    Freshness,
    Manifest,
    OnlineView,
    Reflected,
    Segment,
    TailAppend,
    TailSize,
)
from sequence_platform.stores.local_online.environment import (
    Transaction,
    close_environment,
    open_environment,
)
from sequence_platform.stores.local_online.live import Live
from sequence_platform.stores.local_online.manifests import NOTHING, from_json, to_json, to_us
from sequence_platform.stores.local_online.packed import Layout
from sequence_platform.stores.local_online.segment import SegmentFile, write_segment
from sequence_platform.stores.local_online.tail import (
    FreshRows,
    LayoutRegister,
    Messages,
    offset_key,
    packed_rows,
    read_messages,
    removals_of,
    scan_messages,
    table_key,
    time_of,
)

OFFSET_COLUMNS = {
    "topic": pl.String(),
    "log_partition": pl.Int32(),
    "identity": pl.String(),
    "next_offset": pl.Int64(),
    "committed_at": pl.Datetime("us", "UTC"),
}
MAX_SEGMENTS = 8
"""Live segments of an event type before they are merged: each costs a reader a search."""
MERGED_ROWS = 5_000_000
"""A merged segment holds at most so many rows: they pass through memory."""
DROPPED_AT_ONCE = 1_000
"""Tail rows dropped in a transaction: large ones leave free pages that make every commit slow."""
CHECK_SECONDS = 60.0
DEFAULT_TAIL_MB = 16_384


Change = Callable[[Manifest], Manifest]


class LocalOnlineStore:
    """ports.OnlineStore in a folder.

    Args:
        folder: Made if need be. On a local disk: LMDB maps it into memory.
        tail_mb: Room for the tail; it takes no space before it is used.
        verify: Whether checksums of segments are checked when they are opened.
    """

    def __init__(
        self, folder: Path, *, tail_mb: int = DEFAULT_TAIL_MB, verify: bool = True
    ) -> None:
        self._folder = folder
        self._environment = open_environment(folder / "tail", tail_mb << 20)
        self._verify = verify
        self._live: dict[tuple[str, int], Live] = {}
        self._files: dict[tuple[str, str], SegmentFile] = {}
        self._layouts: dict[int, Layout] = {}
        self._lock = threading.Lock()
        self._appends = 0

    def close(self) -> None:
        """Close the tail; mapped segments go with the last column that uses them."""
        self._live.clear()
        self._files.clear()
        close_environment(self._environment)

    # ---- reading

    @contextmanager
    def view(self, known_at: datetime | None = None) -> Iterator[OnlineView]:
        """Open the store as it is, or as it was: ports.OnlineReader."""
        with self._environment.read() as transaction:
            yield _View(self, transaction, known_at)

    def live(self, transaction: Transaction, event: EventPlan, known_at: datetime | None) -> Live:
        """Return the segments that are live, or were at a time."""
        number = self._number(transaction, event)
        if known_at is not None:
            number = self._number_at(transaction, event, number, known_at)
        found = self._live.get((event.table, number))
        if found is not None and found.event is event:
            return found
        manifest = self._manifest(transaction, event, number)
        with self._lock:
            files = [self._file(event, segment) for segment in manifest.segments]
            live = Live(event, manifest, files)
            names = {segment.name for segment in manifest.segments}
            if known_at is None:  # what is live no more is let go
                for key in [k for k in self._live if k[0] == event.table and k[1] < number]:
                    del self._live[key]
                for at in [f for f in self._files if f[0] == event.table and f[1] not in names]:
                    del self._files[at]
            self._live[event.table, number] = live
        return live

    def layouts(
        self, transaction: Transaction, event: EventPlan, messages: Messages
    ) -> Mapping[int, Layout]:
        """Return the layouts of rows."""
        for number in set(messages.heads["layout"].tolist()) - self._layouts.keys():
            text = transaction.get(
                b"l" + number.to_bytes(2, "little"), db=self._environment.layouts
            )
            self._layouts[number] = Layout.from_json(text.decode(), event.schema)
        return self._layouts

    # ---- appending

    def append(self, append: TailAppend) -> None:
        """Add rows, removals and offsets in one transaction: ports.OnlineAppender."""
        environment = self._environment
        with environment.write() as transaction:
            for move in append.moves:
                self._fence(transaction, append.event, move)
            register = LayoutRegister(environment, transaction)
            for key, value in packed_rows(append, register, self._next_flush(transaction)):
                transaction.put(key, value, db=environment.rows)
            for move in append.moves:
                until = append.appended_until.get(move.at)
                self._store_offset(transaction, append.event, move, append.received_at, until)
            self._note_until(transaction, append.event)
        self._appends += 1
        if self._appends % 1000 == 0:
            environment.env.reader_check()  # a reader that was killed holds pages back

    def heard(self, event: EventPlan, moves: Iterable[OffsetMove], until: datetime) -> None:
        """Note that partitions are quiet, not behind: ports.OnlineAppender."""
        with self._environment.write() as transaction:
            for move in moves:
                stored = self._offset(transaction, event, move)
                if stored is not None and stored["next"] == move.next:
                    stored["until"] = max(stored["until"] or 0, to_us(until))
                    self._put_offset(transaction, event, move, stored)
            self._note_until(transaction, event)

    def offsets(self, event: EventPlan) -> pl.DataFrame:
        """Return how far the log was read: ports.OnlineAppender."""
        with self._environment.read() as transaction:
            rows = [
                (each["topic"], each["partition"], each["identity"], each["next"],
                 time_of(each["committed"]))
                for each in self._offsets(transaction, event)
            ]  # fmt: skip
        return pl.DataFrame(rows, schema=OFFSET_COLUMNS, orient="row").sort(
            "topic", "log_partition"
        )

    def reset_offsets(
        self, event: EventPlan, moves: Iterable[OffsetMove], committed_at: datetime
    ) -> None:
        """Store offsets as an operator decided: ports.OnlineAppender."""
        with self._environment.write() as transaction:
            for move in moves:
                self._store_offset(transaction, event, move, committed_at, None)

    def _next_flush(self, transaction: Transaction) -> int:
        found = transaction.get(b"flush", db=self._environment.state)
        number = 1 + (0 if found is None else int.from_bytes(found, "big"))
        transaction.put(b"flush", number.to_bytes(8, "big"), db=self._environment.state)
        return number

    # ---- publishing

    def publish(self, event: EventPlan, days: Sequence[DayRows], at: datetime) -> Manifest:
        """Store days as segments and switch to them: ports.OnlinePublisher."""
        known = self.manifest(event).days
        changed = [
            each
            for each in days
            if each.day not in known or known[each.day].content_hash != each.version.content_hash
        ]
        written = [self._write(event, changed)] if changed else []
        replaced = {each.day for each in changed}
        moved = {each.day: each.version for each in days if each.day not in replaced}

        def switch(current: Manifest) -> Manifest:
            kept = _without(current.segments, replaced)
            kept = [_with_versions(each, moved) for each in kept]
            return replace(current, segments=(*kept, *written))

        names = ", ".join(str(each.day) for each in changed) or "nothing new"
        return self._switch(event, at, f"publish {names}", switch)

    def confirm(
        self, event: EventPlan, unchanged: Mapping[date, str], reflected: Reflected, at: datetime
    ) -> Manifest:
        """Move on how far the log is in days that have not changed: ports.OnlinePublisher."""

        def switch(current: Manifest) -> Manifest:
            moved = {
                day: replace(version, reflected=reflected)
                for day, version in current.days.items()
                if unchanged.get(day) == version.content_hash
            }
            segments = tuple(_with_versions(each, moved) for each in current.segments)
            return replace(current, segments=segments)

        return self._switch(event, at, "confirm", switch)

    def manifest(self, event: EventPlan) -> Manifest:
        """Return the live manifest: ports.OnlinePublisher."""
        with self._environment.read() as transaction:
            return self._manifest(transaction, event, self._number(transaction, event))

    def manifests(self, event: EventPlan) -> list[Manifest]:
        """Return all manifests kept: ports.OnlinePublisher."""
        with self._environment.read() as transaction:
            return list(self._manifests(transaction, event))

    def rollback(self, event: EventPlan, number: int, at: datetime) -> Manifest:
        """Make an earlier manifest live again: ports.OnlinePublisher."""

        def switch(current: Manifest) -> Manifest:
            kept = {each.number: each for each in self.manifests(event)}
            if number not in kept:
                raise StateMismatchError(
                    f"event type '{event.name}' has no manifest {number}",
                    expected=f"one of {', '.join(map(str, kept)) or 'none'}",
                    next_step="sequence-platform online history",
                )
            return replace(current, segments=kept[number].segments)

        return self._switch(event, at, f"rollback to {number}", switch)

    def compact(self, event: EventPlan, at: datetime) -> Manifest:
        """Merge segments into longer ones: ports.OnlinePublisher."""
        current = self.manifest(event)
        group = _to_merge(current.segments)
        if not group:
            return current
        rows, removals = self._merged(event, group)
        days = {day: version for each in group for day, version in each.days.items()}
        name, folder = self._new_folder(event)
        written = write_segment(folder, rows, removals)
        merged = Segment(name, days, len(days), written.rows, written.bytes, written.checksum)
        names = {each.name: each for each in group}

        def switch(now: Manifest) -> Manifest:
            there = {each.name: each for each in now.segments}
            # Days that were published meanwhile keep their newer segments.
            left = {
                day: there[old.name].days[day]
                for old in names.values()
                if old.name in there
                for day in old.days
                if day in there[old.name].days
            }
            kept = tuple(each for each in now.segments if each.name not in names)
            return replace(now, segments=(*kept, replace(merged, days=left)))

        return self._switch(event, at, f"merge {len(group)} segments", switch)

    def collect(self, event: EventPlan, *, keep: timedelta, at: datetime) -> int:
        """Drop what nobody can ask for any more: ports.OnlinePublisher."""
        with self._environment.write() as transaction:
            kept = self._drop_manifests(transaction, event, at - keep)
        self._drop_segments(event, kept)
        return self._drop_covered(event, kept)

    def tail_size(self) -> TailSize:
        """Return how much the tail holds: ports.OnlinePublisher."""
        environment = self._environment
        with environment.read() as transaction:
            rows = int(transaction.stat(environment.rows)["entries"])
        info, page = environment.env.info(), environment.env.stat()["psize"]
        return TailSize(rows, (int(info["last_pgno"]) + 1) * int(page))

    # ---- manifests

    def _number(self, transaction: Transaction, event: EventPlan) -> int:
        found = transaction.get(table_key(event), db=self._environment.manifests)
        return 0 if found is None else int.from_bytes(found, "big")

    def _manifest(self, transaction: Transaction, event: EventPlan, number: int) -> Manifest:
        if not number:
            return NOTHING
        text = transaction.get(_manifest_key(event, number), db=self._environment.manifests)
        return from_json(bytes(text))

    def _manifests(self, transaction: Transaction, event: EventPlan) -> Iterator[Manifest]:
        prefix = table_key(event)
        cursor = transaction.cursor(self._environment.manifests)
        if cursor.set_range(prefix + bytes(8)):
            for key, text in cursor.iternext():
                if not key.startswith(prefix):
                    return
                yield from_json(text)

    def _number_at(
        self, transaction: Transaction, event: EventPlan, newest: int, at: datetime
    ) -> int:
        floor = transaction.get(b"floor" + table_key(event), db=self._environment.state)
        if floor is not None and to_us(at) < int.from_bytes(floor, "big"):
            raise StateMismatchError(
                f"the online store does not know any more what it held at {at.isoformat()}",
                where=f"event type '{event.name}'",
                expected=f"known_at from {time_of(int.from_bytes(floor, 'big')).isoformat()} on",
                next_step="ask for a later time, or read the lake in a notebook",
            )
        for number in range(newest, 0, -1):
            text = transaction.get(_manifest_key(event, number), db=self._environment.manifests)
            if text is None:
                break
            if json.loads(text)["activated_us"] <= to_us(at):
                return number
        return 0

    def _switch(self, event: EventPlan, at: datetime, reason: str, change: Change) -> Manifest:
        """Store a changed manifest as the live one; writers take turns, nothing is lost."""
        with self._environment.write() as transaction:
            number = self._number(transaction, event)
            current = self._manifest(transaction, event, number)
            changed = change(current)
            if changed.segments == current.segments:
                return current
            # No two manifests at one moment, whatever the clock: known_at must choose.
            activated_at = max(at, current.activated_at + timedelta(microseconds=1))
            new = Manifest(number + 1, activated_at, reason, changed.segments)
            database = self._environment.manifests
            transaction.put(_manifest_key(event, new.number), to_json(new), db=database)
            transaction.put(table_key(event), new.number.to_bytes(8, "big"), db=database)
        return new

    def _drop_manifests(
        self, transaction: Transaction, event: EventPlan, before: datetime
    ) -> list[Manifest]:
        """Drop manifests that were replaced before a time; return the others."""
        all_ = list(self._manifests(transaction, event))
        kept = [
            each
            for each, after in zip_longest(all_, all_[1:])
            if after is None or after.activated_at >= before
        ]
        for each in all_[: len(all_) - len(kept)]:
            transaction.delete(_manifest_key(event, each.number), db=self._environment.manifests)
        if len(kept) < len(all_):
            floor = to_us(kept[0].activated_at).to_bytes(8, "big")
            transaction.put(b"floor" + table_key(event), floor, db=self._environment.state)
        return kept

    # ---- segments

    def _file(self, event: EventPlan, segment: Segment) -> SegmentFile:
        key = (event.table, segment.name)
        found = self._files.get(key)
        if found is None or found.event is not event:
            expected = segment.checksum if self._verify and found is None else None
            found = SegmentFile(self._segments(event) / segment.name, event, expected)
            self._files[key] = found
        return found

    def _segments(self, event: EventPlan) -> Path:
        return self._folder / "segments" / event.table

    def _new_folder(self, event: EventPlan) -> tuple[str, Path]:
        name = uuid4().hex
        return name, self._segments(event) / name

    def _write(self, event: EventPlan, days: Sequence[DayRows]) -> Segment:
        rows = pl.concat([each.rows for each in days])
        removals = pl.concat([each.removals for each in days])
        name, folder = self._new_folder(event)
        written = write_segment(folder, rows if len(days) == 1 else rows.sort(KEY_ORDER), removals)
        versions = {each.day: each.version for each in days}
        return Segment(name, versions, len(versions), written.rows, written.bytes, written.checksum)

    def _merged(
        self, event: EventPlan, group: Sequence[Segment]
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        parts = []
        for segment in group:
            frames = SegmentFile(
                self._segments(event) / segment.name, event, segment.checksum
            ).frames()
            in_days = pl.col("event_time").dt.date().is_in(list(segment.days))
            parts.append([frame.filter(in_days) for frame in frames])
        rows, removals = (pl.concat(part) for part in zip(*parts, strict=True))
        return rows.sort(KEY_ORDER), removals

    def _drop_segments(self, event: EventPlan, kept: Sequence[Manifest]) -> None:
        """Remove segments that no manifest names; a young one may be being written."""
        names = {segment.name for manifest in kept for segment in manifest.segments}
        newest = max((manifest.activated_at for manifest in kept), default=None)
        folder = self._segments(event)
        if newest is None or not folder.exists():
            return
        for path in folder.iterdir():
            with suppress(FileNotFoundError):
                if path.name not in names and path.stat().st_mtime < newest.timestamp() - 3600:
                    shutil.rmtree(path)

    # ---- tail

    def _drop_covered(self, event: EventPlan, kept: Sequence[Manifest]) -> int:
        """Drop rows that no manifest kept would count."""
        lives = [
            Live(event, manifest, [self._file(event, each) for each in manifest.segments])
            for manifest in kept
        ]
        if not lives:
            return 0
        dropped, after = 0, b""
        while True:
            with self._environment.read() as transaction:
                found = []
                values = []
                for key, value in scan_messages(self._environment, transaction, event, after):
                    found.append(key)
                    values.append(value)
                    if len(found) == DROPPED_AT_ONCE:
                        break
            if not found:
                return dropped
            after = found[-1] + b"\0"
            messages = Messages(found, values)
            counted = np.logical_or.reduce([live.counts(messages) for live in lives])
            keys = [key for key, counts in zip(found, counted, strict=True) if not counts]
            if keys:
                with self._environment.write() as transaction:
                    for key in keys:
                        transaction.delete(key, db=self._environment.rows)
            dropped += len(keys)

    # ---- offsets

    def _fence(self, transaction: Transaction, event: EventPlan, move: OffsetMove) -> None:
        stored = self._offset(transaction, event, move)
        found = None if stored is None else stored["next"]
        if found != move.start:
            raise FencedError(
                f"another worker has read on for event type '{event.name}'",
                where=f"{move.at.topic}/{move.at.partition}",
                found=f"offset {found} in the online store",
                expected=f"offset {move.start}, where this worker began",
                next_step="none: what it had in hand is in the store already",
            )

    def _offset(
        self, transaction: Transaction, event: EventPlan, move: OffsetMove
    ) -> dict[str, Any] | None:
        text = transaction.get(offset_key(event, move), db=self._environment.offsets)
        return None if text is None else json.loads(text)

    def _offsets(self, transaction: Transaction, event: EventPlan) -> Iterator[dict[str, Any]]:
        prefix = table_key(event)
        cursor = transaction.cursor(self._environment.offsets)
        if cursor.set_range(prefix):
            for key, text in cursor.iternext():
                if not key.startswith(prefix):
                    return
                yield json.loads(text)

    def _store_offset(
        self,
        transaction: Transaction,
        event: EventPlan,
        move: OffsetMove,
        committed_at: datetime,
        until: datetime | None,
    ) -> None:
        before = self._offset(transaction, event, move)
        known = None if before is None else before["until"]
        stored = {
            "topic": move.at.topic,
            "partition": move.at.partition,
            "identity": move.identity,
            "next": move.next,
            "committed": to_us(committed_at),
            "until": known if until is None else max(known or 0, to_us(until)),
        }
        self._put_offset(transaction, event, move, stored)

    def _put_offset(
        self,
        transaction: Transaction,
        event: EventPlan,
        move: OffsetMove,
        stored: Mapping[str, Any],
    ) -> None:
        text = json.dumps(stored).encode()
        transaction.put(offset_key(event, move), text, db=self._environment.offsets)

    def streamed_until(self, transaction: Transaction, event: EventPlan) -> datetime | None:
        """Return before when all that the log took can be read."""
        found = transaction.get(b"until" + table_key(event), db=self._environment.state)
        return None if found is None else time_of(int.from_bytes(found, "big"))

    def _note_until(self, transaction: Transaction, event: EventPlan) -> None:
        """Store before when all that the log took can be read: readers ask at every request."""
        known = [each["until"] for each in self._offsets(transaction, event)]
        if known and None not in known:
            until = min(known).to_bytes(8, "big")
            transaction.put(b"until" + table_key(event), until, db=self._environment.state)


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """ports.OnlineView within an LMDB transaction."""

    store: LocalOnlineStore
    transaction: Transaction
    known_at: datetime | None

    def candidates(self, event: EventPlan, entity: object) -> Candidates:
        """Return all that may count: ports.OnlineView."""
        live = self.store.live(self.transaction, event, self.known_at)
        settled = live.settled(entity)
        messages = read_messages(self.store._environment, self.transaction, event, entity)  # noqa: SLF001 - its own
        if messages is None:
            return Candidates(event, settled, is_hashed=live.is_hashed)
        counts = live.counts(messages)
        if self.known_at is not None:
            known = to_us(self.known_at)
            counts &= messages.heads["received"] <= known
        removes = messages.heads["removes"]
        at = np.flatnonzero(counts & ~removes)
        gone = np.flatnonzero(counts & removes)
        layouts = self.store.layouts(self.transaction, event, messages)
        fresh = FreshRows(event, layouts, messages, at) if len(at) else None
        if not len(at) and not len(gone):
            return Candidates(event, settled, is_hashed=live.is_hashed)
        removals = live.removals(entity)
        if len(gone):
            removals.append(removals_of(event, layouts, messages, gone, entity))
        is_hashed = live.is_hashed and all(
            layouts[n].is_hashed for n in set(messages.heads["layout"].tolist())
        )
        return Candidates(event, settled, fresh, removals, is_hashed)

    def freshness(self, event: EventPlan) -> Freshness:
        """Return how far the store is: ports.OnlineView."""
        live = self.store.live(self.transaction, event, self.known_at)
        return Freshness(
            manifest=live.manifest.number,
            settled_until=live.settled_until,
            streamed_until=self.store.streamed_until(self.transaction, event),
            activated_at=live.manifest.activated_at if live.manifest.number else None,
        )


def _manifest_key(event: EventPlan, number: int) -> bytes:
    return table_key(event) + number.to_bytes(8, "big")


def _without(segments: Iterable[Segment], days: set[date]) -> list[Segment]:
    """Return segments that answer no more for some days; those left with none are dropped."""
    left = [
        replace(each, days={day: version for day, version in each.days.items() if day not in days})
        for each in segments
    ]
    return [each for each in left if each.days]


def _with_versions(segment: Segment, versions: Mapping[date, Any]) -> Segment:
    if not versions.keys() & segment.days.keys():
        return segment
    return replace(
        segment, days={day: versions.get(day, version) for day, version in segment.days.items()}
    )


def _to_merge(segments: Sequence[Segment]) -> list[Segment]:
    """Return segments to merge into one: the longest run of neighbours that is small enough.

    They are neighbours by their first days; so a merged one is read as one span.
    """
    if len(segments) <= MAX_SEGMENTS:
        return []
    ordered = sorted(segments, key=lambda each: min(each.days))
    best: list[Segment] = []
    group: list[Segment] = []
    for each in ordered:
        if sum(s.rows for s in group) + each.rows > MERGED_ROWS:
            group = []
        group.append(each)
        if len(group) > len(best):
            best = list(group)
    return best if len(best) > 1 else []
