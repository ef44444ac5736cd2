"""The one lock that every writer of a lake holds.

Flock beside a SQLite catalog, an advisory lock in PostgreSQL.

It is correctness, not speed: without it two writers of one new partition can both commit. Both
  kinds are freed by the
system when their process dies.
"""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import duckdb

from sequence_platform.errors import StoreError
from sequence_platform.stores.ducklake.connection import LakeAddress
from sequence_platform.stores.ducklake.failures import translated
from sequence_platform.stores.ducklake.sql import text

LOCK_KEY = 5_551_914
"""The number of the advisory lock. Advisory locks are per PostgreSQL database, as a lake is."""

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.002, 0.05
"""The lock is polled: a blocked call would ignore an interrupt and know no time limit."""


class WriteLock(Protocol):
    """Held by at most one writer of a lake, over all processes."""

    def hold(self, seconds: float) -> AbstractContextManager[None]:
        """Hold the lock; StoreError if another writer keeps it for longer than ``seconds``."""
        ...


class FileLock:
    """flock on a file beside the catalog.

    The file stays: removing it would let two writers hold two files.
    """

    def __init__(self, address: LakeAddress) -> None:
        self._path = address.catalog + ".lock"

    @contextmanager
    def hold(self, seconds: float) -> Iterator[None]:
        """Hold the lock."""
        with translated("lock the lake", self._path):
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            for _ in _attempts(seconds, self._path):
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    continue
            yield
        finally:
            os.close(handle)


class AdvisoryLock:
    """A lock of a PostgreSQL transaction, on its own connection: it outlives the commit."""

    def __init__(self, address: LakeAddress, connection: duckdb.DuckDBPyConnection) -> None:
        self._where = address.shown
        self._connection = connection.cursor()
        with translated("lock the lake", self._where):
            self._connection.execute(
                f"ATTACH IF NOT EXISTS {text(address.catalog)} AS lake_lock (TYPE postgres, "
                f"READ_ONLY)"
            )

    @contextmanager
    def hold(self, seconds: float) -> Iterator[None]:
        """Hold the lock."""
        lock = f"SELECT pg_try_advisory_xact_lock({LOCK_KEY})"
        question = f"SELECT * FROM postgres_query('lake_lock', {text(lock)})"
        with translated("lock the lake", self._where):
            self._connection.execute("BEGIN")
        try:
            for _ in _attempts(seconds, self._where):
                with translated("lock the lake", self._where):
                    if self._connection.execute(question).fetchall() == [(True,)]:
                        break
            yield
        finally:
            with translated("unlock the lake", self._where):
                self._connection.execute("ROLLBACK")


def write_lock(address: LakeAddress, connection: duckdb.DuckDBPyConnection) -> WriteLock:
    """Return the lock of a lake."""
    return AdvisoryLock(address, connection) if address.is_postgres else FileLock(address)


def _attempts(seconds: float, where: str) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    wait = FIRST_WAIT_SECONDS
    while True:
        yield
        if time.monotonic() >= deadline:
            raise StoreError(
                "another writer holds the lake",
                where=where,
                found=f"locked for {seconds:g} s",
                expected="commits of well under a second",
                next_step="find the process that holds it (maintenance, or one that was stopped) "
                "and end it",
                retryable=True,
            )
        time.sleep(wait * random.uniform(0.5, 1))  # noqa: S311 - spreads the writers, guards nothing
        wait = min(wait * 1.5, LONGEST_WAIT_SECONDS)
