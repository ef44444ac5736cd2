"""Rows of the tail as bytes: values of fixed width side by side, the others behind them.

A layout is a schema; rows say which one they were written in, so that rows of older definitions
stay readable.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from sequence_platform.engine.columns import OLDEST, Column, Values, arrow_type, fixed_width
from sequence_platform.engine.point import HASHER

LENGTH = struct.Struct("<I")
NULL = 0xFFFF_FFFF
"""The length of a null."""


class Layout:
    """How rows of a schema are packed.

    A row is: a byte a column of fixed width (1: it holds a value), their values, then for each
    column of text or bytes its length and bytes, then, if there are columns of other types, all of
    them as an Arrow stream of one row. A loose layout keeps vectors there too: some hold nulls.
    """

    def __init__(self, schema: pl.Schema, *, is_loose: bool = False) -> None:
        self.schema = schema
        self.is_loose = is_loose
        self.is_hashed = True
        widths = {
            name: None if is_loose and isinstance(dtype, pl.Array) else fixed_width(dtype)
            for name, dtype in schema.items()
        }
        self._fixed = [name for name, width in widths.items() if width is not None]
        self._text = [name for name, dtype in schema.items() if dtype in {pl.String, pl.Binary}]
        self._other = [name for name in schema if name not in {*self._fixed, *self._text}]
        self._positions = {name: at for at, name in enumerate(self._fixed)}
        fields = [("__held", "?", (max(1, len(self._fixed)),))]
        self._dtype = np.dtype([*fields, *((name, widths[name]) for name in self._fixed)])

    @classmethod
    def of(cls, rows: pl.DataFrame) -> Layout:
        """Return a layout that holds these rows exactly."""
        vectors = [column for column in rows if isinstance(column.dtype, pl.Array)]
        is_loose = any(column.explode().null_count() > column.null_count() for column in vectors)
        return cls(rows.schema, is_loose=is_loose)

    @property
    def width(self) -> int:
        """Bytes of the part that all rows have."""
        return self._dtype.itemsize

    def pack(self, rows: pl.DataFrame) -> Iterator[bytes]:
        """Yield each row packed; ``rows`` has at least the columns of the schema."""
        fixed = np.zeros(rows.height, dtype=self._dtype)
        for at, name in enumerate(self._fixed):
            column = Column.of(rows[name])
            held = True if column.valid is None else column.valid
            fixed["__held"][:, at] = held
            fixed[name] = column.values
        texts = [_lengths(rows[name]) for name in self._text]
        others = rows.select(self._other)
        data = fixed.tobytes()
        for at in range(rows.height):
            parts = [data[at * self.width : (at + 1) * self.width], *(text[at] for text in texts)]
            if self._other:
                parts.append(_stream(others[at]))
            yield b"".join(parts)

    def unpack(self, rows: Sequence[bytes]) -> Unpacked:
        """Return packed rows, to be read column by column."""
        return Unpacked(self, rows)

    def to_json(self) -> str:
        """Return the layout as text; equal layouts have equal texts."""
        types = pa.schema([pa.field(name, arrow_type(t)) for name, t in self.schema.items()])
        arrow = types.serialize().to_pybytes().hex()
        return json.dumps({"loose": self.is_loose, "arrow": arrow, "hasher": HASHER})

    @classmethod
    def from_json(cls, text: str, known: pl.Schema) -> Layout:
        """Return a layout from its text; types are those of ``known`` where names agree."""
        said = json.loads(text)
        types = pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(said["arrow"])))
        schema: dict[str, pl.DataType] = {}
        for field in types:
            empty = pl.Series(pa.array([], field.type)).dtype
            dtype = known.get(field.name, empty)
            schema[field.name] = dtype if arrow_type(dtype) == field.type else empty
        layout = cls(pl.Schema(schema), is_loose=said["loose"])
        layout.is_hashed = said["hasher"] == HASHER
        return layout


class Unpacked:
    """Packed rows of one layout."""

    def __init__(self, layout: Layout, rows: Sequence[bytes]) -> None:
        self._layout = layout
        self._rows = rows
        width = layout.width
        self._fixed: Values = np.frombuffer(b"".join([row[:width] for row in rows]), layout._dtype)  # noqa: SLF001
        held = self._fixed["__held"]
        self._held = None if held.all() else held

    def column(self, name: str) -> Column:
        """Return a column of the layout's schema."""
        layout = self._layout
        dtype = layout.schema[name]
        position = layout._positions.get(name)  # noqa: SLF001
        if position is not None:
            values = np.ascontiguousarray(self._fixed[name])
            held = None if self._held is None else self._held[:, position]
            return Column(dtype, values, None if held is None or held.all() else held)
        if name in layout._text:  # noqa: SLF001
            at = layout._text.index(name)  # noqa: SLF001
            raw = [texts[at] for texts in self._texts]
            kind = arrow_type(dtype)
            return Column(dtype, pa.array(raw, pa.large_binary()).cast(kind))
        return Column.of(self._others[name])

    @cached_property
    def _texts(self) -> list[list[bytes | None]]:
        found = []
        for row in self._rows:
            at, texts = self._layout.width, []
            for _ in self._layout._text:  # noqa: SLF001
                (length,) = LENGTH.unpack_from(row, at)
                at += LENGTH.size
                texts.append(None if length == NULL else row[at : at + length])
                at += 0 if length == NULL else length
            found.append([*texts, row[at:]])
        return found

    @cached_property
    def _others(self) -> Mapping[str, pl.Series]:
        frames = [pl.read_ipc_stream(io.BytesIO(texts[-1] or b"")) for texts in self._texts]
        return pl.concat(frames).to_dict()


def _lengths(series: pl.Series) -> list[bytes]:
    values: list[Any] = series.cast(pl.Binary).to_list()
    return [
        LENGTH.pack(NULL) if value is None else LENGTH.pack(len(value)) + value for value in values
    ]


def _stream(row: pl.DataFrame) -> bytes:
    sink = io.BytesIO()
    row.write_ipc_stream(sink, compat_level=OLDEST)
    return sink.getvalue()
