"""For notebooks: a DuckDB connection to the lake, and sequences as Polars frames.

Reads only; works while runs write.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from sequence_platform.catalog import load_plan
from sequence_platform.errors import FrameSchemaError, nearest
from sequence_platform.runtimes import offline
from sequence_platform.settings import Settings
from sequence_platform.stores.ducklake import connect_read_only
from sequence_platform.wiring import open_lake

if TYPE_CHECKING:
    import duckdb


def connect(settings: Settings | None = None) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection with the lake attached read-only and in use.

    Tables are ``enriched.<event type>``, ``enrichments.<name>``, ``sequences.<name>`` with the view
    ``sequences.<name>_latest`` and the macro ``sequences.<name>_as_of(t)``, and
    ``platform.partitions``, ``platform.dead_letters`` and ``platform.manifests``. Times are shown
    in UTC.

    Raises:
        StoreError: there is no lake yet, or an extension is missing.
    """
    chosen = settings or Settings()
    return connect_read_only(chosen.catalog_url, chosen.data_url)


def read_sequences(
    name: str,
    as_of: datetime | date | str | None = None,
    entities: Iterable[object] | None = None,
    columns: Sequence[str] | None = None,
    *,
    settings: Settings | None = None,
) -> pl.DataFrame:
    """Return sequences as of a time: one row an entity, one list a column, oldest event first.

    Args:
        name: Of the sequence.
        as_of: Events strictly before it count. A date (or '2026-10-15') means the end of that day;
            a time without a zone is UTC. None: the end of the newest day built.
        entities: Only these.
        columns: Only these (and ``entity``). Late columns, vectors by default, and columns that
            are looked up when a sequence is read, as of ``as_of``, only when named here.
        settings: Where the lake is; from the environment unless given.

    Raises:
        FrameSchemaError: no such sequence or column; the closest is named.
        StateMismatchError: no day of it has been built.
    """
    chosen = settings or Settings()
    plan = load_plan(chosen.definitions)
    if name not in plan.sequences:
        msg = f"no sequence is called '{name}'"
        raise FrameSchemaError(msg, expected=nearest(name, plan.sequences))
    sequence = plan.sequences[name]
    only = (
        None
        if entities is None
        else pl.Series("entity", list(entities), dtype=sequence.entity_type)
    )
    with open_lake(chosen, read_only=True) as lake:
        return offline.read_sequences(
            lake, sequence, as_of=_end(as_of), entities=only, columns=columns
        )


def _end(as_of: datetime | date | str | None) -> datetime | None:
    match as_of:
        case None:
            return None
        case str():
            return _end(
                date.fromisoformat(as_of)
                if len(as_of) == len("2026-10-15")
                else datetime.fromisoformat(as_of)
            )
        case datetime():
            return as_of.replace(tzinfo=UTC) if as_of.tzinfo is None else as_of.astimezone(UTC)
        case _:
            return datetime(as_of.year, as_of.month, as_of.day, tzinfo=UTC) + timedelta(days=1)
