"""LMDB environments, each opened once in a process: a second opening would release its locks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from sequence_platform.errors import StoreError

DATABASES = ("rows", "offsets", "layouts", "manifests", "state")
MAX_READERS = 1024
Transaction = Any
"""LMDB's; it has no types."""
_opened: dict[Path, tuple[Environment, int]] = {}
_lock = threading.Lock()


class Environment:
    """An LMDB environment and its databases.

    Attributes:
        rows: Streamed rows, by event type, entity and time.
        offsets: How far logs were read.
        layouts: How rows are packed.
        manifests: Which segments are live.
        state: Everything else.
    """

    def __init__(self, path: Path, map_bytes: int) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        # Without metasync a power cut may take the last transaction, whole: its offsets with it, so
        # that the log brings it again.
        self.env: Any = lmdb.open(
            str(path),
            map_size=map_bytes,
            max_dbs=len(DATABASES),
            max_readers=MAX_READERS,
            metasync=False,
            readahead=False,
        )
        self.env.reader_check()
        self.rows, self.offsets, self.layouts, self.manifests, self.state = (
            self.env.open_db(name.encode()) for name in DATABASES
        )

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Run a transaction; nothing of it stays if it fails."""
        with translated(self.path), self.env.begin(write=True) as transaction:
            yield transaction

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Run a reading transaction: one moment of all databases."""
        with translated(self.path), self.env.begin() as transaction:
            yield transaction


def open_environment(path: Path, map_bytes: int) -> Environment:
    """Return the environment of a folder, shared within the process."""
    path = path.resolve()
    with _lock, translated(path):
        if path not in _opened:
            _opened[path] = (Environment(path, map_bytes), 0)
        environment, users = _opened[path]
        _opened[path] = (environment, users + 1)
        return environment


def close_environment(environment: Environment) -> None:
    """Give an environment back; the last to do so closes it."""
    path = environment.path.resolve()
    with _lock:
        _, users = _opened[path]
        if users > 1:
            _opened[path] = (environment, users - 1)
        else:
            del _opened[path]
            environment.env.close()


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn LMDB's errors into ours."""
    try:
        yield
    except lmdb.MapFullError as error:
        raise StoreError(
            "the tail of the online store is full",
            where=str(path),
            found=str(error),
            expected="room for streamed rows that no segment covers",
            next_step="publish days that are not (sequence-platform online publish), or raise "
            "SEQUENCE_PLATFORM_ONLINE_TAIL_MB",
            retryable=True,
        ) from error
    except (lmdb.Error, OSError) as error:
        raise StoreError(
            "the online store cannot be used",
            where=str(path),
            found=str(error),
            next_step="check the folder, its disk and its permissions; another machine's folder "
            "over a network does not work",
            retryable=isinstance(error, OSError | lmdb.DiskError | lmdb.ReadersFullError),
        ) from error
