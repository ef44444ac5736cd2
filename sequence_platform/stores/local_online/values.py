"""Values by key on one machine: a folder a version, and a pointer to the one that counts.

``current.json`` names the folder. It is replaced in one step, so that a reader in any process sees
all of a version, the one before or the new one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from uuid import uuid4

import polars as pl

from sequence_platform.engine.columns import Column
from sequence_platform.errors import StoreError
from sequence_platform.online_format.manifests import time_of, to_us
from sequence_platform.plan.plan import EnrichmentPlan
from sequence_platform.ports.values import Found, ValuesVersion
from sequence_platform.stores.local_online.arrow_files import checksum, size_of, sync
from sequence_platform.stores.local_online.mapped_values import (
    MappedValues,
    damaged,
    write_values,
)

CURRENT = "current.json"
YOUNG = timedelta(hours=1)
"""A folder that the pointer does not name is left alone so long: it may be being written."""
OPEN_AT_ONCE_BYTES = 8 << 20
"""Opening reads all of a version, to verify it: some milliseconds for this much."""
LOOKS = 5
"""At a pointer whose folder goes away while it is opened, because newer ones were published."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """What ``current.json`` says.

    Attributes:
        before: The folder that counted before: somebody may be opening it.
    """

    folder: str
    before: str
    checksum: str
    number: int
    content: str
    rows: int
    bytes: int
    published_us: int

    @property
    def version(self) -> ValuesVersion:
        """What is published."""
        at = time_of(self.published_us)
        return ValuesVersion(self.number, self.content, self.rows, self.bytes, at)


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A version in use, and the stamp of the pointer that named it."""

    stamp: object
    values: MappedValues


class LocalValueStore:
    """ports.ValueStore in a folder.

    Args:
        folder: Made if need be.
        verify: Whether checksums are checked when a version is opened.
        open_at_once_bytes: A version up to this size is opened by the first lookup after it was
            published; a larger one beside lookups, which go on with the version before until then.
    """

    is_near = True

    def __init__(
        self,
        folder: Path,
        *,
        verify: bool = True,
        open_at_once_bytes: int = OPEN_AT_ONCE_BYTES,
    ) -> None:
        self._folder = folder
        self._verify = verify
        self._open_at_once_bytes = open_at_once_bytes
        self._opened: dict[str, Opened] = {}
        self._opening: dict[str, Future[Opened]] = {}
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="values")

    def close(self) -> None:
        """Let go of all files; mapped memory goes with the last column that uses it."""
        self._pool.shutdown(cancel_futures=True)
        self._opened.clear()

    # ---- reading

    def look_up(
        self, enrichment: EnrichmentPlan, keys: Column, at: datetime, columns: Sequence[str]
    ) -> Found:
        """Return columns of the row that counts for each key: ports.ValueReader."""
        return self._current(enrichment).look_up(keys, at, columns)

    def _current(self, enrichment: EnrichmentPlan) -> MappedValues:
        """Return the version that counts, opened once a version and a definition."""
        path = self._place(enrichment) / CURRENT
        stamp = _stamp(path)
        if stamp is None:
            raise StoreError(
                f"nothing is published of enrichment '{enrichment.name}'",
                where=str(path),
                expected="its values, published after it was built",
                next_step=f"sequence-platform online publish {enrichment.name}",
            )
        held = self._opened.get(enrichment.table)
        if held is not None and held.values.enrichment is enrichment and held.stamp == stamp:
            return held.values
        with self._lock:
            held = self._opened[enrichment.table] = self._newer(enrichment, stamp)
        return held.values

    def _newer(self, enrichment: EnrichmentPlan, stamp: object) -> Opened:
        """Return the version of a stamp, or the one before while that is being opened."""
        table = enrichment.table
        held = self._opened.get(table)
        if held is None or held.values.enrichment is not enrichment:
            return self._open(enrichment, stamp)
        if held.stamp == stamp:  # another thread was faster
            return held
        opening = self._opening.get(table)
        if opening is None:
            pointer = _read_pointer(self._place(enrichment) / CURRENT)
            if pointer is None or pointer.bytes <= self._open_at_once_bytes:
                return self._open(enrichment, stamp)
            self._opening[table] = self._pool.submit(self._open, enrichment, stamp)
            return held
        if not opening.done():
            return held
        del self._opening[table]
        return opening.result()

    def _open(self, enrichment: EnrichmentPlan, stamp: object) -> Opened:
        place = self._place(enrichment)
        for look in range(LOOKS):
            pointer = _read_pointer(place / CURRENT)
            if pointer is None:
                break
            try:
                values = MappedValues(
                    place / pointer.folder,
                    enrichment,
                    pointer.version.published_at,
                    pointer.checksum if self._verify else None,
                )
                return Opened(stamp, values)
            except FileNotFoundError as error:
                if look == LOOKS - 1 or _read_pointer(place / CURRENT) == pointer:
                    raise damaged(place / pointer.folder, str(error)) from error
        raise damaged(place, "no pointer to a version")

    # ---- publishing

    def publish(
        self, enrichment: EnrichmentPlan, rows: pl.DataFrame, content: str, at: datetime
    ) -> ValuesVersion:
        """Write a version and point to it: ports.ValuePublisher."""
        place = self._place(enrichment)
        current = _read_pointer(place / CURRENT)
        if current is not None and current.content == content:
            return current.version
        folder = place / uuid4().hex
        try:
            written = write_values(folder, rows)
            pointer = Pointer(
                folder=folder.name,
                before="" if current is None else current.folder,
                checksum=checksum(written),
                number=1 + (0 if current is None else current.number),
                content=content,
                rows=rows.height,
                bytes=size_of(written),
                published_us=to_us(at),
            )
            _point(place / CURRENT, pointer)
            _drop(place, {pointer.folder, pointer.before}, at)
        except OSError as error:
            raise StoreError(
                f"the values of enrichment '{enrichment.name}' cannot be written",
                where=str(folder),
                found=str(error),
                next_step="free space on the disk, or mend the folder's permissions, and publish "
                "again",
                retryable=True,
            ) from error
        return pointer.version

    def version(self, enrichment: EnrichmentPlan) -> ValuesVersion | None:
        """Return what is published, or None: ports.ValuePublisher."""
        pointer = _read_pointer(self._place(enrichment) / CURRENT)
        return None if pointer is None else pointer.version

    def _place(self, enrichment: EnrichmentPlan) -> Path:
        return self._folder / enrichment.table


def _point(path: Path, pointer: Pointer) -> None:
    beside = path.with_name(f"{pointer.folder}.json")
    beside.write_text(json.dumps(asdict(pointer)), encoding="utf-8")
    sync(beside)
    beside.replace(path)
    sync(path.parent)


def _read_pointer(path: Path) -> Pointer | None:
    try:
        return Pointer(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise damaged(path, str(error)) from error


def _stamp(path: Path) -> object | None:
    """Return what changes whenever the pointer is replaced; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _drop(place: Path, named: set[str], at: datetime) -> None:
    """Remove versions that nobody can be opening."""
    before = (at - YOUNG).timestamp()
    for path in place.iterdir():
        with suppress(FileNotFoundError):
            if path.is_dir() and path.name not in named and path.stat().st_mtime < before:
                shutil.rmtree(path)
