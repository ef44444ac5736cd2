"""The trim rules, by hand: entities are numbers, times microseconds; a true says it stays."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest

from sequence_platform.engine.trim import (
    NO_KEY,
    Ints,
    Trim,
    drop_consecutive,
    drop_within,
    keep_newest,
    keep_quotas,
    keep_sessions,
)


def ints(*values: int) -> Ints:
    return np.array(values, dtype=np.int64)


def us(count: int) -> timedelta:
    return timedelta(microseconds=count)


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (1, [False, False, False, False, True]),
        (2, [False, False, False, True, True]),  # 20 -> 31 is more than 10
        (3, [True, True, True, True, True]),  # 0 -> 10 -> 20 is not
    ],
)
def test_a_session_ends_where_the_gap_is_longer_than_the_limit(
    keep: int, expected: Sequence[bool]
) -> None:
    kept = keep_sessions(ints(0, 0, 0, 0, 0), ints(0, 10, 20, 31, 42), us(10), keep)
    assert kept.tolist() == expected


def test_sessions_are_counted_for_each_entity() -> None:
    runs, times = ints(0, 0, 1, 1, 2), ints(0, 100, 100, 101, 0)
    assert keep_sessions(runs, times, us(10), 1).tolist() == [False, True, True, True, True]


@pytest.mark.parametrize(
    ("keep_last", "expected"),
    [
        (True, [False, True, True, False, False, True]),
        (False, [True, False, True, True, False, False]),
    ],
)
def test_of_a_run_of_equal_keys_one_end_stays(keep_last: bool, expected: Sequence[bool]) -> None:
    kept = drop_consecutive(ints(0, 0, 0, 0, 0, 0), ints(5, 5, 6, 5, 5, 5), keep_last=keep_last)
    assert kept.tolist() == expected


@pytest.mark.parametrize("keep_last", [True, False])
def test_events_without_a_key_stay_and_end_a_run(keep_last: bool) -> None:
    keys = ints(5, NO_KEY, NO_KEY, 5)
    assert drop_consecutive(ints(0, 0, 0, 0), keys, keep_last=keep_last).tolist() == [True] * 4


@pytest.mark.parametrize("keep_last", [True, False])
def test_a_run_ends_with_its_entity(keep_last: bool) -> None:
    assert drop_consecutive(ints(0, 1), ints(5, 5), keep_last=keep_last).tolist() == [True, True]
    assert drop_within(ints(0, 1), ints(3, 3), ints(5, 5), us(9), keep_last=keep_last).tolist() == [
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("keep_last", "expected"),
    [(True, [False, True, True, True]), (False, [True, True, False, True])],
)
def test_a_repeat_within_a_duration_goes_though_others_stand_between(
    keep_last: bool, expected: Sequence[bool]
) -> None:
    # a at 0, b at 1, a at 10 (as far as the limit), a at 21 (further)
    kept = drop_within(
        ints(0, 0, 0, 0), ints(0, 1, 10, 21), ints(1, 2, 1, 1), us(10), keep_last=keep_last
    )
    assert kept.tolist() == expected


@pytest.mark.parametrize(("keep_last", "survivor"), [(True, 3), (False, 0)])
def test_a_burst_longer_than_the_duration_collapses_into_one(
    keep_last: bool, survivor: int
) -> None:
    kept = drop_within(
        ints(0, 0, 0, 0), ints(0, 6, 12, 18), ints(1, 1, 1, 1), us(10), keep_last=keep_last
    )
    assert kept.nonzero()[0].tolist() == [survivor]


def test_a_duration_of_nothing_drops_repeats_of_the_same_moment() -> None:
    kept = drop_within(ints(0, 0, 0), ints(7, 7, 8), ints(1, 1, 1), us(0), keep_last=True)
    assert kept.tolist() == [False, True, True]


def test_the_newest_events_of_each_entity_stay() -> None:
    assert keep_newest(ints(0, 0, 0, 1, 2, 2), 2).tolist() == [False, True, True, True, True, True]


def test_a_quota_keeps_the_newest_of_its_type_and_leaves_the_others() -> None:
    runs, types = ints(0, 0, 0, 0, 1), ints(4, 9, 4, 9, 4)
    assert keep_quotas(runs, types, {4: 1}).tolist() == [False, True, True, True, True]
    assert keep_quotas(runs, types, {4: 1, 9: 0}).tolist() == [False, False, True, False, True]


def test_every_rule_takes_no_events() -> None:
    nothing = ints()
    assert keep_sessions(nothing, nothing, us(1), 1).tolist() == []
    assert drop_consecutive(nothing, nothing, keep_last=True).tolist() == []
    assert drop_within(nothing, nothing, nothing, us(1), keep_last=False).tolist() == []
    assert keep_newest(nothing, 1).tolist() == []
    assert keep_quotas(nothing, nothing, {0: 1}).tolist() == []


def test_each_rule_sees_what_the_one_before_left() -> None:
    trim = Trim(np.arange(5), {})
    trim.apply("dedupe", np.array([False, True, True, True, True]))
    trim.apply("max_length", np.array([False, True, False, True]))
    assert trim.kept.tolist() == [2, 4]
    assert {rule: cut.tolist() for rule, cut in trim.cut.items()} == {
        "dedupe": [0],
        "max_length": [1, 3],
    }
