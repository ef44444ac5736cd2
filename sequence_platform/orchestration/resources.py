"""What asset bodies receive, opened when a run needs it and closed at its end."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import dagster as dg
from dagster_duckdb import DuckDBResource
from duckdb import DuckDBPyConnection
from pydantic import Field

from sequence_platform.settings import Settings
from sequence_platform.stores.ducklake import connect_read_only
from sequence_platform.wiring import Platform, open_platform


def platform_resource(settings: Settings) -> dg.ResourceDefinition:
    """Return the resource that opens the lake and the sources of these settings."""

    @dg.resource(description="The lake, the sources and the clock of the platform.")
    def platform(_: dg.InitResourceContext) -> Iterator[Platform]:
        with open_platform(settings) as opened:
            yield opened

    return platform


class LakeDuckDBResource(DuckDBResource):
    """DuckDB in memory with the lake attached read-only and in use, for SQL in assets of your own.

    Merge them with those of ``build_definitions``; they ask for ``duckdb: DuckDBResource``.
    """

    database: str = ":memory:"
    catalog: str = Field(description="Catalog of the lake: a SQLite file or postgresql://...")
    data_path: str = Field(description="Data of the lake: a folder or s3://bucket/prefix.")

    @contextmanager
    def get_connection(self) -> Iterator[DuckDBPyConnection]:
        """Yield a connection of its own, closed at the end; every statement sees one snapshot."""
        with closing(connect_read_only(self.catalog, self.data_path)) as connection:
            yield connection


def lake_duckdb(settings: Settings) -> LakeDuckDBResource:
    """Return the read-only DuckDB resource of these settings."""
    return LakeDuckDBResource(catalog=settings.catalog_url, data_path=settings.data_url)
