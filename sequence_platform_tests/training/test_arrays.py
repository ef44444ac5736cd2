"""Batches as nested dicts of numpy arrays, which the adapters of torch and JAX hand on."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from sequence_platform import TrainingReader
from sequence_platform.errors import FrameSchemaError
from sequence_platform.training import Batch, Dataset
from sequence_platform.training.arrays import arrays_of

COLUMNS = ["show", "minutes", "taste", "gap_s"]


def keys(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: keys(value) if isinstance(value, dict) else None for name, value in tree.items()}


def test_a_jagged_batch_is_values_and_offsets(next_show: Dataset) -> None:
    reader = TrainingReader(next_show, COLUMNS, batch_size=50)
    batch = next(iter(reader))
    found = arrays_of(batch, reader.types)
    assert list(found) == [
        "rows",
        "lengths",
        "columns",
        "valid",
        "labels",
        "label_valid",
        "offsets",
    ]
    assert found["rows"].tolist() == list(range(50))
    assert found["offsets"].tolist() == batch.offsets.tolist()
    assert found["columns"]["taste"].shape == (batch.offsets[-1], 4)
    assert found["valid"]["minutes"].tolist() == batch.valid["minutes"].tolist()
    assert list(found["valid"]) == ["minutes", "taste", "gap_s"]
    assert list(found["labels"]) == ["label_id", "user_id", "asked_at", "liked"]
    assert found["labels"]["liked"].dtype == np.bool_
    asked_us = batch.labels["asked_at"].dt.timestamp("us").to_list()
    assert found["labels"]["asked_at"].tolist() == asked_us


def test_a_padded_batch_is_rectangles_and_a_mask(next_show: Dataset) -> None:
    reader = TrainingReader(next_show, COLUMNS, batch_size=50, layout="padded", pad_to=20)
    batch = next(iter(reader))
    found = arrays_of(batch, reader.types)
    assert "offsets" not in found
    assert found["mask"].shape == (50, 20)
    assert {name: values.shape for name, values in found["columns"].items()} == {
        "show": (50, 20),
        "minutes": (50, 20),
        "taste": (50, 20, 4),
        "gap_s": (50, 20),
    }
    assert all((found["mask"] | ~valid).all() for valid in found["valid"].values())


@pytest.mark.parametrize("layout", ["jagged", "padded"])
def test_all_batches_have_the_same_keys(next_show: Dataset, layout: Any) -> None:
    """Also those of which no event happens to have a null, and those without events."""
    reader = TrainingReader(next_show, COLUMNS, batch_size=1, layout=layout)
    batches = list(reader)
    assert len({frozenset(batch.valid) for batch in batches}) > 1
    first, *others = [keys(arrays_of(batch, reader.types)) for batch in batches]
    assert all(other == first for other in others)


def test_nulls_of_labels_are_zeros_that_are_said_not_to_be_there() -> None:
    empty = np.zeros(2, np.int64)
    labels = pl.DataFrame(
        {
            "clicks": pl.Series([None, 3], dtype=pl.Int32),
            "where": ["home", None],
            "taste": pl.Series([[1.0, 2.0], None], dtype=pl.Array(pl.Float32, 2)),
        }
    )
    offsets = np.zeros(3, np.int64)
    found = arrays_of(Batch(empty, empty, offsets, {}, {}, labels), {})
    assert list(found["labels"]) == ["clicks", "taste"]
    assert found["labels"]["clicks"].tolist() == [0, 3]
    assert found["labels"]["taste"].tolist() == [[1.0, 2.0], [0.0, 0.0]]
    assert found["label_valid"]["clicks"].tolist() == [False, True]
    assert found["label_valid"]["taste"].tolist() == [True, False]


def test_what_is_no_array_is_named() -> None:
    empty = np.zeros(0, np.int64)
    texts = pl.Series(["a"]).to_arrow()
    batch = Batch(empty, empty, np.zeros(1, np.int64), {"query": texts}, {}, pl.DataFrame())
    with pytest.raises(FrameSchemaError, match="column 'query' is not an array") as caught:
        arrays_of(batch, {"query": pl.String()})
    assert "vocabulary" in caught.value.next_step
