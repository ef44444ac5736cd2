"""What definitions compile to: all a runtime needs, resolved, typed and named. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import polars as pl

from sequence_platform.definition import Enrichment, EventType, Sequence, TrainingSet
from sequence_platform.definition.enrichment import DEFAULT_DEADLINE

TIME = pl.Datetime("us", "UTC")
"""The type of every time past the envelope: microseconds, UTC."""

ENVELOPE = ("entity", "event_id", "event_time", "arrival_time", "revision")
"""The columns that every enriched row starts with, in table order."""

RESERVED = (*ENVELOPE, "operation", "rule", "day", "as_of", "event_type", "length", "trimmed")
"""Names the platform gives meaning to; a definition cannot use them for columns of its own."""

KEY_ORDER = ("entity", "event_time", "event_id")
"""How enriched rows are sorted within a partition."""

TRIMMED = pl.Struct(
    {"sessions": pl.Int32, "dedupe": pl.Int32, "quotas": pl.Int32, "max_length": pl.Int32}
)
"""How many events each rule cut. Not age: counting it would mean reading all history."""


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time ``[start, end)``, UTC."""

    start: datetime
    end: datetime

    @classmethod
    def of_day(cls, day: date) -> Window:
        """Return the span of a UTC day."""
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return cls(start, start + timedelta(days=1))


@dataclass(frozen=True, slots=True, eq=False)
class LookupPlan:
    """An enrichment looked up by a column of an event type."""

    enrichment: EnrichmentPlan
    column: str


