"""A batch as nested dicts of numpy arrays: what libraries that compute with tensors take in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sequence_platform.engine.columns import filled, fixed_width
from sequence_platform.errors import FrameSchemaError
from sequence_platform.training.batch import Batch

Array = npt.NDArray[Any]
Tree = dict[str, Any]
"""Arrays by name, and dicts of them."""


def arrays_of(batch: Batch, types: Mapping[str, pl.DataType]) -> Tree:
    """Return what a batch holds, under the names of its attributes.

    ``rows``, ``lengths``, ``columns`` and ``labels`` by name; ``offsets`` of a jagged batch, or
    ``mask`` of a padded one. ``valid`` says for each column but text (whose code 0 is null) which
    values are there, ``label_valid`` for each label column. All batches of a reader have the same
    keys, whatever they happen to hold, so that what was compiled for one fits the next. Columns
    without nulls share what says so (padded: the mask): write to none of them.

    Labels of types of varying width, text above all, stay behind: ``rows`` leads back to them.
    Times are integers in the unit of their type.

    Args:
        batch: Of a reader.
        types: Of its columns.

    Raises:
        FrameSchemaError: a column is of varying width.
    """
    for name, values in batch.columns.items():
        if not isinstance(values, np.ndarray):
            raise FrameSchemaError(
                f"column '{name}' is not an array",
                found=f"values of varying width ({values.type})",
                expected="numbers, times, text with a vocabulary, or vectors",
                next_step="leave it out of the columns, or give its vocabulary if it is text",
            )
    # Shared by all columns without nulls.
    there = np.ones(batch.offsets[-1], np.bool_) if batch.mask is None else batch.mask
    labels = {
        series.name: filled(series)
        for series in batch.labels
        if fixed_width(series.dtype) is not None
    }
    all_labels = np.ones(len(batch), np.bool_)
    tree: Tree = {
        "rows": batch.rows,
        "lengths": batch.lengths,
        "columns": dict(batch.columns),
        "valid": {
            name: batch.valid.get(name, there)
            for name in batch.columns
            if not isinstance(types[name], pl.String)
        },
        "labels": {name: column.values for name, column in labels.items()},
        "label_valid": {
            name: all_labels if column.valid is None else column.valid
            for name, column in labels.items()
        },
    }
    if batch.mask is None:
        return tree | {"offsets": batch.offsets}
    return tree | {"mask": batch.mask}
