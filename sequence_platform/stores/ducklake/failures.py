"""DuckDB's and the system's errors, translated once.

What failed, where, and what to do about it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import polars as pl

from sequence_platform.errors import SequencePlatformError, StoreError

PASSWORD = re.compile(r"(?<=:)[^:@/\s]+(?=@)|(?<=password=)\S+")
"""A password in a PostgreSQL address; it must not reach a log."""

NEXT_STEPS = (
    (
        r"no space left|disk quota|file too large|could not write all|disk is full|disk i/o",
        "free space on the lake's disk, then run again",
    ),
    (r"is locked", "end the process that holds the catalog, or wait, then run again"),
    (
        r"not a database|malformed|is not a ducklake",
        "check the path; if the catalog is damaged, restore catalog and data from one backup",
    ),
    (r"out of memory|memory limit", "raise memory_limit_mb, or read fewer columns or days"),
    (
        r"existing data path",
        "use the data path that the catalog names, or move the data to the new",
    ),
    (
        r"permission denied|readonly|read-only",
        "give the process access, or open with read_only=True",
    ),
    (r"database .* does not exist", "create the database, or correct the address"),
    (
        r"connection to server|could not connect|server closed",
        "start PostgreSQL, check the address",
    ),
    (
        r"ducklake at .* does not exist|table with name .* does not exist",
        "build a partition first, or check the name",
    ),
    (r"no such file|cannot open|unable to open|could not open|http", "check the path and its data"),
)
"""Cause, as a pattern of the vendor's text, and what to do; the first that fits."""

RETRYABLE = re.compile(
    r"is locked|conflict|connection|timed out|unique constraint|serialize", re.IGNORECASE
)
"""Causes that pass by themselves: another writer, or a server that restarts."""


def redacted(where: str) -> str:
    """Return an address without its password."""
    return PASSWORD.sub("***", where)


def failure(operation: str, where: str, error: Exception) -> StoreError:
    """Return the house's error for a vendor's."""
    found = redacted(" ".join(str(error).split()))
    step = next((step for cause, step in NEXT_STEPS if re.search(cause, found, re.IGNORECASE)), "")
    return StoreError(
        f"cannot {operation}",
        where=redacted(where),
        found=found,
        expected="a readable and writable lake",
        next_step=step or "read the cause above; nothing was changed",
        retryable=RETRYABLE.search(found) is not None,
    )


@contextmanager
def translated(operation: str, where: str) -> Iterator[None]:
    """Raise StoreError, with its cause, for what DuckDB, Polars or the system raise inside."""
    try:
        yield
    except SequencePlatformError:
        raise
    except (duckdb.Error, pl.exceptions.PolarsError, OSError) as error:
        raise failure(operation, where, error) from error
