"""Frames from files and databases to a raw schema: the columns it names, each in its type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import polars as pl

from sequence_platform.engine.dead_letters import DEAD_LETTERS
from sequence_platform.engine.decode import Decoded
from sequence_platform.engine.fit import fit, is_beyond_calendar, without
from sequence_platform.engine.reading import concrete
from sequence_platform.errors import FrameSchemaError, listed, nearest

MissingColumns = Literal["error", "null"]


def conform(
    frame: pl.DataFrame,
    schema: pl.Schema,
    *,
    source: str = "",
    first_position: int | None = 0,
    missing_columns: MissingColumns = "error",
) -> Decoded:
    """Return the rows in a raw schema; costs next to nothing where the types are right already.

    A value that does not read as its type with the same meaning makes its row a dead letter of the
    rule ``wrong_type:<column>``; a vector of another length, ``wrong_length:<column>``.

    Args:
        frame: Any columns, in any order; those beyond the schema are dropped.
        schema: Columns and types of the rows.
        source: Where the rows came from, for dead letters.
        first_position: Position there of the first row; None where rows have no order.
        missing_columns: Whether a column that the frame does not have is an error or null.

    Raises:
        FrameSchemaError: columns, or fields of structs, are absent; all of them are named.
    """
    complete = _complete(frame, schema, source, missing_columns)
    fitted = fit(complete, schema)
    if fitted.misfits.is_empty():
        return Decoded(fitted.frame, pl.DataFrame(schema=DEAD_LETTERS))
    rows = fitted.misfits["row"]
    dead = unusable_rows(
        complete.select(schema.names())[rows],
        rules=fitted.misfits["rule"],
        details=fitted.misfits["detail"],
        source=source,
        positions=None if first_position is None else rows.cast(pl.Int64) + first_position,
    )
    return Decoded(without(fitted.frame, rows), dead)


def unusable_rows(
    rows: pl.DataFrame,
    *,
    rules: pl.Series,
    details: pl.Series,
    source: str,
    positions: pl.Series | None,
) -> pl.DataFrame:
    """Return DEAD_LETTERS of rows, all dead."""
    letters = pl.DataFrame({"rule": rules, "detail": details, "row": _as_json(rows)})
    position = pl.lit(None) if positions is None else positions
    letters = letters.with_columns(source=pl.lit(source), position=position)
    return letters.select(DEAD_LETTERS.names()).cast(DEAD_LETTERS)


def _as_json(rows: pl.DataFrame) -> pl.Series:
    # Polars cannot write bytes as JSON, nor times beyond its calendar.
    times = [column for column in rows if column.dtype in (pl.Datetime, pl.Date)]
    impossible = [column.to_physical() for column in times if is_beyond_calendar(column).any()]
    texts = rows.with_columns(pl.col(pl.Binary).bin.encode("hex"), *impossible)
    return texts.select(pl.struct(pl.all()).struct.json_encode()).to_series()


def _complete(
    frame: pl.DataFrame, schema: pl.Schema, source: str, missing_columns: MissingColumns
) -> pl.DataFrame:
    if missing_columns == "null":
        absent = {name: dtype for name, dtype in schema.items() if name not in frame.schema}
        return frame.with_columns(
            pl.lit(None, dtype=dtype).alias(name) for name, dtype in absent.items()
        )
    missing = list(_missing(frame.schema, schema))
    if missing:
        raise FrameSchemaError(
            f"{'columns are' if len(missing) > 1 else 'a column is'} missing",
            where=source,
            found=nearest(missing[0].split(".")[0], frame.columns),
            expected=f"also {listed(missing)}",
            next_step="mend the schema, or say missing_columns='null' if old files lack a column",
        )
    return frame


def _missing(found: pl.Schema, wanted: pl.Schema, prefix: str = "") -> Iterator[str]:
    """Yield names of columns, and of fields of structs, that are absent."""
    for name, dtype in wanted.items():
        if name not in found:
            yield f"{prefix}{name}"
        elif isinstance(dtype, pl.Struct) and isinstance(inner := found[name], pl.Struct):
            yield from _missing(_fields(inner), _fields(dtype), f"{prefix}{name}.")


def _fields(struct: pl.Struct) -> pl.Schema:
    return pl.Schema({field.name: concrete(field.dtype) for field in struct.fields})
