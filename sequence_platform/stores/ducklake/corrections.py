"""Corrections across partitions.

Which rows lose to a correction of another day, and their removal, counted exactly.

A correction beats a row of the same (entity, event_id) whose (revision, arrival_time, removes,
event_time) is smaller. Between commits no stored row is beaten by a stored correction of another
day, whatever the order of the commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from sequence_platform.ports import TableSpec
from sequence_platform.stores.ducklake.content import content_hash, parquet
from sequence_platform.stores.ducklake.platform_tables import LEDGER, corrections_of
from sequence_platform.stores.ducklake.session import Session
from sequence_platform.stores.ducklake.sql import columns_of, day_is, day_literal, table, text

ROW_KEY = ("entity", "event_id", "revision", "arrival_time", "event_time")
"""What tells a row from its other revisions."""

BEATS = (
    "(c.revision, c.arrival_time, c.removes, c.event_time) "
    "> (r.revision, r.arrival_time, false, r.event_time)"
)


def beaten_staged(
    session: Session, spec: TableSpec, files: Sequence[str], *, except_day: date | None = None
) -> pl.DataFrame:
    """Return ROW_KEY of the staged rows that stored corrections beat.

    Args:
        session: The connection.
        spec: An enriched table that corrects.
        files: The staged rows.
        except_day: The partition whose own corrections do not count: it is being replaced.
    """
    others = "true" if except_day is None else f"day <> {day_literal(except_day)}"
    corrections = stored_corrections(session, spec, others)
    if corrections.is_empty():
        return pl.DataFrame(schema=ROW_KEY)
    return session.query(
        f"SELECT {columns_of(ROW_KEY, prefix='r.')} FROM {parquet(spec, files)} AS r "
        f"SEMI JOIN corrections_ AS c ON r.entity = c.entity AND r.event_id = c.event_id AND "
        f"{BEATS}",
        frames={"corrections_": corrections},
    )


def stored_corrections(session: Session, spec: TableSpec, condition: str) -> pl.DataFrame:
    """Return the stored corrections under a condition."""
    stored = corrections_of(spec)
    if not session.has_held_rows(stored.name):
        # Most event types are never corrected, and DuckLake is slow (25 ms) to scan a table that
        # never held a row.
        return pl.DataFrame(schema=stored.columns)
    return session.query(
        f"SELECT {columns_of(stored.columns)} FROM {table(stored.name)} WHERE {condition}"
    )


def staged_hash(
    session: Session, spec: TableSpec, files: Sequence[str], beaten: pl.DataFrame
) -> str:
    """Return the hash of the staged rows that are not beaten."""
    kept = f"(SELECT * FROM {parquet(spec, files)} ANTI JOIN beaten_ USING ({columns_of(ROW_KEY)}))"
    return content_hash(session, spec.columns, kept, beaten_=beaten)


def remove_rows(session: Session, spec: TableSpec, day: date, keys: pl.DataFrame) -> int:
    """Delete the rows of a partition with these ROW_KEYs; return how many they were."""
    if keys.is_empty():
        return 0
    return session.execute(
        f"DELETE FROM {table(spec.name)} WHERE {day_is(day)} "
        f"AND ({columns_of(ROW_KEY)}) IN (SELECT ({columns_of(ROW_KEY)}) FROM keys_)",
        frames={"keys_": keys},
    )


def correct_other_days(
    session: Session, spec: TableSpec, day: date, corrections: pl.DataFrame
) -> tuple[date, ...]:
    """Remove what corrections beat in other partitions and write that into their ledger rows.

    Return the days.
    """
    beaten = _beaten_stored(session, spec, day, corrections)
    days: list[date] = sorted(beaten["day"].unique())
    for other in days:
        removed = remove_rows(
            session, spec, other, beaten.filter(pl.col("day") == other).drop("day")
        )
        left = content_hash(
            session, spec.columns, f"(SELECT * FROM {table(spec.name)} WHERE {day_is(other)})"
        )
        session.execute(
            f"UPDATE {table(LEDGER)} SET rows = rows - ?, admitted = admitted - ?, superseded = "
            f"superseded + ?, "
            f"content_hash = ?, version = version + 1, "
            f"state = CASE state WHEN 'open' THEN 'open' ELSE 'corrected' END "
            f"WHERE table_name = {text(spec.name)} AND {day_is(other)}",
            (removed, removed, removed, left),
        )
    return tuple(days)


def replace_corrections(
    session: Session, spec: TableSpec, day: date, corrections: pl.DataFrame
) -> None:
    """Replace the stored corrections of a partition."""
    stored = corrections_of(spec)
    if session.has_held_rows(stored.name):
        session.execute(f"DELETE FROM {table(stored.name)} WHERE {day_is(day)}")
    if not corrections.is_empty():
        session.execute(
            f"INSERT INTO {table(stored.name)} SELECT {columns_of(stored.columns)} FROM "
            f"corrections_",
            frames={"corrections_": corrections.with_columns(day=pl.lit(day))},
        )


def add_corrections(
    session: Session, spec: TableSpec, day: date, corrections: pl.DataFrame
) -> None:
    """Add corrections to those of a partition. One that is there already is not added again."""
    stored = stored_corrections(session, spec, day_is(day))
    fresh = corrections.with_columns(day=pl.lit(day)).join(
        stored, on=stored.columns, how="anti", nulls_equal=True
    )
    if not fresh.is_empty():
        session.execute(
            f"INSERT INTO {table(corrections_of(spec).name)} SELECT {columns_of(stored.columns)} "
            "FROM corrections_",
            frames={"corrections_": fresh},
        )


def _beaten_stored(
    session: Session, spec: TableSpec, day: date, corrections: pl.DataFrame
) -> pl.DataFrame:
    if corrections.is_empty():
        return pl.DataFrame(schema={"day": pl.Date})
    return session.query(
        f"SELECT r.day, {columns_of(ROW_KEY, prefix='r.')} FROM {table(spec.name)} AS r "
        f"SEMI JOIN corrections_ AS c ON r.entity = c.entity AND r.event_id = c.event_id AND "
        f"{BEATS} "
        f"WHERE r.day <> {day_literal(day)}",
        frames={"corrections_": corrections},
    )
