"""Data sets on disk: pointers and lists as Parquet, and a description that needs no definitions.

``<folder>/<training set>/<id>/`` holds ``pointers.parquet``, ``lists.parquet``, ``dead.parquet`` (a
file only where there is something), ``derived.arrow`` and ``dataset.json``. It is written aside and
renamed when complete, so a data set is there whole or not at all.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sequence_platform.definition import Dedupe, Sessions
from sequence_platform.engine.trim import TrimPolicy
from sequence_platform.errors import StoreError, listed
from sequence_platform.ports.training import DatasetInfo, Rules
from sequence_platform.stores.local_training.arrow_table import read_table, write_table
from sequence_platform.stores.local_training.column_file import checksum
from sequence_platform.stores.local_training.descriptions import (
    read_description,
    write_description,
)
from sequence_platform.stores.local_training.part import sync

DESCRIPTION, DERIVED = "dataset.json", "derived.arrow"
POINTERS, LISTS, DEAD = "pointers.parquet", "lists.parquet", "dead.parquet"
MICROSECOND = timedelta(microseconds=1)
_PLAIN = (
    *("name", "id", "fingerprint", "plan_fingerprint", "sequence", "sequence_fingerprint"),
    *("store_version", "lake_snapshot", "columns", "delay_us", "known", "rows", "outcomes"),
    *("has_lists", "duplicates", "labels_digest", "notes", "checksums"),
)
"""Fields of DatasetInfo that JSON holds as they are."""


class LocalDatasets:
    """ports.training.Datasets in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def write(self, name: str) -> Iterator[DatasetFiles]:
        """Open a data set for writing; unless ``commit`` is called nothing is left of it."""
        home = self._folder / name
        home.mkdir(parents=True, exist_ok=True)
        temporary = home / f".{uuid4().hex}"
        temporary.mkdir()
        files = DatasetFiles(temporary)
        try:
            yield files
        finally:
            files.close()
            shutil.rmtree(temporary, ignore_errors=True)

    def all(self, name: str) -> list[DatasetInfo]:
        """Return the data sets of a training set, oldest first, without damaged ones."""
        folders = (self._folder / name).glob("[!.]*/")
        found = [read for folder in folders if isinstance(read := _try_read(folder), DatasetInfo)]
        return sorted(found, key=lambda info: info.created_at)

    def damaged(self, name: str) -> list[StoreError]:
        """Return what is wrong with data sets of a training set that cannot be read."""
        folders = (self._folder / name).glob("[!.]*/")
        return [read for folder in folders if isinstance(read := _try_read(folder), StoreError)]

    def names(self) -> list[str]:
        """Return the training sets that have data sets, damaged ones among them."""
        return sorted({path.parent.name for path in self._folder.glob("*/[!.]*/")})

    def folder_of(self, info: DatasetInfo) -> Path:
        """Return where a data set is."""
        return self._folder / info.name / info.id

    def sample(self, info: DatasetInfo, size: int, seed: int) -> pl.DataFrame:
        """Return some rows of the pointer export with their number, ``row``, first."""
        path = verify_file(self.folder_of(info), info, POINTERS)
        chosen = np.random.default_rng(seed).choice(info.rows, min(size, info.rows), replace=False)
        rows = pl.scan_parquet(path).with_row_index("row")
        return rows.filter(pl.col("row").is_in(pl.Series(chosen).implode())).collect()

    def remove(self, info: DatasetInfo) -> None:
        """Remove a data set."""
        shutil.rmtree(self.folder_of(info))


