"""The training store as runtimes need it: versions of a sequence's events, clustered by entity."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from sequence_platform.definition.training_set import Known
from sequence_platform.engine.columns import Ints, Mask
from sequence_platform.engine.trim import TrimPolicy
from sequence_platform.plan.plan import SequencePlan

Sums = npt.NDArray[np.uint64]

UNKNOWN = -1
"""The slot of an entity that a version does not hold."""

EVENT_COLUMNS: dict[str, pl.DataType] = {
    "event_time": pl.Datetime("us", "UTC"),
    "event_type": pl.String(),
}
"""What every version holds beside the columns of its lineage, and readers can ask for."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What versions of a store have in common.

    Attributes:
        sequence: Its name.
        fingerprint: Of the sequence.
        entity: Type of an entity.
        columns: Types of the columns held beside EVENT_COLUMNS.
        types: Event types, by number.
        has_copies: Whether an event may have copies on other days, of which a request sees the
            winner among those it can see.
        id: Hash of all this.
    """

    sequence: str
    fingerprint: str
    entity: pl.DataType
    columns: Mapping[str, pl.DataType]
    types: tuple[str, ...]
    has_copies: bool
    id: str


@dataclass(frozen=True, slots=True)
class PartInfo:
    """A part of a version: the events of some days.

    Attributes:
        digests: What the lake held of each day.
    """

    name: str
    digests: Mapping[date, str]
    rows: int
    bytes: int

    @property
    def first_day(self) -> date:
        """The oldest of its days."""
        return min(self.digests)

    @property
    def last_day(self) -> date:
        """The newest of its days."""
        return max(self.digests)


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """A version of a store.

    Attributes:
        id: Hash of the lineage and of what the lake held of each day: equal lakes give equal ids.
        parts: Oldest days first; no day is in two.
        lake_snapshot: Number of the lake's snapshot when it was built.
    """

    id: str
    lineage: Lineage
    parts: tuple[PartInfo, ...]
    entities: int
    rows: int
    bytes: int
    built_at: datetime
    lake_snapshot: int

    @property
    def digests(self) -> dict[date, str]:
        """What the lake held of each day."""
        return {day: digest for part in self.parts for day, digest in part.digests.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """Values of a column.

    Attributes:
        values: numpy, or Arrow for types of varying width. Text as codes: 0 is null, ``n`` is entry
            ``n - 1`` of the vocabulary.
        valid: Which are not null; None if all are, or if the values say so themselves.
    """

    values: Any
    valid: Mask | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """What is to be known of a sequence to read it from pointers; no definition is needed.

    Attributes:
        policy: What is trimmed beside age.
        lookback_us: How far before a request events count.
        derived: Expressions over the final events of one sequence.
        derived_types: What they give.
    """

    policy: TrimPolicy
    lookback_us: int
    derived: Mapping[str, pl.Expr]
    derived_types: Mapping[str, pl.DataType]

    @classmethod
    def of(cls, sequence: SequencePlan) -> Rules:
        """Return the rules of a sequence."""
        derived = sequence.definition.derived or {}
        policy = TrimPolicy.of(sequence)
        return cls(policy, sequence.lookback_us, dict(derived), dict(sequence.derived))


@dataclass(frozen=True, slots=True, eq=False)
class Pointers:
    """Where the sequences of requests are in a version.

    Attributes:
        slots: Of the entities; UNKNOWN for a request without a sequence.
        start: First ordinal that the request may see.
        stop: Ordinal after the last.
        is_plain: Whether the newest events of the range are the sequence. Otherwise events of it
            that had not arrived, copies, and what rules trim are to be left out.
        known_us: Until when what arrived counts, inclusive.
    """

    slots: Ints
    start: Ints
    stop: Ints
    is_plain: Mask
    known_us: Ints

    def __len__(self) -> int:
        return len(self.slots)

    def take(self, at: Ints | slice) -> Pointers:
        """Return some of them."""
        return Pointers(
            self.slots[at], self.start[at], self.stop[at], self.is_plain[at], self.known_us[at]
        )


class TrainingVersion(Protocol):
    """A version, opened: each entity's events of all event types, in sequence order.

    Entities have slots: their position among all, sorted. The events of an entity have ordinals,
    from 0; ranges of them are ``[start, stop)``.
    """

    @property
    def info(self) -> VersionInfo:
        """What it is."""
        ...

    def slots(self, entities: pl.Series) -> Ints:
        """Return the slot of each entity, UNKNOWN where there is none."""
        ...

    def entities(self, slots: Ints) -> pl.Series:
        """Return the entities of slots."""
        ...

    def before(self, slots: Ints, time_us: Ints) -> Ints:
        """Return how many events of each slot happened before a time."""
        ...

    def latest_arrival(self, slots: Ints, start: Ints, stop: Ints) -> Ints:
        """Return a time by which all events of each range had arrived, perhaps a later one."""
        ...

    def holds_copies(self, slots: Ints, start: Ints, stop: Ints) -> Mask:
        """Return which ranges hold an event that has copies."""
        ...

    def sums(self, slots: Ints, start: Ints, stop: Ints) -> Sums:
        """Return the sum, modulo 2**64, of the hashes of the keys of the events of each range."""
        ...

    def gather(self, name: str, slots: Ints, start: Ints, stop: Ints) -> Gathered:
        """Return a column of ranges, one range after the other.

        Args:
            name: Of the lineage's columns or EVENT_COLUMNS; ``arrival_time``; ``copy``, the hash of
                the event's key.
            slots: Of each range.
            start: Its first ordinal.
            stop: The ordinal after its last.
        """
        ...

    def vocabulary(self, name: str) -> pl.Series:
        """Return the texts of a column, by code less 1; null for a code that is not used."""
        ...


class TrainingStore(Protocol):
    """Holds versions, which never change."""

    def sequences(self) -> Sequence[str]:
        """Return the sequences that have versions."""
        ...

    def versions(self, sequence: str) -> Sequence[VersionInfo]:
        """Return the versions of a sequence, oldest first; damaged ones are not there."""
        ...

    def newest(self, lineage: Lineage) -> VersionInfo | None:
        """Return the version of a lineage that was made last, or None."""
        ...

    def collect(self, sequence: str, keep: Collection[str]) -> int:
        """Remove all versions of a sequence but these, and what only they need; return bytes."""
        ...

    def open(self, sequence: str, version: str) -> TrainingVersion:
        """Open a version.

        Raises:
            StoreError: it is gone or damaged.
        """
        ...

    def add(
        self,
        lineage: Lineage,
        kept: Sequence[PartInfo],
        built: Iterable[tuple[Mapping[date, str], Iterable[pl.DataFrame]]],
        built_at: datetime,
        lake_snapshot: int,
    ) -> VersionInfo:
        """Make a version, the newest, of parts that are there and of parts given as rows.

        Args:
            lineage: What it holds.
            kept: Parts of an earlier version.
            built: By part: its days, and their events, entities rising, those of an entity in
                sequence order: entity, event_time, type (number), event_id, arrival_time, columns.
            built_at: Now.
            lake_snapshot: Of the lake that the rows are from.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DatasetInfo:
    """A data set, as it describes itself.

    Attributes:
        name: Of the training set, with its version from the second on.
        id: Hash of the training set, the store version and the labels: equal input, equal id.
        fingerprint: Of the training set.
        plan_fingerprint: Of all definitions when it was made.
        store_version: That pointers point into.
        lake_snapshot: Number of the lake's snapshot that the store version was built from.
        columns: That the store version holds.
        has_lists: Whether there are lists beside the pointers.
        delay_us: Between what a request sees and when it was made.
        known: Whether late arrivals count before they had arrived (``now``).
        rules: Of the sequence.
        rows: Labels, in the order in which they were read.
        outcomes: How many labels had each outcome.
        duplicates: Labels that repeat an earlier one's entity and time.
        labels_digest: Hash of all labels.
        notes: What whoever trains with it should know.
        checksums: Of its files.
    """

    name: str
    id: str
    fingerprint: str
    plan_fingerprint: str
    sequence: str
    sequence_fingerprint: str
    store_version: str
    lake_snapshot: int
    columns: Sequence[str]
    has_lists: bool
    delay_us: int
    known: Known
    rules: Rules
    rows: int
    outcomes: Mapping[str, int]
    duplicates: int
    labels_digest: str
    notes: Sequence[str]
    created_at: datetime
    checksums: Mapping[str, str]


