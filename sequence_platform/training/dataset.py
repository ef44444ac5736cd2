"""Data sets, by name or folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sequence_platform.errors import StoreError, nearest
from sequence_platform.ports.training import DatasetInfo, TrainingVersion
from sequence_platform.settings import Settings
from sequence_platform.stores.local_training import LocalDatasets, LocalTrainingStore
from sequence_platform.stores.local_training.dataset import (
    DESCRIPTION,
    LISTS,
    POINTERS,
    read_dataset,
    verify_file,
)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A data set on disk.

    Attributes:
        folder: Where it is.
        stores: The folder of training stores that it points into.
        info: What it says of itself.
    """

    folder: Path
    stores: Path
    info: DatasetInfo

    @classmethod
    def find(
        cls,
        dataset: str | Path | Dataset,
        *,
        store: str | Path | None = None,
        settings: Settings | None = None,
    ) -> Dataset:
        """Return the newest data set of a training set, or that in a folder.

        Args:
            dataset: A training set's name, or a folder.
            store: Folder of training stores, if it is not where the data set's is.
            settings: Where data sets are; from the environment unless given.

        Raises:
            StoreError: there is none.
        """
        if isinstance(dataset, Dataset):
            return dataset
        given = Path(dataset)
        if (given / DESCRIPTION).exists():
            beside = given.absolute().parents[2] / "stores"
            return cls(given, Path(store) if store else beside, read_dataset(given))
        home = (settings or Settings()).training_folder
        datasets = LocalDatasets(home / "datasets")
        held = datasets.all(str(dataset)) if isinstance(dataset, str) and "/" not in dataset else []
        for error in datasets.damaged(str(dataset)) if held else ():
            raise error  # it may be the newest, and an older one is not what was asked for
        if not held:
            raise StoreError(
                f"there is no data set '{dataset}'",
                where=str(home / "datasets"),
                found="neither a training set with a data set, nor the folder of one",
                expected=nearest(str(dataset), datasets.names()),
                next_step="make it: sequence-platform training build NAME",
            )
        stores = Path(store) if store else home / "stores"
        return cls(datasets.folder_of(held[-1]), stores, held[-1])

    def open_version(self, *, verify: bool = True) -> TrainingVersion:
        """Open the version of the store that the data set points into."""
        store = LocalTrainingStore(self.stores, is_verified=verify)
        return store.open(self.info.sequence, self.info.store_version)

    def scan_pointers(self) -> pl.LazyFrame:
        """Return labels with their pointers and outcomes, in the order of the labels."""
        return pl.scan_parquet(verify_file(self.folder, self.info, POINTERS))

    def scan_lists(self) -> pl.LazyFrame:
        """Return labels with their sequences as lists, if the set was made with ``lists``."""
        return pl.scan_parquet(verify_file(self.folder, self.info, LISTS))
