"""The online store on one machine: segments in a folder, the tail and manifests in LMDB.

A reader takes manifest and tail in one LMDB transaction, so a switch is atomic across processes.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import numpy as np
import polars as pl

from sequence_platform.engine.point import Candidates
from sequence_platform.online_format.coverage import Coverage
from sequence_platform.online_format.offsets import offset_frame
from sequence_platform.online_format.packed import Layout
from sequence_platform.online_format.switching import (
    changed_days,
    confirming,
    expiring,
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
from sequence_platform.stores.local_online.manifests import Manifests
from sequence_platform.stores.local_online.offsets import Offsets
from sequence_platform.stores.local_online.segment import SegmentFile, write_segment
from sequence_platform.stores.local_online.tail import (
    LayoutRegister,
    messages_of,
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
        self._manifests = Manifests(self._environment)
        self._offsets = Offsets(self._environment)
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
        number = self._manifests.number(transaction, event, known_at)
        found = self._live.get((event.table, number))
        if found is not None and found.event is event:
            return found
        manifest = self._manifests.of(transaction, event, number)
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

    def streamed_until(self, transaction: Transaction, event: EventPlan) -> datetime | None:
        """Return before when all that the log took can be read."""
        return self._offsets.until(transaction, event)

    # ---- appending

    def append(self, append: TailAppend) -> None:
        """Add rows, removals and offsets in one transaction: ports.OnlineAppender."""
        environment = self._environment
        with environment.write() as transaction:
            for move in append.moves:
                self._offsets.ensure_at_start(transaction, append.event, move)
            register = LayoutRegister(environment, transaction)
            table = table_key(append.event)
            flush = self._offsets.next_flush(transaction)
            for entity, place, value in packed_rows(append, register.number, flush):
                transaction.put(table + entity + place, value, db=environment.rows)
            for move in append.moves:
                until = append.appended_until.get(move.at)
                self._offsets.store(transaction, append.event, move, append.received_at, until)
            self._offsets.note_until(transaction, append.event)
        self._appends += 1
        if self._appends % 1000 == 0:
            environment.env.reader_check()  # a reader that was killed holds pages back

    def heard(self, event: EventPlan, moves: Iterable[OffsetMove], until: datetime) -> None:
        """Note that partitions are quiet, not behind: ports.OnlineAppender."""
        with self._environment.write() as transaction:
            for move in moves:
                self._offsets.hear(transaction, event, move, until)
            self._offsets.note_until(transaction, event)

    def offsets(self, event: EventPlan) -> pl.DataFrame:
        """Return how far the log was read: ports.OnlineAppender."""
        with self._environment.read() as transaction:
            return offset_frame(self._offsets.all(transaction, event))

    def reset_offsets(
        self, event: EventPlan, moves: Iterable[OffsetMove], committed_at: datetime
    ) -> None:
        """Store offsets as an operator decided: ports.OnlineAppender."""
        with self._environment.write() as transaction:
            for move in moves:
                self._offsets.store(transaction, event, move, committed_at, None)

    # ---- publishing

    def publish(self, event: EventPlan, days: Sequence[DayRows], at: datetime) -> Manifest:
        """Store days as segments and switch to them: ports.OnlinePublisher."""
        changed = changed_days(self.manifest(event), days)
        written = [self._write(event, changed)] if changed else []
        reason, change = publishing(days, changed, written)
        return self._manifests.switch(event, at, reason, change)

    def confirm(
        self, event: EventPlan, unchanged: Mapping[date, str], reflected: Reflected, at: datetime
    ) -> Manifest:
        """Move on how far the log is in days that have not changed: ports.OnlinePublisher."""
        return self._manifests.switch(event, at, "confirm", confirming(unchanged, reflected))

    def manifest(self, event: EventPlan) -> Manifest:
        """Return the live manifest: ports.OnlinePublisher."""
        with self._environment.read() as transaction:
            number = self._manifests.number(transaction, event)
            return self._manifests.of(transaction, event, number)

    def manifests(self, event: EventPlan) -> list[Manifest]:
        """Return all manifests kept: ports.OnlinePublisher."""
        with self._environment.read() as transaction:
            return list(self._manifests.all(transaction, event))

    def rollback(self, event: EventPlan, number: int, at: datetime) -> Manifest:
        """Make an earlier manifest live again: ports.OnlinePublisher."""

        def change(current: Manifest) -> Manifest:
            segments = rolled_back(event.name, self.manifests(event), number)
            return replace(current, segments=segments)

        return self._manifests.switch(event, at, f"rollback to {number}", change)

    def expire(self, event: EventPlan, before: date, at: datetime) -> Manifest:
        """Let the days before one go: ports.OnlinePublisher."""
        return self._manifests.switch(event, at, f"expire before {before}", expiring(before))

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
        return self._manifests.switch(
            event, at, f"merge {len(group)} segments", merging(group, merged)
        )

    def collect(self, event: EventPlan, *, keep: timedelta, at: datetime) -> int:
        """Drop what nobody can ask for any more: ports.OnlinePublisher."""
        with self._environment.write() as transaction:
            kept = self._manifests.drop_before(transaction, event, at - keep)
        self._drop_segments(event, kept)
        return self._drop_covered(event, kept)

    def tail_size(self) -> TailSize:
        """Return how much the tail holds: ports.OnlinePublisher."""
        environment = self._environment
        with environment.read() as transaction:
            rows = int(transaction.stat(environment.rows)["entries"])
        info, page = environment.env.info(), environment.env.stat()["psize"]
        return TailSize(rows, (int(info["last_pgno"]) + 1) * int(page))

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
            counted = np.logical_or.reduce(
                [each.counts(messages.time_us, messages.marks()) for each in covered]
            )
            keys = [key for key, counts in zip(found, counted, strict=True) if not counts]
            if keys:
                with self._environment.write() as transaction:
                    for key in keys:
                        transaction.delete(key, db=self._environment.rows)
            dropped += len(keys)


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
