"""JSON messages to rows of a raw schema. Pure: no files, no clock. Nothing is lost or nulled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from sequence_platform.engine.fit import MISFITS, fit, without
from sequence_platform.engine.isolate import isolate
from sequence_platform.engine.json_message import HALF_PAIR, fault_of, holds, wire_type

GROUP_MESSAGES = 2048
"""After a batch fails, so many messages are tried at a time: few enough that the one group with the
bad message, which is looked at message by message, costs little; enough to read the others fast."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What became of rows from outside; each is in exactly one of the two, both in order.

    Attributes:
        frame: Rows in the raw schema.
        dead: Dead letters (DEAD_LETTERS).
    """

    frame: pl.DataFrame
    dead: pl.DataFrame


def decode(
    messages: Sequence[bytes | None],
    schema: pl.Schema,
    *,
    source: str = "",
    first_position: int = 0,
) -> Decoded:
    """Return the rows of JSON messages, one object each.

    A field that a message does not have is null; fields beyond the schema are dropped. A String
    takes any JSON value as its text; text that says a number or a Boolean reads as one; a time is
    ISO 8601 text, in UTC unless it has an offset. A value that does not fit its type makes the
    message a dead letter of the rule ``wrong_type:<column>``, a vector of another length
    ``wrong_length:<column>``. The other rules are empty_message, not_utf8, malformed_json and
    not_an_object.

    Args:
        messages: None is an empty one.
        schema: Columns and types of the rows.
        source: Where the messages came from, for dead letters.
        first_position: Position there of the first.

    Guarantees:
        A message has one outcome, whatever is beside it: decode(a + b) == decode(a) ++ decode(b).
        A bad message costs about one more pass over its batch.
    """
    wire = pl.Schema({name: wire_type(dtype) for name, dtype in schema.items()})
    read = _read_all(messages, schema, wire)
    fitted = fit(read.frame, schema)
    rows = without(pl.int_range(len(messages), eager=True).to_frame("row"), read.faults["row"])
    misfits = fitted.misfits.with_columns(row=rows["row"].gather(fitted.misfits["row"]))
    faults = pl.concat([read.faults, misfits.cast(MISFITS)]).sort("row")
    dead = faults.select(
        source=pl.lit(source),
        position=pl.col("row").cast(pl.Int64) + first_position,
        rule="rule",
        detail="detail",
        row=pl.Series([_text(messages[row]) for row in faults["row"]], dtype=pl.String),
    )
    return Decoded(fitted.good, dead)


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """Some messages: the rows of the good ones in wire types, and MISFITS by message."""

    frame: pl.DataFrame
    faults: pl.DataFrame


def _read_all(messages: Sequence[bytes | None], schema: pl.Schema, wire: pl.Schema) -> _Read:
    frame = _read(messages, wire)
    if frame is not None:
        return _Read(frame, pl.DataFrame(schema=MISFITS))
    if len(messages) <= GROUP_MESSAGES:
        return _read_singly(messages, schema, wire)
    starts = range(0, len(messages), GROUP_MESSAGES)
    groups = [_read_all(messages[at : at + GROUP_MESSAGES], schema, wire) for at in starts]
    faults = [
        group.faults.with_columns(pl.col("row") + at)
        for at, group in zip(starts, groups, strict=True)
    ]
    return _Read(pl.concat(group.frame for group in groups), pl.concat(faults))


def _read(messages: Sequence[bytes | None], wire: pl.Schema) -> pl.DataFrame | None:
    """Return one row a message, in order; None unless that is certain.

    A message that is not blank has a line that is an object or fails, so that as many rows as
    messages are one each. Blank ones are sorted out: beside one with two objects they would shift
    all between them.
    """
    present = [message for message in messages if message is not None]
    if len(present) < len(messages) or not all(map(bytes.strip, present)):
        return None
    lines = b"\n".join(present)
    if b"\\" in lines and HALF_PAIR.search(lines):
        return None
    try:
        return _parse(lines, len(present), wire)
    except pl.exceptions.PolarsError:
        return None


def _parse(lines: bytes, count: int, schema: pl.Schema) -> pl.DataFrame:
    """Return the rows of so many lines.

    Raises:
        PolarsError: a line is not one object, or a value is not of its type.
    """
    try:
        frame = pl.read_ndjson(lines, schema=schema) if count else pl.DataFrame(schema=schema)
    except pl.exceptions.PanicException as error:  # pragma: no cover - no wire type is known to
        raise pl.exceptions.ComputeError(str(error)) from error
    if frame.height != count:
        raise pl.exceptions.ComputeError(f"{frame.height} objects in {count} lines")
    return frame


def _read_singly(messages: Sequence[bytes | None], schema: pl.Schema, wire: pl.Schema) -> _Read:
    """Read messages of which some are bad: each is looked at, and the rest is read as text.

    What ``_read`` accepts comes out the same here: a column read as text takes every value, and the
    text of a value reads as that value. Nested columns are read as they are, after ``fault_of``.
    """
    nested = {name: dtype for name, dtype in wire.items() if dtype.is_nested()}
    columns = {name: holds(dtype) for name, dtype in nested.items()}
    judged = [fault_of(message, columns, schema) for message in messages]
    faults = {row: fault for row, fault in enumerate(judged) if fault is not None}
    rows = [row for row, fault in enumerate(judged) if fault is None]
    text = pl.Schema({name: nested.get(name, pl.String()) for name in wire})
    frames = [pl.DataFrame(schema=text)]
    for first, part in isolate(_lines(messages, rows), lambda some: _parse_lines(some, text)):
        if isinstance(part, str):
            faults[rows[first]] = ("malformed_json", part)
        else:
            frames.append(part)
    typed = fit(pl.concat(frames), wire, declared=schema)
    kept = pl.Series([row for row in rows if row not in faults], dtype=pl.UInt32)
    misfits = typed.misfits.with_columns(row=kept.gather(typed.misfits["row"]))
    found = pl.DataFrame([(row, *fault) for row, fault in faults.items()], MISFITS, orient="row")
    return _Read(typed.good, pl.concat([found, misfits]).sort("row"))


def _lines(messages: Sequence[bytes | None], rows: Sequence[int]) -> pl.DataFrame:
    # Strings in JSON hold no line breaks; elsewhere one means as much as a blank.
    lines = [(messages[row] or b"").replace(b"\n", b" ") for row in rows]
    return pl.DataFrame({"line": lines}, schema={"line": pl.Binary})


def _parse_lines(lines: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    return _parse(b"\n".join(lines["line"].to_list()), lines.height, schema)


def _text(message: bytes | None) -> str | None:
    return None if message is None else message.decode(errors="backslashreplace")
