"""The offline reader: whole sequences as of any time.

From snapshots where they are exact, assembled where they are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise

import polars as pl

from sequence_platform.engine.assemble import assemble
from sequence_platform.engine.freshest import attach_read
from sequence_platform.engine.late import attach_late
from sequence_platform.engine.request import columns_needed
from sequence_platform.errors import FrameSchemaError, StateMismatchError, nearest
from sequence_platform.plan.plan import SequencePlan, Window
from sequence_platform.plan.tables import (
    columns_to_assemble,
    enriched_table,
    enrichment_table,
    sequence_table,
)
from sequence_platform.ports import LakeReader


def read_sequences(
    lake: LakeReader,
    sequence: SequencePlan,
    *,
    as_of: datetime | None = None,
    entities: pl.Series | None = None,
    columns: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Return sequences as of a time, one row for each entity with an event left, sorted by entity.

    An entity's newest snapshot answers when nothing has happened to it since and no event of it
    has grown too old; every other entity is assembled from enriched events, so the answer is exact
    at any time. Read columns have what was available at that time, as a request then got.

    Args:
        lake: Where to read.
        sequence: The compiled sequence.
        as_of: Excluded end, UTC. None: the end of the newest day built.
        entities: Only these; unknown ones give no row.
        columns: Of the sequence; late and read columns only when named here. None: all that
            snapshots hold.

    Raises:
        StateMismatchError: no day has been built.
        FrameSchemaError: a column is not one of the sequence's.
    """
    wanted = _columns(sequence, columns)
    needed = columns_needed(sequence, wanted)
    built = sorted(lake.ledger(sequence_table(sequence).name)["day"])
    if not built:
        raise StateMismatchError(
            f"sequence '{sequence.name}' has no day built",
            next_step="launch a backfill in the Dagster UI, or: "
            f"sequence-platform backfill {sequence.name}",
        )
    at = Window.of_day(built[-1]).end if as_of is None else as_of
    until = (at - timedelta(days=1)).date()
    since = _complete_until([day for day in built if day <= until], default=at - sequence.lookback)
    held = [
        name
        for name in sequence.schema
        if name
        in {
            *wanted,
            *needed.stored,
            *("entity", "as_of", "event_time", "event_type", "event_id", "trimmed"),
        }
    ]
    snapshots = lake.read_snapshots(sequence_table(sequence), held, until, entities=entities).drop(
        "day"
    )
    exact, changed = _split(lake, sequence, snapshots, Window(since, at), entities)
    parts = [exact.with_columns(as_of=pl.lit(at, pl.Datetime("us", "UTC")))]
    if not changed.is_empty():
        parts.append(_assembled(lake, sequence, at, changed).select(held))
    found = pl.concat([part.select(held) for part in parts]).sort("entity")
    late = [name for name in needed.stored if name in sequence.late]
    if late:
        found = _with_late(lake, sequence, found, late)
    if needed.lookups:
        found = attach_read(
            sequence,
            found,
            needed.lookups,
            lambda enrichment, keys: lake.read_lookup(enrichment_table(enrichment), keys),
            at,
        )
    return found.select(wanted)


def _columns(sequence: SequencePlan, columns: Sequence[str] | None) -> list[str]:
    available = [*sequence.schema.names(), *sequence.late, *sequence.read]
    unknown = [name for name in columns or () if name not in available]
    if unknown:
        raise FrameSchemaError(
            f"sequence '{sequence.name}' has no column '{unknown[0]}'",
            expected=nearest(unknown[0], available),
        )
    return (
        sequence.schema.names()
        if columns is None
        else ["entity", *(c for c in columns if c != "entity")]
    )


def _complete_until(built: list[date], default: datetime) -> datetime:
    """Return the end of the days built without a gap: later events are not in every snapshot."""
    if not built:
        return default
    gap = next(
        (day for day, after in pairwise(built) if after - day > timedelta(days=1)), built[-1]
    )
    return Window.of_day(gap).end


def _split(
    lake: LakeReader,
    sequence: SequencePlan,
    snapshots: pl.DataFrame,
    unbuilt: Window,
    entities: pl.Series | None,
) -> tuple[pl.DataFrame, pl.Series]:
    """Return the snapshots exact at the end of ``unbuilt``, and the entities to assemble."""
    oldest = unbuilt.end - sequence.lookback
    aged = snapshots.filter(pl.col("event_time").list.first() < oldest)["entity"]
    # The last event listed need not be the last there was: a later one may have repeated it.
    gone = snapshots.filter(pl.col("as_of") <= oldest)["entity"]
    active = pl.Series("entity", [], dtype=sequence.entity_type)
    if unbuilt.start < unbuilt.end:
        tables = [enriched_table(event) for event in sequence.events]
        active = lake.entity_counts(tables, unbuilt, active=unbuilt)["entity"]
        if entities is not None:
            active = active.filter(active.is_in(entities.implode()))
    faded = _faded(lake, sequence, snapshots, unbuilt.end)
    changed = pl.concat([aged.filter(~aged.is_in(gone.implode())), faded, active]).unique()
    outdated = pl.concat([aged, faded, active]).unique()
    return snapshots.filter(~pl.col("entity").is_in(outdated.implode())), changed


def _faded(
    lake: LakeReader, sequence: SequencePlan, snapshots: pl.DataFrame, at: datetime
) -> pl.Series:
    """Return the entities of which an event that a rule cut may have grown too old since.

    It is in no list, but it was counted, and it may have been what another event repeated.
    """
    any_cut = pl.sum_horizontal(pl.col("trimmed").struct.unnest()) > 0
    cut = snapshots.filter(pl.col("as_of") < at, any_cut)
    first = cut["as_of"].min()
    if not isinstance(first, datetime):
        return cut["entity"]
    window = Window(first - sequence.lookback, at - sequence.lookback)
    tables = [enriched_table(event) for event in sequence.events]
    older = lake.entity_counts(tables, window, active=window)["entity"]
    return cut.filter(pl.col("entity").is_in(older.implode()))["entity"]


def _assembled(
    lake: LakeReader, sequence: SequencePlan, at: datetime, entities: pl.Series
) -> pl.DataFrame:
    window = Window(at - sequence.lookback, at)
    rows = {
        event.name: lake.read_events(
            enriched_table(event), columns_to_assemble(sequence, event), window, entities=entities
        )
        for event in sequence.events
    }
    return assemble(sequence, rows, at)


def _with_late(
    lake: LakeReader, sequence: SequencePlan, found: pl.DataFrame, late: list[str]
) -> pl.DataFrame:
    times = found["event_time"].explode()
    oldest, newest = times.min(), times.max()
    if not (isinstance(oldest, datetime) and isinstance(newest, datetime)):
        return found.with_columns(
            pl.lit(None, pl.List(sequence.columns[name])).alias(name) for name in late
        )
    window = Window(oldest, newest + timedelta(microseconds=1))
    rows = {
        event.name: lake.read_events(
            enriched_table(event),
            ["entity", "event_id", *(name for name in late if name in event.schema)],
            window,
            entities=found["entity"],
        )
        for event in sequence.events
    }
    return attach_late(sequence, found, rows, late)
