"""Labels to data sets: every label keeps its place and its columns, and says what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b

import numpy as np
import polars as pl

from sequence_platform.clock import Clock
from sequence_platform.engine.assemble import as_lists
from sequence_platform.plan.fingerprint import fingerprint
from sequence_platform.plan.plan import TrainingPlan
from sequence_platform.ports import LakeReader, RawBatch
from sequence_platform.ports.training import (
    UNKNOWN,
    DatasetInfo,
    Datasets,
    DatasetWriter,
    Rules,
    TrainingStore,
    TrainingVersion,
    VersionInfo,
)
from sequence_platform.runtimes.training.building import refresh
from sequence_platform.runtimes.training.pointing import Pointed, point
from sequence_platform.runtimes.training.reading import SequenceRows

POINTER_ROWS = 500_000
"""Labels that are pointed at once."""
LIST_ELEMENTS = 2_000_000
"""Events of sequences that are written at once as lists."""


@dataclass(frozen=True, slots=True, eq=False)
class Exported:
    """What making a data set did."""

    dataset: DatasetInfo
    version: VersionInfo
    changed: bool
    seconds: float


Told = Callable[[str, int, int], None]
"""Is told of progress: of what (``events`` or ``labels``), how many, of how many (0: not known)."""


def export(  # noqa: PLR0913, PLR0917 - from where, to where, what, when, who is told
    lake: LakeReader,
    store: TrainingStore,
    datasets: Datasets,
    training: TrainingPlan,
    labels: Iterable[RawBatch],
    clock: Clock,
    *,
    plan_fingerprint: str,
    tell: Told | None = None,
    anew: bool = False,
) -> Exported:
    """Make the data set of labels; the same input gives the same data set, bit for bit.

    Args:
        lake: Where events are.
        store: The training store; brought up to the lake first.
        datasets: Where the data set goes.
        training: The compiled training set.
        labels: Rows in its raw schema, and those that do not fit it.
        clock: For when.
        plan_fingerprint: Of all definitions.
        tell: Hears of progress.
        anew: Whether the store is written whole, whatever there is.

    Raises:
        StateMismatchError: no event has been built.
        StoreError: labels cannot be read, or the disk failed; no data set is left half written.
    """
    began = clock.now()
    told = tell or _silent
    version = store.open(
        training.sequence.name,
        refresh(
            lake,
            store,
            training.sequence,
            training.columns,
            clock,
            tell=lambda done, total: told("events", done, total),
            anew=anew,
        ).id,
    )
    before = [info.id for info in datasets.all(training.table)[-1:]]
    with datasets.write(training.table) as writer:
        export_ = _Export(training, version, writer)
        for batch in labels:
            export_.add(batch)
            told("labels", export_.rows, 0)
        made = writer.commit(export_.describe(plan_fingerprint, clock))
    seconds = (clock.now() - began).total_seconds()
    return Exported(made, version.info, [made.id] != before, seconds)


def _silent(_what: str, _done: int, _total: int) -> None:
    """Tell nobody."""


class _Export:
    """A data set that is being made: its writer, and what is counted."""

    def __init__(
        self, training: TrainingPlan, version: TrainingVersion, writer: DatasetWriter
    ) -> None:
        self.rows = 0
        self._training, self._version, self._writer = training, version, writer
        self._rules = Rules.of(training.sequence)
        self._sequences = SequenceRows(version, self._rules)
        self._outcomes: Counter[str] = Counter()
        self._digest = blake2b(digest_size=16)
        self._keys: list[pl.Series] = []

    def add(self, batch: RawBatch) -> None:
        """Add some labels."""
        if not batch.dead.is_empty():
            self._writer.dead(batch.dead)
            self._outcomes["dead"] += batch.dead.height
        for labels in batch.frame.iter_slices(POINTER_ROWS):
            self._add(labels)

    def describe(self, plan_fingerprint: str, clock: Clock) -> DatasetInfo:
        """Return the description of what was added."""
        if not self.rows:
            self._add(pl.DataFrame(schema=self._training.raw_schema))
        training, info = self._training, self._version.info
        digest = self._digest.hexdigest()
        definition = training.definition
        keys = pl.concat(self._keys) if self._keys else pl.Series([], dtype=pl.UInt64)
        return DatasetInfo(
            name=training.table,
            id=fingerprint([training.fingerprint, info.id, digest, definition.lists]),
            fingerprint=training.fingerprint,
            plan_fingerprint=plan_fingerprint,
            sequence=training.sequence.name,
            sequence_fingerprint=training.sequence.fingerprint,
            store_version=info.id,
            lake_snapshot=info.lake_snapshot,
            columns=list(training.columns),
            has_lists=definition.lists,
            delay_us=definition.delay // timedelta(microseconds=1),
            known=definition.known,
            rules=self._rules,
            rows=self.rows,
            outcomes=dict(sorted(self._outcomes.items())),
            duplicates=len(keys) - keys.n_unique(),
            labels_digest=digest,
            notes=list(notes_on(training)),
            created_at=clock.now(),
            checksums={},
        )

    def _add(self, labels: pl.DataFrame) -> None:
        training = self._training
        asked = labels.select(entity=training.entity, label_time=training.request_time)
        pointed = point(
            self._version,
            self._rules,
            asked["entity"],
            asked["label_time"],
            delay_us=training.definition.delay // timedelta(microseconds=1),
            known=training.definition.known,
        )
        self.rows += labels.height
        self._digest.update(labels.hash_rows(seed=3).to_numpy().tobytes())
        self._keys.append(asked.hash_rows(seed=5))
        counts = pointed.outcomes.cast(pl.String).value_counts(name="n").iter_rows()
        self._outcomes.update(dict(counts))
        self._writer.pointers(labels.hstack(_pointer_columns(pointed, asked["label_time"])))
        if training.definition.lists:
            for frame in self._lists(labels, pointed):
                self._writer.lists(frame)

    def _lists(self, labels: pl.DataFrame, pointed: Pointed) -> Iterator[pl.DataFrame]:
        """Yield labels with their sequences, as many at once as memory allows."""
        pointers = pointed.pointers
        spans = np.where(pointers.slots == UNKNOWN, 0, pointers.stop - pointers.start)
        chunk = (np.cumsum(spans) - spans) // LIST_ELEMENTS
        bounds = np.flatnonzero(np.diff(chunk, prepend=-1))
        for start, stop in zip(bounds, [*bounds[1:], labels.height], strict=True):
            found = self._sequences.read(
                pointers.take(slice(start, stop)), list(self._sequences.types)
            )
            series = [
                self._sequences.decoded(name, values).alias(name)
                for name, values in found.columns.items()
            ]
            lists = as_lists(pl.DataFrame(series), found.offsets)
            length = pl.Series("length", np.diff(found.offsets), dtype=pl.Int32)
            yield labels[start:stop].with_columns(
                pointed.outcomes[start:stop].cast(pl.String), length, *lists.values()
            )


def _pointer_columns(pointed: Pointed, times: pl.Series) -> pl.DataFrame:
    pointers = pointed.pointers
    return pl.DataFrame(
        {
            "slot": pl.Series(pointers.slots, dtype=pl.Int64),
            "start": pl.Series(pointers.start, dtype=pl.UInt32),
            "stop": pl.Series(pointers.stop, dtype=pl.UInt32),
            "is_plain": pl.Series(pointers.is_plain, dtype=pl.Boolean),
            "checksum": pl.Series(pointed.checksums, dtype=pl.UInt32),
            "outcome": pointed.outcomes.cast(pl.String),
            "label_time": times,
        }
    )


def notes_on(training: TrainingPlan) -> Iterator[str]:
    """Yield what whoever trains with a data set of a training set should know of its truth."""
    for event in training.sequence.events:
        if event.definition.arrival_time is None:
            yield f"{event.name} does not record arrival: assumed on time"
        for lookup in event.lookups:
            if not lookup.enrichment.is_versioned:
                yield (
                    f"{lookup.enrichment.name} has no available_time: today's values stand in "
                    f"{event.name} of all times"
                )
    if training.definition.known == "now":
        yield "known='now': events count before they had arrived, which no model could have seen"
