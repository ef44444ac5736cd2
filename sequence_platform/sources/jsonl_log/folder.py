"""What stands where in a log of files: topics, partitions, segments, and who a topic is."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from sequence_platform.errors import StoreError, listed, nearest

PARTITION = re.compile(r"partition=(\d+)")
TOPIC = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
"""What Kafka allows too, so that a topic can move between logs."""
SUFFIX = ".jsonl"
IDENTITY = "topic.json"
PERMANENT = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOENT}
"""What trying again does not mend."""


class Segment(NamedTuple):
    """A file of lines, and the offset of its first."""

    first: int
    path: Path


@contextmanager
def translated(what: str, where: Path) -> Iterator[None]:
    """Raise StoreError for what the file system raises inside."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            what,
            where=str(where),
            found=f"{type(error).__name__}: {error}",
            expected="a folder of a log that can be read, and written by its writers",
            next_step="check the folder, its rights and the space on its disk",
            retryable=error.errno not in PERMANENT,
        ) from error


def topic_folder(root: Path, topic: str) -> Path:
    """Return the folder of a topic that exists.

    Raises:
        StoreError: it does not, or cannot be looked at.
    """
    folder = root / checked(topic, root)
    with translated("a log cannot be read", folder):
        if folder.is_dir():
            return folder
        present = [entry.name for entry in root.iterdir()] if root.is_dir() else []
    raise StoreError(
        "a topic does not exist",
        where=str(root),
        found=nearest(topic, [name for name in present if TOPIC.fullmatch(name)]),
        expected=f"a folder '{topic}'",
        next_step="check the name, or create the topic",
    )


def checked(topic: str, root: Path) -> str:
    """Return the name of a topic, which is also that of a folder.

    Raises:
        StoreError: it cannot be one.
    """
    if TOPIC.fullmatch(topic):
        return topic
    raise StoreError(
        "a topic has a name that logs do not allow",
        where=str(root),
        found=repr(topic),
        expected="1 to 249 of A-Z a-z 0-9 . _ -",
        next_step="name it otherwise",
    )


def create_topic(root: Path, topic: str, partitions: int) -> None:
    """Make a topic, which appears whole; nothing if it exists."""
    folder = root / checked(topic, root)
    with translated("a topic cannot be created", folder):
        if folder.exists():
            return
        root.mkdir(parents=True, exist_ok=True)
        part = root / f".{topic}.{uuid4().hex}"
        for number in range(partitions):
            (part / f"partition={number}").mkdir(parents=True)
        (part / IDENTITY).write_text(_identity(uuid4().hex))
        try:
            part.rename(folder)
        except OSError:  # another process made it in the meantime
            shutil.rmtree(part)
            if not folder.is_dir():
                raise
        sync_folder(root)


def identity(folder: Path) -> str:
    """Return what a topic is told by; a folder that somebody else made is given it when first seen.

    Where nothing can be written, it is the folder's number in its file system.
    """
    file = folder / IDENTITY
    with translated("the identity of a topic cannot be read", file):
        if not file.exists():
            with suppress(PermissionError):
                _make_identity(file)
        try:
            found: str = json.loads(file.read_text())["identity"]
        except FileNotFoundError:
            facts = folder.stat()
            return f"folder-{facts.st_dev}-{facts.st_ino}"
        except (ValueError, LookupError, TypeError) as error:
            raise StoreError(
                "the identity of a topic cannot be read",
                where=str(file),
                found=f"{type(error).__name__}: {error}",
                expected='{"identity": "..."}',
                next_step="bring the file back; without it, whoever reads the topic begins anew",
            ) from error
    return found


def partitions(folder: Path) -> dict[int, Path]:
    """Return the folders of a topic's partitions."""
    with translated("a topic cannot be read", folder):
        matches = [(PARTITION.fullmatch(entry.name), entry) for entry in folder.iterdir()]
        return {int(match[1]): entry for match, entry in sorted(matches, key=str) if match}


def segments(partition: Path) -> list[Segment]:
    """Return the segments of a partition, in order.

    Raises:
        StoreError: a file of lines has no offset for a name, so that its lines have none.
    """
    with translated("a partition of a log cannot be read", partition):
        names = [name for name in os.listdir(partition) if name.endswith(SUFFIX)]  # noqa: PTH208 - at every poll
    odd = [name for name in names if not name.removesuffix(SUFFIX).isdecimal()]
    if odd:
        raise StoreError(
            "files of a log have names that are no offsets",
            where=str(partition),
            found=listed(sorted(odd)),
            expected=f"the offset of the first line, as in {segment_name(0)}",
            next_step="rename them, or take them away",
        )
    return sorted(Segment(int(name.removesuffix(SUFFIX)), partition / name) for name in names)


def segment_name(first: int) -> str:
    """Return the name of a segment: sorted by name, they are in order."""
    return f"{first:020}{SUFFIX}"


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_identity(file: Path) -> None:
    """Write an identity; another reader's, if it was faster."""
    part = file.with_name(f".{file.name}.{uuid4().hex}")
    try:
        part.write_text(_identity(uuid4().hex))
        with suppress(FileExistsError):
            file.hardlink_to(part)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    finally:
        part.unlink(missing_ok=True)


def _identity(value: str) -> str:
    return json.dumps({"identity": value}) + "\n"
