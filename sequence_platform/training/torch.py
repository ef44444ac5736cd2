"""TorchReader: a data set as an iterable data set of PyTorch. Importing this needs torch.

One process, or the workers of a DataLoader, each of which reads its share.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sequence_platform.errors import FrameSchemaError, StoreError
from sequence_platform.training.arrays import Array, Tree, arrays_of
from sequence_platform.training.dataset import Dataset
from sequence_platform.training.reader import TrainingReader

try:
    import torch
    from torch.utils.data import IterableDataset, get_worker_info
except ModuleNotFoundError as error:
    raise StoreError(
        "reading a data set into tensors needs PyTorch",
        where="sequence_platform.training.torch",
        found=str(error),
        next_step="pip install 'sequence-platform[torch]', or the torch that fits this machine",
    ) from error

_SIGNED = {"u2": "<i4", "u4": "<i8", "u8": "<i8"}
"""PyTorch stores unsigned integers of these widths, and computes with hardly any of them."""


class TorchReader(IterableDataset):  # type: ignore[misc] # torch is not there where types are checked
    """Yields the batches of a TrainingReader as dicts of tensors: ``arrays.arrays_of``.

    ``DataLoader(TorchReader(...), batch_size=None, num_workers=4,
    multiprocessing_context="forkserver")``: batches are made here, so the loader makes none. Each
    worker reads every fourth label. Workers that are forked would wait forever for threads that
    Polars left behind in the parent, so they are refused.

    ``values`` and ``offsets`` of a jagged batch fit ``torch.nested.nested_tensor_from_jagged``,
    ``values`` and ``lengths`` a KeyedJaggedTensor. Unsigned integers are signed, and wider if need
    be; 64 bits stay the same bits.

    A checkpoint with workers is the loader's matter: StatefulDataLoader asks each worker for
    ``state_dict``. A loader that ends its workers with each epoch starts them at the epoch that
    ``set_epoch`` said; without it every epoch would have the order of the first.

    Args:
        dataset: A training set's name, a folder, or a Dataset; of a name the newest, found now.
        columns: As TrainingReader's.
        store: Likewise.
        options: All others of TrainingReader but ``worker``.

    Raises:
        StoreError: as TrainingReader.
        FrameSchemaError: likewise.
    """

    def __init__(
        self,
        dataset: str | Path | Dataset,
        columns: Sequence[str] | None = None,
        *,
        store: str | Path | None = None,
        **options: Any,  # noqa: ANN401 - TrainingReader's
    ) -> None:
        self._dataset = Dataset.find(dataset, store=store)
        self._columns, self._options = columns, options
        self._reader: TrainingReader | None = TrainingReader(self._dataset, columns, **options)
        self._state = self._reader.state_dict()
        self._process = os.getpid()

    @property
    def reader(self) -> TrainingReader:
        """What this process reads with: vocabularies, types, and what the data set says."""
        if self._process != os.getpid():
            raise FrameSchemaError(
                "a data set cannot be read in a forked process",
                found="a DataLoader that forks its workers",
                expected="workers that start by themselves",
                next_step="DataLoader(..., multiprocessing_context='forkserver')",
            )
        if self._reader is None:
            self._reader = self._opened()
        return self._reader

    def __iter__(self) -> Iterator[Tree]:
        """Yield the batches of the current epoch that are left; then the next epoch begins."""
        types = self.reader.types
        for batch in self.reader:
            yield _tensors(arrays_of(batch, types))

    def state_dict(self) -> dict[str, Any]:
        """Return where this process is, for a checkpoint."""
        return self.reader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a process with the same settings was.

        Raises:
            StateMismatchError: the state is of another data set, or of another order of batches.
        """
        self.reader.load_state_dict(state)

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch; if it is the current one, stay where it is."""
        if epoch != self.reader.epoch:
            state = self.reader.state_dict()
            self.reader.load_state_dict(state | {"epoch": epoch, "next_batch": 0})

    def __getstate__(self) -> dict[str, Any]:
        # An open store cannot be sent to a worker: it opens its own.
        return self.__dict__ | {"_state": self.reader.state_dict(), "_reader": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"_process": os.getpid()}

    def _opened(self) -> TrainingReader:
        info = get_worker_info()
        worker = (0, 1) if info is None else (info.id, info.num_workers)
        # The process that this was sent from has verified what it opened.
        options = self._options | {"worker": worker, "verify": False}
        reader = TrainingReader(self._dataset, self._columns, **options)
        reader.epoch = self._state["epoch"]
        if self._state["next_batch"]:  # refused, unless one worker goes on for one process
            reader.load_state_dict(self._state)
        return reader


def _tensors(tree: Tree) -> Tree:
    return {
        name: _tensors(value) if isinstance(value, dict) else _tensor(value)
        for name, value in tree.items()
    }


def _tensor(values: Array) -> torch.Tensor:
    signed = _SIGNED.get(values.dtype.str[1:])
    if signed is not None:
        values = values.astype(signed)
    # A tensor is always writable; the reader's arrays may be views of what is not.
    if not values.flags.writeable:
        values = values.copy()
    return torch.from_numpy(np.ascontiguousarray(values))
