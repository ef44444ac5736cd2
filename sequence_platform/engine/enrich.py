"""Raw rows to enriched rows: envelope, filter, executor, columns, lookups.

Row by row, whatever the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import polars as pl

from sequence_platform.engine.dead_letters import DEAD_LETTERS, dead_letters
from sequence_platform.engine.isolate import isolate
from sequence_platform.plan.plan import (
    ENVELOPE,
    TIME,
    EnrichmentPlan,
    EventPlan,
    LookupPlan,
    Window,
)

UPSERT, DELETE = "upsert", "delete"
ROW, POSITION = "__row", "__position"

ReadLookup = Callable[[EnrichmentPlan, pl.Series], pl.DataFrame]
"""Returns an enrichment's rows (EnrichmentPlan.schema) with one of the keys given."""


@dataclass(frozen=True, slots=True, eq=False)
class Enriched:
    """What became of raw rows; every row is in exactly one of the three.

    Attributes:
        rows: Admitted, in the event type's schema.
        rejected: ENVELOPE and ``rule``: deletions (``delete``) and rows that a rule filtered.
        dead: Dead letters (DEAD_LETTERS).
    """

    rows: pl.DataFrame
    rejected: pl.DataFrame
    dead: pl.DataFrame

    @classmethod
    def empty(cls, event: EventPlan) -> Enriched:
        """Return no rows, with their types."""
        rejected = pl.Schema(
            {name: event.schema[name] for name in ENVELOPE} | {"rule": pl.String()}
        )
        return cls(
            pl.DataFrame(schema=event.schema),
            pl.DataFrame(schema=rejected),
            pl.DataFrame(schema=DEAD_LETTERS),
        )

    @classmethod
    def concat(cls, parts: list[Enriched]) -> Enriched:
        """Return several as one, in order."""
        return cls(
            *(
                pl.concat([getattr(part, name) for part in parts])
                for name in ("rows", "rejected", "dead")
            )
        )


def enrich(
    event: EventPlan, frame: pl.DataFrame, tables: Mapping[str, pl.DataFrame], *, source: str = ""
) -> Enriched:
    """Return raw rows enriched, rejected or dead.

    Args:
        event: The compiled event type.
        frame: Rows in its raw schema.
        tables: Enrichment rows by enrichment name, in EnrichmentPlan.schema; those of the keys in
            ``frame`` suffice.
        source: Where the rows came from, for dead letters.

    Frames:
        rows: ``event.schema``, in the order of ``frame``.
        rejected: ENVELOPE and rule, in the order of ``frame`` within a rule.

    Guarantees:
        enrich(a ++ b) == enrich(a) ++ enrich(b), up to the order of rejected rows.
        Every row of ``frame`` is in exactly one of rows, rejected, dead.
    """
    return attach(event, admit(event, frame, source=source), tables)


def enrich_by(  # noqa: PLR0913 - what, how to look up, and where it came from
    event: EventPlan,
    frame: pl.DataFrame,
    read_lookup: ReadLookup,
    *,
    source: str = "",
    window: Window | None = None,
    positions: pl.Series | None = None,
) -> Enriched:
    """Return raw rows enriched; of enrichments only the keys at hand are asked for.

    Args:
        event: The compiled event type.
        frame: Rows in its raw schema.
        read_lookup: Where enrichment rows come from.
        source: Where the rows came from, for dead letters.
        window: Rows of other times are dead letters of ``outside_partition``.
        positions: Where the rows stood in the source, for dead letters.

    Guarantees:
        As ``enrich``.
    """
    admitted = admit(event, frame, source=source, window=window, positions=positions)
    tables = {
        lookup.enrichment.name: read_lookup(
            lookup.enrichment, admitted.rows[lookup.column].unique().drop_nulls().sort()
        )
        for lookup in event.lookups
    }
    return attach(event, admitted, tables)


