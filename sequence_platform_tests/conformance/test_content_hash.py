"""A row has one hash: as a frame, in a staged file, and read back through SQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from sequence_platform.plan.plan import TIME
from sequence_platform.ports import TableSpec
from sequence_platform.stores.ducklake.connection import LakeAddress, Resources
from sequence_platform.stores.ducklake.content import ContentHash, content_hash, parquet
from sequence_platform.stores.ducklake.session import Session
from sequence_platform.stores.ducklake.types import to_stored

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
ROWS = pl.DataFrame(
    {
        "entity": [1, 2, 3],
        "text": ["", "né", None],
        "kind": ["a", "b", None],
        "small": [-1, 1, None],
        "number": [float("nan"), 1e-300, None],
        "flag": [True, False, None],
        "on": [date(1, 1, 1), date(2026, 2, 28), None],
        "at": [NOON, NOON, None],
        "cost": [Decimal("1.5"), Decimal(0), None],
        "bytes": [b"", b"\x00\xff", None],
        "tags": [[], ["x", None, "y"], None],
        "vector": [[1.5, -2.5], [0.0, 3e38], None],
        "vectors": [[[1.0, 2.0], None], [], None],
        "nested": [{"a": 1, "b": [2]}, {"a": None, "b": []}, None],
    },
    schema={
        "entity": pl.Int64,
        "text": pl.String,
        "kind": pl.Enum(["a", "b"]),
        "small": pl.Int8,
        "number": pl.Float64,
        "flag": pl.Boolean,
        "on": pl.Date,
        "at": TIME,
        "cost": pl.Decimal(18, 4),
        "bytes": pl.Binary,
        "tags": pl.List(pl.String),
        "vector": pl.Array(pl.Float32, 2),
        "vectors": pl.List(pl.Array(pl.Float32, 2)),
        "nested": pl.Struct({"a": pl.Int32, "b": pl.List(pl.Int8)}),
    },
)
SPEC = TableSpec("enriched.all_types", ROWS.schema)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    address = LakeAddress.of(str(tmp_path / "catalog.sqlite"), str(tmp_path / "data"))
    session = Session(address, Resources(), read_only=False)
    yield session
    session.close()


def hash_of(*frames: pl.DataFrame) -> str:
    content = ContentHash(SPEC.columns)
    for frame in frames:
        content.add(frame)
    return str(content)


def test_rows_of_every_type_hash_the_same_in_a_frame_a_file_and_sql(
    session: Session, tmp_path: Path
) -> None:
    stored = to_stored(ROWS, SPEC.columns, SPEC.name)
    file = tmp_path / "rows.parquet"
    stored.write_parquet(file)
    assert hash_of(ROWS) == hash_of(stored) == hash_of(pl.read_parquet(file))
    assert content_hash(session, SPEC.columns, parquet(SPEC, [str(file)])) == hash_of(ROWS)


def test_hash_does_not_depend_on_order_or_on_parts() -> None:
    assert hash_of(ROWS[2:], ROWS[:2].reverse()) == hash_of(ROWS)


def test_hash_of_no_rows_is_the_same_from_no_frame_and_from_no_file(session: Session) -> None:
    assert hash_of() == hash_of(ROWS.clear()) == "0-0-0"
    assert content_hash(session, SPEC.columns, parquet(SPEC, [])) == "0-0-0"


def test_hash_tells_a_repeated_row_and_the_order_of_a_list() -> None:
    swapped = ROWS.with_columns(pl.col("tags").list.reverse())
    assert (
        len({hash_of(ROWS), hash_of(ROWS, ROWS), hash_of(ROWS, ROWS, ROWS), hash_of(swapped)}) == 4
    )
