"""What the lake promises of every partition, recomputed from the rows that are stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import polars as pl

from sequence_platform.plan.plan import Window
from sequence_platform.ports import TableSpec
from sequence_platform.stores.ducklake.session import Session
from sequence_platform.stores.ducklake.sql import columns_of, day_is, quoted, table, time_literal


def violations(session: Session, spec: TableSpec, day: date | None) -> Mapping[str, int]:
    """Return rows that break each guarantee; see ``ports.LakeReader.violations``."""
    source = (
        table(spec.name)
        if day is None
        else f"(SELECT * FROM {table(spec.name)} WHERE {day_is(day)})"
    )
    counts = {"unique_keys": f"count(*) - count(DISTINCT ({columns_of(_key(spec))}))"}
    for name, law in _row_laws(spec, day).items():
        counts[name] = f"count(*) FILTER (WHERE NOT coalesce({law}, false))"
    columns = ", ".join(f"{sql} AS {name}" for name, sql in counts.items())
    return dict(session.query(f"SELECT {columns} FROM {source}").row(0, named=True))


def _key(spec: TableSpec) -> tuple[str, ...]:
    if spec.is_snapshot:
        return ("entity",)
    return ("entity", "event_id") if "event_id" in spec.columns else spec.sort_by


def _row_laws(spec: TableSpec, day: date | None) -> dict[str, str]:
    laws = {}
    if "entity" in spec.columns:
        laws["null_entity"] = "entity IS NOT NULL"
    if day is not None:
        laws["in_partition"] = _in_partition(spec, Window.of_day(day))
    if spec.is_snapshot:
        lists = [name for name, dtype in spec.columns.items() if isinstance(dtype, pl.List)]
        laws["alignment"] = " AND ".join(f"len({quoted(name)}) = length" for name in lists)
        laws["order"] = "event_time = list_sort(event_time)"
    return laws


def _in_partition(spec: TableSpec, window: Window) -> str:
    if spec.is_snapshot:
        return f"as_of = {time_literal(window.end)}"
    return f"event_time >= {time_literal(window.start)} AND event_time < {time_literal(window.end)}"
