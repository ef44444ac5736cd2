"""The one commit.

A partition, its dead letters, corrections and ledger row change together, or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import polars as pl

from sequence_platform.engine.dead_letters import DEAD_LETTERS as LETTER
from sequence_platform.errors import ConflictError, FrameSchemaError
from sequence_platform.ports import Committed, PartitionCommit, TableSpec
from sequence_platform.stores.ducklake.corrections import (
    beaten_staged,
    correct_other_days,
    remove_rows,
    replace_corrections,
    staged_hash,
    stored_corrections,
)
from sequence_platform.stores.ducklake.platform_tables import (
    DEAD_LETTERS,
    LEDGER,
    LEDGER_COLUMNS,
    corrections_of,
)
from sequence_platform.stores.ducklake.session import Session
from sequence_platform.stores.ducklake.sql import (
    CATALOG,
    columns_of,
    day_is,
    day_literal,
    split_name,
    table,
    text,
)
from sequence_platform.stores.ducklake.stage import discard
from sequence_platform.stores.ducklake.types import to_stored

CONTENT = (
    "rows", "received", "admitted", "filtered", "superseded", "deleted", "dead_lettered",
    "content_hash", "inputs", "fingerprint", "arrival_watermark",
)  # fmt: skip
"""Ledger columns that must be equal for a partition to hold exactly what a commit brings."""


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """A commit with what could be computed before the lock."""

    commit: PartitionCommit
    dead: pl.DataFrame
    corrections: pl.DataFrame


def commit_partition(session: Session, commit: PartitionCommit) -> Committed:
    """Replace a partition; see ``ports.LakeWriter.commit``.

    Staged files are gone unless the lake took them.
    """
    took = session.reached_commit = False
    try:
        prepared = _prepare(commit)
        what = commit.table.name if commit.day is None else f"{commit.table.name} {commit.day}"
        done = session.write(what, lambda: _replace(session, prepared))
        took = done.changed
        return done
    finally:
        if not took:
            discard(session, commit.staged.files)


def _prepare(commit: PartitionCommit) -> _Prepared:
    spec = commit.table
    _check(commit)
    keys = _without_day(corrections_of(spec)) if spec.corrects else pl.Schema()
    corrections = commit.corrections if commit.corrections is not None else keys.to_frame()
    return _Prepared(
        commit,
        to_stored(commit.dead, LETTER, f"dead letters of {spec.name}"),
        to_stored(corrections, keys, f"corrections of {spec.name}"),
    )


def _check(commit: PartitionCommit) -> None:
    spec = commit.table
    has_corrections, counted = commit.corrections is not None, commit.counts.dead_lettered
    fits = spec.is_daily == (commit.day is not None) and spec.corrects >= has_corrections
    if not fits or counted != commit.dead.height:
        raise FrameSchemaError(
            "a commit does not fit its table or its counts",
            where=spec.name,
            found=f"day {commit.day}, corrections {'given' if has_corrections else 'absent'}, "
            f"{commit.dead.height} dead letters",
            expected=f"{'a' if spec.is_daily else 'no'} day, "
            f"{'perhaps' if spec.corrects else 'no'} corrections, "
            f"{counted} dead letters as counted",
            next_step="build the commit from the table's specification and the frames counted",
        )


def _replace(session: Session, prepared: _Prepared) -> Committed:
    commit = prepared.commit
    spec, day = commit.table, commit.day
    beaten = (
        beaten_staged(session, spec, commit.staged.files, except_day=day)
        if spec.corrects and day
        else pl.DataFrame()
    )
    row = _ledger_row(session, prepared, beaten)
    stored = ledger_row(session, spec.name, day)
    if stored is not None and _is_same(session, prepared, row, stored):
        if commit.is_sealed and stored["state"] != row["state"]:
            _set_state(session, spec.name, day, row["state"])  # what it holds is settled now
        return Committed(
            stored["version"], changed=False, rows=stored["rows"], bytes=stored["bytes"]
        )
    version = stored["version"] if stored is not None else 0
    if version != commit.expected_version:
        raise version_conflict(spec, day, version, commit.expected_version)
    if stored is not None:
        _delete_stored(session, commit, stored)
    add_files(session, commit.table, commit.staged.files)
    _put_dead_letters(session, prepared)
    put_ledger_row(session, row | {"version": version + 1})
    done = Committed(version + 1, changed=True, rows=row["rows"], bytes=row["bytes"])
    if not (spec.corrects and day):
        return done
    superseded = remove_rows(session, spec, day, beaten)
    replace_corrections(session, spec, day, prepared.corrections)
    corrected = correct_other_days(session, spec, day, prepared.corrections)
    return replace(done, corrected=corrected, superseded=superseded)


def _ledger_row(session: Session, prepared: _Prepared, beaten: pl.DataFrame) -> dict[str, Any]:
    commit, counts = prepared.commit, prepared.commit.counts
    spec, lost = commit.table, beaten.height
    return {
        "table_name": spec.name,
        "day": commit.day,
        "state": "sealed" if commit.is_sealed else "built",
        "rows": commit.staged.rows - lost,
        "bytes": commit.staged.bytes,
        "received": counts.received,
        "admitted": counts.admitted - lost,
        "filtered": json.dumps(dict(sorted(counts.filtered.items()))),
        "superseded": counts.superseded + lost,
        "deleted": counts.deleted,
        "dead_lettered": counts.dead_lettered,
        "content_hash": staged_hash(session, spec, commit.staged.files, beaten)
        if lost
        else commit.staged.content_hash,
        "inputs": commit.inputs,
        "fingerprint": commit.fingerprint,
        "arrival_watermark": commit.arrival_watermark,
        "built_at": commit.committed_at,
    }


def ledger_row(session: Session, name: str, day: date | None) -> dict[str, Any] | None:
    """Return what the ledger says of a partition, or None."""
    found = session.query(f"SELECT * FROM {table(LEDGER)} WHERE {partition_is(name, day)}")
    return found.row(0, named=True) if found.height else None


def _is_same(
    session: Session, prepared: _Prepared, row: Mapping[str, Any], stored: Mapping[str, Any]
) -> bool:
    if any(row[name] != stored[name] for name in CONTENT):
        return False
    spec, day = prepared.commit.table, prepared.commit.day
    if prepared.dead.height:
        letters = f"SELECT {columns_of(LETTER)} FROM {table(DEAD_LETTERS)}"
        stored_letters = session.query(f"{letters} WHERE {partition_is(spec.name, day)}")
        if not _are_same_rows(stored_letters, prepared.dead):
            return False
    return not (spec.corrects and day) or _are_same_rows(
        stored_corrections(session, spec, day_is(day)).drop("day"), prepared.corrections
    )


def _are_same_rows(some: pl.DataFrame, others: pl.DataFrame) -> bool:
    columns = some.columns
    return some.height == others.height and some.sort(columns).equals(
        others.select(columns).sort(columns)
    )


def version_conflict(spec: TableSpec, day: date | None, found: int, expected: int) -> ConflictError:
    """Return the error that a partition is at another version than when it was looked at."""
    return ConflictError(
        "another writer has committed this partition meanwhile",
        where=f"{spec.name}, {day or 'the whole table'}",
        found=f"version {found}",
        expected=f"version {expected}, as when its inputs were read",
        next_step="read the inputs again, then build or append again",
        retryable=True,
    )


def _delete_stored(session: Session, commit: PartitionCommit, stored: Mapping[str, Any]) -> None:
    where = "true" if commit.day is None else day_is(commit.day)
    session.execute(f"DELETE FROM {table(commit.table.name)} WHERE {where}")
    if stored["dead_lettered"]:
        session.execute(
            f"DELETE FROM {table(DEAD_LETTERS)} WHERE {partition_is(commit.table.name, commit.day)}"
        )
    session.execute(
        f"DELETE FROM {table(LEDGER)} WHERE {partition_is(commit.table.name, commit.day)}"
    )


def add_files(session: Session, spec: TableSpec, paths: Iterable[str]) -> None:
    """Let staged files be part of a table; their folders say of which partition."""
    schema, plain = split_name(spec.name)
    files = ", ".join(text(path) for path in paths)
    if files:
        session.execute(
            f"CALL ducklake_add_data_files('{CATALOG}', {text(plain)}, [{files}], schema => "
            f"{text(schema)})"
        )


def _put_dead_letters(session: Session, prepared: _Prepared) -> None:
    if prepared.dead.is_empty():
        return
    commit = prepared.commit
    day = "NULL" if commit.day is None else day_literal(commit.day)
    session.execute(
        f"INSERT INTO {table(DEAD_LETTERS)} (table_name, day, {columns_of(LETTER)}, recorded_at) "
        f"SELECT {text(commit.table.name)}, {day}, {columns_of(LETTER)}, ? FROM dead_",
        (commit.committed_at,),
        frames={"dead_": prepared.dead},
    )


def _set_state(session: Session, name: str, day: date | None, state: str) -> None:
    session.execute(
        f"UPDATE {table(LEDGER)} SET state = {text(state)} WHERE {partition_is(name, day)}"
    )


def put_ledger_row(session: Session, row: Mapping[str, Any]) -> None:
    """Add a row to the ledger."""
    frame = pl.DataFrame([row], schema=LEDGER_COLUMNS)
    session.execute(
        f"INSERT INTO {table(LEDGER)} SELECT {columns_of(LEDGER_COLUMNS)} FROM row_",
        frames={"row_": frame},
    )


def partition_is(name: str, day: date | None) -> str:
    """Return the condition of a partition's ledger row and dead letters."""
    return f"table_name = {text(name)} AND {day_is(day)}"


def _without_day(spec: TableSpec) -> pl.Schema:
    return pl.Schema({name: dtype for name, dtype in spec.columns.items() if name != "day"})
