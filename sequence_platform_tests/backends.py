"""The register of adapters: for each port, what its conformance suite runs over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from sequence_platform.stores.ducklake import DuckLakeLake, connect_read_only
from sequence_platform_tests.postgres import postgres_database


@dataclass(frozen=True, slots=True)
class LakePlace:
    """Where a lake is, so that a test can open it more than once."""

    catalog: str
    data_path: str

    def open(self, *, read_only: bool = False) -> DuckLakeLake:
        """Open the lake; whoever opens it closes it."""
        return DuckLakeLake(self.catalog, self.data_path, read_only=read_only)

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Open it as a notebook does."""
        return connect_read_only(self.catalog, self.data_path)


def lake_in_sqlite(folder: Path) -> LakePlace:
    return LakePlace(str(folder / "catalog.sqlite"), str(folder / "data"))


def lake_in_postgres(folder: Path) -> LakePlace:
    return LakePlace(postgres_database(), str(folder / "data"))


LAKES: Mapping[str, Callable[[Path], LakePlace]] = {
    "ducklake-sqlite": lake_in_sqlite,
    "ducklake-postgres": lake_in_postgres,
}
