"""Hashes of rows that do not depend on their order.

They tell a changed partition from one written again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from sequence_platform.ports import TableSpec
from sequence_platform.stores.ducklake.session import Session
from sequence_platform.stores.ducklake.sql import quoted, text
from sequence_platform.stores.ducklake.types import lake_type


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
    """Return a hash of a multiset of rows.

    How many, and the sum and the exclusive or of the hashes of each.

    Rows hash the same in a staged file, in the lake and in a frame, whatever their order.
    ``source`` may name ``frames``.
    """
    values = ", ".join(
        f"{quoted(name)}::{lake_type(dtype, name)}" for name, dtype in columns.items()
    )
    hashes = f"SELECT hash({values}) AS h FROM {source}"
    sums = "count(*), coalesce(sum(h), 0)::VARCHAR, coalesce(bit_xor(h), 0)::VARCHAR"
    count, total, odd = session.query(f"SELECT {sums} FROM ({hashes})", frames=frames).row(0)
    return f"{count:x}-{int(total):x}-{int(odd):x}"


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
