"""One winner per key: which of several copies, corrections and deletions of an event counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from sequence_platform.engine.enrich import DELETE
from sequence_platform.plan.plan import EventPlan

KEY = ("entity", "event_id")
BEATS = ("revision", "arrival_time", "removes", "event_time")
"""Of two rows of one key the one that is larger here wins, then the one with the larger payload."""


@dataclass(frozen=True, slots=True, eq=False)
class Resolved:
    """The winners, and what became of the others.

    Attributes:
        rows: Winning rows, one a key, sorted by (entity, event_time, event_id).
        corrections: KEY and BEATS of winners that may beat rows elsewhere: a revision above 0, or
            a deletion.
        filtered: Winners that a rule rejected, by rule; they drop their key.
        superseded: Rows that lost.
        deleted: Winners that are deletions; they drop their key.
    """

    rows: pl.DataFrame
    corrections: pl.DataFrame
    filtered: Mapping[str, int]
    superseded: int
    deleted: int


def resolve(event: EventPlan, rows: pl.DataFrame, rejected: pl.DataFrame) -> Resolved:
    """Return one winner per (entity, event_id).

    The highest revision wins, then the newest arrival, a rejection or deletion over a row, the
    latest event_time, the larger payload (column by column in schema order, null smallest).

    Args:
        event: The compiled event type.
        rows: Admitted rows, in its schema, any order, copies allowed.
        rejected: ENVELOPE and rule, as from ``enrich``.

    Guarantees:
        Depends neither on the order of rows nor on how often one is repeated (but for
        ``superseded``).
    """
    admitted = _candidates(rows)
    others = rejected.select(*KEY, *_beats(removes=True), "rule").with_columns(
        row=pl.lit(None, pl.get_index_type())
    )
    candidates = pl.concat([admitted, others.select(admitted.columns)])
    winners = _winners(candidates, rows, event.payload)
    counts = dict(winners["rule"].drop_nulls().value_counts(name="n").sort("rule").iter_rows())
    is_correction = (pl.col("revision") > 0) | (pl.col("rule") == DELETE).fill_null(value=False)
    order = winners.filter(pl.col("row").is_not_null())["row"]
    return Resolved(
        rows=rows[order].sort("entity", "event_time", "event_id"),
        corrections=winners.filter(is_correction).select(*KEY, *BEATS).sort(KEY),
        filtered={rule: n for rule, n in counts.items() if rule != DELETE},
        superseded=candidates.height - winners.height,
        deleted=counts.get(DELETE, 0),
    )


def may_repeat(rows: pl.DataFrame) -> bool:
    """Return whether a key may be there twice; if not, it costs one pass over hashes of the keys.

    False is certain.
    """
    hashes = rows.select(pl.col("event_id").hash() ^ pl.col("entity").hash(seed=1)).to_series()
    return hashes.n_unique() < rows.height


def without_beaten(rows: pl.DataFrame, corrections: pl.DataFrame) -> pl.DataFrame:
    """Return rows that no correction of another day beats.

    Args:
        rows: Winners of their days.
        corrections: ``Resolved.corrections`` of all days.
    """
    theirs = corrections.rename({name: f"their_{name}" for name in BEATS})
    pairs = rows.select(*KEY, *_beats(removes=False)).with_row_index("row").join(theirs, on=KEY)
    larger, equal = pl.lit(value=False), pl.lit(value=True)
    for name in BEATS:
        larger |= equal & (pl.col(f"their_{name}") > pl.col(name))
        equal &= pl.col(f"their_{name}") == pl.col(name)
    is_foreign = pl.col("their_event_time").dt.date() != pl.col("event_time").dt.date()
    beaten = pairs.filter(is_foreign & larger)["row"].unique()
    if beaten.is_empty():
        return rows
    every = pl.int_range(rows.height, eager=True)
    return rows.filter(~every.is_in(beaten.cast(pl.Int64).implode()))


def unique_rows(rows: pl.DataFrame, payload: Sequence[str]) -> pl.DataFrame:
    """Return one row per key, the winner by the same order.

    Rows carry the envelope and those columns of the payload that are there.
    """
    if not may_repeat(rows):
        return rows
    payload = [name for name in payload if name in rows.columns]
    candidates = _candidates(rows)
    return rows[_winners(candidates, rows, payload)["row"].sort()]


def _candidates(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(*KEY, *_beats(removes=False), rule=pl.lit(None, pl.String)).with_row_index(
        "row"
    )


def _beats(*, removes: bool) -> list[pl.Expr]:
    return [pl.lit(removes).alias(name) if name == "removes" else pl.col(name) for name in BEATS]


def _winners(candidates: pl.DataFrame, rows: pl.DataFrame, payload: Sequence[str]) -> pl.DataFrame:
    """Return the winning candidate of each key.

    Only keys with several candidates are ordered, and only among those are payloads compared: most
    batches have few.
    """
    several = candidates.select(several=pl.struct(KEY).is_duplicated())["several"]
    if not several.any():
        return candidates
    ordered = _by_standing(candidates.filter(several), rows, payload)
    won = ordered.group_by(KEY, maintain_order=True).last().select(candidates.columns)
    return pl.concat([candidates.filter(~several), won])


def _by_standing(
    contested: pl.DataFrame, rows: pl.DataFrame, payload: Sequence[str]
) -> pl.DataFrame:
    """Return candidates sorted by key, the winner of each key last."""
    # Numbered, since a payload column may have any name, "row" too.
    content = rows.select(
        pl.col(name).alias(f"payload {at}") for at, name in enumerate(payload)
    ).with_row_index("row")
    # Of copies alike in all the last stays, so that amending a partition can prefer what it holds.
    return contested.join(content, on="row", how="left", maintain_order="left").sort(
        *KEY, *BEATS, "rule", *content.columns[1:], nulls_last=False, maintain_order=True
    )


def copies_of(rows: pl.DataFrame, payload: Sequence[str]) -> pl.DataFrame:
    """Return the rows that share their key with others, a later one beating an earlier.

    Args:
        rows: The envelope and those columns of the payload that are there.
        payload: Decides between rows alike in their envelope.

    Frames:
        returns: row: its position; copy: a number from 0, equal where keys are.
    """
    if not may_repeat(rows):
        return pl.DataFrame(schema={"row": pl.get_index_type(), "copy": pl.UInt32})
    candidates = _candidates(rows)
    contested = candidates.filter(pl.struct(KEY).is_duplicated())
    ordered = _by_standing(contested, rows, [name for name in payload if name in rows.columns])
    return ordered.select("row", copy=pl.struct(KEY).rle_id())
