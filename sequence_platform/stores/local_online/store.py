"""The online store on one machine: segments in a folder, the tail and manifests in LMDB.

A reader takes manifest and tail in one LMDB transaction, so a switch is atomic across processes.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl

from sequence_platform.engine.point import Candidates
from sequence_platform.online_format.coverage import Coverage
from sequence_platform.online_format.manifests import NOTHING, from_json, time_of, to_json, to_us
from sequence_platform.online_format.offsets import fenced, forgotten, offset_frame, stored_offset
from sequence_platform.online_format.packed import Layout
from sequence_platform.online_format.switching import (
    Change,
    changed_days,
    confirming,
    expiring,
    following,
    kept_since,
    merged_days,
    merging,
    publishing,
    rolled_back,
    to_merge,
)
from sequence_platform.online_format.tail import Messages, fresh_candidates, packed_rows
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
from sequence_platform.stores.local_online.segment import SegmentFile, write_segment
from sequence_platform.stores.local_online.tail import (
    LayoutRegister,
    messages_of,
    offset_key,
    read_messages,
    scan_messages,
    table_key,
)

DROPPED_AT_ONCE = 1_000
"""Tail rows dropped in a transaction: large ones leave free pages that make every commit slow."""
DEFAULT_TAIL_MB = 16_384


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
        for number in messages.layouts - self._layouts.keys():
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
            table = table_key(append.event)
            flush = self._next_flush(transaction)
            for entity, place, value in packed_rows(append, register.number, flush):
                transaction.put(table + entity + place, value, db=environment.rows)
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
            return offset_frame(self._offsets(transaction, event))

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
        changed = changed_days(self.manifest(event), days)
        written = [self._write(event, changed)] if changed else []
        reason, change = publishing(days, changed, written)
        return self._switch(event, at, reason, change)

    def confirm(
        self, event: EventPlan, unchanged: Mapping[date, str], reflected: Reflected, at: datetime
    ) -> Manifest:
        """Move on how far the log is in days that have not changed: ports.OnlinePublisher."""
        return self._switch(event, at, "confirm", confirming(unchanged, reflected))

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

        def change(current: Manifest) -> Manifest:
            segments = rolled_back(event.name, self.manifests(event), number)
            return replace(current, segments=segments)

        return self._switch(event, at, f"rollback to {number}", change)

    def expire(self, event: EventPlan, before: date, at: datetime) -> Manifest:
        """Let the days before one go: ports.OnlinePublisher."""
        return self._switch(event, at, f"expire before {before}", expiring(before))

    def compact(self, event: EventPlan, at: datetime) -> Manifest:
        """Merge segments into longer ones: ports.OnlinePublisher."""
        current = self.manifest(event)
        group = to_merge(current.segments)
        if not group:
            return current
        rows, removals = self._merged(event, group)
        name, folder = self._new_folder(event)
        written = write_segment(folder, rows, removals)
        days = merged_days(group)
        merged = Segment(name, days, len(days), written.rows, written.bytes, written.checksum)
        return self._switch(event, at, f"merge {len(group)} segments", merging(group, merged))

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
            raise forgotten(event, at, int.from_bytes(floor, "big"))
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
            new = following(current, change(current), at, reason)
            if new is None:
                return current
            database = self._environment.manifests
            transaction.put(_manifest_key(event, new.number), to_json(new), db=database)
            transaction.put(table_key(event), new.number.to_bytes(8, "big"), db=database)
        return new

    def _drop_manifests(
        self, transaction: Transaction, event: EventPlan, before: datetime
    ) -> list[Manifest]:
        """Drop manifests that were replaced before a time; return the others."""
        all_ = list(self._manifests(transaction, event))
        kept = kept_since(all_, before)
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
        covered = [Coverage(event, manifest) for manifest in kept]
        if not covered:
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
            messages = messages_of(found, values)
            times, marks = messages.time_us, messages.marks
            counted = np.logical_or.reduce([each.counts(times, marks) for each in covered])
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
            raise fenced(event, move, found)

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
            **stored_offset(move, committed_at),
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
        transaction = self.transaction
        return fresh_candidates(
            event,
            entity,
            live.settled(entity),
            read_messages(self.store._environment, transaction, event, entity),  # noqa: SLF001 - its own
            live.covered,
            lambda messages: self.store.layouts(transaction, event, messages),
            lambda: live.removals(entity),
            self.known_at,
            is_hashed=live.is_hashed,
        )

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
