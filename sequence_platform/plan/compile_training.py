"""Compiles training sets: what labels say of whose sequence and when, and the columns held."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from sequence_platform.definition import TrainingSet
from sequence_platform.errors import nearest
from sequence_platform.plan.describe import describe_training
from sequence_platform.plan.fingerprint import fingerprint
from sequence_platform.plan.plan import SequencePlan, TrainingPlan
from sequence_platform.plan.report import Report
from sequence_platform.plan.row_types import as_expr, in_utc, raw_schema
from sequence_platform.plan.tables import table_name

POINTER_COLUMNS = ("slot", "start", "stop", "is_plain", "checksum", "outcome", "label_time")
"""Columns of a pointer export beside those of the labels."""


def compile_training(
    definition: TrainingSet, sequences: Mapping[int, SequencePlan], report: Report
) -> TrainingPlan | None:
    """Return the compiled training set, or None if it or its sequence has problems."""
    sequence = sequences.get(id(definition.sequence))
    raw = raw_schema(definition.schema, report)
    if sequence is None or raw is None:
        return None
    entity = _entity(as_expr(definition.entity), sequence, raw, report)
    request_time = _request_time(as_expr(definition.request_time), raw, report)
    columns = _columns(definition, sequence, raw, report)
    if not report.is_clean:
        return None
    decides = describe_training(definition, sequence, raw, entity, request_time, columns)
    return TrainingPlan(
        name=definition.name,
        table=table_name(definition.name, definition.version),
        definition=definition,
        sequence=sequence,
        raw_schema=raw,
        entity=entity,
        request_time=request_time,
        columns=columns,
        fingerprint=fingerprint(decides["decides"]),
    )


def _entity(expr: pl.Expr, sequence: SequencePlan, raw: pl.Schema, report: Report) -> pl.Expr:
    dtype = report.row_type_of("entity", expr, raw)
    wanted = sequence.entity_type
    if dtype is not None and dtype.is_integer() != wanted.is_integer():
        report.add("entity", f"type {dtype}", f"{wanted}, as entities of '{sequence.name}' are")
    return expr.cast(wanted, strict=False)


def _request_time(expr: pl.Expr, raw: pl.Schema, report: Report) -> pl.Expr:
    dtype = report.row_type_of("request_time", expr, raw)
    if dtype is None:
        return expr
    if not isinstance(dtype, pl.Datetime):
        report.add(
            "request_time",
            f"type {dtype}",
            "a datetime",
            "parse it: pl.col('...').str.to_datetime('%Y-%m-%dT%H:%M:%S%#z', strict=False), "
            "or pl.from_epoch(...)",
        )
        return expr
    return in_utc(expr, dtype)


def _columns(
    definition: TrainingSet, sequence: SequencePlan, raw: pl.Schema, report: Report
) -> tuple[str, ...]:
    """Return what the store holds: what is given, and what trimming and derived columns need."""
    available = (*sequence.columns, "event_id")
    given = list(sequence.columns) if definition.columns is None else list(definition.columns)
    for name in given:
        if name not in available:
            report.add(
                "columns",
                f"'{name}'",
                f"a column that '{sequence.name}' carries; {nearest(name, available)}",
                "leave event_time, event_type and derived columns out: they are always there",
            )
    taken = {*POINTER_COLUMNS}
    if definition.lists:
        taken |= {*available, *sequence.derived, "event_time", "event_type", "length"}
    for name in sorted(taken & set(raw)):
        report.add("schema", f"'{name}'", "a name that the export has no column of its own for")
    dedupe, derived = sequence.definition.dedupe, sequence.definition.derived or {}
    by = () if dedupe is None else [dedupe.by] if isinstance(dedupe.by, str) else dedupe.by
    needed = [*by, *(root for expr in derived.values() for root in expr.meta.root_names())]
    return tuple(name for name in available if name in {*given, *needed})
