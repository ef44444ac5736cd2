"""Laws of decode: one outcome for each message, by itself, in order; as a plain reader has it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import polars as pl
from hypothesis import example, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from sequence_platform.engine.decode import Decoded, decode

SCHEMA = pl.Schema(
    {
        "i": pl.Int64(),
        "small": pl.Int8(),
        "u": pl.UInt64(),
        "f": pl.Float64(),
        "half": pl.Float32(),
        "s": pl.String(),
        "b": pl.Boolean(),
        "t": pl.Datetime("us", "UTC"),
        "d": pl.Date(),
        "l": pl.List(pl.Int64()),
        "v": pl.Array(pl.Float32(), 2),
        "st": pl.Struct({"x": pl.Int64(), "y": pl.String(), "z": pl.List(pl.Boolean())}),
        "n": pl.List(pl.Struct({"t": pl.Datetime("us"), "f": pl.Float64()})),
    }
)

INTEGERS = st.one_of(
    st.integers(-3, 300),
    st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 2**127, 10**60]),
)
TEXTS = st.sampled_from(
    [
        *(
            "",
            " ",
            "x",
            "é",
            "😀",
            "null",
            "true",
            "False",
            "nan",
            "-inf",
            "\x00",
            'q"',
            "\\",
            "\n",
        ),
        *("1", "1.0", " 1", "1e3", "9007199254740993.0", "300", "-0", "[1]", '{"x":1}', "\\ud800"),
        *("2026-03-01", "2026-03-01T00:00:00Z", "2026-03-01T12:30:00.123456+02:00", "2026-02-30"),
        *("2026-03-01 12:30", "2026-03-01T12:30:00.5", "01/02/2026", "20260301", "12:00", "Z"),
    ]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), INTEGERS, st.floats(allow_nan=False, allow_infinity=False), TEXTS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["x", "y", "z", "t", "f", "other"]), inner, max_size=3),
    ),
    max_leaves=6,
)
GOOD_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "i": st.integers(-(2**63), 2**63 - 1),
    "small": st.integers(-128, 127),
    "s": st.text(max_size=5),
    "f": st.floats(allow_nan=False, allow_infinity=False),
    "b": st.booleans(),
    "t": st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)).map(datetime.isoformat),  # noqa: DTZ001
    "v": st.lists(
        st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=2
    ),
}
OBJECTS = st.one_of(
    st.dictionaries(st.sampled_from([*SCHEMA, "other"]), VALUES, max_size=4),
    st.fixed_dictionaries({}, optional=GOOD_VALUES),
    st.fixed_dictionaries({}, optional=GOOD_VALUES),
)
JSON_MESSAGES = st.builds(
    lambda value, indent, ascii_only: json.dumps(
        value, indent=indent, ensure_ascii=ascii_only
    ).encode(),
    OBJECTS,
    st.sampled_from([None, None, None, 1]),
    st.booleans(),
)
TRAPS = st.sampled_from(
    [
        *(
            None,
            b"",
            b" ",
            b"\n",
            b"\x0c",
            b"\xc2\xa0",
            b"\x00",
            b"null",
            b"1",
            b"[]",
            b'""',
            b"{}",
            b"{",
        ),
        *(b'{"i":1}{"i":2}', b'{"i":1}\n{"i":2}', b'\n{"i":1}\n', b'{"i":1}\r', b'{"i":1},', b"}{"),
        *(b'{"i":1,"i":2}', b'{"l":5,"l":[1]}', b'{"l":[1],"l":5}', b'{"s":"\xff"}', b"\xff\xfe{}"),
        *(b'{"s":"\\ud800"}', b'{"s":"\\\\ud800"}', b'{"\\ud800":1}', b'{"s":"\\ud83d\\ude00"}'),
        *(b'{"f":1e999}', b'{"f":-0.0}', b'{"f":NaN}', b'{"i":01}', b'{"i":-0}', b'{"s":"a\nb"}'),
        *(
            b'{"i":1e2}',
            b'{"u":1e0}',
            b'{"s":1e400}',
            b'{"s":1.50}',
            b'{"v":[1]}',
            b'{"v":[1,2,3]}',
        ),
        *(
            b'{"st":{"x":1,"x":"q"}}',
            b'{"st":{"x":"q","x":1}}',
            b"// x",
            b'{"i":1}#',
            b"\xef\xbb\xbf{}",
        ),
        b'{"z":' + b"[" * 1100 + b"]" * 1100 + b"}",
    ]
)
MESSAGES = st.lists(
    st.one_of(JSON_MESSAGES, JSON_MESSAGES, JSON_MESSAGES, TRAPS, st.binary(max_size=8)),
    max_size=12,
)


def joined(parts: list[Decoded]) -> Decoded:
    return Decoded(pl.concat(p.frame for p in parts), pl.concat(p.dead for p in parts))


def assert_same(left: Decoded, right: Decoded) -> None:
    assert_frame_equal(left.frame, right.frame, check_exact=True)
    assert_frame_equal(left.dead, right.dead, check_exact=True)


@given(messages=MESSAGES, cut=st.integers(0, 12))
def test_split(messages: list[bytes | None], cut: int) -> None:
    parts = [
        decode(messages[:cut], SCHEMA, source="log"),
        decode(messages[cut:], SCHEMA, source="log", first_position=len(messages[:cut])),
    ]
    assert_same(decode(messages, SCHEMA, source="log"), joined(parts))


@given(messages=MESSAGES)
@example(messages=[b"", b'{"i":1}\n{"i":2}'])
def test_a_message_has_the_same_outcome_alone(messages: list[bytes | None]) -> None:
    alone = [decode([message], SCHEMA, first_position=at) for at, message in enumerate(messages)]
    assert all(part.frame.height + part.dead.height == 1 for part in alone)
    if messages:
        assert_same(decode(messages, SCHEMA), joined(alone))


@given(value=OBJECTS)
def test_a_good_message_reads_the_same_beside_a_bad_one(value: dict[str, Any]) -> None:
    message = json.dumps(value).encode()
    assert_frame_equal(decode([message], SCHEMA).frame, decode([message, b"{"], SCHEMA).frame)


@given(value=st.fixed_dictionaries(GOOD_VALUES))
def test_values_are_what_a_plain_reader_reads(value: dict[str, Any]) -> None:
    [row] = decode([json.dumps(value).encode()], SCHEMA).frame.rows(named=True)
    expected = value | {"t": datetime.fromisoformat(value["t"]).replace(tzinfo=UTC)}
    assert {name: row[name] for name in value} == expected


@given(
    when=st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),  # noqa: DTZ001
    offset=st.integers(-23 * 60, 23 * 60),
    separator=st.sampled_from("T "),
    precision=st.sampled_from(["minutes", "seconds", "milliseconds", "microseconds"]),
)
def test_times_are_what_the_standard_library_reads(
    when: datetime, offset: int, separator: str, precision: str
) -> None:
    zoned = when.replace(tzinfo=timezone(timedelta(minutes=offset)))
    for moment, text in [
        (zoned, zoned.isoformat(separator, precision)),
        (when.replace(tzinfo=UTC), when.isoformat(separator, precision) + "Z"),
        (when.replace(tzinfo=UTC), when.isoformat(separator, precision)),
    ]:
        [row] = decode([json.dumps({"t": text}).encode()], SCHEMA).frame.rows(named=True)
        said = datetime.fromisoformat(text)
        utc = said.replace(tzinfo=UTC) if said.tzinfo is None else said.astimezone(UTC)
        assert row["t"] == utc
        assert abs(row["t"] - moment) < timedelta(minutes=1)


@given(value=VALUES)
def test_whole_numbers_are_integers_and_nothing_else_is(value: object) -> None:
    decoded = decode([json.dumps({"i": value}).encode()], SCHEMA)
    number = as_integer(value)
    if number is not None or value is None:
        assert decoded.frame["i"].to_list() == [number]
    else:
        assert decoded.frame.is_empty()


def as_integer(value: object) -> int | None:
    """Return the integer that a JSON value says, if it fits 64 bits."""
    match value:
        case bool() | None:
            number = None
        case int():
            number = value
        case float():
            said = Decimal(repr(value))  # what stands in the message, not the float nearest to it
            number = int(said) if said == said.to_integral_value() else None
        case str():
            number = INTEGER_TEXTS.get(value)
        case _:
            number = None
    return number if number is not None and -(2**63) <= number < 2**63 else None


INTEGER_TEXTS = {"1": 1, "1.0": 1, "1e3": 1000, "300": 300, "-0": 0}
