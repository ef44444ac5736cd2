"""Which days are kept: whole days of event time, until the last of their events is too old."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from sequence_platform.plan.plan import SequencePlan
from sequence_platform.plan.retention import (
    first_kept,
    first_kept_snapshot,
    first_whole_snapshot,
)
from sequence_platform_tests.unit.plan.examples import click, feed, save, sequence_plan

MIDNIGHT = datetime(2026, 3, 11, tzinfo=UTC)
TEN_DAYS = timedelta(days=10)


def sequence_of(*retentions: timedelta, **policy: Any) -> SequencePlan:
    start = date(2020, 1, 1)
    events = [
        make(retention=each, start=start)
        for make, each in zip((click, save), retentions, strict=False)
    ]
    return sequence_plan(feed(events=events, **policy))


@pytest.mark.parametrize(
    ("now", "first"),
    [
        (MIDNIGHT - timedelta(microseconds=1), date(2026, 2, 28)),
        (MIDNIGHT, date(2026, 3, 1)),
        (MIDNIGHT + timedelta(hours=23), date(2026, 3, 1)),
        (MIDNIGHT + timedelta(days=1), date(2026, 3, 2)),
    ],
)
def test_a_day_is_kept_until_its_end_is_too_old(now: datetime, first: date) -> None:
    [event] = sequence_of(TEN_DAYS, max_age=timedelta(days=1)).events
    assert first_kept(event, now) == first


def test_what_is_kept_for_longer_than_there_are_dates_is_always_kept() -> None:
    [event] = sequence_of(timedelta(days=900_000), max_age=timedelta(days=1)).events
    assert first_kept(event, MIDNIGHT) == date.min


def test_a_snapshot_is_kept_as_long_as_any_of_its_event_types() -> None:
    sequence = sequence_of(TEN_DAYS, timedelta(days=20), max_age=timedelta(days=1))
    assert first_kept_snapshot(sequence, MIDNIGHT) == date(2026, 2, 19)


@pytest.mark.parametrize(
    ("max_age", "first"),
    [
        (timedelta(hours=1), date(2026, 3, 1)),
        (timedelta(days=1), date(2026, 3, 1)),
        (timedelta(hours=25), date(2026, 3, 2)),
        (timedelta(days=3), date(2026, 3, 3)),
        (None, date(2026, 3, 1)),
    ],
)
def test_a_snapshot_is_whole_while_all_days_that_it_looks_back_on_are_kept(
    max_age: timedelta | None, first: date
) -> None:
    sequence = sequence_of(TEN_DAYS, timedelta(days=20), max_age=max_age)
    assert first_whole_snapshot(sequence, MIDNIGHT) == first


def test_days_before_an_event_type_began_are_not_missed() -> None:
    event = click(retention=TEN_DAYS, start=date(2026, 3, 1))
    sequence = sequence_plan(feed(events=[event], max_age=timedelta(days=3)))
    assert first_whole_snapshot(sequence, MIDNIGHT) == date.min
    assert first_whole_snapshot(sequence, MIDNIGHT + timedelta(days=1)) == date(2026, 3, 4)
