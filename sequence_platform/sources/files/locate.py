"""Finds the files that a pattern names, in a folder or an object store. Opens none of them."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec  # type: ignore[import-untyped]  # it has no stubs; what it returns is typed below

from sequence_platform.errors import SequencePlatformError, StoreError, listed

DAY_FIELD = re.compile(r"\{day(?::([^{}]*))?\}")
DEFAULT_DAY_FORM = "%Y-%m-%d"
EXTRAS = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
}
"""The package that knows an object store, where it is not named in fsspec's own error."""
IDENTITY_FACTS = ("size", "mtime", "LastModified", "last_modified", "updated", "created")
IDENTITY_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "generation", "version_id")
"""What object stores tell of a file that changes when its content does."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file, found.

    Attributes:
        name: As errors and dead letters call it: from the source root if it is below it.
        path: Absolute path, or URL.
        size: Bytes, if known.
        identity: Changes when the content does; told without reading it.
    """

    name: str
    path: str
    size: int | None
    identity: str

    @property
    def is_local(self) -> bool:
        """Whether it is in a folder of this machine."""
        return not is_url(self.path)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open it for reading bytes, as they are stored."""
        if self.is_local:
            with Path(self.path).open("rb") as stream:
                yield stream
        else:
            with fsspec.open(self.path, "rb") as stream:
                yield cast("BinaryIO", stream)


def is_url(pattern: str) -> bool:
    """Whether a pattern names files of an object store."""
    return "://" in pattern and not pattern.startswith("file://")


def pattern_of_day(pattern: str, day: date) -> str:
    """Return a ``{day}`` pattern for one day.

    Raises:
        StoreError: it has other fields than ``{day}`` and ``{day:form}``.
    """
    try:
        return pattern.format(day=day)
    except (LookupError, ValueError, AttributeError) as error:
        raise StoreError(
            "the pattern of a source cannot be formatted with a day",
            where=pattern,
            found=str(error),
            expected="{day} or {day:%Y/%m/%d} as the only field",
            next_step="mend the pattern in the definition",
        ) from error


def pattern_of_all_days(pattern: str) -> str:
    """Return a ``{day}`` pattern for whatever day."""
    return DAY_FIELD.sub(lambda field: re.sub(r"%.", "*", field[1] or DEFAULT_DAY_FORM), pattern)


def find_files(pattern: str, root: Path) -> list[SourceFile]:
    """Return the files that match, by name; none if none does.

    Raises:
        StoreError: the object store cannot be asked.
    """
    if is_url(pattern):
        with asking(pattern):
            return sorted(_find_remote(pattern), key=lambda file: file.name)
    return sorted(_find_local(pattern, root), key=lambda file: file.name)


def nothing_found(pattern: str, root: Path, *, or_else: str = "") -> StoreError:
    """Return the error of a pattern that no file matches, with what is near."""
    where = pattern if is_url(pattern) else str(_local(pattern, root))
    return StoreError(
        "no file matches",
        where=where,
        found=_nearby(where),
        expected="at least one file",
        next_step=f"check the pattern and the source root, or bring the files{or_else}",
    )


@contextmanager
def asking(url: str) -> Iterator[None]:
    """Raise StoreError for what an object store, or the package that knows it, raises inside."""
    try:
        yield
    except SequencePlatformError:
        raise
    except (ImportError, ValueError) as error:
        protocol = url.split("://", 1)[0]
        package = EXTRAS.get(protocol, "")
        extra = "install 'sequence-platform[s3]'" if package == "s3fs" else f"install {package}"
        raise StoreError(
            f"files at {protocol}:// cannot be read here",
            where=url,
            found=str(error),
            expected="an installed package that knows this kind of store",
            next_step=extra if package else "check the URL, or install what the text above names",
        ) from error
    except Exception as error:  # every store raises its own
        raise StoreError(
            "an object store does not answer as expected",
            where=url,
            found=f"{type(error).__name__}: {error}",
            expected="readable files",
            next_step="check the URL, the credentials and the network, then run again",
            retryable=True,
        ) from error


def _find_local(pattern: str, root: Path) -> Iterator[SourceFile]:
    path = _local(pattern, root)
    # Hidden files are other programs' unfinished ones; glob passes them over.
    found = [str(path)] if path.exists() else glob.glob(str(path), recursive=True)  # noqa: PTH207
    for name in found:
        file = Path(name)
        if file.is_file():
            facts = file.stat()
            shown = file.relative_to(root) if file.is_relative_to(root) else file
            identity = _digest([str(file), facts.st_size, facts.st_mtime_ns])
            yield SourceFile(shown.as_posix(), str(file), facts.st_size, identity)


def _local(pattern: str, root: Path) -> Path:
    return root / pattern.removeprefix("file://")


def _find_remote(pattern: str) -> Iterator[SourceFile]:
    store, path = fsspec.core.url_to_fs(pattern)
    store.invalidate_cache()  # it would not see files that came since it looked last
    if glob.has_magic(path):
        found = store.glob(path, detail=True)
    else:
        found = {path: store.info(path)} if store.exists(path) else {}
    for name, facts in found.items():
        if facts.get("type") == "file":
            url = store.unstrip_protocol(name)
            told = {key: str(facts[key]) for key in IDENTITY_FACTS + IDENTITY_TAGS if key in facts}
            yield SourceFile(url, url, _size(facts), _digest([url, told]))


def _size(facts: Mapping[str, Any]) -> int | None:
    size = facts.get("size")
    return None if size is None else int(size)


def _digest(facts: list[object]) -> str:
    return blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()


def _nearby(where: str) -> str:
    """Return what is in the nearest folder that exists, as text."""
    if is_url(where):
        return _nearby_remote(where)
    folder = Path(where).parent
    while glob.has_magic(str(folder)) or not folder.is_dir():
        folder = folder.parent
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    return f"in {folder}: {listed(names)}"


def _nearby_remote(url: str) -> str:
    store, path = fsspec.core.url_to_fs(url)
    folder = path.rsplit("/", 1)[0]
    try:
        names = sorted(name.rsplit("/", 1)[-1] for name in store.ls(folder, detail=False))
    except Exception:  # noqa: BLE001 - every store raises its own, and this only adds to an error
        return "no file of that name; its folder cannot be listed"
    return f"in {folder}: {listed(names)}"
