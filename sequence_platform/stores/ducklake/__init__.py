"""The lake on DuckLake: Parquet files plus a SQL catalog in SQLite or PostgreSQL."""

from __future__ import annotations

from sequence_platform.stores.ducklake.connection import connect_read_only
from sequence_platform.stores.ducklake.lake import DuckLakeLake

__all__ = ["DuckLakeLake", "connect_read_only"]
