"""A batch of labels with their sequences, as numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from sequence_platform.errors import FrameSchemaError, listed

BatchLayout = Literal["jagged", "padded"]
Padding = Literal["left", "right"]

NOTHING, UNSEEN, FIRST_CODE = 0, 1, 2
"""Codes of text: nothing there (null, or padding), not in the vocabulary, its first entry."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some labels with their sequences, oldest event first.

    Jagged: label ``n`` has the values ``[offsets[n], offsets[n + 1])`` of each column, the layout
    of ``torch.nested.nested_tensor_from_jagged`` and of a KeyedJaggedTensor. Padded: columns are
    ``(labels, length)``, vectors ``(labels, length, size)``, zero where ``mask`` is False.

    Attributes:
        rows: Number of each label in the data set.
        lengths: Events of each sequence.
        offsets: int64, one more than there are labels.
        columns: Numbers in their own type; times as microseconds since 1970; text as codes (int32).
            Types of varying width are Arrow arrays, jagged only.
        valid: Of columns that hold nulls: which values are not; nulls are zeros.
        labels: The labels' own columns.
        mask: ``(labels, length)``: where a padded batch has events; None for a jagged one.
    """

    rows: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    columns: Mapping[str, Any]
    valid: Mapping[str, npt.NDArray[np.bool_]]
    labels: pl.DataFrame
    mask: npt.NDArray[np.bool_] | None = field(default=None)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - numpy, or Arrow
        """Return a column."""
        return self.columns[name]

    def padded(self, length: int, side: Padding = "right") -> Batch:
        """Return a jagged batch with every sequence ``length`` long; none may be longer.

        Raises:
            FrameSchemaError: a column is of varying width.
        """
        places = np.arange(length)
        shape = (len(self), length)
        if side == "right":
            mask = places < self.lengths[:, None]
        else:
            mask = places >= length - self.lengths[:, None]
        columns, valid = {}, {}
        for name, values in self.columns.items():
            if not isinstance(values, np.ndarray):
                raise FrameSchemaError(
                    f"column '{name}' cannot be padded",
                    found=f"values of varying width ({values.type})",
                    expected="numbers, times, text with a vocabulary, or vectors",
                    next_step="leave it out, or read it with layout='jagged'",
                )
            columns[name] = np.zeros((*shape, *values.shape[1:]), values.dtype)
            columns[name][mask] = values
        for name, is_valid in self.valid.items():
            valid[name] = np.zeros(shape, np.bool_)
            valid[name][mask] = is_valid
        return Batch(self.rows, self.lengths, self.offsets, columns, valid, self.labels, mask)

    def to_arrow(self) -> pa.RecordBatch:
        """Return a jagged batch as Arrow: labels, and a list per column that shares its memory.

        Raises:
            FrameSchemaError: the batch is padded, or a label column has the name of a column.
        """
        if self.mask is not None:
            msg = "a padded batch is not made of lists"
            raise FrameSchemaError(msg, next_step="read with layout='jagged'")
        both = sorted({*self.labels.columns} & {*self.columns})
        if both:
            raise FrameSchemaError(
                f"labels and sequences both have a column '{both[0]}'",
                found=listed(both),
                next_step="read without one of them: labels=[...] or columns=[...] of the reader",
            )
        offsets = pa.array(self.offsets)
        arrays = {
            name: _arrow(values, self.valid.get(name)) for name, values in self.columns.items()
        }
        lists = {n: pa.LargeListArray.from_arrays(offsets, a) for n, a in arrays.items()}
        labels = self.labels.to_arrow().combine_chunks()
        own = {name: labels.column(name).combine_chunks() for name in labels.column_names}
        return pa.RecordBatch.from_pydict(own | lists)


def _arrow(values: Any, valid: npt.NDArray[np.bool_] | None) -> pa.Array:  # noqa: ANN401 - as above
    if not isinstance(values, np.ndarray):
        return values
    missing = None if valid is None else ~valid
    if values.ndim > 1:
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        mask = None if missing is None else pa.array(missing)
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=mask)
    return pa.array(values, mask=missing)
