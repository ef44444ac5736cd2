"""The leakage check: labels of a data set, computed again the slow way, from the lake."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from sequence_platform.engine.assemble import assemble
from sequence_platform.engine.columns import filled
from sequence_platform.engine.late import attach_late
from sequence_platform.engine.point_in_time import ALL_KNOWN, point_in_time
from sequence_platform.errors import StateMismatchError
from sequence_platform.plan.plan import ENVELOPE, TIME, SequencePlan, TrainingPlan, Window
from sequence_platform.plan.tables import enriched_table
from sequence_platform.ports import LakeReader
from sequence_platform.ports.training import (
    DatasetInfo,
    Datasets,
    Pointers,
    Rules,
    TrainingStore,
    TrainingVersion,
)
from sequence_platform.runtimes.training.building import lake_days
from sequence_platform.runtimes.training.reading import SequenceRows

LATER = timedelta(days=2)
"""How far beyond requests events are read, to see that they change nothing."""
TICK = timedelta(microseconds=1)
Rows = Mapping[str, pl.DataFrame]


@dataclass(frozen=True, slots=True)
class Difference:
    """A label whose sequence in the data set is not what it should be.

    Attributes:
        row: Number of the label.
        is_leak: Whether the data set shows an event that the request could not have seen.
        what: Where the two part.
    """

    row: int
    entity: str
    request_time: str
    is_leak: bool
    what: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What the check found.

    Attributes:
        sampled: Labels looked at.
        checked: Those of them that were computed again.
        changed: Those left out, since the lake holds other events of their days by now.
        planted: Events that happen or arrive after requests and were planted, to change nothing.
        differences: Of the labels checked.
    """

    sampled: int
    checked: int
    changed: int
    planted: int
    differences: tuple[Difference, ...]

    @property
    def leaks(self) -> int:
        """Labels that show what their request could not have seen."""
        return sum(difference.is_leak for difference in self.differences)


def verify(  # noqa: PLR0913, PLR0917 - against what, of what, how much
    lake: LakeReader,
    store: TrainingStore,
    datasets: Datasets,
    training: TrainingPlan,
    info: DatasetInfo,
    sample: int = 100,
    seed: int = 0,
) -> Verification:
    """Compute some labels of a data set again, and compare.

    Raises:
        StateMismatchError: the definitions have changed since the data set was made.
        StoreError: the data set or its version of the store is gone or damaged.
    """
    if info.fingerprint != training.fingerprint:
        raise StateMismatchError(
            f"data set {info.id} of '{info.name}' was made by other definitions",
            found=f"fingerprint {info.fingerprint}",
            expected=f"fingerprint {training.fingerprint}",
            next_step=f"build it again: sequence-platform training build {training.name}",
        )
    version = store.open(info.sequence, info.store_version)
    return verify_labels(lake, version, training, datasets.sample(info, sample, seed))


def verify_labels(
    lake: LakeReader, version: TrainingVersion, training: TrainingPlan, sample: pl.DataFrame
) -> Verification:
    """Compute labels again and compare.

    Each label's sequence is assembled by itself from the events of the lake that are left when
    those that happened or arrived too late are taken away beforehand; then again with all of them
    there, and more planted that repeat, correct and follow what the label sees. The data set must
    say the same as both.

    Args:
        lake: What the data set was made from.
        version: Of the store.
        training: The compiled training set.
        sample: Rows of the pointer export, with their number in ``row``.
    """
    definition, sequence = training.definition, training.sequence
    asked = sample.select(
        "row",
        entity=training.entity,
        as_of=training.request_time - pl.lit(definition.delay),
    ).with_columns(
        known_at=pl.col("as_of") if definition.known == "at_request" else pl.lit(None, TIME)
    )
    usable = asked.drop_nulls(["entity", "as_of"])
    changed = _changed_days(lake, version, sequence)
    rows = _events(lake, training, usable)
    differences, planted, skipped = [], 0, 0
    stored = _stored(version, training, sample)
    for request in usable.iter_rows(named=True):
        row = int(request["row"])
        if _touches(changed, sequence, request["as_of"]):
            skipped += 1
            continue
        mine = {name: frame.filter(entity=request["entity"]) for name, frame in rows.items()}
        expected = _slowly(training, mine, request)
        poisoned = {name: _poisoned(frame, request) for name, frame in mine.items()}
        planted += sum(poisoned[name].height - mine[name].height for name in mine)
        again = _engine(training, poisoned, request)
        found = stored[row]
        for answer, by in ((again, "with later events planted"), (found, "in the data set")):
            if what := _first_difference(answer, expected):
                differences.append(
                    Difference(
                        row,
                        str(request["entity"]),
                        str(request["as_of"]),
                        _leaks(answer, expected),
                        f"{by}: {what}",
                    )
                )
    checked = usable.height - skipped
    return Verification(sample.height, checked, skipped, planted, tuple(differences))


def _changed_days(lake: LakeReader, version: TrainingVersion, sequence: SequencePlan) -> list[date]:
    """Return days of which the lake does not hold what the version was built from."""
    now = {day: held.digest for day, held in lake_days(lake, sequence).items()}
    then = version.info.digests
    return sorted(day for day in {*now, *then} if now.get(day) != then.get(day))


def _touches(days: list[date], sequence: SequencePlan, as_of: datetime) -> bool:
    first, last = (as_of - sequence.lookback).date(), (as_of - TICK).date()
    return any(first <= day <= last for day in days)


