"""Requests to pointers: where in a version of the store each request's sequence is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from sequence_platform.definition.training_set import Known
from sequence_platform.engine.columns import Ints
from sequence_platform.engine.point_in_time import ALL_KNOWN
from sequence_platform.plan.plan import Window
from sequence_platform.ports.training import UNKNOWN, Pointers, Rules, TrainingVersion

OUTCOMES = pl.Enum(
    ["ok", "null_entity", "null_time", "unknown_entity", "before_data", "after_data"]
)
"""What became of a label. All but ``ok`` and ``after_data`` have an empty sequence.

- ``null_entity``, ``null_time``: the label does not say whose sequence, or as of when.
- ``unknown_entity``: nobody of this name has an event in the store.
- ``before_data``: the request is older than the first day of the store.
- ``after_data``: the request is later than the end of the last day of the store, in the future
  perhaps; what happened since is missing.
"""
NO_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True, eq=False)
class Pointed:
    """Pointers of some labels, in their order.

    Attributes:
        checksums: Of the keys of each range, so that a pointer into another store is noticed.
        outcomes: OUTCOMES.
    """

    pointers: Pointers
    checksums: npt.NDArray[np.uint32]
    outcomes: pl.Series


def point(  # noqa: PLR0913 - into what, by which rules, of whom, when, as known when
    version: TrainingVersion,
    rules: Rules,
    entities: pl.Series,
    times: pl.Series,
    *,
    delay_us: int = 0,
    known: Known = "at_request",
) -> Pointed:
    """Return where the sequence of each request is; a request is answered as of its time - delay.

    Costs a binary search a request, whatever the length of sequences.

    Args:
        version: Of the store.
        rules: Of the sequence.
        entities: Whose, of the sequence's entity type; null where a label does not say.
        times: TIME; null where a label does not say.
        delay_us: How long it takes until an event can be read.
        known: Whether events count that had not arrived by then.
    """
    time_us = times.to_physical().fill_null(0).to_numpy() - delay_us
    slots = version.slots(entities)
    outcomes = _outcomes(version, entities, times, slots, time_us)
    slots = np.where(np.isin(outcomes, _EMPTY), UNKNOWN, slots)
    known_us = time_us if known == "at_request" else np.full(len(slots), ALL_KNOWN)
    pointers = locate(version, rules, slots, time_us, known_us)
    return Pointed(
        pointers,
        checksums_of(version, pointers),
        OUTCOMES.categories.gather(outcomes).cast(OUTCOMES).alias("outcome"),
    )


def locate(
    version: TrainingVersion, rules: Rules, slots: Ints, time_us: Ints, known_us: Ints
) -> Pointers:
    """Return what each request may see of a slot."""
    start = version.before(slots, time_us - rules.lookback_us)
    stop = version.before(slots, time_us)
    if rules.policy.is_length_alone:
        newest = np.maximum(start, stop - rules.policy.max_length)
        # Of what comes late enough to be hidden, or has copies, older events may take the place.
        is_plain = version.latest_arrival(slots, newest, stop) <= known_us
        is_plain &= ~version.holds_copies(slots, start, stop)
        start = np.where(is_plain, newest, start)
    else:
        is_plain = stop == start
    return Pointers(slots, start, stop, is_plain, known_us)


def checksums_of(version: TrainingVersion, pointers: Pointers) -> npt.NDArray[np.uint32]:
    """Return a number of the keys that each range holds."""
    sums = version.sums(pointers.slots, pointers.start, pointers.stop)
    return (sums ^ (sums >> np.uint64(32))).astype(np.uint32)


_EMPTY = [1, 2, 3, 4]
"""Numbers of the outcomes with an empty sequence."""


def _outcomes(
    version: TrainingVersion, entities: pl.Series, times: pl.Series, slots: Ints, time_us: Ints
) -> npt.NDArray[np.uint8]:
    parts = version.info.parts
    first = _us(Window.of_day(parts[0].first_day).start)
    end = _us(Window.of_day(parts[-1].last_day).end)
    cases = [
        entities.is_null().to_numpy(),
        times.is_null().to_numpy(),
        slots == UNKNOWN,
        time_us <= first,
        time_us > end,
    ]
    return np.select(cases, [1, 2, 3, 4, 5], 0).astype(np.uint8)


def _us(time: object) -> int:
    return int(pl.Series([time], dtype=pl.Datetime("us", "UTC")).to_physical().item())
