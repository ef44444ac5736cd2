"""JSON messages to rows: what is read, what becomes a dead letter, and with which words."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from sequence_platform.engine.dead_letters import DEAD_LETTERS
from sequence_platform.engine.decode import GROUP_MESSAGES, Decoded, decode

SCHEMA = pl.Schema(
    {
        "id": pl.String(),
        "n": pl.Int64(),
        "ok": pl.Boolean(),
        "at": pl.Datetime("us", "UTC"),
        "place": pl.Struct({"lat": pl.Float64(), "tags": pl.List(pl.String())}),
        "vector": pl.Array(pl.Float32(), 2),
    }
)
GOOD = (
    b'{"id":"a","n":1,"ok":true,"at":"2026-03-01T00:00:00Z",'
    b'"place":{"lat":1.5,"tags":["x",null]},"vector":[1,2]}'
)
GOOD_ROW = (
    "a",
    1,
    True,
    datetime(2026, 3, 1, tzinfo=UTC),
    {"lat": 1.5, "tags": ["x", None]},
    [1.0, 2.0],
)


def value_of(dtype: pl.DataType, text: str) -> Any:
    """Return what one JSON value becomes in a column of this type."""
    decoded = decode([b'{"x":%s}' % text.encode()], pl.Schema({"x": dtype}))
    assert decoded.dead.is_empty(), decoded.dead["detail"].item()
    assert decoded.frame.schema == pl.Schema({"x": dtype})
    return decoded.frame["x"].to_list()[0]


def rule_of(dtype: pl.DataType, text: str) -> str:
    """Return the rule by which one JSON value in a column of this type is a dead letter."""
    decoded = decode([b'{"x":%s}' % text.encode()], pl.Schema({"x": dtype}))
    assert decoded.frame.is_empty(), decoded.frame
    return str(decoded.dead["rule"].item())


def outcome(decoded: Decoded) -> tuple[list[Any], list[tuple[int, str]]]:
    return decoded.frame["n"].to_list(), decoded.dead.select("position", "rule").rows()


def test_a_good_message_becomes_a_row_of_the_schema() -> None:
    decoded = decode([GOOD, GOOD], SCHEMA)
    assert decoded.frame.schema == SCHEMA
    assert decoded.frame.rows() == [GOOD_ROW, GOOD_ROW]
    assert decoded.dead.schema == DEAD_LETTERS
    assert decoded.dead.is_empty()


def test_no_messages_are_no_rows() -> None:
    decoded = decode([], SCHEMA)
    assert (decoded.frame.schema, decoded.frame.height) == (SCHEMA, 0)
    assert (decoded.dead.schema, decoded.dead.height) == (DEAD_LETTERS, 0)


def test_missing_and_null_fields_are_null_and_others_are_dropped() -> None:
    decoded = decode([b'{"n":null,"other":1}', b"{}"], SCHEMA)
    assert decoded.frame.rows() == [(None,) * 6] * 2


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        (None, "empty_message"),
        (b"", "empty_message"),
        (b" \r\n\t", "empty_message"),
        (b'{"n":1}{"n":2}', "malformed_json"),
        (b'{"n":1}\n{"n":2}', "malformed_json"),
        (b'{"n":1}\n\n', ""),
        (b'{\n  "n": 1\n}', ""),
        (b'{"n":1,"id":"a\nb"}', "malformed_json"),
        (b'{"n":1', "malformed_json"),
        (b'{"n":1},', "malformed_json"),
        (b'{"n":NaN}', "malformed_json"),
        (b"{'n':1}", "malformed_json"),
        (b'{"n":1}\x00', "malformed_json"),
        (b'\xef\xbb\xbf{"n":1}', "malformed_json"),
        (b'{"n":1,"id":"\xff"}', "not_utf8"),
        (b'{"n":1,"other":"\xff"}', "not_utf8"),
        (b'{"n":1,"id":"\\ud800"}', "malformed_json"),
        (b'{"n":1,"id":"\\ude00\\ud83d"}', "malformed_json"),
        (b'{"n":1,"id":"\\ud83d\\ude00"}', ""),
        (b'{"n":1,"id":"\\\\ud800"}', ""),
        (b"null", "not_an_object"),
        (b"[1]", "not_an_object"),
        (b'"n"', "not_an_object"),
        (b"1", "not_an_object"),
        (b'{"n":"x"}', "wrong_type:n"),
        (b'{"n":1.5}', "wrong_type:n"),
        (b'{"n":true}', "wrong_type:n"),
        (b'{"n":[1]}', "wrong_type:n"),
        (b'{"n":9223372036854775808}', "wrong_type:n"),
        (b'{"n":1,"ok":"maybe"}', "wrong_type:ok"),
        (b'{"n":1,"ok":2}', "wrong_type:ok"),
        (b'{"n":1,"at":1772323200}', "wrong_type:at"),
        (b'{"n":1,"at":"yesterday"}', "wrong_type:at"),
        (b'{"n":1,"at":"2026-02-30T00:00:00Z"}', "wrong_type:at"),
        (b'{"n":1,"at":"01/02/2026"}', "wrong_type:at"),
        (b'{"n":1,"place":{"lat":"north"}}', "wrong_type:place"),
        (b'{"n":1,"place":{"tags":"x"}}', "wrong_type:place"),
        (b'{"n":1,"place":[1]}', "wrong_type:place"),
        (b'{"n":1,"vector":[1]}', "wrong_length:vector"),
        (b'{"n":1,"vector":[1,2,3]}', "wrong_length:vector"),
        (b'{"n":1,"vector":[]}', "wrong_length:vector"),
        (b'{"n":1,"vector":[1,"x"]}', "wrong_type:vector"),
        (b'{"n":1,"vector":[1,1e300]}', "wrong_type:vector"),
        (b'{"n":1,"vector":1}', "wrong_type:vector"),
    ],
)
def test_a_bad_message_is_one_dead_letter_and_costs_its_neighbours_nothing(
    message: bytes | None, rule: str
) -> None:
    decoded = decode([b'{"n":7}', message, b'{"n":8}'], SCHEMA, source="log", first_position=100)
    if rule:
        assert outcome(decoded) == ([7, 8], [(101, rule)])
        assert decoded.dead["source"].to_list() == ["log"]
        assert decoded.dead["detail"].null_count() == 0
    else:
        assert outcome(decoded) == ([7, 1, 8], [])


def test_an_empty_message_beside_one_with_two_objects_shifts_nothing() -> None:
    decoded = decode([b'{"n":1}', b"", b'{"n":2}\n{"n":3}', b'{"n":4}'], SCHEMA)
    assert outcome(decoded) == ([1, 4], [(1, "empty_message"), (2, "malformed_json")])


def test_vectors_whose_wrong_lengths_add_up_are_not_mixed() -> None:
    decoded = decode([b'{"n":1,"vector":[1]}', b'{"n":2,"vector":[2,3,4]}'], SCHEMA)
    assert outcome(decoded) == ([], [(0, "wrong_length:vector"), (1, "wrong_length:vector")])


def test_a_dead_letter_says_what_was_found_and_expected_and_keeps_the_message() -> None:
    [letter] = decode([b'{"n":"many"}'], SCHEMA, source="clicks", first_position=5).dead.rows()
    assert letter == (
        "clicks",
        5,
        "wrong_type:n",
        "found 'many' (String), expected Int64",
        '{"n":"many"}',
    )
    [letter] = decode([b'{"n":1,"vector":[1,2,3]}'], SCHEMA).dead.rows()
    assert letter[3] == "found 3 values, expected 2"
    [letter] = decode([b'{"n":"' + b"9" * 500 + b'x"}'], SCHEMA).dead.rows()
    assert len(letter[3]) < 200
    assert len(letter[4]) == 509


def test_bytes_that_are_not_text_are_kept_so_that_they_can_be_told() -> None:
    assert decode([b"\xff\x00a"], SCHEMA).dead["row"].to_list() == ["\\xff\x00a"]


def test_bad_messages_over_several_groups_keep_positions_and_order() -> None:
    count = 3 * GROUP_MESSAGES + 5
    messages = [b'{"n":%d}' % n if n % 1000 else b'{"n":"x"}' for n in range(count)]
    decoded = decode(messages, SCHEMA)
    assert decoded.frame["n"].to_list() == [n for n in range(count) if n % 1000]
    assert decoded.dead["position"].to_list() == [n for n in range(count) if n % 1000 == 0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01T12:00:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01T12:00:00z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01T12:00:00.5Z", datetime(2026, 3, 1, 12, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-03-01T12:00:00.123Z", datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)),
        ("2026-03-01T12:00:00.123456Z", datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)),
        ("2026-03-01T12:00:00.123456789Z", datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)),
        ("2026-03-01T12:00:00+02:00", datetime(2026, 3, 1, 10, tzinfo=UTC)),
        ("2026-03-01T00:30:00+0100", datetime(2026, 2, 28, 23, 30, tzinfo=UTC)),
        ("2026-03-01T12:00:00-05", datetime(2026, 3, 1, 17, tzinfo=UTC)),
        ("2026-03-01 12:00:00+00:00", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01 12:00:00", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01T12:00", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01T12:00+01:00", datetime(2026, 3, 1, 11, tzinfo=UTC)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
    ],
)
def test_times_are_iso_8601_and_become_utc(text: str, expected: datetime) -> None:
    for dtype, value in [
        (pl.Datetime("us", "UTC"), expected),
        (pl.Datetime("us"), expected.replace(tzinfo=None)),
        (pl.Datetime("us", "Asia/Tokyo"), expected),
        (pl.Date(), expected.date()),
    ]:
        assert value_of(dtype, f'"{text}"') == value


@pytest.mark.parametrize(
    ("dtype", "text", "expected"),
    [
        (pl.Int8(), "-128", -128),
        (pl.UInt64(), "18446744073709551615", 2**64 - 1),
        (pl.Int128(), "170141183460469231731687303715884105727", 2**127 - 1),
        (pl.Int64(), '"12"', 12),
        (pl.Int64(), "12.0", 12),
        (pl.Int64(), '"12.0"', 12),
        (pl.Float64(), "3", 3.0),
        (pl.Float32(), "0.5", 0.5),
        (pl.Float64(), '"-Infinity"', float("-inf")),
        (pl.Boolean(), '"False"', False),
        (pl.String(), "1.5", "1.5"),
        (pl.String(), '{"a": [1]}', '{"a": [1]}'),
        (pl.Date(), '"2026-03-01"', date(2026, 3, 1)),
        (pl.Time(), '"13:05"', time(13, 5)),
        (pl.Decimal(10, 2), "1.25", Decimal("1.25")),
        (pl.Enum(["a", "b"]), '"b"', "b"),
        (pl.Categorical(), '"b"', "b"),
        (pl.Binary(), '"b"', b"b"),
        (pl.List(pl.Int8()), "[1,null]", [1, None]),
        (pl.List(pl.Date()), '["2026-03-01"]', [date(2026, 3, 1)]),
        (pl.Struct({"a": pl.Int8(), "b": pl.Date()}), '{"a":1}', {"a": 1, "b": None}),
        (pl.Array(pl.Int32(), 2), "[1,2]", [1, 2]),
        (pl.List(pl.Struct({"a": pl.Int8()})), '[{"a":1},null]', [{"a": 1}, None]),
    ],
)
def test_every_type_is_read(dtype: pl.DataType, text: str, expected: object) -> None:
    assert value_of(dtype, text) == expected


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        (pl.Int8(), "128"),
        (pl.UInt8(), "-1"),
        (pl.UInt64(), "18446744073709551616"),
        (pl.Int64(), '"9007199254740993.0"'),
        (pl.Float32(), "1e300"),
        (pl.Float64(), '"1e999"'),
        (pl.Float64(), "true"),
        (pl.Decimal(10, 2), "1.255"),
        (pl.Decimal(4, 2), "100"),
        (pl.Enum(["a", "b"]), '"c"'),
        (pl.Time(), '"25:00"'),
        (pl.Date(), "20260301"),
        (pl.Duration("us"), "5"),
        (pl.List(pl.Int8()), "[300]"),
        (pl.List(pl.Date()), '["soon"]'),
        (pl.Struct({"a": pl.Int8()}), '{"a":300}'),
        (pl.List(pl.Int64()), "[9223372036854775808]"),
        (pl.List(pl.Int64()), "[true]"),
        (pl.List(pl.Int64()), '"[1]"'),
    ],
)
def test_a_value_that_would_change_its_meaning_does_not_fit(dtype: pl.DataType, text: str) -> None:
    assert rule_of(dtype, text) == "wrong_type:x"


def test_of_equal_keys_the_first_counts_also_beside_a_bad_message() -> None:
    message = b'{"n":1,"n":"x","vector":[1,2],"vector":5}'
    alone, beside = decode([message], SCHEMA), decode([message, b"{"], SCHEMA)
    assert alone.frame.equals(beside.frame)
    assert alone.frame["n"].to_list() == [1]


def test_deep_nesting_and_long_numbers_have_one_outcome_each() -> None:
    deep = b'{"n":1,"z":' + b"[" * 900 + b"]" * 900 + b"}"
    too_deep = b'{"n":1,"z":' + b"[" * 9000 + b"]" * 9000 + b"}"
    long = b'{"n":1,"z":' + b"9" * 5000 + b"}"
    decoded = decode([deep, too_deep, long], SCHEMA)
    assert outcome(decoded) == ([1], [(1, "malformed_json"), (2, "malformed_json")])


def test_columns_may_have_any_name() -> None:
    schema = pl.Schema({"row": pl.Int64(), 'a "b"': pl.Int64(), "": pl.Int8(), "é": pl.Date()})
    message = json.dumps({"row": 1, 'a "b"': 2, "": 3, "é": "2026-03-01"}).encode()
    assert decode([message, b"{"], schema).frame.rows() == [(1, 2, 3, date(2026, 3, 1))]
    assert decode([message.replace(b"3", b"300", 1)], schema).dead["rule"].to_list() == [
        "wrong_type:"
    ]
