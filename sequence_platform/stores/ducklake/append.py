"""What streams bring, in one transaction: rows, dead letters, counts, and how far was read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl

from sequence_platform.engine.dead_letters import MESSAGE, STREAM_LETTERS
from sequence_platform.errors import FencedError
from sequence_platform.ports import (
    EXPIRED,
    Append,
    Appended,
    DayAppend,
    LogPartition,
    OffsetMove,
    PartitionState,
    TableSpec,
)
from sequence_platform.stores.ducklake.commit import (
    add_files,
    ledger_row,
    put_ledger_row,
    version_conflict,
)
from sequence_platform.stores.ducklake.content import NOTHING, changed_hash, content_hash, parquet
from sequence_platform.stores.ducklake.corrections import (
    ROW_KEY,
    add_corrections,
    beaten_staged,
    correct_other_days,
    remove_rows,
)
from sequence_platform.stores.ducklake.platform_tables import (
    DEAD_LETTERS,
    LEDGER,
    LEDGER_COLUMNS,
    OFFSETS,
    corrections_of,
)
from sequence_platform.stores.ducklake.session import Session
from sequence_platform.stores.ducklake.sql import columns_of, day_is, table, text
from sequence_platform.stores.ducklake.stage import discard
from sequence_platform.stores.ducklake.types import to_stored

OFFSET_COLUMNS = ("topic", "log_partition", "identity", "next_offset", "committed_at")


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """An append with what could be computed before the lock."""

    append: Append
    dead: pl.DataFrame
    corrections: Mapping[date, pl.DataFrame]


def append_rows(session: Session, append: Append) -> Appended:
    """Append; see ``ports.LakeAppender.append``.

    Staged files are gone unless the lake took them.
    """
    files = [path for day in append.days for path in (*day.raw.files, *day.rows.files)]
    took = session.reached_commit = False
    try:
        prepared = _prepare(append)
        done = session.write(f"stream {append.enriched.name}", lambda: _append(session, prepared))
        took = True
        return done
    finally:
        if not took:
            discard(session, files)


def _prepare(append: Append) -> _Prepared:
    spec = append.enriched
    keys = pl.Schema(
        {name: kind for name, kind in corrections_of(spec).columns.items() if name != "day"}
    )
    return _Prepared(
        append,
        to_stored(append.dead, STREAM_LETTERS, f"dead letters of {append.raw.name}"),
        {
            day.day: to_stored(day.corrections, keys, f"corrections of {spec.name}")
            for day in append.days
            if day.corrections is not None
        },
    )


def _append(session: Session, prepared: _Prepared) -> Appended:
    append = prepared.append
    spec = append.enriched
    _move_offsets(session, append)
    stored = {day.day: _expected_row(session, spec, day) for day in append.days}
    add_files(session, append.raw, (path for day in append.days for path in day.raw.files))
    # Rows go before others come: a winner may be told from the row it replaces by its payload only.
    gone = {day.day: _remove(session, spec, day) for day in append.days}
    add_files(session, spec, (path for day in append.days for path in day.rows.files))
    beaten = {day.day: _beaten(session, spec, day) for day in append.days}
    for day in append.days:
        row = _grown(stored[day.day], append, day)
        lost = beaten[day.day].height
        row["rows"] -= lost
        row["admitted"] -= lost
        row["superseded"] += lost
        row["content_hash"] = changed_hash(
            row["content_hash"],
            added=[day.rows.content_hash],
            removed=[gone[day.day], _beaten_hash(session, spec, day, beaten[day.day])],
        )
        remove_rows(session, spec, day.day, beaten[day.day])
        _replace_ledger_row(session, row)
    _put_letters(session, prepared)
    corrected: set[date] = set()
    for at, corrections in prepared.corrections.items():
        add_corrections(session, spec, at, corrections)
        corrected.update(correct_other_days(session, spec, at, corrections))
    lost_rows = sum(frame.height for frame in beaten.values())
    states = {day.day: _state(session, spec, day.day) for day in append.days}
    return Appended(states, tuple(sorted(corrected - states.keys())), lost_rows)


def _state(session: Session, spec: TableSpec, day: date) -> PartitionState:
    row = ledger_row(session, spec.name, day) or {}
    return PartitionState(row["version"], row["rows"], row["state"])


def _expected_row(session: Session, spec: TableSpec, day: DayAppend) -> dict[str, Any] | None:
    row = ledger_row(session, spec.name, day.day)
    version = row["version"] if row is not None else 0
    if version != day.expected_version:
        raise version_conflict(spec, day.day, version, day.expected_version)
    return row


def _remove(session: Session, spec: TableSpec, day: DayAppend) -> str:
    """Remove the rows that others replace; return the hash of what went."""
    if day.removed.is_empty():
        return NOTHING
    columns = columns_of(ROW_KEY)
    rows = (
        f"(SELECT * FROM {table(spec.name)} WHERE {day_is(day.day)} "
        f"AND ({columns}) IN (SELECT ({columns}) FROM removed_))"
    )
    digest = content_hash(session, spec.columns, rows, removed_=day.removed)
    remove_rows(session, spec, day.day, day.removed)
    return digest


def _beaten(session: Session, spec: TableSpec, day: DayAppend) -> pl.DataFrame:
    """Return ROW_KEY of new rows that stored corrections, of any day, beat."""
    if not spec.corrects or not day.rows.files:
        return pl.DataFrame(schema=ROW_KEY)
    return beaten_staged(session, spec, day.rows.files)


def _beaten_hash(session: Session, spec: TableSpec, day: DayAppend, beaten: pl.DataFrame) -> str:
    if beaten.is_empty():
        return NOTHING
    join = f"SEMI JOIN beaten_ USING ({columns_of(ROW_KEY)})"
    rows = f"(SELECT * FROM {parquet(spec, day.rows.files)} {join})"
    return content_hash(session, spec.columns, rows, beaten_=beaten)


def _grown(stored: Mapping[str, Any] | None, append: Append, day: DayAppend) -> dict[str, Any]:
    """Return a partition's ledger row after an append, but for rows that corrections beat."""
    row = _opened(append, day.day)
    if stored is not None:  # one that had expired begins anew, should it be kept again
        row = row | {"version": stored["version"]} if stored["state"] == EXPIRED else dict(stored)
    filtered = Counter(json.loads(row["filtered"]))
    filtered.update(day.counts.filtered)
    marks = [at for at in (row["arrival_watermark"], day.arrival_watermark) if at is not None]
    return row | {
        "state": "open" if row["state"] == "open" else "corrected",
        "version": row["version"] + 1,
        "rows": row["rows"] + day.counts.admitted,
        "bytes": row["bytes"] + day.rows.bytes,
        "received": row["received"] + day.counts.received,
        "admitted": row["admitted"] + day.counts.admitted,
        "filtered": json.dumps({rule: n for rule, n in sorted(filtered.items()) if n}),
        "superseded": row["superseded"] + day.counts.superseded,
        "deleted": row["deleted"] + day.counts.deleted,
        "arrival_watermark": max(marks, default=None),
        "built_at": append.committed_at,
    }


