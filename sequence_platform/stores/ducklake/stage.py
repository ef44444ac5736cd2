"""Parquet files written before any lock is taken, invisible until a commit adds them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import date
from pathlib import Path

import polars as pl

from sequence_platform.errors import StoreError
from sequence_platform.ports import Staged, TableSpec
from sequence_platform.stores.ducklake.checks import LawfulFiles
from sequence_platform.stores.ducklake.content import ContentHash
from sequence_platform.stores.ducklake.failures import translated
from sequence_platform.stores.ducklake.session import Session
from sequence_platform.stores.ducklake.sql import CATALOG_TABLES, split_name, text
from sequence_platform.stores.ducklake.types import to_stored

ROW_GROUP_ROWS = 10_000
"""Rows of a group of narrow rows: readers of one entity, or of a bucket of them, skip all other
groups."""

ROW_GROUP_BYTES = 32 << 20
"""Groups of wide rows (lists of hundreds of events, vectors) are smaller than that in memory."""

COMPRESSION_LEVEL = 1
"""Of zstd. Level 3, the default, takes half as long again to write 1 to 2% less."""

FILE_BYTES = 128 << 20
"""Frames are joined up to about this size in memory; each file is written at once."""


def stage(
    session: Session,
    lawful: LawfulFiles,
    spec: TableSpec,
    day: date | None,
    frames: Iterable[pl.DataFrame],
) -> Staged:
    """Write frames to new files of a partition.

    A file is written while the frames of the next are made.

    Raises:
        StoreError: the disk failed; what was written is removed.
    """
    folder = partition_folder(session, spec, day)
    content = ContentHash(spec.columns)
    files: list[str] = []
    rows = size = 0

    def write(path: str, frame: pl.DataFrame) -> int:
        with translated(f"write a partition of {spec.name}", path):
            written = _write(session, frame, path)
        content.add(frame)
        lawful.add(path, spec, frame)
        return written

    try:
        with ThreadPoolExecutor(max_workers=1) as writer:
            writing: Future[int] | None = None
            for frame in _joined(to_stored(frame, spec.columns, spec.name) for frame in frames):
                # The one before is done first, so that two are in memory and not more.
                size += writing.result() if writing else 0
                files.append(f"{folder}/{uuid.uuid4().hex}.parquet")
                rows += frame.height
                writing = writer.submit(write, files[-1], frame)
            size += writing.result() if writing else 0
    except BaseException:
        remove(session, files)
        raise
    return Staged(tuple(files), rows, size, str(content))


def partition_folder(session: Session, spec: TableSpec, day: date | None) -> str:
    """Return the folder of a partition; its name tells the lake the value of ``day``."""
    schema, plain = split_name(spec.name)
    base = f"{session.address.data_path}{schema}/{plain}"
    return base if day is None else f"{base}/day={day.isoformat()}"


def discard(session: Session, files: Sequence[str]) -> None:
    """Remove staged files unless the lake holds them.

    A commit that was reported as failed may have succeeded.
    """
    with suppress(StoreError):
        if files and not (session.reached_commit and _is_taken(session, files[0])):
            remove(session, files)


def _is_taken(session: Session, path: str) -> bool:
    name = path.rpartition("/")[2]
    files = f"SELECT 1 FROM {CATALOG_TABLES}.ducklake_data_file WHERE path LIKE {text('%' + name)}"
    return session.query(files).height > 0


def remove(session: Session, files: Iterable[str]) -> None:
    """Remove staged files that no commit took. What cannot be removed is left to maintenance."""
    if session.address.is_local:
        for path in files:
            with suppress(OSError):
                Path(path).unlink()


def _joined(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    waiting: list[pl.DataFrame] = []
    size = 0
    for frame in frames:
        if frame.height:
            waiting.append(frame)
            size += int(frame.estimated_size())
        if size >= FILE_BYTES:
            yield pl.concat(waiting)
            waiting, size = [], 0
    if waiting:
        yield pl.concat(waiting)


def _write(session: Session, frame: pl.DataFrame, path: str) -> int:
    group = min(
        ROW_GROUP_ROWS,
        max(1, ROW_GROUP_BYTES * frame.height // max(1, int(frame.estimated_size()))),
    )
    if not session.address.is_local:
        # By DuckDB, so that one set of credentials, its secrets, opens the lake.
        options = (
            f"FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL {COMPRESSION_LEVEL}, "
            f"ROW_GROUP_SIZE {group}, RETURN_STATS"
        )
        copied = session.query(
            f"COPY (SELECT * FROM staged) TO {text(path)} ({options})", frames={"staged": frame}
        )
        return int(copied["file_size_bytes"].item())
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as sink:
        frame.write_parquet(
            sink,
            compression="zstd",
            compression_level=COMPRESSION_LEVEL,
            row_group_size=group,
            statistics=True,
        )
        # The catalog must not name a file that a power cut can empty.
        os.fsync(sink.fileno())
    return file.stat().st_size