def admit(
    event: EventPlan,
    frame: pl.DataFrame,
    *,
    source: str = "",
    window: Window | None = None,
    positions: pl.Series | None = None,
) -> Enriched:
    """Return raw rows with envelope and columns, filtered, before any lookup.

    ``rows`` holds every column there is. A row on which an expression fails becomes a dead letter
    of the rule ``failed``, one with a time outside ``window`` (if given) of ``outside_partition``.
    """
    if positions is not None:
        frame = frame.with_columns(positions.alias(POSITION))
    parts = []
    for row, part in isolate(frame, lambda rows: _admit(event, rows, source, window)):
        if isinstance(part, str):
            reason = pl.Series([part])
            letter = _letters(frame[row], pl.Series(["failed"]), source, details=reason)
            parts.append(replace(_admit(event, frame.clear(), source, window), dead=letter))
        else:
            parts.append(part)
    return parts[0] if len(parts) == 1 else Enriched.concat(parts)


def _admit(event: EventPlan, frame: pl.DataFrame, source: str, window: Window | None) -> Enriched:
    keyed, dead = _envelope(event, frame, source, window)
    is_delete = pl.col("operation") == DELETE
    rejected = [_rejected(keyed.filter(is_delete), DELETE)]
    kept = keyed.filter(~is_delete)
    for name, rule in event.rules.items():
        passes = kept.with_columns(__passes=rule)["__passes"].fill_null(value=False)
        rejected.append(_rejected(kept.filter(~passes), name))
        kept = kept.filter(passes)
    if event.definition.executor is not None:
        before, kept = kept, event.definition.executor(kept.lazy()).collect()
        rejected.append(_rejected(_without(before, kept), "executor"))
    return Enriched(kept.with_columns(**event.columns), pl.concat(rejected), dead)


def attach(event: EventPlan, admitted: Enriched, tables: Mapping[str, pl.DataFrame]) -> Enriched:
    """Return admitted rows with their lookups, in the event type's schema."""
    kept, rejected = admitted.rows, [admitted.rejected]
    for lookup in event.lookups:
        kept, found = _look_up(lookup, kept, tables[lookup.enrichment.name])
        if lookup.enrichment.definition.on_missing == "reject":
            rejected.append(_rejected(kept.filter(~found), f"missing:{lookup.enrichment.name}"))
            kept = kept.filter(found)
    rows = kept.select(event.schema.names()).cast(event.schema)
    return Enriched(rows, pl.concat(rejected), admitted.dead)


def event_times(event: EventPlan, frame: pl.DataFrame) -> pl.Series:
    """Return the event_time of raw rows (TIME), null where it is absent or impossible."""
    possible = pl.col("t").is_between(
        event.definition.earliest, event.definition.latest, closed="left"
    )
    none = pl.Series("t", [None], dtype=TIME)
    times = [
        none if isinstance(part, str) else part
        for _, part in isolate(
            frame, lambda rows: rows.with_columns(t=event.envelope["event_time"])["t"]
        )
    ]
    return pl.concat(times).to_frame().select(pl.when(possible).then("t"))["t"]


