"""Late columns: attached to assembled sequences when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from sequence_platform.plan.plan import SequencePlan

EVENT = ("event_type", "event_id")


def attach_late(
    sequence: SequencePlan,
    sequences: pl.DataFrame,
    rows: Mapping[str, pl.DataFrame],
    columns: Sequence[str],
) -> pl.DataFrame:
    """Return sequences with lists of late columns appended, aligned with their event_id lists.

    Args:
        sequence: The compiled sequence.
        sequences: With entity, event_type and event_id.
        rows: Enriched rows by event type name: entity, event_id and those of ``columns`` that the
            type has.
        columns: Late columns.

    Guarantees:
        Each list is as long as event_id; null where the event type lacks the column or the row is
        gone.
    """
    values = [
        frame.select(
            "entity",
            "event_id",
            pl.lit(name).alias("event_type"),
            *(
                pl.col(column)
                if column in frame.columns
                else pl.lit(None, sequence.columns[column]).alias(column)
                for column in columns
            ),
        )
        for name, frame in rows.items()
    ]
    flat = sequences.select("entity", *EVENT).with_row_index("__row").explode(EVENT)
    attached = flat.join(
        pl.concat(values), on=["entity", *EVENT], how="left", maintain_order="left"
    )
    lists = attached.group_by("__row", maintain_order=True).agg(columns).select(columns)
    return sequences.hstack(lists)
