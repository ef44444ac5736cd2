"""Arrow files that are mapped into memory: written whole, durable, verified by a checksum."""

from __future__ import annotations

import os
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from sequence_platform.engine.columns import OLDEST
from sequence_platform.engine.point import HASHER

CHUNK_BYTES = 1 << 20


def write_frame(path: Path, frame: pl.DataFrame) -> None:
    """Write a frame as one batch, without compression, and make it durable."""
    table = frame.rechunk().to_arrow(compat_level=OLDEST)
    table = table.replace_schema_metadata({b"hasher": HASHER.encode()}).combine_chunks()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        # One batch: no entity spans two.
        writer.write_table(table, max_chunksize=max(1, table.num_rows))
    sync(path)


def map_file(path: Path) -> pa.RecordBatch:
    """Map a file; nothing of it is read before it is asked for."""
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    if reader.num_record_batches:
        return reader.get_batch(0)
    return pa.RecordBatch.from_pylist([], schema=reader.schema)


def is_hashed_here(batch: pa.RecordBatch) -> bool:
    """Return whether the hashes in a file are those that this process computes."""
    return bool((batch.schema.metadata or {}).get(b"hasher") == HASHER.encode())


def view(batch: pa.RecordBatch, name: str, dtype: str) -> Any:  # noqa: ANN401 - of the dtype
    """Return a column of eight bytes a value, without nulls, as numpy."""
    array = batch.column(name)
    if not len(array):
        return np.empty(0, dtype)
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * 8)


def checksum(paths: Iterable[Path]) -> str:
    """Return the checksum of files and their names."""
    digest = blake2b(digest_size=16)
    for path in paths:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def size_of(paths: Iterable[Path]) -> int:
    """Return the bytes of files."""
    return sum(path.stat().st_size for path in paths)


def sync(path: Path) -> None:
    """Make a file durable, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
