"""Hashes of rows that do not depend on their order.

They tell a changed partition from one written again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from sequence_platform.ports import TableSpec
from sequence_platform.stores.ducklake.session import Session
from sequence_platform.stores.ducklake.sql import quoted, text
from sequence_platform.stores.ducklake.types import lake_type, read_dtype

HALF = 1 << 32


def parquet(spec: TableSpec, files: Sequence[str]) -> str:
    """Return staged files as a table in SQL, empty if there are none."""
    if files:
        return (
            f"read_parquet([{', '.join(text(path) for path in files)}], hive_partitioning = false)"
        )
    nulls = ", ".join(
        f"NULL::{lake_type(dtype, name)} AS {quoted(name)}" for name, dtype in spec.columns.items()
    )
    return f"(SELECT {nulls} WHERE false)"


def content_hash(session: Session, columns: pl.Schema, source: str, **frames: pl.DataFrame) -> str:
    """Return the ContentHash of a table or query in SQL, which may name ``frames``."""
    values = ", ".join(
        f"{quoted(name)}::{lake_type(dtype, name)} AS {quoted(name)}"
        for name, dtype in columns.items()
    )
    found = ContentHash(columns)
    for batch in session.batches(f"SELECT {values} FROM {source}", frames=frames):
        found.add(batch)
    return str(found)


class ContentHash:
    """A hash of a multiset of rows, grown frame by frame.

    How many, and the sum and the exclusive or of the hashes of each.

    Rows hash the same in a staged file, in the lake and in a frame, whatever their order. Polars
    hashes them: rows are in memory when they are written, and lists take it a fifth of the time
    that DuckDB needs to read them again and hash them.
    """

    def __init__(self, columns: pl.Schema) -> None:
        self._values = [pl.col(name).cast(read_dtype(dtype)) for name, dtype in columns.items()]
        self._count = self._total = self._odd = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Take in rows with the columns of the schema, as they are written or read."""
        hashes = frame.select(self._values).hash_rows()
        self._count += hashes.len()
        # In halves, whose sums cannot overflow: the sum of all hashes is exact.
        self._total += int((hashes // HALF).sum()) * HALF + int((hashes % HALF).sum())
        self._odd ^= int(np.bitwise_xor.reduce(hashes.to_numpy()))

    def __str__(self) -> str:
        """The three numbers as the ledger holds them."""
        return f"{self._count:x}-{self._total:x}-{self._odd:x}"


def changed_hash(stored: str, *, added: Iterable[str], removed: Iterable[str]) -> str:
    """Return the hash of a multiset after rows with these hashes came and went.

    >>> changed_hash("2-30-3", added=["1-5-1"], removed=["2-30-3"])
    '1-5-1'
    """
    count, total, odd = _parts(stored)
    for text_, sign in [*((h, 1) for h in added), *((h, -1) for h in removed)]:
        rows, hashes, bits = _parts(text_)
        count, total, odd = count + sign * rows, total + sign * hashes, odd ^ bits
    return f"{count:x}-{total:x}-{odd:x}"


NOTHING = "0-0-0"
"""The hash of no rows."""


def _parts(digest: str) -> tuple[int, int, int]:
    count, total, odd = (int(part, 16) for part in digest.split("-"))
    return count, total, odd
