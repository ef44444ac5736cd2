"""Entities in parts of about equal numbers of events, so that memory is bounded by a part."""

from __future__ import annotations

import polars as pl


def entity_buckets(counts: pl.DataFrame, most_rows: int) -> list[pl.Series]:
    """Return the entities in parts, in order, each with about so many events.

    Args:
        counts: ``entity, rows``, sorted by entity.
        most_rows: Of a part; one entity is never split.
    """
    bucket = (counts["rows"].cum_sum() - 1) // most_rows
    grouped = counts.group_by(bucket.alias("bucket"), maintain_order=True).agg("entity")
    return list(grouped["entity"])