def prepare_lookup(
    enrichment: EnrichmentPlan, frame: pl.DataFrame, *, source: str = ""
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return an enrichment's rows from raw rows, and the dead letters.

    Frames:
        returns: EnrichmentPlan.schema, sorted by key, available_time; one row per (key,
            available_time): of several the largest, column by column. A row with a null key or
            available_time is a dead letter.
    """
    rows = frame.select(**enrichment.expressions)
    identity = ["key", "available_time"] if enrichment.is_versioned else ["key"]
    bad = pl.any_horizontal(pl.col(identity).is_null())
    faults = {f"null_{name}": pl.col(name).is_null() for name in identity}
    dead = _dead(frame, rows.with_row_index(ROW), faults, source)
    return latest_versions(enrichment, [rows.filter(~bad)]), dead


def latest_versions(enrichment: EnrichmentPlan, parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Return several parts as one table: sorted, of each (key, available_time) the largest row."""
    identity = ["key", "available_time"] if enrichment.is_versioned else ["key"]
    rows = pl.concat([pl.DataFrame(schema=enrichment.schema), *parts]).sort(
        enrichment.schema.names(), nulls_last=False
    )
    return rows.unique(identity, keep="last", maintain_order=True)


def _envelope(
    event: EventPlan, frame: pl.DataFrame, source: str, window: Window | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return rows with their envelope, and dead letters of the rows that cannot have one."""
    definition = event.definition
    keyed = frame.with_columns(**event.envelope).with_row_index(ROW)
    time = pl.col("event_time")
    faults = {
        "null_entity": pl.col("entity").is_null(),
        "null_event_id": pl.col("event_id").is_null(),
        "null_event_time": time.is_null(),
        "impossible_event_time": ~time.is_between(
            definition.earliest, definition.latest, closed="left"
        ),
        "unknown_operation": ~pl.col("operation").is_in([UPSERT, DELETE]),
    }
    if window is not None:
        faults["outside_partition"] = ~time.is_between(window.start, window.end, closed="left")
    bad = keyed.select(
        bad=pl.any_horizontal(expr.fill_null(value=False) for expr in faults.values())
    )["bad"]
    if not bad.any():
        return keyed.drop(ROW, POSITION, strict=False), pl.DataFrame(schema=DEAD_LETTERS)
    kept = keyed.filter(~bad).drop(ROW, POSITION, strict=False)
    return kept, _dead(frame, keyed, faults, source)


def _dead(
    frame: pl.DataFrame, judged: pl.DataFrame, faults: Mapping[str, pl.Expr], source: str
) -> pl.DataFrame:
    """Return a dead letter per row that has a fault, named by the first, with the raw row."""
    rule = pl.coalesce(pl.when(expr).then(pl.lit(name)) for name, expr in faults.items())
    ruled = judged.select(ROW, rule=rule).filter(pl.col("rule").is_not_null())
    return _letters(frame[ruled[ROW]], ruled["rule"], source)


def _letters(
    raw: pl.DataFrame, rules: pl.Series, source: str, details: pl.Series | None = None
) -> pl.DataFrame:
    positions = raw[POSITION] if POSITION in raw.columns else None
    rows = raw.drop(POSITION, strict=False)
    return dead_letters(rows, rules, source=source, details=details, positions=positions)


def _rejected(rows: pl.DataFrame, rule: str) -> pl.DataFrame:
    return rows.select(*ENVELOPE, rule=pl.lit(rule, pl.String))


def _without(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Return the envelopes of ``before`` that ``after`` lacks, as often as it lacks them.

    Copies of an event may share an envelope.
    """
    copy = pl.int_range(pl.len()).over(ENVELOPE).alias("__copy")
    left, right = (frame.select(*ENVELOPE, copy) for frame in (before, after))
    return left.join(right, on=[*ENVELOPE, "__copy"], how="anti", maintain_order="left")


def _look_up(
    lookup: LookupPlan, rows: pl.DataFrame, table: pl.DataFrame
) -> tuple[pl.DataFrame, pl.Series]:
    """Attach the key's newest row available at event_time; also say which rows found one.

    Only row numbers are joined; columns, vectors among them, are gathered once.
    """
    key = lookup.enrichment.schema["key"]
    left = rows.select(key=pl.col(lookup.column).cast(key), at=pl.col("event_time")).with_row_index(
        ROW
    )
    right = table.select(
        "key", *(["available_time"] if lookup.enrichment.is_versioned else [])
    ).with_row_index("match")
    if lookup.enrichment.is_versioned:
        joined = left.sort("at").join_asof(
            right.sort("available_time"),
            left_on="at",
            right_on="available_time",
            by="key",
            strategy="backward",
            check_sortedness=False,  # both sides were sorted just now
        )
    else:
        joined = left.join(right, on="key", how="left")
    match = joined.sort(ROW)["match"]
    attached = table.select(pl.col(lookup.enrichment.columns).gather(match))
    return rows.hstack(attached), match.is_not_null()
