"""Hashes of rows that do not depend on their order.

They tell a changed partition from one written again.
"""

from __future__ import annotations

from collections.abc import Sequence

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
