"""Small tables beside the columns: one Arrow file each."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa

from sequence_platform.engine.columns import OLDEST
from sequence_platform.stores.local_training.column_file import damaged


def write_table(path: Path, frame: pl.DataFrame) -> None:
    """Write a frame."""
    table = frame.to_arrow(compat_level=OLDEST)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_table(path: Path) -> pl.DataFrame:
    """Read what ``write_table`` wrote, into memory.

    Raises:
        StoreError: it is gone or damaged.
    """
    try:
        with pa.OSFile(str(path)) as file:
            return pl.DataFrame(pa.ipc.open_file(file).read_all())
    except (OSError, pa.ArrowInvalid, pl.exceptions.PolarsError) as error:
        raise damaged(path, str(error), "a table as it was written") from error
