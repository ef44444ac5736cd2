"""What new rows change in a partition that holds rows already: the same rules as ``resolve``.

A partition that was amended batch by batch holds what resolving all batches at once would give.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from sequence_platform.engine.enrich import Enriched
from sequence_platform.engine.resolve import KEY, resolve
from sequence_platform.plan.plan import EventPlan

ROW_KEY = ("entity", "event_id", "revision", "arrival_time", "event_time")
"""What tells a row from its other revisions."""

_IS_NEW = "__is_new"


@dataclass(frozen=True, slots=True, eq=False)
class Amended:
    """How a partition changes. The numbers are differences, and add up: see ``ports.Counts``.

    Attributes:
        added: New winners, in the event type's schema, sorted by KEY_ORDER.
        removed: ROW_KEY of stored rows that lost.
        corrections: As ``Resolved.corrections``, of the keys that the new rows have.
        received: New rows, whatever became of them.
        admitted: More rows in the partition.
        filtered: More keys that a rule dropped, by rule.
        superseded: More rows that lost.
        deleted: More keys that a deletion dropped.
    """

    added: pl.DataFrame
    removed: pl.DataFrame
    corrections: pl.DataFrame
    received: int
    admitted: int
    filtered: Mapping[str, int]
    superseded: int
    deleted: int


def amend(event: EventPlan, stored: pl.DataFrame, rejected: pl.DataFrame, new: Enriched) -> Amended:
    """Return what new rows of one partition change.

    Args:
        event: The compiled event type.
        stored: Rows that the partition holds, of the keys of ``new``: one a key.
        rejected: ENVELOPE and rule of rows received before and rejected, of those keys, too.
        new: Enriched rows of the partition; repeats of earlier ones are allowed.

    Guarantees:
        Amending with a, then with b, gives the rows of amending with a and b at once, in any order;
        amending an empty partition gives ``resolve``.
    """
    rows = pl.concat(
        [
            new.rows.with_columns(pl.lit(True).alias(_IS_NEW)),
            stored.with_columns(pl.lit(False).alias(_IS_NEW)),
        ]
    )
    before = resolve(event, stored, rejected)
    after = resolve(event, rows, pl.concat([rejected, new.rejected]))
    added = after.rows.filter(_IS_NEW).drop(_IS_NEW)
    kept = after.rows.filter(~pl.col(_IS_NEW)).select(KEY)
    filtered = Counter(after.filtered)
    filtered.subtract(before.filtered)
    received = new.rows.height + new.rejected.height
    admitted = after.rows.height - stored.height
    deleted = after.deleted - before.deleted
    return Amended(
        added=added,
        removed=stored.join(kept, on=KEY, how="anti").select(ROW_KEY),
        corrections=after.corrections,
        received=received,
        admitted=admitted,
        filtered={rule: n for rule, n in sorted(filtered.items()) if n},
        superseded=received - admitted - sum(filtered.values()) - deleted,
        deleted=deleted,
    )


def keys_of(enriched: Enriched) -> pl.DataFrame:
    """Return the keys (entity, event_id) of rows, admitted and rejected, each once."""
    parts = [enriched.rows.select(KEY), enriched.rejected.select(KEY)]
    return pl.concat(parts).unique()


def may_reject(event: EventPlan) -> bool:
    """Return whether rows of an event type can be rejected at all."""
    definition = event.definition
    return bool(
        event.rules
        or definition.executor is not None
        or definition.operation is not None
        or any(lookup.enrichment.definition.on_missing == "reject" for lookup in event.lookups)
    )
