"""A data set in JAX: arrays of one shape on a device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sequence_platform import TrainingReader
from sequence_platform.errors import FrameSchemaError
from sequence_platform.training import Dataset

jax = pytest.importorskip("jax", reason="JAX is not installed")

from sequence_platform.training.jax import JaxReader  # noqa: E402 - after the skip

COLUMNS = ["show", "minutes", "taste", "gap_s"]
LABELS = ["user_id", "liked"]


def test_arrays_hold_what_the_reader_does(next_show: Dataset) -> None:
    reader = TrainingReader(
        next_show, COLUMNS, batch_size=64, layout="padded", pad_to=8, drop_last=True
    )
    data = JaxReader(next_show, COLUMNS, pad_to=8, batch_size=64, labels=LABELS)
    assert len(data) == 6
    for found, expected in zip(data, reader, strict=True):
        assert isinstance(found["mask"], jax.Array)
        assert np.array_equal(found["mask"], np.asarray(expected.mask))
        for name in COLUMNS:
            assert np.array_equal(found["columns"][name], expected[name])
        assert found["labels"]["liked"].tolist() == expected.labels["liked"].to_list()


def test_a_step_is_compiled_once(next_show: Dataset) -> None:
    compiled = 0

    @jax.jit  # type: ignore[untyped-decorator] # JAX is not there where types are checked
    def step(weights: Any, batch: Any) -> Any:
        nonlocal compiled
        compiled += 1  # runs when it is traced, that is for each new shape

        def loss(weights: Any) -> Any:
            shows = weights[batch["columns"]["show"]] * batch["mask"]
            liked = batch["labels"]["liked"]
            return jax.numpy.logaddexp(0, jax.numpy.where(liked, -1, 1) * shows.sum(1)).mean()

        return weights - 0.1 * jax.grad(loss)(weights)

    data = JaxReader(next_show, COLUMNS, pad_to=8, batch_size=64, labels=LABELS, shuffle=True)
    weights = jax.numpy.zeros(len(data.reader.vocabulary["show"]) + 2)
    for _ in range(2):
        for batch in data:
            weights = step(weights, batch)
    assert compiled == 1
    assert np.isfinite(weights).all()
    assert np.any(weights != 0)


def test_integers_that_jax_would_cut_are_named(next_show: Dataset) -> None:
    with pytest.raises(FrameSchemaError, match="'event_time' does not fit") as caught:
        next(iter(JaxReader(next_show, ["event_time"], pad_to=8, labels=LABELS, batch_size=64)))
    assert "jax_enable_x64" in caught.value.next_step
    with pytest.raises(FrameSchemaError, match="'asked_at' does not fit"):
        next(iter(JaxReader(next_show, COLUMNS, pad_to=8, batch_size=64)))


def test_integers_are_whole_where_jax_keeps_them(next_show: Dataset) -> None:
    jax.config.update("jax_enable_x64", True)
    try:
        batch = next(iter(JaxReader(next_show, ["event_time"], pad_to=8, batch_size=64)))
        assert batch["columns"]["event_time"].max() > 2**50
    finally:
        jax.config.update("jax_enable_x64", False)


def test_a_reader_goes_on_from_a_checkpoint(next_show: Dataset) -> None:
    def data() -> JaxReader:
        return JaxReader(next_show, ["show"], pad_to=8, labels=LABELS, batch_size=64, shuffle=True)

    first, second = data(), data()
    next(iter(first))
    second.load_state_dict(first.state_dict())
    rows = [batch["rows"].tolist() for batch in data()]
    assert [batch["rows"].tolist() for batch in second] == rows[1:]
