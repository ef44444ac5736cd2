"""What the lake promises of every partition, recomputed from the rows that are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import polars as pl

from sequence_platform.plan.plan import Window
from sequence_platform.ports import TableSpec
from sequence_platform.stores.ducklake.scan import current_files
from sequence_platform.stores.ducklake.session import Session
from sequence_platform.stores.ducklake.sql import (
    columns_of,
    day_is,
    quoted,
    table,
    text,
    time_literal,
)


class LawfulFiles:
    """Files whose lists were found aligned and in order, row by row, when their rows were written.

    To find that in the files again takes decoding every column.
    """

    def __init__(self) -> None:
        self._paths: set[str] = set()

    def add(self, path: str, spec: TableSpec, frame: pl.DataFrame) -> None:
        """Remember a file of a snapshot table if the lists of its rows are as they should be."""
        if spec.is_snapshot and _are_aligned(spec, frame) and _are_in_order(frame):
            self._paths.add(path)

    def hold(self, files: Sequence[str]) -> bool:
        """Return whether all of some files are known to be so."""
        return self._paths.issuperset(files)


def violations(
    session: Session, lawful: LawfulFiles, spec: TableSpec, day: date | None
) -> Mapping[str, int]:
    """Return rows that break each guarantee; see ``ports.LakeReader.violations``.

    Everything is counted over the stored rows, but for one thing: the lists of files that this
    lake has written itself, and found aligned and in order then, are not decoded again if the
    files say that every column of them holds as many values as the rows' lengths.
    """
    source = (
        table(spec.name)
        if day is None
        else f"(SELECT * FROM {table(spec.name)} WHERE {day_is(day)})"
    )
    laws = _row_laws(spec, day)
    if spec.is_snapshot and day is not None and _is_lawful(session, lawful, spec, day):
        laws |= {"alignment": "true", "order": "true"}
    counts = {"unique_keys": f"count(*) - count(DISTINCT ({columns_of(_key(spec))}))"}
    for name, law in laws.items():
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
        laws["alignment"] = " AND ".join(f"len({quoted(name)}) = length" for name in _lists(spec))
        laws["order"] = "event_time = list_sort(event_time)"
    return laws


def _lists(spec: TableSpec) -> list[str]:
    return [name for name, dtype in spec.columns.items() if isinstance(dtype, pl.List)]


def _in_partition(spec: TableSpec, window: Window) -> str:
    if spec.is_snapshot:
        return f"as_of = {time_literal(window.end)}"
    return f"event_time >= {time_literal(window.start)} AND event_time < {time_literal(window.end)}"


def _are_aligned(spec: TableSpec, frame: pl.DataFrame) -> bool:
    agree = [pl.col(name).list.len() == pl.col("length") for name in _lists(spec)]
    return bool(frame.select(pl.all_horizontal(agree).fill_null(value=False).all()).item())


def _are_in_order(frame: pl.DataFrame) -> bool:
    times = frame.select("event_time").with_row_index("row").explode("event_time")
    is_after = pl.col("event_time") >= pl.col("event_time").shift()
    starts = pl.col("row") != pl.col("row").shift()
    return bool(times.select((is_after | starts).fill_null(value=False).slice(1).all()).item())


def _is_lawful(session: Session, lawful: LawfulFiles, spec: TableSpec, day: date) -> bool:
    """Return whether the lists of a partition need not be decoded; False says nothing."""
    files = current_files(session, spec, (day, day))
    if not files or not lawful.hold(files):
        return False
    listed = f"[{', '.join(text(path) for path in files)}]"
    held = session.query(
        "SELECT path_in_schema AS path, sum(num_values)::BIGINT AS n "
        f"FROM parquet_metadata({listed}) GROUP BY path"
    )
    values = dict(held.iter_rows())
    length = session.query(
        f"SELECT sum(length)::BIGINT FROM read_parquet({listed}, hive_partitioning = false)"
    ).item()
    # Lists of vectors and of structs have other paths, and hold more values than elements.
    return (
        all(values.get(f"{name}, list, element", length) == length for name in _lists(spec))
        and values.get("event_time, list, element") == length
    )
