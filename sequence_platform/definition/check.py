"""Checks of a definition by itself, before compiling. They yield what is wrong and never raise."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple

from sequence_platform.definition.enrichment import Enrichment
from sequence_platform.definition.event_type import EventType
from sequence_platform.definition.fields import wrong_types
from sequence_platform.definition.sequence import Dedupe, Sequence, Sessions
from sequence_platform.definition.source import Files, Table
from sequence_platform.definition.training_set import TrainingSet

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
OWNER = re.compile(r"team:[\w.-]+|[^@\s]+@[^@\s]+\.[^@\s]+")


class Fault(NamedTuple):
    """What is wrong with one field; the compiler adds where."""

    field: str
    found: str
    expected: str
    next_step: str = ""


def check_types(definition: EventType | Enrichment | Sequence | TrainingSet) -> list[Fault]:
    """Return the fields that hold values of wrong types; nothing else can be asked of those."""
    return [Fault(*fault) for fault in wrong_types(definition)]


def check_definition(
    definition: EventType | Enrichment | Sequence | TrainingSet,
) -> Iterator[Fault]:
    """Yield what is wrong with a definition's own values, which are of the right types."""
    if not NAME.fullmatch(definition.name):
        yield Fault(
            "name",
            repr(definition.name),
            "lower-case letters, digits and underscores, a letter first",
        )
    if not OWNER.fullmatch(definition.owner):
        yield Fault(
            "owner",
            repr(definition.owner),
            "an e-mail address or 'team:name'",
            "say who answers for it",
        )
    if definition.version < 1:
        yield Fault("version", str(definition.version), "a whole number from 1")
    match definition:
        case EventType():
            yield from _check_event_type(definition)
        case Enrichment():
            yield from _check_enrichment(definition)
        case Sequence():
            yield from _check_sequence(definition)
        case TrainingSet():
            yield from _check_training_set(definition)


def _check_event_type(event: EventType) -> Iterator[Fault]:
    if not event.schema:
        yield Fault("schema", "no columns", "the source's columns and their types")
    if event.batch is None and event.log is None:
        yield Fault("batch", "neither batch nor log", "at least one source of events")
    if event.batch is not None:
        yield from _check_source("batch", event.batch)
        if isinstance(event.batch, Table) and event.batch.time_column is None:
            yield Fault("batch", "a Table without time_column", "the column to read a day by")
    for name in ("retention", "allowed_lateness"):
        value: timedelta = getattr(event, name)
        if value < timedelta(0) or (name == "retention" and not value):
            yield Fault(name, str(value), "a positive duration")
    for name in ("earliest", "latest"):
        if getattr(event, name).tzinfo is None:
            yield Fault(
                name, str(getattr(event, name)), "a time with a time zone", "add tzinfo=UTC"
            )
            return
    if event.earliest >= event.latest:
        yield Fault("earliest", f"{event.earliest} .. {event.latest}", "earliest before latest")


def _check_enrichment(enrichment: Enrichment) -> Iterator[Fault]:
    yield from _check_source("source", enrichment.source)
    if isinstance(enrichment.source, Files) and enrichment.source.is_daily:
        expected = "a pattern without {day}: enrichments are read whole"
        yield Fault("source", enrichment.source.pattern, expected)
    if enrichment.resolve == "read":
        if enrichment.deadline is not None and enrichment.deadline <= timedelta(0):
            yield Fault("deadline", str(enrichment.deadline), "a positive duration, or None")
        if enrichment.on_missing == "reject":
            expected = "'null': an event that is stored cannot be rejected when it is read"
            yield Fault("on_missing", "'reject' with resolve='read'", expected)
        return
    for name in ("deadline", "on_timeout"):
        if (value := getattr(enrichment, name)) is not None:
            yield Fault(
                name,
                f"{value} with resolve='ingest'",
                "None: nobody waits for what is stored with events",
                "leave it out, or say resolve='read'",
            )


def _check_training_set(training: TrainingSet) -> Iterator[Fault]:
    yield from _check_source("labels", training.labels)
    if training.delay < timedelta(0):
        yield Fault("delay", str(training.delay), "a positive duration, or none")


def _check_source(field: str, source: Files | Table) -> Iterator[Fault]:
    match source:
        case Files():
            if source.file_format is None:
                expected = "a suffix .parquet, .csv, .tsv, .ndjson or .jsonl (also .gz, .zst)"
                yield Fault(field, source.pattern, expected, "or say format=")
            if source.late < timedelta(0) or (source.late and not source.is_daily):
                yield Fault(
                    field, f"late={source.late}", "a positive duration, and a pattern with {day}"
                )
        case Table():
            parts = source.name.split(".")
            if len(parts) > 2 or not all(parts):  # noqa: PLR2004 - schema.table
                yield Fault(field, repr(source.name), "'table' or 'schema.table'")


def _check_sequence(sequence: Sequence) -> Iterator[Fault]:
    if not sequence.events:
        yield Fault("events", "none", "at least one event type")
    if sequence.max_length < 1:
        yield Fault("max_length", str(sequence.max_length), "a whole number from 1")
    if sequence.max_age is not None and sequence.max_age <= timedelta(0):
        yield Fault("max_age", str(sequence.max_age), "a positive duration, or None")
    if sequence.sessions is not None:
        yield from _check_sessions(sequence.sessions)
    if sequence.dedupe is not None:
        yield from _check_dedupe(sequence.dedupe)
    quotas: Mapping[str, int] = sequence.quotas or {}
    names = {event.name for event in sequence.events}
    for name, quota in quotas.items():
        if name not in names:
            yield Fault("quotas", repr(name), f"one of its event types: {', '.join(sorted(names))}")
        if quota < 1:
            # With 0 a day could leave an entity nothing, and no row to say so.
            step = f"leave {name} out of events to keep none of it"
            yield Fault("quotas", f"{name}: {quota}", "a whole number from 1", step)


def _check_sessions(sessions: Sessions) -> Iterator[Fault]:
    if sessions.gap <= timedelta(0):
        yield Fault("sessions.gap", str(sessions.gap), "a positive duration")
    if sessions.keep < 1:
        yield Fault("sessions.keep", str(sessions.keep), "a whole number from 1")


def _check_dedupe(dedupe: Dedupe) -> Iterator[Fault]:
    if not dedupe.by:
        yield Fault("dedupe.by", "no columns", "the columns that make events repeats of each other")
    if isinstance(dedupe.within, timedelta) and dedupe.within < timedelta(0):
        yield Fault("dedupe.within", str(dedupe.within), "a positive duration")
