"""One JSON message: the types it is read as, and what is wrong with it by itself."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

import polars as pl

from sequence_platform.engine.fit import MAX_SHOWN
from sequence_platform.engine.reading import concrete

HALF_PAIR = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]"
)
"""Where half of a surrogate pair may be, which Polars' reader silently turns into a NUL."""
_BLANKS = b" \t\r\n"

Fault = tuple[str, str]
"""Why a message cannot be used (the rule), and what was found and expected."""
Holds = Callable[[object], bool]
"""Whether a value is of a type."""


def wire_type(dtype: pl.DataType) -> pl.DataType:  # noqa: PLR0911 - a return a type
    """Return the type that JSON is read as before it is fitted to ``dtype``.

    Polars' reader is exact for these. For others it fails as a whole (Int8, Time), guesses
    (01/02/2026 is a Datetime), mixes rows up (Arrays of wrong lengths that add up to a multiple),
    or overflows (Float32).
    """
    match dtype:
        case pl.UInt64() | pl.Boolean():
            return dtype
        case pl.Int128() | pl.UInt128():
            return pl.String()
        case pl.List() | pl.Array():
            return pl.List(wire_type(concrete(dtype.inner)))
        case pl.Struct():
            return pl.Struct({f.name: wire_type(concrete(f.dtype)) for f in dtype.fields})
        case _ if dtype.is_integer():
            return pl.Int64()
        case _ if dtype.is_float():
            return pl.Float64()
        case _:
            return pl.String()


def fault_of(  # noqa: PLR0911 - a return a fault
    message: bytes | None, nested: Mapping[str, Holds], declared: pl.Schema
) -> Fault | None:
    """Return what is wrong with a message, as far as can be told without Polars' reader.

    Args:
        message: None is an empty one.
        nested: What nested columns hold. The others are read as text, which takes anything.
        declared: The types to name.
    """
    if message is None or not message.strip(_BLANKS):
        return "empty_message", "found nothing, expected a JSON object"
    try:
        value = _DECODER.decode(message.decode())
    except UnicodeDecodeError as error:
        return "not_utf8", f"found {error.reason} at byte {error.start}, expected UTF-8"
    except ValueError as error:
        return "malformed_json", f"found {error}, expected one JSON object"
    except RecursionError:
        return None
    if not isinstance(value, dict):
        return "not_an_object", f"found {_shown(value)}, expected a JSON object"
    if b"\\" in message and HALF_PAIR.search(message) and _has_half_pair(value):
        return "malformed_json", "found half of a surrogate pair, expected Unicode text"
    # Of equal keys Polars takes the first and Python the last, so what does not hold is read again.
    if _misfit(value, nested) is not None:
        value = _FIRST_KEY_DECODER.decode(message.decode())
        name = _misfit(value, nested)
        if name is not None:
            return f"wrong_type:{name}", f"found {_shown(value[name])}, expected {declared[name]}"
    return None


def holds(wire: pl.DataType) -> Holds:
    """Return whether Polars' reader takes a JSON value as this wire type within a nested column."""
    match wire:
        case pl.String():
            return lambda _: True
        case pl.Boolean():
            return lambda value: value is None or isinstance(value, bool)
        case pl.Float64():
            return lambda value: value is None or type(value) in {int, float}
        case pl.List():
            item = holds(concrete(wire.inner))
            return lambda value: (
                value is None or (isinstance(value, list) and all(map(item, value)))
            )
        case pl.Struct():
            fields = [(field.name, holds(concrete(field.dtype))) for field in wire.fields]
            return lambda value: (
                value is None
                or (isinstance(value, dict) and all(held(value.get(name)) for name, held in fields))
            )
        case _:
            low, high = (0, 2**64) if wire == pl.UInt64 else (-(2**63), 2**63)
            return lambda value: value is None or (type(value) is int and low <= value < high)


def _misfit(value: Mapping[str, object], nested: Mapping[str, Holds]) -> str | None:
    """Return the first of the columns that does not hold its value."""
    for name, held in nested.items():
        if not held(value.get(name)):
            return name
    return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant}, which JSON does not have")


_DECODER = json.JSONDecoder(parse_constant=_refuse)
_FIRST_KEY_DECODER = json.JSONDecoder(
    parse_constant=_refuse, object_pairs_hook=lambda pairs: dict(reversed(pairs))
)


def _has_half_pair(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
