"""What the port of the online store promises, one promise a test, over all stores."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import polars as pl
import pytest

from sequence_platform.errors import FencedError, StateMismatchError
from sequence_platform.online_format import switching
from sequence_platform.ports import OffsetMove
from sequence_platform.ports.online import OnlineStore, Reflected, log_id
from sequence_platform_tests.backends import ONLINE_STORES
from sequence_platform_tests.online_events import (
    DAY,
    IDENTITY,
    LOG,
    at,
    day_rows,
    event_plan,
    frame,
    ids,
    streamed,
)

EVENT = event_plan()
HOUR = 3600.0


@pytest.fixture(params=ONLINE_STORES)
def store(request: pytest.FixtureRequest) -> Iterator[OnlineStore]:
    with ONLINE_STORES[request.param]() as opened:
        yield opened


def test_rows_come_back_as_they_were_settled(store: OnlineStore) -> None:
    store.publish(EVENT, [day_rows(EVENT, range(8), 0, version="a")], at(0))
    with store.view() as view:
        rows = view.candidates(EVENT, "ann").settled
    found = {name: rows.column(name, 2, 7).to_series(name) for name in EVENT.schema}
    assert pl.DataFrame(found).equals(frame(EVENT, range(2, 7), "ann"))


def test_rows_come_back_as_they_were_streamed(store: OnlineStore) -> None:
    store.append(streamed(EVENT, range(8), None, 0))
    with store.view() as view:
        rows = view.candidates(EVENT, "ann").fresh
    assert rows is not None
    found = {name: rows.column(name, 2, 7).to_series(name) for name in EVENT.schema}
    found["entity"] = pl.Series(["ann"] * 5)
    assert pl.DataFrame(found).equals(frame(EVENT, range(2, 7), "ann"))


def test_a_flush_from_another_offset_is_fenced_and_leaves_nothing(store: OnlineStore) -> None:
    store.append(streamed(EVENT, [1, 2], None, 0))
    with pytest.raises(FencedError, match="another worker has read on"):
        store.append(streamed(EVENT, [7], None, 1))
    with pytest.raises(FencedError, match="offset 2 in the online store"):
        store.append(streamed(EVENT, [7], 1, 1))
    assert ids(store, EVENT) == ["0-1", "0-2"]
    assert store.offsets(EVENT)["next_offset"].to_list() == [2]
    assert store.tail_size().rows == 2


def test_offsets_are_where_an_operator_put_them(store: OnlineStore) -> None:
    store.append(streamed(EVENT, [1, 2], None, 0))
    store.reset_offsets(EVENT, [OffsetMove(LOG, "two", 99, 0)], at(1))
    assert store.offsets(EVENT).row(0) == ("click", 0, "two", 0, at(1))
    store.append(streamed(EVENT, [3], 0, 2))
    assert store.offsets(EVENT)["next_offset"].to_list() == [1]


def test_streamed_until_rises_with_messages_and_with_silence(store: OnlineStore) -> None:
    with store.view() as view:
        assert view.freshness(EVENT).streamed_until is None
    store.append(streamed(EVENT, [1, 2], None, 5))
    store.heard(EVENT, [OffsetMove(LOG, IDENTITY, 2, 2)], at(9))
    store.heard(EVENT, [OffsetMove(LOG, IDENTITY, 2, 2)], at(7))
    store.heard(EVENT, [OffsetMove(LOG, IDENTITY, 3, 3)], at(20))
    with store.view() as view:
        assert view.freshness(EVENT).streamed_until == at(9)


def test_freshness_tells_of_the_live_manifest(store: OnlineStore) -> None:
    store.publish(EVENT, [day_rows(EVENT, [1], 0, version="a")], at(0))
    store.publish(EVENT, [day_rows(EVENT, [1], 1, version="a")], at(1))
    with store.view() as view:
        found = view.freshness(EVENT)
    assert (found.manifest, found.activated_at) == (2, at(1))
    assert found.settled_until == at(0) - 28 * DAY


def test_what_was_read_before_a_day_was_published_is_not_read_twice(store: OnlineStore) -> None:
    store.append(streamed(EVENT, [1, 2], None, 0))
    store.publish(EVENT, [day_rows(EVENT, [1, 2], 0, version="a", read=2)], at(1))
    store.append(streamed(EVENT, [3], 2, 2))
    assert ids(store, EVENT) == ["0-1", "0-2", "0-3"]


def test_known_at_is_answered_as_it_was(store: OnlineStore) -> None:
    store.append(streamed(EVENT, [1], None, 0))
    store.append(streamed(EVENT, [2], 1, 10))
    store.publish(EVENT, [day_rows(EVENT, [1, 2, 3], 0, version="a", read=2)], at(20))
    store.publish(EVENT, [day_rows(EVENT, [9], 0, version="b", read=2)], at(30))
    assert ids(store, EVENT, known_at=at(5)) == ["0-1"]
    assert ids(store, EVENT, known_at=at(15)) == ["0-1", "0-2"]
    assert ids(store, EVENT, known_at=at(25)) == ["0-1", "0-2", "0-3"]
    assert ids(store, EVENT) == ["0-9"]


def test_rollback_brings_back_rows_and_what_streamed_since(store: OnlineStore) -> None:
    store.publish(EVENT, [day_rows(EVENT, [1], 0, version="a", read=0)], at(0))
    store.append(streamed(EVENT, [2], None, 1))
    store.publish(EVENT, [day_rows(EVENT, [1, 2], 0, version="b", read=1)], at(2))
    assert store.rollback(EVENT, 1, at(3)).number == 3
    assert ids(store, EVENT) == ["0-1", "0-2"]
    with store.view() as view:
        assert view.candidates(EVENT, "ann").fresh is not None


def test_a_manifest_that_was_dropped_cannot_be_asked_for(store: OnlineStore) -> None:
    store.publish(EVENT, [day_rows(EVENT, [1], 0, version="a")], at(0))
    store.publish(EVENT, [day_rows(EVENT, [2], 0, version="b")], at(10))
    store.collect(EVENT, keep=timedelta(0), at=at(20))
    with pytest.raises(StateMismatchError, match="no manifest 1"):
        store.rollback(EVENT, 1, at(30))
    with pytest.raises(StateMismatchError, match="does not know any more"):
        ids(store, EVENT, known_at=at(5))
    assert ids(store, EVENT, known_at=at(15)) == ["0-2"]


def test_collecting_drops_only_covered_rows_that_no_manifest_counts(store: OnlineStore) -> None:
    store.publish(EVENT, [day_rows(EVENT, [], 0, version="a", read=0)], at(0))
    store.append(streamed(EVENT, [1, 2], None, 1))
    store.publish(EVENT, [day_rows(EVENT, [1, 2], 0, version="b", read=2)], at(2))
    store.append(streamed(EVENT, [3], 2, 3))
    assert store.collect(EVENT, keep=timedelta(hours=1), at=at(4)) == 0
    assert store.collect(EVENT, keep=timedelta(0), at=at(5)) == 2
    assert store.tail_size().rows == 1
    assert ids(store, EVENT) == ["0-1", "0-2", "0-3"]


def test_confirmed_days_cover_what_the_log_brought_since(store: OnlineStore) -> None:
    store.publish(EVENT, [day_rows(EVENT, [1], 0, version="a", read=0)], at(0))
    store.append(streamed(EVENT, [1], None, 1))
    reflected = Reflected({(log_id(LOG.topic, IDENTITY), LOG.partition): 1})
    store.confirm(EVENT, {date(2026, 3, 1): "other"}, reflected, at(2))
    with store.view() as view:
        assert view.candidates(EVENT, "ann").fresh is not None
    store.confirm(EVENT, {date(2026, 3, 1): "a"}, reflected, at(3))
    with store.view() as view:
        assert view.candidates(EVENT, "ann").fresh is None


def test_merged_days_answer_the_same_and_can_be_published_again(store: OnlineStore) -> None:
    days = range(switching.MAX_SEGMENTS + 1)
    for day in days:
        store.publish(EVENT, [day_rows(EVENT, [day, day + 1], day, version="a")], at(day))
    before = ids(store, EVENT)
    merged = store.compact(EVENT, at(20))
    assert len(merged.segments) == 1
    assert ids(store, EVENT) == before
    store.publish(EVENT, [day_rows(EVENT, [50], 3, version="b")], at(21))
    expected = [i for i in before if not i.startswith("3-")]
    assert sorted(ids(store, EVENT)) == sorted([*expected, "3-50"])
    store.collect(EVENT, keep=timedelta(0), at=at(9 * HOUR))
    assert sorted(ids(store, EVENT)) == sorted([*expected, "3-50"])
