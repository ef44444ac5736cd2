"""JaxReader: a data set as arrays on a device, all of one shape. Importing this needs jax."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sequence_platform.errors import FrameSchemaError, StoreError
from sequence_platform.training.arrays import Array, Tree, arrays_of
from sequence_platform.training.dataset import Dataset
from sequence_platform.training.reader import TrainingReader

try:
    import jax
except ModuleNotFoundError as error:
    raise StoreError(
        "reading a data set into arrays on a device needs JAX",
        where="sequence_platform.training.jax",
        found=str(error),
        next_step="pip install 'sequence-platform[jax]', or the jax that fits this machine",
    ) from error


class JaxReader:
    """Yields the batches of a TrainingReader as dicts of JAX arrays: ``arrays.arrays_of``.

    Batches are padded to one length, and a last batch that is not full is left out, so that what
    ``jax.jit`` compiled for the first batch fits all.

    JAX keeps 32 bits of an integer of 64 unless it is told otherwise. Values that this would change
    are an error here: times in microseconds always, numbers beyond 2**31 otherwise.

    Args:
        dataset: A training set's name, a folder, or a Dataset.
        columns: As TrainingReader's.
        pad_to: How long all sequences are.
        device: A device or a sharding; None: the default device.
        options: All others of TrainingReader but ``layout`` and ``drop_last``.

    Attributes:
        reader: What is read with: vocabularies, types, and what the data set says.

    Raises:
        StoreError: as TrainingReader.
        FrameSchemaError: likewise.
    """

    def __init__(
        self,
        dataset: str | Path | Dataset,
        columns: Sequence[str] | None = None,
        *,
        pad_to: int,
        device: Any = None,  # noqa: ANN401 - JAX's
        **options: Any,  # noqa: ANN401 - TrainingReader's
    ) -> None:
        self.reader = TrainingReader(
            dataset, columns, layout="padded", pad_to=pad_to, drop_last=True, **options
        )
        self._device = device

    def __len__(self) -> int:
        """Return how many batches an epoch has."""
        return len(self.reader)

    def __iter__(self) -> Iterator[Tree]:
        """Yield the batches of the current epoch that are left; then the next epoch begins."""
        types = self.reader.types
        for batch in self.reader:
            tree = arrays_of(batch, types)
            _check_widths(tree)
            yield jax.device_put(tree, self._device)

    def state_dict(self) -> dict[str, Any]:
        """Return where the reader is, for a checkpoint."""
        return self.reader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a reader with the same settings was.

        Raises:
            StateMismatchError: the state is of another data set, or of another order of batches.
        """
        self.reader.load_state_dict(state)


def _check_widths(tree: Tree) -> None:
    for name, values in tree.items():
        if isinstance(values, dict):
            _check_widths(values)
        elif not _fits(values):
            raise FrameSchemaError(
                f"'{name}' does not fit the integers of JAX",
                found=f"{values.dtype} up to {values.max()}, from {values.min()}",
                expected=f"{jax.dtypes.canonicalize_dtype(values.dtype)}",
                next_step="leave it out (columns=, labels=), or first: "
                "jax.config.update('jax_enable_x64', True)",
            )


def _fits(values: Array) -> bool:
    if values.dtype.kind not in "iu" or not values.size:
        return True
    kept = np.iinfo(jax.dtypes.canonicalize_dtype(values.dtype))
    return bool(kept.min <= values.min() and values.max() <= kept.max)
