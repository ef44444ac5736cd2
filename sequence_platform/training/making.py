"""training_set: a data set from labels at hand, in a notebook or a script."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import polars as pl

from sequence_platform.catalog import load_plan
from sequence_platform.clock import SystemClock
from sequence_platform.definition import Files, TrainingSet
from sequence_platform.definition.check import check_definition, check_types
from sequence_platform.definition.training_set import Known
from sequence_platform.engine.dead_letters import DEAD_LETTERS
from sequence_platform.errors import DefinitionError, FrameSchemaError, Problem, nearest
from sequence_platform.plan.compile_training import compile_training
from sequence_platform.plan.report import Report
from sequence_platform.ports import RawBatch
from sequence_platform.runtimes.training.exporting import export
from sequence_platform.settings import Settings
from sequence_platform.training.dataset import Dataset
from sequence_platform.wiring import open_lake, open_training

NOBODY = "team:notebook"


def training_set(  # noqa: PLR0913 - the fields of a training set
    sequence: str,
    labels: pl.DataFrame | pl.LazyFrame | str | Path,
    *,
    entity: str | pl.Expr = "user_id",
    request_time: str | pl.Expr = "request_time",
    delay: timedelta = timedelta(0),
    known: Known = "at_request",
    columns: Sequence[str] | None = None,
    lists: bool = False,
    name: str = "",
    settings: Settings | None = None,
) -> Dataset:
    """Make a data set: for each label the sequence as it was at its request time.

    Args:
        sequence: Of the definitions, by name.
        labels: A frame, or Parquet files; its order and all its columns are kept.
        entity: Whose sequence: a column, or an expression.
        request_time: When the model would have asked: a column, or an expression that gives a
            datetime; without a zone it is UTC.
        delay: How long it takes until an event can be read.
        known: ``"at_request"``: an event counts once it had arrived; ``"now"``: whatever is known.
        columns: Of the sequence, vectors too, that the training store holds; None: all.
        lists: Whether to write a list a column too.
        name: Of the data set; the sequence's with ``_labels`` unless given.
        settings: Where the lake and data sets are; from the environment unless given.

    Raises:
        FrameSchemaError: there is no such sequence; the closest is named.
        DefinitionError: a column is not there or has a wrong type; every problem is reported.
        StateMismatchError: no event of the sequence has been built.
    """
    chosen = settings or Settings()
    plan = load_plan(chosen.definitions)
    if sequence not in plan.sequences:
        msg = f"no sequence is called '{sequence}'"
        raise FrameSchemaError(msg, expected=nearest(sequence, plan.sequences))
    compiled = plan.sequences[sequence]
    frame = _frame(labels)
    definition = TrainingSet(
        name=name or f"{sequence}_labels",
        sequence=compiled.definition,
        labels=Files("labels.parquet"),  # never read: they are at hand
        schema=dict(frame.schema),
        entity=entity,
        request_time=request_time,
        delay=delay,
        known=known,
        columns=columns,
        lists=lists,
        owner=NOBODY,
    )
    problems: list[Problem] = []
    report = Report("training_set(...)", f"training set '{definition.name}'", problems)
    for fault in [*check_types(definition)] or [*check_definition(definition)]:
        report.add(*fault)
    training = compile_training(definition, {id(compiled.definition): compiled}, report)
    if training is None or problems:
        raise DefinitionError(problems)
    batch = RawBatch(frame.cast(training.raw_schema), pl.DataFrame(schema=DEAD_LETTERS))
    store, datasets = open_training(chosen)
    with open_lake(chosen, read_only=True) as lake:
        made = export(
            lake,
            store,
            datasets,
            training,
            [batch],
            SystemClock(),
            plan_fingerprint=plan.fingerprint,
        )
    return Dataset.find(datasets.folder_of(made.dataset))


def _frame(labels: pl.DataFrame | pl.LazyFrame | str | Path) -> pl.DataFrame:
    match labels:
        case pl.DataFrame():
            return labels
        case pl.LazyFrame():
            return labels.collect()
        case _:
            return pl.read_parquet(labels)
