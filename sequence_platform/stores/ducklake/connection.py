"""Connections to DuckDB with the lake attached as ``lake``.

Never waits for a network to load an extension.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from sequence_platform.errors import StoreError
from sequence_platform.stores.ducklake.failures import redacted, translated
from sequence_platform.stores.ducklake.sql import CATALOG, CATALOG_TABLES, text

if TYPE_CHECKING:
    from collections.abc import Sequence

INSTALL_SECONDS = 15
"""How long a download of an extension may take before the error says to install it by hand."""

BUSY_TIMEOUT_MS = 10_000
"""How long SQLite waits for another process; writers are serialised by our own lock, so this is
for readers."""

INLINED_ROWS = 1000
"""Inserts of up to so many rows stay in the catalog instead of making a file each. Only the
platform's own tables are
inserted into: rows of partitions are staged files."""

NO_EXTENSION_DOWNLOADS = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
"""DuckDB must not reach for the network by itself: without one, it hangs."""

UNSIGNED = {"allow_unsigned_extensions": "true"}
"""For as long as extensions of installed wheels are loaded. They are as good as the duckdb package
beside them, which nobody checks either; checking 67 MB takes 0.3 s of each opening of a lake."""


@dataclass(frozen=True, slots=True)
class LakeAddress:
    """Where a lake is.

    Attributes:
        catalog: Path of a SQLite file, or ``postgresql://...``.
        data_path: A folder or ``s3://...``; kept with a trailing slash.
    """

    catalog: str
    data_path: str

    @classmethod
    def of(cls, catalog: str, data_path: str) -> LakeAddress:
        """Return the address, local paths absolute: the working folder does not matter."""
        is_local = "://" not in data_path
        data = str(Path(data_path).absolute()) if is_local else data_path.rstrip("/")
        is_file = not catalog.startswith(("postgresql://", "postgres://"))
        return cls(str(Path(catalog).absolute()) if is_file else catalog, data + "/")

    @property
    def is_postgres(self) -> bool:
        """Whether the catalog is in PostgreSQL."""
        return "://" in self.catalog

    @property
    def is_local(self) -> bool:
        """Whether the data is in a folder."""
        return "://" not in self.data_path

    @property
    def shown(self) -> str:
        """The catalog as it may be shown: without a password."""
        return redacted(self.catalog)

    @property
    def extensions(self) -> tuple[str, ...]:
        """The extensions this lake needs, in the order of loading."""
        scanner = "postgres_scanner" if self.is_postgres else "sqlite_scanner"
        return (scanner, *(() if self.is_local else ("httpfs",)), "ducklake")


@dataclass(frozen=True, slots=True)
class Resources:
    """What a connection may use."""

    memory_limit_mb: int = 1024
    threads: int = 2
    temp_directory: str | None = None


def open_connection(
    address: LakeAddress, resources: Resources, *, read_only: bool
) -> duckdb.DuckDBPyConnection:
    """Return a connection in UTC with the lake attached; creates the catalog unless ``read_only``.

    Raises:
        StoreError: an extension is absent, or the catalog is absent, locked, corrupt or of other
            data.
    """
    _ensure_present(address, read_only=read_only)
    connection = duckdb.connect(config={**NO_EXTENSION_DOWNLOADS, **UNSIGNED})
    try:
        with translated("open the lake", address.catalog):
            connection.execute(f"SET memory_limit = '{resources.memory_limit_mb}MB'")
            connection.execute(f"SET threads = {resources.threads}")
            if resources.temp_directory is not None:
                connection.execute(f"SET temp_directory = {text(resources.temp_directory)}")
            load_extensions(connection, address.extensions)
            # icu is built into the Python package; without a fixed zone days would depend on the
            # machine.
            connection.execute("SET GLOBAL TimeZone = 'UTC'")
            _attach(connection, address, read_only=read_only)
            # Views and macros name schemas, not the catalog, so that it may be attached as
            # anything.
            connection.execute(f"USE {CATALOG}")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_read_only(
    catalog: str, data_path: str, *, memory_limit_mb: int = 1024
) -> duckdb.DuckDBPyConnection:
    """Return a plain DuckDB connection for notebooks.

    The lake attached read-only as ``lake`` and in use, UTC.

    Works while others write; every statement sees one snapshot. Macros such as
    ``sequences.home_feed_as_of(t)`` need the lake to stay in use.

    Raises:
        StoreError: the lake is absent or cannot be opened.
    """
    address = LakeAddress.of(catalog, data_path)
    return open_connection(address, Resources(memory_limit_mb=memory_limit_mb), read_only=True)


def load_extensions(connection: duckdb.DuckDBPyConnection, names: Sequence[str]) -> None:
    """Load extensions: from installed wheels, as installed for the user, or by a bounded download.

    After those of wheels, no extension without a signature can be loaded over this connection.

    Raises:
        StoreError: one is neither installed nor to be had within seconds; the error says what to
            install.
    """
    packaged = {name: path for name in names if (path := _packaged_extension(name))}
    for path in packaged.values():
        connection.execute(f"LOAD {text(str(path))}")
    for setting in UNSIGNED:
        connection.execute(f"SET GLOBAL {setting} = false")  # for good: it cannot be set again
    for name in names:
        if name in packaged:
            continue
        try:
            connection.execute(f"LOAD {name}")
        except duckdb.Error:
            _download(name)
            connection.execute(f"LOAD {name}")


def _packaged_extension(name: str) -> Path | None:
    spec = find_spec(f"duckdb_extension_{name}")
    if spec is None or not spec.submodule_search_locations:
        return None
    root = Path(next(iter(spec.submodule_search_locations)))
    path = root / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    return path if path.is_file() else None


def _download(name: str) -> None:
    # In a process of its own: DuckDB cannot be interrupted while it waits for a network that does
    # not answer.
    command = [sys.executable, "-c", f"import duckdb; duckdb.execute('INSTALL {name}')"]
    try:
        subprocess.run(command, timeout=INSTALL_SECONDS, check=True, capture_output=True, text=True)  # noqa: S603
    except (subprocess.SubprocessError, OSError) as error:
        reason = (
            f"no answer within {INSTALL_SECONDS} s"
            if isinstance(error, subprocess.TimeoutExpired)
            else ""
        )
        output = getattr(error, "stderr", "") or ""
        raise StoreError(
            f"the DuckDB extension '{name}' is not installed and cannot be downloaded",
            where=f"duckdb {duckdb.__version__}",
            found=reason or (output.strip().splitlines() or [str(error)])[-1],
            expected=f"the package duckdb-extension-{name.replace('_', '-')}, of the version of "
            f"duckdb",
            next_step=f"pip install "
            f"duckdb-extension-{name.replace('_', '-')}=={duckdb.__version__}",
        ) from error


def _ensure_present(address: LakeAddress, *, read_only: bool) -> None:
    if address.is_postgres:
        return
    path = Path(address.catalog)
    if read_only and not path.is_file():
        raise StoreError(
            "there is no lake to read",
            where=address.catalog,
            found="no catalog file",
            expected="a catalog written by a first run",
            next_step="build a partition first, or check the path of the catalog",
        )
    if not read_only:
        with translated("create the folders of the lake", address.catalog):
            path.parent.mkdir(parents=True, exist_ok=True)
    if not read_only and address.is_local:
        with translated("create the folders of the lake", address.data_path):
            Path(address.data_path).mkdir(parents=True, exist_ok=True)


def _attach(
    connection: duckdb.DuckDBPyConnection, address: LakeAddress, *, read_only: bool
) -> None:
    kind = "postgres" if address.is_postgres else "sqlite"
    options = [
        f"DATA_PATH {text(address.data_path)}",
        f"DATA_INLINING_ROW_LIMIT {INLINED_ROWS}",
    ]
    if read_only:
        options.append("READ_ONLY")
    if not address.is_postgres:
        options.append(f"META_BUSY_TIMEOUT {BUSY_TIMEOUT_MS}")
    if not (address.is_postgres or read_only):
        options.append("META_JOURNAL_MODE 'WAL'")
    attach = f"ATTACH {text(f'ducklake:{kind}:{address.catalog}')} AS {CATALOG}"
    try:
        connection.execute(f"{attach} ({', '.join(options)})")
    except duckdb.Error as error:
        if "existing data path" not in str(error):
            raise
        connection.execute(f"{attach} ({', '.join(options)}, OVERRIDE_DATA_PATH true)")
        if not _has_moved_with_its_data(connection, address):
            raise


def _has_moved_with_its_data(connection: duckdb.DuckDBPyConnection, address: LakeAddress) -> bool:
    """Return whether a file of the lake is where it should be under a new data path."""
    found = connection.execute(
        f"SELECT s.path || t.path || f.path FROM {CATALOG_TABLES}.ducklake_data_file f "
        f"JOIN {CATALOG_TABLES}.ducklake_table t USING (table_id) "
        f"JOIN {CATALOG_TABLES}.ducklake_schema s USING (schema_id) "
        "WHERE f.end_snapshot IS NULL LIMIT 1"
    ).fetchone()
    if found is None:
        return True
    files = connection.execute("SELECT count(*) FROM glob(?)", [address.data_path + found[0]])
    return files.fetchone() == (1,)
