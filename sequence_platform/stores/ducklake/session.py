"""One connection to the lake and the only ways to use it.

Reads that see one snapshot, and the one transaction.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

import duckdb
import polars as pl

from sequence_platform.errors import StoreError
from sequence_platform.stores.ducklake.connection import LakeAddress, Resources, open_connection
from sequence_platform.stores.ducklake.failures import translated
from sequence_platform.stores.ducklake.lock import write_lock
from sequence_platform.stores.ducklake.sql import CATALOG, CATALOG_TABLES, split_name, text

T = TypeVar("T")

ATTEMPTS = 8
"""How often a transaction is tried. Under the lock only a stranger's write, or a busy catalog,
can make one fail."""

BATCH_ROWS = 100_000
"""Rows of a part of a result that is read in parts."""

LOCK_SECONDS = 300.0
"""How long a writer waits for the others: longer than maintenance of a lake of one machine
takes."""


class Session:
    """A connection, used by one thread at a time.

    Attributes:
        reached_commit: Whether a COMMIT was sent since this was last cleared: if it was reported
            as failed, it may have succeeded in the catalog all the same.
    """

    def __init__(self, address: LakeAddress, resources: Resources, *, read_only: bool) -> None:
        self.address = address
        self._is_read_only = read_only
        self._connection = open_connection(address, resources, read_only=read_only)
        self._mutex = threading.RLock()
        self.reached_commit = False
        self._lock = None if read_only else write_lock(address, self._connection)

    def close(self) -> None:
        """Close the connection; closing twice does nothing."""
        with self._mutex:
            self._connection.close()

    def query(
        self,
        sql: str,
        parameters: Sequence[object] = (),
        *,
        frames: Mapping[str, pl.DataFrame] | None = None,
    ) -> pl.DataFrame:
        """Return the rows of a query; ``frames`` are tables it may name."""
        with (
            self._mutex,
            translated("read the lake", self.address.catalog),
            self._named(frames or {}),
        ):
            return self._connection.execute(sql, list(parameters)).pl()

    def batches(
        self, sql: str, *, frames: Mapping[str, pl.DataFrame] | None = None
    ) -> Iterator[pl.DataFrame]:
        """Yield the rows of a query in parts, so that they need not be in memory together.

        Until it is exhausted or closed no other query may run.
        """
        with (
            self._mutex,
            translated("read the lake", self.address.catalog),
            self._named(frames or {}),
        ):
            for batch in self._connection.execute(sql).to_arrow_reader(BATCH_ROWS):
                yield pl.DataFrame(batch)

    def has_held_rows(self, name: str) -> bool:
        """Return whether a table has ever held rows, from the catalog alone."""
        schema, plain = split_name(name)
        found = self.query(
            f"SELECT 1 FROM {CATALOG_TABLES}.ducklake_table_stats JOIN "
            f"{CATALOG_TABLES}.ducklake_table t USING (table_id) "
            f"JOIN {CATALOG_TABLES}.ducklake_schema s USING (schema_id) "
            f"WHERE t.table_name = {text(plain)} AND s.schema_name = {text(schema)}"
        )
        return found.height > 0

    def execute(
        self,
        sql: str,
        parameters: Sequence[object] = (),
        *,
        frames: Mapping[str, pl.DataFrame] | None = None,
    ) -> int:
        """Run a statement and return the number of rows it changed."""
        with self._named(frames or {}):
            row = self._connection.execute(sql, list(parameters)).fetchone()
        return int(row[0]) if row and isinstance(row[0], int) else 0

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all queries inside see one snapshot."""
        with self._mutex:
            with translated("read the lake", self.address.catalog):
                self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._rollback()

    @contextmanager
    def transaction(self, message: str) -> Iterator[None]:
        """Hold the lock of the lake and commit what is done inside, or nothing.

        Nothing is written to the lake outside this function.
        """
        if self._lock is None:
            raise StoreError(
                "the lake is open for reading only",
                where=self.address.shown,
                found="a write",
                expected="a lake opened with read_only=False",
                next_step="open the lake for writing",
            )
        with self._mutex, self._lock.hold(LOCK_SECONDS):
            self._connection.execute("BEGIN")
            try:
                yield
                self._connection.execute(
                    f"CALL {CATALOG}.set_commit_message('sequence_platform', {text(message)})"
                )
                self.reached_commit = True
                self._connection.execute("COMMIT")
            except BaseException:
                self._rollback()
                raise

    def write(self, message: str, work: Callable[[], T]) -> T:
        """Run ``work`` in the transaction, the whole again if it conflicts with a stranger's.

        Raises:
            StoreError: it failed; nothing changed.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with (
                    translated(f"commit '{message}'", self.address.catalog),
                    self.transaction(message),
                ):
                    return work()
            except StoreError as error:
                is_conflict = isinstance(error.__cause__, duckdb.TransactionException)
                if not (is_conflict and error.retryable) or attempt == ATTEMPTS:
                    raise
            # Outside the lock, so that others get on.
            time.sleep(random.uniform(0.02, 0.1) * attempt)  # noqa: S311 - spreads the writers, guards nothing
        raise AssertionError  # the last attempt returned or raised

    @contextmanager
    def _named(self, frames: Mapping[str, pl.DataFrame]) -> Iterator[None]:
        for name, frame in frames.items():
            self._connection.register(name, frame)
        try:
            yield
        finally:
            for name in frames:
                self._connection.unregister(name)

    def _rollback(self) -> None:
        # A failed COMMIT has ended the transaction already.
        with suppress(duckdb.Error):
            self._connection.execute("ROLLBACK")
