"""Reads.

Each call is one statement or one snapshot, opens only the partitions and columns it needs, in
exact order.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import polars as pl

from sequence_platform.engine.dead_letters import STREAM_LETTERS
from sequence_platform.plan.plan import TIME, Window
from sequence_platform.ports import TableSpec
from sequence_platform.stores.ducklake.failures import translated
from sequence_platform.stores.ducklake.platform_tables import DEAD_LETTERS, LEDGER, LEDGER_COLUMNS
from sequence_platform.stores.ducklake.scan import FileCache, count_in_files, read_files
from sequence_platform.stores.ducklake.session import Session
from sequence_platform.stores.ducklake.sql import (
    CATALOG,
    columns_of,
    day_is,
    day_literal,
    days_of,
    in_window,
    quoted,
    table,
    text,
)
from sequence_platform.stores.ducklake.types import from_stored, stored_dtype

KEY = ("entity", "event_id")


def read_events(  # noqa: PLR0913 - the port's arguments
    session: Session,
    cache: FileCache,
    spec: TableSpec,
    columns: Sequence[str],
    window: Window,
    *,
    entities: pl.Series | None,
    between: tuple[object, object] | None,
) -> pl.DataFrame:
    """Return rows of an enriched table; see ``ports.LakeReader.read_events``."""
    with session.snapshot(), translated(f"read {spec.name}", session.address.data_path):
        found = None
        # For a few entities DuckLake skips the row groups of all others, which Polars decodes.
        if entities is None or between is not None:
            held = _ledger_rows(session, spec, window)
            found = read_files(session, cache, spec, columns, window, entities, between, held)
        if found is None:
            found = _query_events(session, spec, columns, window, entities, between)
    return from_stored(found, _types(spec, columns))


def _query_events(  # noqa: PLR0913, PLR0917 - as above
    session: Session,
    spec: TableSpec,
    columns: Sequence[str],
    window: Window,
    entities: pl.Series | None,
    between: tuple[object, object] | None,
) -> pl.DataFrame:
    conditions = [in_window(window)]
    if between is not None:
        conditions.append("entity BETWEEN ? AND ?")
    if entities is not None:
        conditions.append("entity IN (SELECT entity FROM entities_)")
    return session.query(
        f"SELECT {columns_of(columns)} FROM {table(spec.name)} WHERE {' AND '.join(conditions)}",
        between or (),
        frames=_entities(spec, entities),
    )


def _active_entities(session: Session, specs: Sequence[TableSpec], window: Window) -> pl.Series:
    found = session.query(f"SELECT DISTINCT entity FROM ({_active(specs, window)})")
    return from_stored(found, pl.Schema({"entity": specs[0].columns["entity"]}))["entity"]


def _ledger_rows(session: Session, spec: TableSpec, window: Window) -> int:
    first, last = days_of(window)
    return int(read_ledger(session, spec.name, (first, last + timedelta(days=1)))["rows"].sum())


def entity_counts(
    session: Session, cache: FileCache, specs: Sequence[TableSpec], window: Window, active: Window
) -> pl.DataFrame:
    """Return who was active and how many rows they have; see ``ports.LakeReader.entity_counts``."""
    with session.snapshot(), translated("count rows of entities", session.address.data_path):
        held = [
            count_in_files(session, cache, spec, window, _ledger_rows(session, spec, window))
            for spec in specs
        ]
        found = [counts for counts in held if counts is not None]
        if len(found) < len(specs):
            return _query_entity_counts(session, specs, window, active)
        who = None if window == active else _active_entities(session, specs, active)
    counts = pl.concat(found).group_by("entity").agg(pl.col("rows").sum().cast(pl.Int64))
    if who is not None:
        counts = counts.filter(pl.col("entity").is_in(who.implode()))
    return counts.drop_nulls("entity").sort("entity")


def _query_entity_counts(
    session: Session, specs: Sequence[TableSpec], window: Window, active: Window
) -> pl.DataFrame:
    rows = " UNION ALL ".join(
        f"SELECT entity FROM {table(spec.name)} WHERE {in_window(window)}" for spec in specs
    )
    who = _active(specs, active)
    found = session.query(
        f"SELECT entity, count(*) AS rows FROM ({rows}) WHERE entity IN ({who}) GROUP BY entity "
        f"ORDER BY entity"
    )
    return from_stored(found, pl.Schema({"entity": specs[0].columns["entity"], "rows": pl.Int64()}))


def read_lookup(session: Session, spec: TableSpec, keys: pl.Series) -> pl.DataFrame:
    """Return rows of an enrichment table; see ``ports.LakeReader.read_lookup``."""
    given = keys.cast(stored_dtype(spec.columns["key"])).unique().rename("key").to_frame()
    found = session.query(
        f"SELECT {columns_of(spec.columns)} FROM {table(spec.name)} "
        f"WHERE key IN (SELECT key FROM keys_) ORDER BY {columns_of(spec.sort_by)}",
        frames={"keys_": given},
    )
    return from_stored(found, spec.columns)


def read_whole(session: Session, spec: TableSpec) -> pl.DataFrame:
    """Return all rows of an enrichment table; see ``ports.LakeReader.read_whole``."""
    found = session.query(
        f"SELECT {columns_of(spec.columns)} FROM {table(spec.name)} "
        f"ORDER BY {columns_of(spec.sort_by)}"
    )
    return from_stored(found, spec.columns)


def read_snapshots(
    session: Session,
    spec: TableSpec,
    columns: Sequence[str],
    until: date,
    *,
    entities: pl.Series | None,
) -> pl.DataFrame:
    """Return each entity's newest snapshot; see ``ports.LakeReader.read_snapshots``.

    Sorted by entity.
    """
    seen = f"day <= {day_literal(until)}"
    if entities is not None:
        seen += " AND entity IN (SELECT entity FROM entities_)"
    newest = f"SELECT entity, max(day) AS day FROM {table(spec.name)} WHERE {seen} GROUP BY entity"
    found = session.query(
        f"SELECT {columns_of(['day', *columns])} FROM {table(spec.name)} "
        f"SEMI JOIN ({newest}) AS newest USING (entity, day) WHERE {seen} ORDER BY entity",
        frames=_entities(spec, entities),
    )
    return from_stored(found, _types(spec, ["day", *columns]))


def snapshot_number(session: Session) -> int:
    """Return the newest snapshot; see ``ports.LakeReader.snapshot_number``."""
    found = session.query(f"SELECT max(snapshot_id) AS newest FROM ducklake_snapshots('{CATALOG}')")
    return int(found["newest"].item())


def read_ledger(
    session: Session, name: str | None, window: tuple[date, date] | None
) -> pl.DataFrame:
    """Return ledger rows, sorted by table and day; see ``ports.LakeReader.ledger``."""
    conditions = ["true"]
    if name is not None:
        conditions.append(f"table_name = {text(name)}")
    if window is not None:
        conditions.append(f"day >= {day_literal(window[0])} AND day < {day_literal(window[1])}")
    found = session.query(
        f"SELECT {columns_of(LEDGER_COLUMNS)} FROM {table(LEDGER)} "
        f"WHERE {' AND '.join(conditions)} ORDER BY table_name, day NULLS FIRST"
    )
    return from_stored(found, LEDGER_COLUMNS)


def read_keys(
    session: Session, spec: TableSpec, days: Sequence[date], keys: pl.DataFrame
) -> pl.DataFrame:
    """Return the rows with these keys; see ``ports.LakeAppender.read_keys``."""
    columns = ["day", *spec.columns]
    if not days or keys.is_empty():
        return pl.DataFrame(schema=_types(spec, columns))
    entity, event_id = ("_entity", "_event_id") if "_entity" in spec.columns else KEY
    listed = ", ".join(day_literal(day) for day in days)
    given = keys.select(pl.col(KEY[0]).cast(stored_dtype(spec.columns[entity])), KEY[1])
    where = (
        f"FROM {table(spec.name)} AS t SEMI JOIN keys_ ON t.{quoted(entity)} = keys_.entity "
        f"AND t.{quoted(event_id)} = keys_.event_id WHERE t.day IN ({listed})"
    )
    # Keys alone first: mostly none is there, and other columns are not read to find that out.
    held = session.query(
        f"SELECT DISTINCT t.{quoted(entity)} AS entity, t.{quoted(event_id)} AS event_id {where}",
        frames={"keys_": given},
    )
    if held.is_empty():
        return pl.DataFrame(schema=_types(spec, columns))
    found = session.query(
        f"SELECT {columns_of(columns, prefix='t.')} {where}", frames={"keys_": held}
    )
    return from_stored(found, _types(spec, columns))


def read_raw(session: Session, spec: TableSpec, day: date) -> pl.DataFrame:
    """Return a day of a raw table; see ``ports.LakeAppender.read_raw``."""
    found = session.query(
        f"SELECT {columns_of(spec.columns)} FROM {table(spec.name)} WHERE {day_is(day)} "
        f"ORDER BY {columns_of(spec.sort_by)}"
    )
    return from_stored(found, spec.columns)


def read_dead_letters(session: Session, spec: TableSpec) -> pl.DataFrame:
    """Return dead letters of a log; see ``ports.LakeAppender.dead_letters``."""
    columns = [*STREAM_LETTERS, "recorded_at"]
    found = session.query(
        f"SELECT {columns_of(columns)} FROM {table(DEAD_LETTERS)} "
        f"WHERE table_name = {text(spec.name)} ORDER BY source, position"
    )
    return from_stored(found, pl.Schema(dict(STREAM_LETTERS) | {"recorded_at": TIME}))


def _active(specs: Sequence[TableSpec], window: Window) -> str:
    return " UNION ALL ".join(
        f"SELECT entity FROM {table(spec.name)} WHERE {in_window(window)}" for spec in specs
    )


def _entities(spec: TableSpec, entities: pl.Series | None) -> dict[str, pl.DataFrame]:
    if entities is None:
        return {}
    return {
        "entities_": entities.cast(stored_dtype(spec.columns["entity"]))
        .unique()
        .rename("entity")
        .to_frame()
    }


def _types(spec: TableSpec, columns: Sequence[str]) -> pl.Schema:
    return pl.Schema({name: pl.Date() if name == "day" else spec.columns[name] for name in columns})
