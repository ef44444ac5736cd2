"""Single values of requests: from the text of an address or the JSON of a body, by their type."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from sequence_platform.engine.point import EPOCH

Parse = Callable[[object], object]
"""Reads a value; raises ValueError, TypeError or OverflowError if it is none."""

MAX_NAMES = 200
"""Columns or event types of one request: each wrong one is compared with all that there are."""
MAX_VALUES = 10_000
"""Values of one filter."""
MAX_SHOWN = 100
"""Characters of a value repeated in an error."""

DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(d|h|m|s)?", re.ASCII)
SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1, None: 1}
INTEGER = re.compile(r"[+-]?\d{1,20}", re.ASCII)
PLUS_LOST = re.compile(r"(:\d\d(?:\.\d+)?) (\d\d:?\d\d)$", re.ASCII)
"""A zone whose + a form decoded as a space."""


def shown(given: object) -> str:
    """Return a value as bounded text."""
    text = given if isinstance(given, str) else repr(given)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def parse_names(given: object) -> tuple[str, ...]:
    """Return names, in a list or separated by commas."""
    names = given.split(",") if isinstance(given, str) else given
    if not isinstance(names, list) or len(names) > MAX_NAMES:
        raise ValueError
    if not all(isinstance(name, str) and len(name) <= MAX_SHOWN for name in names):
        raise TypeError
    return tuple(names)


def parse_integer(given: object) -> int:
    """Return an integer."""
    if isinstance(given, str):
        if not INTEGER.fullmatch(given):
            raise ValueError
        return int(given)
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError
    return given


def parse_number(given: object) -> float:
    """Return a number."""
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise TypeError
    return float(given)


def parse_boolean(given: object) -> bool:
    """Return true or false."""
    if isinstance(given, bool):
        return given
    if given not in {"true", "false"}:
        raise ValueError
    return given == "true"


def parse_text(given: object) -> str:
    """Return a text."""
    if not isinstance(given, str):
        raise TypeError
    return given


def parse_duration(given: object) -> timedelta:
    """Return a duration: 7d, 12h, 90m, 45s, or seconds."""
    if not isinstance(given, str):
        return timedelta(seconds=parse_number(given))
    found = DURATION.fullmatch(given)
    if found is None:
        raise ValueError
    return timedelta(seconds=float(found[1]) * SECONDS[found[2]])


def parse_moment(given: object) -> datetime:
    """Return a time of ISO 8601, UTC unless it says otherwise, or of integer microseconds."""
    if not isinstance(given, str) or INTEGER.fullmatch(given):
        return EPOCH + timedelta(microseconds=parse_integer(given))
    found = datetime.fromisoformat(PLUS_LOST.sub(r"\1+\2", given))
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _naive(given: object) -> datetime:
    return parse_moment(given).replace(tzinfo=None)


def _date(given: object) -> date:
    return parse_moment(given).date()


def _time(given: object) -> time:
    return time.fromisoformat(parse_text(given))


_PARSERS: Mapping[type[pl.DataType], Parse] = {
    pl.Boolean: parse_boolean,
    pl.Datetime: parse_moment,
    pl.Date: _date,
    pl.Time: _time,
    pl.Duration: parse_duration,
    pl.Float32: parse_number,
    pl.Float64: parse_number,
    pl.Decimal: parse_number,
}


def parser_of(dtype: pl.DataType) -> Parse:
    """Return what reads values of a type; lists in JSON, or as texts with commas."""
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
        return _naive
    if isinstance(dtype, pl.List | pl.Array):
        return _list_of(parser_of(pl.Series(dtype=dtype).explode().dtype))
    if dtype.is_integer():
        return parse_integer
    return _PARSERS.get(type(dtype), parse_text)


def _list_of(parse: Parse) -> Parse:
    def parse_list(given: object) -> list[object]:
        items = given.split(",") if isinstance(given, str) else given
        if not isinstance(items, list) or len(items) > MAX_VALUES:
            raise ValueError
        return [parse(item) for item in items]

    return parse_list
