"""Opens the databases that sources name, read only, through DuckDB. Shows no password."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import duckdb
import polars as pl
import pyarrow as pa

from sequence_platform.errors import StoreError, listed

SOURCE = "source"
"""What a database is attached as."""
NO_DOWNLOADS = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
"""DuckDB must not reach for the network by itself: without one, it hangs."""
POSTGRES = ("postgresql://", "postgres://")
PASSWORD = re.compile(r"(?<=:)[^:@/\s]+(?=@)|(?<=password=)\S+")
RETRYABLE = re.compile(r"lock|connect|timed out|closed", re.IGNORECASE)
INTERNAL_SCHEMAS = ("information_schema.", "pg_")


class Databases(Protocol):
    """Where databases are, and what reading them may use; the settings are one."""

    @property
    def databases(self) -> Mapping[str, str]:
        """DuckDB files or ``postgresql://...``, by name."""

    @property
    def source_root(self) -> Path:
        """Where relative paths start."""

    @property
    def memory_limit_mb(self) -> int:
        """Memory of DuckDB."""

    @property
    def threads(self) -> int:
        """Threads of DuckDB."""


@contextmanager
def open_database(
    name: str, databases: Databases, where: str
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a connection in UTC, in a transaction, with a database attached as SOURCE.

    Args:
        name: A name that the settings know, or the path of a DuckDB file.
        databases: The settings.
        where: What is read, for errors.

    Raises:
        StoreError: the database is unknown, absent, locked or not one, or an extension is absent.
    """
    address = _address(name, databases, where)
    with duckdb.connect(config=dict(NO_DOWNLOADS)) as connection:
        with reading(where):
            connection.execute(f"SET memory_limit = '{databases.memory_limit_mb}MB'")
            connection.execute(f"SET threads = {databases.threads}")
            connection.execute("SET TimeZone = 'UTC'")
            options = "READ_ONLY"
            if address.startswith(POSTGRES):
                connection.execute(f"LOAD {_text(_postgres_extension())}")
                options += ", TYPE postgres"
            connection.execute(f"ATTACH {_text(address)} AS {SOURCE} ({options})")
            connection.execute("BEGIN TRANSACTION")  # several queries see one state
        yield connection


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Raise StoreError for what DuckDB raises inside."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException, pl.exceptions.PolarsError, OSError) as error:
        found = PASSWORD.sub("***", " ".join(str(error).split()))
        raise StoreError(
            "a table cannot be read",
            where=where,
            found=f"{type(error).__name__}: {found}",
            expected="a database that is there, valid, and not locked by another process",
            next_step="check the address, the rights and who holds it; then run again",
            retryable=RETRYABLE.search(found) is not None,
        ) from error


def default_schema(name: str, databases: Databases) -> str:
    """Return where a database has its tables if a name does not say."""
    return "public" if databases.databases.get(name, name).startswith(POSTGRES) else "main"


def tables_of(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the tables and views of the attached database."""
    rows = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = $name UNION ALL "
        "SELECT schema_name, view_name FROM duckdb_views() WHERE database_name = $name",
        {"name": SOURCE},
    ).fetchall()
    defaults = {"main", "public"}
    names = {table if schema in defaults else f"{schema}.{table}" for schema, table in rows}
    return sorted(name for name in names if not name.startswith(INTERNAL_SCHEMAS))


def quoted(name: str) -> str:
    """Return an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _address(name: str, databases: Databases, where: str) -> str:
    known = databases.databases
    address = known.get(name, name)
    if address.startswith(POSTGRES):
        return address
    path = databases.source_root.absolute() / address
    if path.is_file():
        return str(path)
    raise StoreError(
        "a database file is missing" if name in known else "a database is not known",
        where=where,
        found=f"no file {path}" + ("" if name in known else f"; settings name: {listed(known)}"),
        expected="a DuckDB file, or a name that the settings say the database of",
        next_step=f"bring the file, or set SEQUENCE_PLATFORM_DATABASES__{name.upper()}",
    )


def _postgres_extension() -> str:
    """Return the path of the extension in its wheel.

    Raises:
        StoreError: it is not installed for this version of DuckDB.
    """
    spec = find_spec("duckdb_extension_postgres_scanner")
    for root in (spec and spec.submodule_search_locations) or ():
        version = f"v{duckdb.__version__}"
        path = Path(root, "extensions", version, "postgres_scanner.duckdb_extension")
        if path.is_file():
            return str(path)
    package = f"duckdb-extension-postgres-scanner=={duckdb.__version__}"
    raise StoreError(
        "DuckDB cannot read PostgreSQL here",
        where=f"duckdb {duckdb.__version__}",
        found="no extension postgres_scanner for it",
        expected=f"the package {package}",
        next_step=f"pip install {package}",
    )
