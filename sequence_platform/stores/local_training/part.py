"""A part: the events of some days, of all event types, by entity, a file a column."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from sequence_platform.engine.columns import Ints
from sequence_platform.engine.point import hash_ids
from sequence_platform.ports.training import Gathered, Lineage, PartInfo, Sums
from sequence_platform.stores.local_training.arrow_table import read_table, write_table
from sequence_platform.stores.local_training.column_file import (
    ColumnFile,
    ColumnWriter,
    Ranges,
    checksum,
    damaged,
)
from sequence_platform.stores.local_training.descriptions import (
    read_description,
    write_description,
)
from sequence_platform.stores.local_training.stored_column import (
    StoredReader,
    reader_for,
    writer_for,
)
from sequence_platform.stores.local_training.vocabulary import Vocabulary

DESCRIPTION = "part.json"
ENTITIES = "entities.arrow"
TYPE_STEP = np.uint64(0x9E3779B97F4A7C15)
"""Odd and large, so that events of one id and different types have different hashes."""


def write_part(
    folder: Path,
    lineage: Lineage,
    digests: Mapping[date, str],
    frames: Iterable[pl.DataFrame],
    vocabularies: Mapping[str, Vocabulary],
) -> PartInfo:
    """Write a part and make it durable; memory is bounded by a frame and the list of entities.

    Args:
        folder: Created; must not exist.
        lineage: What it holds.
        digests: Its days, and what the lake held of each.
        frames: As for ``TrainingStore.add``.
        vocabularies: By text column; texts that are new are added.
    """
    folder.mkdir(parents=True)
    writer = _Writer(folder, lineage, vocabularies)
    for frame in frames:
        if not frame.is_empty():
            writer.append(frame)
    files = writer.close()
    names = sorted(path.name for path in folder.iterdir())
    described = {
        "rows": writer.rows,
        "days": {day.isoformat(): digest for day, digest in sorted(digests.items())},
        "files": files,
        "checksums": {name: checksum(folder / name) for name in names},
    }
    write_description(folder / DESCRIPTION, described)
    return PartInfo(folder.name, dict(digests), writer.rows, folder_bytes(folder))


class _Writer:
    """The files of a part that is being written.

    ``key_sum`` runs over the whole part from 0, so that the sum over any range, and the hash of a
    single event, are differences of two of its values.
    """

    def __init__(
        self, folder: Path, lineage: Lineage, vocabularies: Mapping[str, Vocabulary]
    ) -> None:
        self.rows = 0
        self._folder, self._lineage = folder, lineage
        own = {"event_time": "<i8", "arrival_time": "<i8", "arrived_by": "<i8"}
        own |= {"event_type": "|u1", "key_sum": "<u8"}
        self._own = {name: ColumnWriter(folder / f"{name}.npy", kind) for name, kind in own.items()}
        self._sum: Sums = np.zeros(1, dtype=np.uint64)
        self._own["key_sum"].append(self._sum)
        self._columns = {
            name: writer_for(folder, f"column_{at:03}", dtype, vocabularies.get(name))
            for at, (name, dtype) in enumerate(lineage.columns.items())
        }
        self._heads = [pl.DataFrame(schema={"entity": lineage.entity, "rows": pl.UInt32})]
        self._is_on_time = True

    def append(self, frame: pl.DataFrame) -> None:
        """Write the events of the next entities."""
        time_us = frame["event_time"].to_physical().to_numpy()
        arrival_us = frame["arrival_time"].to_physical().to_numpy()
        types = frame["type"].to_numpy()
        self._is_on_time &= bool((arrival_us <= time_us).all())
        sums = np.cumsum(np.append(self._sum, key_hashes(frame["event_id"], types)))[1:]
        self._sum = sums[-1:]
        self._own["event_time"].append(time_us)
        self._own["arrival_time"].append(arrival_us)
        self._own["arrived_by"].append(_running_maximum(frame))
        self._own["event_type"].append(types)
        self._own["key_sum"].append(sums)
        for name, writer in self._columns.items():
            writer.append(frame[name])
        counted = frame.lazy().group_by("entity", maintain_order=True).agg(rows=pl.len())
        self._heads.append(counted.collect().cast({"rows": pl.UInt32}))
        self.rows += frame.height

    def close(self) -> dict[str, dict[str, str]]:
        """Close all files; return their names, by column and what they hold of it."""
        write_table(self._folder / ENTITIES, pl.concat(self._heads))
        spared = {"arrival_time", "arrived_by"} if self._is_on_time else set()
        if len(self._lineage.types) == 1:
            spared.add("event_type")
        files = {}
        for name, writer in self._own.items():
            if name in spared:
                writer.discard()
            else:
                writer.close()
                files[f"own:{name}"] = {"values": writer.path.name}
        return files | {name: writer.close() for name, writer in self._columns.items()}


class Part:
    """A part, opened; its files are opened when something of them is asked for.

    Args:
        folder: Where it is.
        lineage: What it holds.
        is_verified: Whether each file is compared with its checksum when it is opened.

    Raises:
        StoreError: it is gone or damaged.
    """

    def __init__(self, folder: Path, lineage: Lineage, *, is_verified: bool) -> None:
        self._folder, self._lineage, self._is_verified = folder, lineage, is_verified
        try:
            described = read_description(folder / DESCRIPTION)
            self._files: Mapping[str, Mapping[str, str]] = described["files"]
            self._checksums: Mapping[str, str] = described["checksums"]
        except (OSError, ValueError, KeyError) as error:
            raise damaged(folder / DESCRIPTION, str(error), "the description of a part") from error
        self._opened: dict[str, ColumnFile] = {}
        self._readers: dict[str, StoredReader] = {}

    def heads(self) -> pl.DataFrame:
        """Return the entities, sorted, and how many events each has."""
        self._verify(ENTITIES)
        return read_table(self._folder / ENTITIES)

    @property
    def is_on_time(self) -> bool:
        """Whether all events had arrived when they happened."""
        return "own:arrival_time" not in self._files

    def own(self, name: str) -> ColumnFile:
        """Return a column of the store itself: event_time, arrived_by, key_sum..."""
        if name not in self._opened:
            file = self._files[f"own:{name}"]["values"]
            self._verify(file)
            self._opened[name] = ColumnFile(self._folder / file)
        return self._opened[name]

    def gather(self, name: str, ranges: Ranges) -> Gathered:
        """Return a column of ranges of rows: ``TrainingVersion.gather``."""
        match name:
            case "arrival_time" if self.is_on_time:
                return Gathered(self.own("event_time").gather(ranges))
            case "event_type" if len(self._lineage.types) == 1:
                return Gathered(np.zeros(ranges.total, dtype=np.uint8))
            case "event_time" | "arrival_time" | "event_type":
                return Gathered(self.own(name).gather(ranges))
            case "copy":
                sums = self.own("key_sum")
                until = sums.gather(Ranges(ranges.starts + 1, ranges.lengths))
                return Gathered((until - sums.gather(ranges)).view("<i8"))
            case _:
                pass
        if name not in self._readers:
            files = self._files[name]
            for file in files.values():
                self._verify(file)
            self._readers[name] = reader_for(self._folder, files, self._lineage.columns[name])
        return self._readers[name].gather(ranges)

    def used_codes(self, name: str) -> Ints:
        """Return the codes that occur in a text column."""
        file = self._files[name]["used"]
        self._verify(file)
        return ColumnFile(self._folder / file).view()

    def _verify(self, name: str) -> None:
        if not self._is_verified:
            return
        path = self._folder / name
        try:
            found = checksum(path)
        except OSError as error:
            raise damaged(path, str(error), "a file as it was written") from error
        if found != self._checksums.get(name):
            raise damaged(path, f"checksum {found}", f"checksum {self._checksums.get(name)}")


def key_hashes(event_ids: pl.Series, types: npt.NDArray[np.uint8]) -> Sums:
    """Return a number per event of an entity, equal for copies, seldom for different events."""
    return hash_ids(event_ids) ^ (types.astype(np.uint64) * TYPE_STEP)


def folder_bytes(folder: Path) -> int:
    """Return how much the files of a folder take."""
    return sum(path.stat().st_size for path in folder.iterdir())


def sync(paths: Sequence[Path]) -> None:
    """Make files and folders durable."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _running_maximum(frame: pl.DataFrame) -> Ints:
    """Return for each event when it and all before it of its entity had arrived."""
    latest: Ints = (
        frame.select(pl.col("arrival_time").to_physical().cum_max().over("entity"))
        .to_series()
        .to_numpy()
    )
    return latest