@dataclass(frozen=True, slots=True, eq=False)
class ReadLookupPlan:
    """An enrichment looked up when a sequence is read.

    Attributes:
        by: The column that holds the key, by event type; other event types have no value.
        columns: What of it the sequence carries.
    """

    enrichment: EnrichmentPlan
    by: Mapping[str, str]
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class EnrichmentPlan:
    """A compiled enrichment.

    Attributes:
        table: Name within the schema ``enrichments``.
        raw_schema: Columns of the source.
        expressions: Over a raw row, for every column of the table, each of its final type.
        schema: Columns of the table: ``key``, ``available_time`` (if versioned), then the columns
            attached.
    """

    name: str
    table: str
    definition: Enrichment
    raw_schema: pl.Schema
    expressions: Mapping[str, pl.Expr]
    schema: pl.Schema
    fingerprint: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it brings."""
        return tuple(name for name in self.schema if name not in {"key", "available_time"})

    @property
    def is_read(self) -> bool:
        """Whether it is looked up when a sequence is read, and stored with no event."""
        return self.definition.resolve == "read"

    @property
    def deadline(self) -> timedelta:
        """How long a request waits for it."""
        return self.definition.deadline or DEFAULT_DEADLINE

    @property
    def fails_on_timeout(self) -> bool:
        """Whether a request fails that it does not answer in time."""
        return self.definition.on_timeout == "fail"

    @property
    def is_versioned(self) -> bool:
        """Whether rows have an available_time."""
        return "available_time" in self.schema


@dataclass(frozen=True, slots=True, eq=False)
class EventPlan:
    """A compiled event type.

    Attributes:
        table: Name within the schema ``enriched``.
        raw_schema: Columns of the source.
        schema: Columns of an enriched row: the envelope, then raw, derived and looked-up columns.
        envelope: Expressions over a raw row for ENVELOPE and ``operation``, each of its final type.
        rules: What is kept, by rule name, in the order in which they are tried.
        columns: Derived columns, over raw columns, the envelope and what the executor adds.
        lookups: What is attached and stored.
        read_lookups: What is looked up when a sequence is read, by columns of ``schema``.
        corrects: Whether rows may supersede rows of other partitions (revision or operation
            declared).
        time_fingerprint: Of what decides which day a raw row belongs to.
    """

    name: str
    table: str
    definition: EventType
    raw_schema: pl.Schema
    schema: pl.Schema
    envelope: Mapping[str, pl.Expr]
    rules: Mapping[str, pl.Expr]
    columns: Mapping[str, pl.Expr]
    lookups: tuple[LookupPlan, ...]
    read_lookups: tuple[LookupPlan, ...]
    corrects: bool
    fingerprint: str
    time_fingerprint: str

    @property
    def payload(self) -> tuple[str, ...]:
        """The columns of an enriched row beside the envelope."""
        return tuple(name for name in self.schema if name not in ENVELOPE)


@dataclass(frozen=True, slots=True, eq=False)
class SequencePlan:
    """A compiled sequence.

    Attributes:
        table: Name within the schema ``sequences``.
        columns: Types of the columns carried from events, per event.
        read: Types of the columns looked up when the sequence is read, per event.
        read_lookups: Where those come from, each enrichment once.
        derived: Types of the derived columns, per event.
        request: Types of the request columns, per event.
        late: Carried columns that snapshots leave out.
        request_fingerprint: Of the read and request columns, which no table holds.
        lookback: How far before as_of events count: max_age, or the shortest retention.
    """

    name: str
    table: str
    definition: Sequence
    events: tuple[EventPlan, ...]
    entity_type: pl.DataType
    columns: pl.Schema
    read: pl.Schema
    read_lookups: tuple[ReadLookupPlan, ...]
    derived: pl.Schema
    request: pl.Schema
    late: tuple[str, ...]
    lookback: timedelta
    fingerprint: str
    request_fingerprint: str

    @property
    def lookback_us(self) -> int:
        """The lookback in microseconds."""
        return self.lookback // timedelta(microseconds=1)

    @property
    def carried(self) -> tuple[str, ...]:
        """Columns of events that a snapshot holds or that decide what it holds."""
        return tuple(name for name in self.columns if name not in self.late)

    @property
    def schema(self) -> pl.Schema:
        """Columns of a snapshot row: entity, as_of, length, a list per column, what was trimmed."""
        lists = {"event_type": pl.String(), "event_time": TIME, "event_id": pl.String()}
        lists |= {name: self.columns[name] for name in self.carried} | dict(self.derived)
        return pl.Schema(
            {"entity": self.entity_type, "as_of": TIME, "length": pl.Int32()}
            | {name: pl.List(dtype) for name, dtype in lists.items()}
            | {"trimmed": TRIMMED}
        )


@dataclass(frozen=True, slots=True, eq=False)
class TrainingPlan:
    """A compiled training set.

    Attributes:
        table: Its name, with the version from the second on.
        entity: Over a label, of the type of the sequence's entities; null where it is not one.
        request_time: Over a label, TIME.
        columns: Of the sequence's columns and event_id, what the training store holds.
    """

    name: str
    table: str
    definition: TrainingSet
    sequence: SequencePlan
    raw_schema: pl.Schema
    entity: pl.Expr
    request_time: pl.Expr
    columns: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """All definitions of a project, compiled; by name.

    Attributes:
        training: Training sets, which no runtime but training knows; the fingerprint leaves them
            out.
    """

    events: Mapping[str, EventPlan]
    enrichments: Mapping[str, EnrichmentPlan]
    sequences: Mapping[str, SequencePlan]
    fingerprint: str
    training: Mapping[str, TrainingPlan] = field(default_factory=dict)

    def start_of(self, item: EventPlan | SequencePlan) -> date:
        """Return the first day that is built.

        The earliest start of all event types that sequences link to this one: one start for all
        that belong together lets one run build a day of all of it.
        """
        linked = (
            {event.name for event in item.events} if isinstance(item, SequencePlan) else {item.name}
        )
        together = [
            {event.name for event in sequence.events} for sequence in self.sequences.values()
        ]
        while more := {name for names in together if names & linked for name in names} - linked:
            linked |= more
        return min(self.events[name].definition.start for name in linked)