class DatasetFiles:
    """A data set that is being written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, pq.ParquetWriter] = {}

    def pointers(self, frame: pl.DataFrame) -> None:
        """Add labels with their pointers."""
        self._write(POINTERS, frame)

    def lists(self, frame: pl.DataFrame) -> None:
        """Add labels with their sequences."""
        self._write(LISTS, frame)

    def dead(self, frame: pl.DataFrame) -> None:
        """Add labels that could not be read."""
        self._write(DEAD, frame)

    def commit(self, info: DatasetInfo) -> DatasetInfo:
        """Make the data set durable and visible; one of the same id that is there stays."""
        self.close()
        types = pl.Schema(info.rules.derived_types)
        write_table(self._folder / DERIVED, pl.DataFrame(schema=types))
        checksums = {path.name: checksum(path) for path in sorted(self._folder.iterdir())}
        complete = replace(info, checksums=checksums)
        write_description(self._folder / DESCRIPTION, _to_json(complete))
        final = self._folder.parent / info.id
        held = _try_read(final) if final.exists() else None
        if isinstance(held, DatasetInfo) and _holds(final, checksums):
            return held
        if held is not None:  # damaged since
            shutil.rmtree(final)
        sync([*self._folder.iterdir(), self._folder])
        self._folder.rename(final)
        sync([final.parent])
        return complete

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _write(self, name: str, frame: pl.DataFrame) -> None:
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        if name not in self._writers:
            self._writers[name] = pq.ParquetWriter(
                self._folder / name, table.schema, compression="zstd"
            )
        self._writers[name].write_table(table.cast(self._writers[name].schema))


def read_dataset(folder: Path) -> DatasetInfo:
    """Return what a data set says of itself.

    Raises:
        StoreError: it is gone or damaged.
    """
    try:
        read = read_description(folder / DESCRIPTION)
        types = read_table(folder / DERIVED).schema
        return DatasetInfo(
            **{name: read[name] for name in _PLAIN},
            rules=_rules(read["rules"], types),
            created_at=datetime.fromisoformat(read["created_at"]),
        )
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise damaged_dataset(folder, str(error), "the description of a data set") from error


def _holds(folder: Path, checksums: Mapping[str, str]) -> bool:
    paths = {name: folder / name for name in checksums}
    return all(path.exists() and checksum(path) == checksums[name] for name, path in paths.items())


def _try_read(folder: Path) -> DatasetInfo | StoreError:
    try:
        return read_dataset(folder)
    except StoreError as error:
        return error


def verify_file(folder: Path, info: DatasetInfo, name: str) -> Path:
    """Return the path of a file of a data set, after comparing it with its checksum.

    Raises:
        StoreError: the data set has no such file, or it is damaged.
    """
    if name not in info.checksums:
        raise StoreError(
            f"data set '{info.name}' has no {name}",
            where=str(folder),
            found=listed(info.checksums),
            next_step="say lists=True in the training set, and build it again",
        )
    path = folder / name
    try:
        found = checksum(path)
    except OSError as error:
        raise damaged_dataset(path, str(error), "a file as it was written") from error
    if found != info.checksums[name]:
        raise damaged_dataset(path, f"checksum {found}", f"checksum {info.checksums[name]}")
    return path


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Return a file of a data set.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise damaged_dataset(path, str(error), "Parquet") from error


def damaged_dataset(path: Path, found: str, expected: str) -> StoreError:
    """Return the error of a data set that is not as it was written."""
    return StoreError(
        "a data set is damaged or gone",
        where=str(path),
        found=found,
        expected=expected,
        next_step="build it again, or remove its folder: sequence-platform training build",
    )


def _to_json(info: DatasetInfo) -> dict[str, Any]:
    policy = info.rules.policy
    sessions = policy.sessions and [policy.sessions.gap // MICROSECOND, policy.sessions.keep]
    return {name: getattr(info, name) for name in _PLAIN} | {
        "created_at": info.created_at.isoformat(),
        "rules": {
            "max_length": policy.max_length,
            "sessions": sessions,
            "dedupe": policy.dedupe and _dedupe_json(policy.dedupe),
            "quotas": {str(number): quota for number, quota in policy.quotas.items()},
            "lookback_us": info.rules.lookback_us,
            "derived": {
                name: expr.meta.serialize(format="json")
                for name, expr in info.rules.derived.items()
            },
        },
    }


def _dedupe_json(dedupe: Dedupe) -> dict[str, Any]:
    within = dedupe.within
    return {
        "by": [dedupe.by] if isinstance(dedupe.by, str) else list(dedupe.by),
        "keep": dedupe.keep,
        "within": within if isinstance(within, str) else within // MICROSECOND,
    }


def _rules(read: Mapping[str, Any], types: pl.Schema) -> Rules:
    sessions = read["sessions"] and Sessions(read["sessions"][0] * MICROSECOND, read["sessions"][1])
    dedupe = None
    if read["dedupe"]:
        within = read["dedupe"]["within"]
        near = within if within == "consecutive" else within * MICROSECOND
        dedupe = Dedupe(read["dedupe"]["by"], read["dedupe"]["keep"], near)
    quotas = {int(number): quota for number, quota in read["quotas"].items()}
    derived = {
        name: pl.Expr.deserialize(io.StringIO(text), format="json")
        for name, text in read["derived"].items()
    }
    policy = TrimPolicy(read["max_length"], sessions, dedupe, quotas)
    return Rules(policy, read["lookback_us"], derived, dict(types))