def _opened(append: Append, day: date) -> dict[str, Any]:
    zeros = ("version", "rows", "bytes", "received", "admitted", "superseded", "deleted")
    return (
        dict.fromkeys(LEDGER_COLUMNS)
        | dict.fromkeys((*zeros, "dead_lettered"), 0)
        | {
            "table_name": append.enriched.name,
            "day": day,
            "state": "open",
            "filtered": "{}",
            "content_hash": NOTHING,
            "inputs": "",
            # Of the definition that opened it: rows of a newer one do not hide that it is outdated.
            "fingerprint": append.fingerprint,
        }
    )


def _replace_ledger_row(session: Session, row: Mapping[str, Any]) -> None:
    session.execute(
        f"DELETE FROM {table(LEDGER)} WHERE table_name = {text(row['table_name'])} "
        f"AND {day_is(row['day'])}"
    )
    put_ledger_row(session, row)


def _put_letters(session: Session, prepared: _Prepared) -> None:
    append = prepared.append
    if append.replayed.height:
        used = session.execute(
            f"DELETE FROM {table(DEAD_LETTERS)} WHERE table_name = {text(append.raw.name)} "
            f"AND ({columns_of(MESSAGE)}) IN (SELECT ({columns_of(MESSAGE)}) FROM replayed_)",
            frames={"replayed_": append.replayed},
        )
        if used != append.replayed.height:
            raise FencedError(
                "another replay has used some of these dead letters",
                where=f"platform.dead_letters of {append.raw.name}",
                found=f"{used} of them",
                expected=f"{append.replayed.height}",
                next_step="list them again and replay what is left",
            )
    if prepared.dead.height:
        columns = columns_of(STREAM_LETTERS)
        # A message that an operator lets be read again has one letter all the same.
        session.execute(
            f"DELETE FROM {table(DEAD_LETTERS)} WHERE table_name = {text(append.raw.name)} "
            f"AND ({columns_of(MESSAGE)}) IN (SELECT ({columns_of(MESSAGE)}) FROM dead_)",
            frames={"dead_": prepared.dead},
        )
        session.execute(
            f"INSERT INTO {table(DEAD_LETTERS)} (table_name, {columns}, recorded_at) "
            f"SELECT {text(append.raw.name)}, {columns}, ? FROM dead_",
            (append.committed_at,),
            frames={"dead_": prepared.dead},
        )


