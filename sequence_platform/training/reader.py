"""TrainingReader: a data set of pointers as batches of numpy arrays."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sequence_platform.engine.columns import Ints
from sequence_platform.engine.point_in_time import ALL_KNOWN
from sequence_platform.errors import FrameSchemaError, StateMismatchError, nearest
from sequence_platform.plan.compile_training import POINTER_COLUMNS
from sequence_platform.ports.training import DatasetInfo, Gathered, Pointers
from sequence_platform.runtimes.training.pointing import checksums_of
from sequence_platform.runtimes.training.reading import SequenceRows
from sequence_platform.stores.local_training.dataset import (
    POINTERS,
    damaged_dataset,
    read_parquet,
    verify_file,
)
from sequence_platform.training.batch import (
    FIRST_CODE,
    NOTHING,
    UNSEEN,
    Batch,
    BatchLayout,
    Padding,
)
from sequence_platform.training.dataset import Dataset

STATE_FORMAT = 1


class TrainingReader:
    """Reads a data set in batches, an epoch an iteration.

    Sequences are rebuilt from the training store when they are read: only the columns asked for,
    only as many of the newest events, in the order of the data set or shuffled. Needs the folder of
    the data set and that of the store, and no definitions.

    Args:
        dataset: A training set's name (its newest data set), a folder, or a Dataset.
        columns: Of its sequence; None: all but vectors and types of varying width. See ``types``.
        max_length: Only so many of the newest events; None: as many as the sequence keeps.
        batch_size: Labels of a batch.
        layout: ``"jagged"``: values and offsets; ``"padded"``: rectangles and a mask.
        padding: On which side a padded batch is filled up.
        pad_to: How long padded sequences are; None: as the longest of the batch.
        vocabulary: Texts by column, in place of those in the store: entry ``n`` has the code
            ``n + 2``; a text that is not among them has the code 1.
        labels: Columns of the labels to return; None: all.
        shuffle: Whether an epoch has an order of its own, drawn from seed and epoch.
        seed: Of the order.
        shard: ``(rank, world_size)``: which of how many trainers this is.
        worker: ``(number, workers)``: which of how many processes of a trainer this is.
        drop_last: Whether a last batch that is not full is left out; all shards then have as many
            batches.
        prefetch: Batches that are read ahead, by as many threads.
        verify: Whether files are compared with their checksums, and pointers with the store, when
            the reader is made. Once is enough for a data set on a disk that is trusted.
        store: Folder of training stores; None: where the data set's is.

    Raises:
        StoreError: the data set or the store's version is gone, damaged, or does not fit.
        FrameSchemaError: a column is not there; the closest is named.
    """

    def __init__(  # noqa: PLR0913 - the options of a reader
        self,
        dataset: str | Path | Dataset,
        columns: Sequence[str] | None = None,
        *,
        max_length: int | None = None,
        batch_size: int = 1024,
        layout: BatchLayout = "jagged",
        padding: Padding = "right",
        pad_to: int | None = None,
        vocabulary: Mapping[str, Sequence[str]] | None = None,
        labels: Sequence[str] | None = None,
        shuffle: bool = False,
        seed: int = 0,
        shard: tuple[int, int] = (0, 1),
        worker: tuple[int, int] = (0, 1),
        drop_last: bool = False,
        prefetch: int = 2,
        verify: bool = True,
        store: str | Path | None = None,
    ) -> None:
        _check_options(max_length, batch_size, pad_to, shard, worker)
        self._dataset = Dataset.find(dataset, store=store)
        version = self._dataset.open_version(verify=verify)
        self._rows = SequenceRows(version, self.info.rules)
        self.columns = tuple(self._default_columns() if columns is None else columns)
        self._rows.check(self.columns)
        self.max_length = max_length or self.info.rules.policy.max_length
        if pad_to is not None:  # no sequence may be longer than its place
            self.max_length = min(self.max_length, pad_to)
        self.batch_size, self.layout = batch_size, layout
        self._padding, self._pad_to = padding, pad_to
        self._given = dict(vocabulary or {})
        self._shuffle, self._seed = shuffle, seed
        self._shard = (shard[0] * worker[1] + worker[0], shard[1] * worker[1])
        self._drop_last, self._prefetch = drop_last, prefetch
        self._pointers, self._labels = self._load(labels, verify=verify)
        self.epoch, self._next_batch = 0, 0

    @property
    def info(self) -> DatasetInfo:
        """What the data set says of itself."""
        return self._dataset.info

    @property
    def types(self) -> Mapping[str, pl.DataType]:
        """The columns that can be read, and their types."""
        return self._rows.types

    @cached_property
    def vocabulary(self) -> Mapping[str, Sequence[str]]:
        """The texts of each text column that is read; entry ``n`` has the code ``n + 2``."""
        texts = [name for name in self.columns if isinstance(self.types[name], pl.String)]
        stored = [name for name in texts if name not in self.info.rules.derived]
        return {name: self._vocabulary_of(name) for name in stored} | self._given

    def __len__(self) -> int:
        """Return how many batches an epoch has."""
        size = self._shard_size
        return size // self.batch_size if self._drop_last else -(-size // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of the current epoch that are left; then the next epoch begins."""
        order, batches = self._order(), range(self._next_batch, len(self))
        spans = (order[at * self.batch_size : (at + 1) * self.batch_size] for at in batches)
        for batch in self._ahead(spans):
            # Before the caller has it: state taken after this batch goes on behind it.
            self._next_batch += 1
            yield batch
        self.epoch, self._next_batch = self.epoch + 1, 0

    def read(self, rows: npt.ArrayLike) -> Batch:
        """Return the labels with these numbers as a batch."""
        at = np.asarray(rows, dtype=np.int64)
        found = self._rows.read(self._pointers.take(at), self.columns, self.max_length)
        columns, valid = {}, {}
        for name, gathered in found.columns.items():
            columns[name] = self._numbers(name, gathered)
            if gathered.valid is not None:
                valid[name] = gathered.valid
        lengths = np.diff(found.offsets)
        # A frame without columns has no rows to take.
        labels = self._labels[at] if self._labels.width else self._labels
        batch = Batch(at, lengths, found.offsets, columns, valid, labels)
        if self.layout == "jagged":
            return batch
        longest = int(lengths.max(initial=0)) if self._pad_to is None else self._pad_to
        return batch.padded(longest, self._padding)

    def state_dict(self) -> dict[str, Any]:
        """Return where the reader is, for a checkpoint: after the last batch that it handed out."""
        return {
            "format": STATE_FORMAT,
            "dataset": self.info.id,
            "epoch": self.epoch,
            "next_batch": self._next_batch,
            "order": self._order_settings,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a reader with the same settings was.

        Raises:
            StateMismatchError: the state is of another data set, or of another order of batches.
        """
        for name, mine in (("dataset", self.info.id), ("order", self._order_settings)):
            if state.get(name) != mine:
                raise StateMismatchError(
                    f"the state is of another {name}",
                    where=str(self._dataset.folder),
                    found=str(state.get(name)),
                    expected=str(mine),
                    next_step="read that data set with those settings, or begin anew",
                )
        self.epoch, self._next_batch = int(state["epoch"]), int(state["next_batch"])

    @property
    def _order_settings(self) -> dict[str, Any]:
        """What decides which labels a batch has."""
        return {
            "shuffle": self._shuffle,
            "seed": self._seed,
            "batch_size": self.batch_size,
            "shard": list(self._shard),
            "drop_last": self._drop_last,
        }

    @property
    def _shard_size(self) -> int:
        number, shards = self._shard
        total = len(self._pointers)
        return total // shards if self._drop_last else len(range(number, total, shards))

    def _order(self) -> Ints:
        """Return the labels of this shard in the order of the epoch."""
        number, shards = self._shard
        if not self._shuffle:
            return np.arange(number, len(self._pointers), shards)[: self._shard_size]
        drawn = np.random.default_rng([self._seed, self.epoch]).permutation(len(self._pointers))
        return drawn[number::shards][: self._shard_size]

    def _ahead(self, spans: Iterator[Ints]) -> Iterator[Batch]:
        """Yield the batch of each span; the next ones are read meanwhile."""
        if not self._prefetch:
            yield from map(self.read, spans)
            return
        with ThreadPoolExecutor(self._prefetch, "training-reader") as pool:
            reading: deque[Future[Batch]] = deque()
            try:
                for span in spans:
                    reading.append(pool.submit(self.read, span))
                    if len(reading) > self._prefetch:
                        yield reading.popleft().result()
                while reading:
                    yield reading.popleft().result()
            finally:
                for future in reading:
                    future.cancel()

    def _numbers(self, name: str, found: Gathered) -> Any:  # noqa: ANN401 - numpy, or Arrow
        if not isinstance(self.types[name], pl.String):
            return found.values
        if isinstance(found.values, np.ndarray):
            return self._codes[name].take(found.values)
        if name not in self._given:  # derived text, of which there is no vocabulary
            return found.values
        texts = pl.Series(self._given[name], dtype=pl.String)
        numbered = pl.DataFrame({"text": texts, "code": np.arange(len(texts)) + FIRST_CODE})
        asked = pl.DataFrame({"text": pl.Series(found.values, dtype=pl.String)})
        code = pl.when(pl.col("text").is_null()).then(NOTHING).otherwise(pl.col("code"))
        coded = asked.join(numbered, on="text", how="left", maintain_order="left").select(code)
        return coded.to_series().fill_null(UNSEEN).cast(pl.Int32).to_numpy()

    @cached_property
    def _codes(self) -> dict[str, npt.NDArray[np.int32]]:
        """By text column the code that is handed out for each code of the store."""
        found = {}
        for name in self.columns:
            if isinstance(self.types[name], pl.String) and name not in self.info.rules.derived:
                stored = self._rows.version.vocabulary(name)
                known = {text: at + FIRST_CODE for at, text in enumerate(self.vocabulary[name])}
                codes = [known.get(text, UNSEEN) for text in stored]
                # The store numbers event types from 0, and texts from 1: 0 is null.
                head = [] if name == "event_type" else [NOTHING]
                found[name] = np.array(head + codes, dtype=np.int32)
        return found

    def _vocabulary_of(self, name: str) -> list[str]:
        texts = self._rows.version.vocabulary(name)
        return list(texts) if name == "event_type" else sorted(texts.drop_nulls())

    def _default_columns(self) -> list[str]:
        return [
            name
            for name, dtype in self.types.items()
            if not dtype.is_nested() and name != "event_id"
        ]

    def _load(self, labels: Sequence[str] | None, *, verify: bool) -> tuple[Pointers, pl.DataFrame]:
        folder = self._dataset.folder
        path = verify_file(folder, self.info, POINTERS) if verify else folder / POINTERS
        table = pl.DataFrame(read_parquet(path))
        own = [name for name in table.columns if name not in POINTER_COLUMNS]
        unknown = [name for name in labels or () if name not in table.columns]
        if unknown:
            msg = f"labels of '{self.info.name}' have no column '{unknown[0]}'"
            raise FrameSchemaError(msg, expected=nearest(unknown[0], table.columns))
        time_us = table["label_time"].to_physical().fill_null(0).to_numpy() - self.info.delay_us
        if self.info.known == "now":
            time_us = np.full(table.height, ALL_KNOWN)
        pointers = Pointers(
            table["slot"].to_numpy(),
            table["start"].cast(pl.Int64).to_numpy(),
            table["stop"].cast(pl.Int64).to_numpy(),
            table["is_plain"].to_numpy(),
            time_us,
        )
        if verify:
            self._verify(pointers, table["checksum"].to_numpy(), path)
        return pointers, table.select(own if labels is None else labels)

    def _verify(self, pointers: Pointers, checksums: npt.NDArray[np.uint32], path: Path) -> None:
        wrong = np.flatnonzero(checksums_of(self._rows.version, pointers) != checksums)
        if len(wrong):
            raise damaged_dataset(
                path,
                f"{len(wrong)} pointers to other events than when they were made, the first of "
                f"label {wrong[0]}",
                f"pointers into version {self.info.store_version}",
            )


def _check_options(
    max_length: int | None,
    batch_size: int,
    pad_to: int | None,
    shard: tuple[int, int],
    worker: tuple[int, int],
) -> None:
    for name, value in (("max_length", max_length), ("batch_size", batch_size), ("pad_to", pad_to)):
        if value is not None and value < 1:
            msg = f"{name} of a reader is to be a whole number from 1"
            raise FrameSchemaError(msg, found=str(value))
    for name, (number, of) in (("shard", shard), ("worker", worker)):
        if not 0 <= number < of:
            raise FrameSchemaError(
                f"{name} of a reader is to be (number, of how many)",
                found=str((number, of)),
                expected=f"0 <= number < {max(of, 1)}",
            )
