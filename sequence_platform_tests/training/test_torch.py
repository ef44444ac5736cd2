"""A data set in PyTorch: tensors, workers of a DataLoader, checkpoints."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from sequence_platform import TrainingReader
from sequence_platform.errors import FrameSchemaError, StateMismatchError
from sequence_platform.training import Dataset

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch.utils.data import DataLoader  # noqa: E402 - after the skip

from sequence_platform.training.torch import TorchReader  # noqa: E402 - likewise

COLUMNS = ["show", "minutes", "taste", "gap_s"]
FORKSERVER: dict[str, Any] = {"batch_size": None, "multiprocessing_context": "forkserver"}


def rows_of(batches: Iterable[dict[str, Any]]) -> list[int]:
    return [row for batch in batches for row in batch["rows"].tolist()]


def test_tensors_hold_what_the_reader_does(next_show: Dataset) -> None:
    reader = TrainingReader(next_show, COLUMNS, batch_size=64)
    for found, expected in zip(TorchReader(next_show, COLUMNS, batch_size=64), reader, strict=True):
        assert np.array_equal(found["offsets"].numpy(), expected.offsets)
        for name in COLUMNS:
            assert np.array_equal(found["columns"][name].numpy(), expected[name])
        minutes = found["valid"]["minutes"].numpy()
        assert np.array_equal(minutes, expected.valid["minutes"])
        assert found["labels"]["liked"].tolist() == expected.labels["liked"].to_list()


def test_a_jagged_batch_is_a_nested_tensor(next_show: Dataset) -> None:
    batch = next(iter(TorchReader(next_show, COLUMNS, batch_size=64)))
    nested = torch.nested.nested_tensor_from_jagged(batch["columns"]["taste"], batch["offsets"])
    assert nested.shape[0] == 64
    assert [len(part) for part in nested.unbind()] == batch["lengths"].tolist()


def test_a_model_learns_from_padded_batches(next_show: Dataset) -> None:
    torch.manual_seed(1)
    data = TorchReader(next_show, ["show", "minutes"], batch_size=100, layout="padded", pad_to=10)
    shows = torch.nn.Embedding(len(data.reader.vocabulary["show"]) + 2, 4, padding_idx=0)
    last = torch.nn.Linear(4, 1)
    optimizer = torch.optim.Adam([*shows.parameters(), *last.parameters()], lr=0.1)
    losses = []
    for _ in range(8):
        for batch in DataLoader(data, batch_size=None):
            summed = (shows(batch["columns"]["show"]) * batch["mask"][..., None]).sum(1)
            liked = batch["labels"]["liked"].float()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(last(summed)[:, 0], liked)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert len(losses) == 32
    assert sum(losses[-4:]) < sum(losses[:4])


def test_tensors_may_be_written_to(next_show: Dataset) -> None:
    """What the store hands out read-only is copied; torch would warn, and a warning is an error."""
    batch = next(iter(TorchReader(next_show, ["minutes", "taste"])))
    batch["columns"]["taste"] += 1
    assert batch["columns"]["taste"].min() >= 1


def test_unsigned_integers_become_signed() -> None:
    from sequence_platform.training.torch import _tensor  # noqa: PLC0415 - after the skip

    large = np.array([2**16 - 1], np.uint16), np.array([2**32 - 1], np.uint32)
    assert [_tensor(values).tolist() for values in large] == [[2**16 - 1], [2**32 - 1]]
    assert _tensor(np.array([2**64 - 1], np.uint64)).tolist() == [-1]
    assert _tensor(np.array([255], np.uint8)).dtype == torch.uint8


@pytest.mark.integration
def test_trainers_and_their_workers_share_the_labels(next_show: Dataset) -> None:
    epochs: list[list[int]] = [[], []]
    for rank in range(2):
        shard = (rank, 2)
        data = TorchReader(next_show, ["show"], batch_size=16, shuffle=True, seed=4, shard=shard)
        loader = DataLoader(data, num_workers=2, persistent_workers=True, **FORKSERVER)
        for seen in epochs:
            seen.extend(rows_of(loader))
    assert [sorted(seen) for seen in epochs] == [list(range(400))] * 2
    assert epochs[0] != epochs[1]


@pytest.mark.integration
def test_workers_that_end_with_an_epoch_begin_the_one_that_was_said(next_show: Dataset) -> None:
    data = TorchReader(next_show, ["show"], batch_size=50, shuffle=True, seed=4)
    loader = DataLoader(data, num_workers=1, **FORKSERVER)
    alone = TrainingReader(next_show, ["show"], batch_size=50, shuffle=True, seed=4)
    for epoch in range(2):
        data.set_epoch(epoch)
        assert rows_of(loader) == [row for batch in alone for row in batch.rows.tolist()]


@pytest.mark.integration
def test_forked_workers_are_refused(next_show: Dataset) -> None:
    data = TorchReader(next_show, ["show"])
    loader = DataLoader(data, batch_size=None, num_workers=1, multiprocessing_context="fork")
    with pytest.raises(FrameSchemaError, match="forked process"):
        list(loader)


def test_a_process_goes_on_from_a_checkpoint(next_show: Dataset) -> None:
    def data() -> TorchReader:
        return TorchReader(next_show, ["show"], batch_size=30, shuffle=True)

    whole = rows_of(data())
    first = data()
    seen: list[int] = []
    for batch in first:
        seen += batch["rows"].tolist()
        if len(seen) == 120:
            break
    state = json.loads(json.dumps(first.state_dict()))
    second = data()
    second.load_state_dict(state)
    second.set_epoch(0)  # as trainers do before each epoch; it is the current one
    assert seen + rows_of(second) == whole
    second.set_epoch(0)
    assert rows_of(second) == whole
    with pytest.raises(StateMismatchError, match="another order"):
        TorchReader(next_show, ["show"], batch_size=31, shuffle=True).load_state_dict(state)


@pytest.mark.integration
def test_a_state_of_one_process_is_not_that_of_two_workers(next_show: Dataset) -> None:
    data = TorchReader(next_show, ["show"], batch_size=30)
    next(iter(data))
    with pytest.raises(StateMismatchError, match="another order"):
        list(DataLoader(data, num_workers=2, **FORKSERVER))


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11 calls it
@pytest.mark.integration
def test_workers_go_on_from_the_checkpoint_of_their_loader(next_show: Dataset) -> None:
    stateful = pytest.importorskip(
        "torchdata.stateful_dataloader", reason="torchdata is not installed"
    )

    def loader() -> Any:
        data = TorchReader(next_show, ["show"], batch_size=20, shuffle=True, seed=9)
        return stateful.StatefulDataLoader(data, num_workers=2, **FORKSERVER)

    whole = rows_of(loader())
    first = loader()
    seen: list[int] = []
    for batch in first:
        seen += batch["rows"].tolist()
        if len(seen) == 140:
            break
    second = loader()
    second.load_state_dict(first.state_dict())
    assert seen + rows_of(second) == whole
