"""Every message is in exactly one of raw rows and dead letters, whatever is beside it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from sequence_platform.engine.dead_letters import STREAM_LETTERS
from sequence_platform.engine.decode import decode
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.plan import EnrichmentPlan, EventPlan, Window
from sequence_platform.plan.tables import raw_table
from sequence_platform.ports import LogBatch, LogPartition
from sequence_platform.runtimes.streaming import received as module
from sequence_platform.runtimes.streaming.received import Received, receive
from sequence_platform_tests.unit.streaming.streams import NOON, click, message

WINDOW = Window(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 12, tzinfo=UTC))
APPENDED = datetime(2026, 3, 9, 8, tzinfo=UTC)
HUGE = b'{"id":"big","user":1,"at":"2026-03-02T12:00:00Z","pin":"' + b"x" * 20_000_000 + b'"}'


@cache
def event() -> EventPlan:
    where = {"has_pin": pl.col("pin") >= 0}
    definition = click("click", "clicks", where=where, operation="op", schema=SCHEMA)
    return compile_plan([Located("tests.py", definition)]).events["click"]


SCHEMA = {
    "id": pl.String,
    "user": pl.Int64,
    "at": pl.Datetime("us", "UTC"),
    "pin": pl.Int64,
    "op": pl.String,
}


def batch(*values: bytes | None, partition: int = 0, first: int = 0) -> LogBatch:
    offsets = np.arange(first, first + len(values), dtype=np.int64)
    appended = np.full(len(values), int(APPENDED.timestamp()) * 1_000_000, dtype=np.int64)
    at = LogPartition("clicks", partition)
    return LogBatch(at, values, offsets, appended, first + len(values))


def no_lookup(_: EnrichmentPlan, keys: pl.Series) -> pl.DataFrame:
    raise AssertionError(keys)


def received(*batches: LogBatch) -> Received:
    return receive(event(), batches, no_lookup, WINDOW, decode)


GOOD = message("good")
BAD: list[tuple[str, bytes | None, str]] = [
    ("torn", b'{"id":"a","user":1', "malformed_json"),
    ("no JSON at all", b"\x00\x01\x02", "malformed_json"),
    ("not UTF-8", b'{"id":"\xff"}', "not_utf8"),
    ("a wrong type", message("a", user="me"), "wrong_type:user"),
    ("a fraction", message("a", pin=1.5), "wrong_type:pin"),
    ("no time at all", message("a", at="soon"), "wrong_type:at"),
    ("a missing field", b'{"user":1,"at":"2026-03-02T12:00:00Z"}', "null_event_id"),
    ("no fields", b"{}", "null_entity"),
    ("a null entity", message("a", user=None), "null_entity"),
    ("no time", b'{"id":"a","user":1}', "null_event_time"),
    ("a bare newline within text", b'{"id":"a\nb","user":1}', "malformed_json"),
    ("two objects on two lines", GOOD + b"\n" + GOOD, "malformed_json"),
    ("two objects on one line", GOOD + GOOD, "malformed_json"),
    ("an array", b"[" + GOOD + b"]", "not_an_object"),
    ("an empty message", b"", "empty_message"),
    ("blanks", b" \n\t ", "empty_message"),
    ("a tombstone", None, "empty_message"),
    ("20 MB that do not fit", HUGE, "wrong_type:pin"),
    ("an unknown operation", message("a", op="merge"), "unknown_operation"),
    ("the year 1970", message("a", "1970-01-01T00:00:01Z"), "impossible_event_time"),
    ("the year 2200", message("a", "2200-01-01T00:00:00Z"), "impossible_event_time"),
    ("before the start", message("a", "2026-02-28T23:59:59.999999Z"), "outside_partition"),
    ("far ahead", message("a", "2026-03-12T00:00:00Z"), "outside_partition"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "rule"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_a_bad_message_is_one_dead_letter_and_its_neighbours_arrive(
    value: bytes | None, rule: str
) -> None:
    done = received(batch(message("a"), value, message("b"), partition=3, first=40))
    assert done.raw.select("_event_id", "_partition", "_offset").rows() == [
        ("a", 3, 40),
        ("b", 3, 42),
    ]
    assert done.enriched.rows["event_id"].to_list() == ["a", "b"]
    assert done.dead.schema == STREAM_LETTERS
    [letter] = done.dead.to_dicts()
    assert (letter["source"], letter["position"], letter["rule"]) == ("clicks/3", 41, rule)
    assert letter["payload"] == value
    assert letter["appended_at"] == APPENDED
    assert "expected" in letter["detail"]


@pytest.mark.parametrize(
    ("at", "is_used"),
    [
        (WINDOW.start, True),
        (WINDOW.start - timedelta(microseconds=1), False),
        (WINDOW.end - timedelta(microseconds=1), True),
        (WINDOW.end, False),
    ],
)
def test_times_that_can_be_are_from_the_start_up_to_the_end(at: datetime, *, is_used: bool) -> None:
    done = received(batch(message("a", at)))
    assert (done.raw.height, done.dead.height) == ((1, 0) if is_used else (0, 1))


def test_all_bad_messages_at_once_are_one_letter_each() -> None:
    values = [value for _, value, _ in BAD if value is not HUGE]
    done = received(batch(*values, GOOD), batch(*values, GOOD, partition=1))
    assert done.raw.select("_partition", "_offset").rows() == [(0, len(values)), (1, len(values))]
    places = sorted(done.dead.select("source", "position").rows())
    assert places == [(f"clicks/{p}", n) for p in range(2) for n in range(len(values))]
    rules = dict(done.dead.filter(source="clicks/1").select("position", "rule").iter_rows())
    assert [rules[n] for n in range(len(values))] == [
        rule for _, value, rule in BAD if value is not HUGE
    ]


def test_rejected_messages_are_raw_rows_and_no_letters() -> None:
    done = received(batch(message("a", pin=-1), message("b", op="delete"), message("c")))
    assert done.raw["_event_id"].to_list() == ["a", "b", "c"]
    assert done.enriched.rows["event_id"].to_list() == ["c"]
    assert sorted(done.enriched.rejected.select("event_id", "rule").rows()) == [
        ("a", "has_pin"),
        ("b", "delete"),
    ]
    assert done.dead.is_empty()


def test_a_raw_row_is_what_came_with_the_message_it_came_in() -> None:
    [row] = received(batch(message("a", pin=9), partition=2, first=7)).raw.to_dicts()
    assert row == {
        "_entity": 1,
        "_event_id": "a",
        "_event_time": NOON,
        "_topic": "clicks",
        "_partition": 2,
        "_offset": 7,
        "_appended_at": APPENDED,
        "id": "a",
        "user": 1,
        "at": NOON,
        "pin": 9,
        "op": None,
    }


def test_no_messages_are_no_rows_with_their_types() -> None:
    for done in (received(), received(batch())):
        assert done.raw.schema == raw_table(event()).columns
        assert done.enriched.rows.schema == event().schema
        assert done.dead.schema == STREAM_LETTERS
        assert done.raw.is_empty()


def test_what_becomes_of_messages_does_not_depend_on_how_many_are_decoded_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = [json.dumps({"id": str(n)}).encode() if n % 3 else message(str(n)) for n in range(10)]
    batches = [batch(*values[:4]), batch(*values[4:], partition=1)]
    whole = received(*batches)
    monkeypatch.setattr(module, "CHUNK_MESSAGES", 3)
    pieces = received(*batches)
    assert_frame_equal(pieces.raw, whole.raw)
    assert_frame_equal(pieces.enriched.rows, whole.enriched.rows)
    assert_frame_equal(
        pieces.dead.sort("source", "position"), whole.dead.sort("source", "position")
    )