# Offsets


def read_offsets(session: Session, raw: TableSpec) -> pl.DataFrame:
    """Return how far the log was read; see ``ports.LakeAppender.offsets``."""
    return session.query(
        f"SELECT {columns_of(OFFSET_COLUMNS)} FROM {table(OFFSETS)} "
        f"WHERE table_name = {text(raw.name)} ORDER BY topic, log_partition"
    )


def reset_offsets(
    session: Session, raw: TableSpec, moves: Iterable[OffsetMove], committed_at: datetime
) -> None:
    """Store offsets, whatever is stored; see ``ports.LakeAppender.reset_offsets``."""
    decided = tuple(moves)
    session.write(
        f"reset offsets of {raw.name}",
        lambda: _store_offsets(session, raw, decided, committed_at),
    )


def _move_offsets(session: Session, append: Append) -> None:
    stored = {
        LogPartition(topic, partition): (identity, following)
        for topic, partition, identity, following, _ in read_offsets(session, append.raw).rows()
    }
    for move in append.offsets:
        identity, following = stored.get(move.at, (move.identity, None))
        if (identity, following) != (move.identity, move.start):
            raise FencedError(
                "another worker has read on from where this one started",
                where=f"{append.raw.name}, topic {move.at.topic}, partition {move.at.partition}",
                found=f"offset {following} of topic {identity} stored",
                expected=f"offset {move.start} of topic {move.identity}",
                next_step="nothing is lost and nothing twice: this worker ends; let one worker a "
                "shard run",
            )
    _store_offsets(session, append.raw, append.offsets, append.committed_at)


def _store_offsets(
    session: Session, raw: TableSpec, moves: tuple[OffsetMove, ...], committed_at: datetime
) -> None:
    rows = [
        (raw.name, move.at.topic, move.at.partition, move.identity, move.next, committed_at)
        for move in moves
    ]
    if not rows:
        return
    columns = ("table_name", *OFFSET_COLUMNS)
    session.execute(
        f"DELETE FROM {table(OFFSETS)} WHERE (table_name, topic, log_partition) IN "
        "(SELECT (table_name, topic, log_partition) FROM moved_)",
        frames={"moved_": pl.DataFrame(rows, schema=columns, orient="row")},
    )
    session.execute(
        f"INSERT INTO {table(OFFSETS)} ({columns_of(columns)}) SELECT {columns_of(columns)} "
        "FROM moved_",
        frames={"moved_": pl.DataFrame(rows, schema=columns, orient="row")},
    )