class DatasetWriter(Protocol):
    """Takes a data set, some labels at a time."""

    def pointers(self, frame: pl.DataFrame) -> None:
        """Add labels with their pointers."""
        ...

    def lists(self, frame: pl.DataFrame) -> None:
        """Add labels with their sequences."""
        ...

    def dead(self, frame: pl.DataFrame) -> None:
        """Add labels that could not be read (DEAD_LETTERS)."""
        ...

    def commit(self, info: DatasetInfo) -> DatasetInfo:
        """Make all of it durable and visible at once; one of the same id that is there stays."""
        ...


class Datasets(Protocol):
    """Holds data sets, which never change."""

    def write(self, name: str) -> AbstractContextManager[DatasetWriter]:
        """Open a data set for writing; unless ``commit`` is called nothing is left of it."""
        ...

    def names(self) -> Sequence[str]:
        """Return the training sets that have data sets."""
        ...

    def all(self, name: str) -> Sequence[DatasetInfo]:
        """Return the data sets of a training set, oldest first, without damaged ones."""
        ...

    def sample(self, info: DatasetInfo, size: int, seed: int) -> pl.DataFrame:
        """Return some rows of the pointer export with their number, ``row``, first.

        Raises:
            StoreError: it is gone or damaged.
        """
        ...

    def remove(self, info: DatasetInfo) -> None:
        """Remove a data set."""
        ...
