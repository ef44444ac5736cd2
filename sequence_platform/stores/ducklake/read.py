"""Reads: each call is one statement or one snapshot, opens only the partitions and columns it needs, in exact order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from sequence_platform.plan.plan import KEY_ORDER, Window
from sequence_platform.ports import TableSpec
from sequence_platform.stores.ducklake.platform_tables import LEDGER, LEDGER_COLUMNS
from sequence_platform.stores.ducklake.session import Session
from sequence_platform.stores.ducklake.sql import columns_of, day_literal, in_window, table, text
from sequence_platform.stores.ducklake.types import from_stored, stored_dtype


def read_events(  # noqa: PLR0913 - the port's arguments
    session: Session,
    spec: TableSpec,
    columns: Sequence[str],
    window: Window,
    *,
    active: tuple[Sequence[TableSpec], Window] | None,
    entities: pl.Series | None,
    between: tuple[object, object] | None,
) -> pl.DataFrame:
    """Return rows of an enriched table; see ``ports.LakeReader.read_events``."""
    conditions, parameters = [in_window(window)], list[object]()
    if between is not None:
        conditions.append("entity BETWEEN ? AND ?")
        parameters += between
    if active is not None:
        who, more = _active(active[0], active[1], between)
        conditions.append(f"entity IN ({who})")
        parameters += more
    if entities is not None:
        conditions.append("entity IN (SELECT entity FROM entities_)")
    found = session.query(
        f"SELECT {columns_of(columns)} FROM {table(spec.name)} "
        f"WHERE {' AND '.join(conditions)} ORDER BY {columns_of(KEY_ORDER)}",
        parameters,
        frames=_entities(spec, entities),
    )
    return from_stored(found, _types(spec, columns))


def entity_counts(
    session: Session, specs: Sequence[TableSpec], window: Window, active: Window
) -> pl.DataFrame:
    """Return who was active and how many rows they have; see ``ports.LakeReader.entity_counts``."""
    rows = " UNION ALL ".join(
        f"SELECT entity FROM {table(spec.name)} WHERE {in_window(window)}" for spec in specs
    )
    who, _ = _active(specs, active, None)
    found = session.query(
        f"SELECT entity, count(*) AS rows FROM ({rows}) WHERE entity IN ({who}) GROUP BY entity ORDER BY entity"
    )
    return from_stored(found, pl.Schema({"entity": specs[0].columns["entity"], "rows": pl.Int64}))


def read_lookup(session: Session, spec: TableSpec, keys: pl.Series) -> pl.DataFrame:
    """Return rows of an enrichment table; see ``ports.LakeReader.read_lookup``."""
    given = keys.cast(stored_dtype(spec.columns["key"])).unique().rename("key").to_frame()
    found = session.query(
        f"SELECT {columns_of(spec.columns)} FROM {table(spec.name)} "
        f"WHERE key IN (SELECT key FROM keys_) ORDER BY {columns_of(spec.sort_by)}",
        frames={"keys_": given},
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
    """Return each entity's newest snapshot; see ``ports.LakeReader.read_snapshots``. Sorted by entity."""
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


def _active(
    specs: Sequence[TableSpec], window: Window, between: tuple[object, object] | None
) -> tuple[str, list[object]]:
    condition = in_window(window) + (" AND entity BETWEEN ? AND ?" if between is not None else "")
    parts = [f"SELECT entity FROM {table(spec.name)} WHERE {condition}" for spec in specs]
    return " UNION ALL ".join(parts), [value for _ in specs for value in between or ()]


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