def _events(lake: LakeReader, training: TrainingPlan, asked: pl.DataFrame) -> Rows:
    first, last = asked["as_of"].min(), asked["as_of"].max()
    if not (isinstance(first, datetime) and isinstance(last, datetime)):
        first = last = Window.of_day(date(2000, 1, 1)).start
    window = Window(first - training.sequence.lookback, last + LATER)
    entities = asked["entity"].unique()
    return {
        event.name: lake.read_events(
            enriched_table(event),
            [*ENVELOPE, *(n for n in training.columns if n in event.schema and n not in ENVELOPE)],
            window,
            entities=entities,
        )
        for event in training.sequence.events
    }


def _columns(training: TrainingPlan) -> list[str]:
    held = [name for name in training.columns if name not in {"event_time", "event_type"}]
    return ["event_time", "event_type", *held]


def _slowly(training: TrainingPlan, rows: Rows, request: Mapping[str, Any]) -> pl.DataFrame:
    """Return the label's events, from nothing but what it may see."""
    seen = {name: frame.filter(_is_seen(request)) for name, frame in rows.items()}
    as_of = request["as_of"]
    assert isinstance(as_of, datetime)  # noqa: S101 - TIME
    sequence = training.sequence
    whole = assemble(sequence, seen, as_of)
    late = [name for name in training.columns if name in sequence.late]
    whole = attach_late(sequence, whole, seen, late) if late else whole
    return _flat(whole.select(_columns(training)))


def _engine(training: TrainingPlan, rows: Rows, request: Mapping[str, Any]) -> pl.DataFrame:
    schema = {"entity": training.sequence.entity_type, "as_of": TIME, "known_at": TIME}
    asked = pl.DataFrame([{name: request[name] for name in schema}], schema=schema)
    columns = _columns(training)
    return _flat(point_in_time(training.sequence, rows, asked, columns).select(columns))


def _stored(
    version: TrainingVersion, training: TrainingPlan, sample: pl.DataFrame
) -> dict[int, pl.DataFrame]:
    """Return by label the events that the data set shows."""
    times = sample.select(training.request_time - pl.lit(training.definition.delay)).to_series()
    known_us = times.to_physical().fill_null(0).to_numpy()
    if training.definition.known == "now":
        known_us = known_us * 0 + ALL_KNOWN
    pointers = Pointers(
        sample["slot"].to_numpy(),
        sample["start"].cast(pl.Int64).to_numpy(),
        sample["stop"].cast(pl.Int64).to_numpy(),
        sample["is_plain"].to_numpy(),
        known_us,
    )
    rows = SequenceRows(version, Rules.of(training.sequence))
    found = rows.read(pointers, _columns(training))
    flat = pl.DataFrame(
        [rows.decoded(name, values).alias(name) for name, values in found.columns.items()]
    )
    bounds = zip(
        sample["row"], found.offsets[:-1].tolist(), found.offsets[1:].tolist(), strict=True
    )
    return {int(row): flat[start:stop] for row, start, stop in bounds}


def _flat(lists: pl.DataFrame) -> pl.DataFrame:
    """Return the events of one sequence, a row each, as the store has them."""
    flat = lists.explode(lists.columns, empty_as_null=False)
    return pl.DataFrame([filled(series).to_series(series.name) for series in flat])


def _is_seen(request: Mapping[str, Any]) -> pl.Expr:
    """Return whether a request can have seen an event."""
    had_happened: pl.Expr = pl.col("event_time") < request["as_of"]
    known_at = request["known_at"]
    return had_happened if known_at is None else had_happened & (pl.col("arrival_time") <= known_at)


def _poisoned(rows: pl.DataFrame, request: Mapping[str, Any]) -> pl.DataFrame:
    """Return events with more that a request must not see.

    Copies of what it sees that happen at its very time, that happened before and arrive a tick too
    late, and that would win against what it sees.
    """
    as_of, known_at = request["as_of"], request["known_at"]
    seen = rows.filter(_is_seen(request))
    at_once = seen.with_columns(
        event_time=pl.lit(as_of, TIME),
        revision=pl.col("revision") + 1,
        event_id=pl.col("event_id") + "~",
    )
    parts = [rows, at_once, seen.with_columns(event_time=pl.lit(as_of, TIME))]
    if known_at is not None:
        too_late = pl.lit(known_at, TIME) + TICK
        parts += [
            seen.with_columns(arrival_time=too_late, revision=pl.col("revision") + 1),
            seen.with_columns(arrival_time=too_late, event_id=pl.col("event_id") + "~~"),
        ]
    return pl.concat(parts)


def _first_difference(found: pl.DataFrame, expected: pl.DataFrame) -> str:
    if found.height != expected.height:
        return f"{found.height} events, expected {expected.height}"
    for name in expected.columns:
        if not found[name].equals(expected[name], null_equal=True):
            at = next(
                at
                for at in range(expected.height)
                if not found[name][at : at + 1].equals(expected[name][at : at + 1], null_equal=True)
            )
            return f"{name} of event {at} is {found[name][at]}, expected {expected[name][at]}"
    return ""


def _leaks(found: pl.DataFrame, expected: pl.DataFrame) -> bool:
    """Return whether one shows events that the other does not have."""
    extra = found.select("event_time", "event_type").join(
        expected.select("event_time", "event_type"), on=["event_time", "event_type"], how="anti"
    )
    return not extra.is_empty()
