"""Raw rows as the lake keeps them, so that a day can be enriched anew from what the log brought."""

from __future__ import annotations

import polars as pl

from sequence_platform.plan.plan import EventPlan
from sequence_platform.plan.tables import raw_stored, raw_table


def raw_rows(event: EventPlan, frame: pl.DataFrame, messages: pl.DataFrame) -> pl.DataFrame:
    """Return raw rows in the columns of the raw table.

    Args:
        event: The compiled event type.
        frame: Rows in its raw schema, all with a usable envelope.
        messages: Which message each row came in: ``_topic``, ``_partition``, ``_offset`` and
            ``_appended_at``.
    """
    key = frame.select(
        _entity=event.envelope["entity"],
        _event_id=event.envelope["event_id"],
        _event_time=event.envelope["event_time"],
    )
    stored = frame.select(
        pl.col(name).cast(raw_stored(dtype)) for name, dtype in event.raw_schema.items()
    )
    spec = raw_table(event)
    return pl.concat([key, messages, stored], how="horizontal").select(spec.columns.names())


def received_rows(event: EventPlan, rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows of the raw table in the event type's raw schema, as they came."""
    return rows.select(pl.col(name).cast(dtype) for name, dtype in event.raw_schema.items())
