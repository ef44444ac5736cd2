"""Frames of files and databases to a raw schema: what fits, what does not, and how that is told."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from sequence_platform.engine.conform import conform
from sequence_platform.errors import FrameSchemaError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def read(values: list[Any], found: pl.DataType, wanted: pl.DataType) -> list[Any]:
    """Return what values of a type become, with the rule where one does not fit."""
    frame = pl.DataFrame({"x": pl.Series(values, dtype=found)})
    decoded = conform(frame, pl.Schema({"x": wanted}))
    assert decoded.frame.schema == pl.Schema({"x": wanted})
    outcomes = dict(decoded.dead.select("position", "rule").rows())
    good = iter(decoded.frame["x"].to_list())
    return [outcomes[at] if at in outcomes else next(good) for at in range(len(values))]


def test_a_frame_of_the_right_types_is_passed_on_without_a_copy() -> None:
    frame = pl.DataFrame({"a": [1, 2], "b": ["x", None]})
    decoded = conform(frame, pl.Schema({"b": pl.String(), "a": pl.Int64()}))
    assert decoded.frame.columns == ["b", "a"]
    assert decoded.frame.rows() == [("x", 1), (None, 2)]
    assert decoded.dead.is_empty()


@pytest.mark.parametrize(
    ("found", "wanted", "values", "expected"),
    [
        (pl.Int64(), pl.Int8(), [1, 300, None], [1, "wrong_type:x", None]),
        (pl.Int32(), pl.UInt32(), [1, -1], [1, "wrong_type:x"]),
        (pl.Float64(), pl.Int64(), [2.0, 2.5, 1e19], [2, "wrong_type:x", "wrong_type:x"]),
        (pl.Float64(), pl.Int64(), [float("nan"), None], ["wrong_type:x", None]),
        (pl.Float64(), pl.Float32(), [0.5, 1e300], [0.5, "wrong_type:x"]),
        (pl.Float64(), pl.Float32(), [float("inf")], [float("inf")]),
        (pl.Int64(), pl.Float64(), [3], [3.0]),
        (pl.Decimal(10, 2), pl.Int64(), [Decimal("2.00"), Decimal("2.50")], [2, "wrong_type:x"]),
        (pl.Int64(), pl.Boolean(), [0, 1, 2], [False, True, "wrong_type:x"]),
        (pl.Boolean(), pl.Int64(), [True, None], ["wrong_type:x", None]),
        (pl.Boolean(), pl.Float64(), [True], ["wrong_type:x"]),
        (pl.Boolean(), pl.Decimal(10, 2), [True], ["wrong_type:x"]),
        (pl.Float64(), pl.Decimal(10, 2), [1.25], [Decimal("1.25")]),
        (pl.Float64(), pl.Boolean(), [1.0], ["wrong_type:x"]),
        (pl.Int64(), pl.Struct({"a": pl.Int64()}), [5, None], ["wrong_type:x", None]),
        (pl.Duration("us"), pl.Int64(), [timedelta(1)], ["wrong_type:x"]),
        (pl.Duration("ms"), pl.Duration("us"), [timedelta(1)], [timedelta(1)]),
        (pl.Int64(), pl.String(), [5], ["5"]),
        (pl.List(pl.Boolean()), pl.List(pl.Int64()), [[True], []], ["wrong_type:x", []]),
        (pl.Array(pl.Int64(), 2), pl.List(pl.Int64()), [[1, 2]], [[1, 2]]),
        (pl.Binary(), pl.String(), [b"a", b"\xff", None], ["a", "wrong_type:x", None]),
        (pl.Binary(), pl.Int64(), [b"12", b"x"], [12, "wrong_type:x"]),
        (pl.Categorical(), pl.String(), ["a"], ["a"]),
        (pl.Enum(["1", "x"]), pl.Int64(), ["1", "x"], [1, "wrong_type:x"]),
        (pl.List(pl.Int64()), pl.String(), [[1], None], ["wrong_type:x", None]),
        (pl.String(), pl.List(pl.Int64()), ["[1]", None], ["wrong_type:x", None]),
        (pl.Int64(), pl.Datetime("us", "UTC"), [5], ["wrong_type:x"]),
        (pl.Datetime("us"), pl.Int64(), [NOON.replace(tzinfo=None)], ["wrong_type:x"]),
        (pl.Datetime("ns"), pl.Datetime("us", "UTC"), [NOON.replace(tzinfo=None)], [NOON]),
        (pl.Datetime("ms", "Asia/Tokyo"), pl.Datetime("us", "UTC"), [NOON], [NOON]),
        (pl.Datetime("us", "Asia/Tokyo"), pl.Date(), [NOON], [date(2026, 3, 1)]),
        (pl.Date(), pl.Datetime("us"), [date(2026, 3, 1)], [datetime(2026, 3, 1)]),  # noqa: DTZ001
        (pl.Null(), pl.Array(pl.Float32(), 2), [None], [None]),
        (
            pl.List(pl.Float64()),
            pl.Array(pl.Float32(), 2),
            [[1.0, 2.0], [1.0], None, [1e300, 0.0], [None, 1.0]],
            [[1.0, 2.0], "wrong_length:x", None, "wrong_type:x", [None, 1.0]],
        ),
        (pl.Array(pl.Float64(), 3), pl.Array(pl.Float32(), 2), [[1.0] * 3], ["wrong_length:x"]),
        (pl.Array(pl.Int64(), 2), pl.List(pl.Int8()), [[1, 2], [1, 300]], [[1, 2], "wrong_type:x"]),
        (
            pl.Struct({"a": pl.String(), "b": pl.Int64()}),
            pl.Struct({"b": pl.Int64(), "a": pl.Int64()}),
            [{"a": "1", "b": 2}, {"a": "x", "b": 2}, None],
            [{"b": 2, "a": 1}, "wrong_type:x", None],
        ),
    ],
)
def test_a_value_keeps_its_meaning_or_its_row_is_a_dead_letter(
    found: pl.DataType, wanted: pl.DataType, values: list[Any], expected: list[Any]
) -> None:
    assert read(values, found, wanted) == expected


@pytest.mark.parametrize("unit", ["ms", "us"])
def test_times_beyond_the_calendar_are_dead_letters_although_their_type_is_right(unit: Any) -> None:
    times = pl.Series("x", [2**63 - 1, 0, -(2**63) + 1, None]).cast(pl.Datetime(unit))
    decoded = conform(times.to_frame(), pl.Schema({"x": pl.Datetime(unit)}))
    assert decoded.dead["position"].to_list() == [0, 2]
    assert str(2**63 - 1) in decoded.dead["row"][0]


def test_a_row_with_several_misfits_is_one_dead_letter_of_the_first_column() -> None:
    frame = pl.DataFrame({"b": ["x", "1"], "a": ["y", "2"], "other": [1, 2]})
    schema = pl.Schema({"a": pl.Int64(), "b": pl.Int64()})
    decoded = conform(frame, schema, source="f.csv", first_position=10)
    assert decoded.frame.rows() == [(2, 1)]
    assert decoded.dead.rows() == [
        ("f.csv", 10, "wrong_type:a", "found 'y' (String), expected Int64", '{"a":"y","b":"x"}')
    ]


def test_rows_of_a_place_without_order_have_no_position() -> None:
    decoded = conform(pl.DataFrame({"a": ["x"]}), pl.Schema({"a": pl.Int64()}), first_position=None)
    assert decoded.dead["position"].to_list() == [None]


def test_long_values_are_cut_in_the_detail_and_kept_in_the_row() -> None:
    [letter] = conform(
        pl.DataFrame({"a": ["x" * 10_000]}), pl.Schema({"a": pl.Int64()})
    ).dead.iter_rows(named=True)
    assert len(letter["detail"]) < 200
    assert len(letter["row"]) > 10_000


def test_missing_columns_and_fields_are_all_named_with_the_closest() -> None:
    frame = pl.DataFrame({"usr_id": [1], "place": [{"lat": 1.0}]})
    schema = pl.Schema(
        {
            "user_id": pl.Int64(),
            "at": pl.Date(),
            "place": pl.Struct({"lat": pl.Float64(), "lon": pl.Float64()}),
        }
    )
    with pytest.raises(FrameSchemaError) as raised:
        conform(frame, schema, source="a.parquet")
    assert raised.value.where == "a.parquet"
    assert raised.value.expected == "also user_id, at, place.lon"
    assert raised.value.found == "close: 'usr_id'; present: place, usr_id"


def test_missing_columns_and_fields_may_be_null() -> None:
    frame = pl.DataFrame({"place": [{"lat": 1.0}, None]})
    schema = pl.Schema(
        {"at": pl.Date(), "place": pl.Struct({"lat": pl.Float64(), "lon": pl.Float64()})}
    )
    decoded = conform(frame, schema, missing_columns="null")
    assert decoded.frame.rows() == [(None, {"lat": 1.0, "lon": None}), (None, None)]
