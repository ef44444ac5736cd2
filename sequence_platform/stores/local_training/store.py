"""The training store in a folder.

Parts and versions are written beside what is there and renamed when complete; a version counts when
its folder has its name. Builds of one sequence wait for each other.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl

from sequence_platform.errors import StoreError, nearest
from sequence_platform.plan.fingerprint import fingerprint
from sequence_platform.ports.training import Lineage, PartInfo, VersionInfo
from sequence_platform.stores.local_training.arrow_table import read_table, write_table
from sequence_platform.stores.local_training.column_file import checksum, damaged
from sequence_platform.stores.local_training.descriptions import (
    read_description,
    write_description,
)
from sequence_platform.stores.local_training.part import Part, folder_bytes, sync, write_part
from sequence_platform.stores.local_training.version import (
    Version,
    vocabulary_file,
    write_copies,
    write_index,
)
from sequence_platform.stores.local_training.vocabulary import Vocabulary, is_text

DESCRIPTION, SCHEMA = "version.json", "schema.arrow"
ENTITY = "entity"


class LocalTrainingStore:
    """ports.training.TrainingStore in a folder: ``<folder>/<sequence>/{parts,versions}/<name>/``.

    Args:
        folder: Of all sequences; created when something is added.
        is_verified: Whether files are compared with their checksums when they are opened.
    """

    def __init__(self, folder: Path, *, is_verified: bool = True) -> None:
        self._folder, self._is_verified = folder, is_verified

    def newest(self, lineage: Lineage) -> VersionInfo | None:
        """Return the version of a lineage that was made last, or None."""
        found = [
            version
            for version in self.versions(lineage.sequence)
            if version.lineage.id == lineage.id
        ]
        return max(found, key=lambda version: version.built_at, default=None)

    def sequences(self) -> list[str]:
        """Return the sequences that have versions."""
        return sorted(path.parent.name for path in self._folder.glob("*/versions"))

    def versions(self, sequence: str) -> list[VersionInfo]:
        """Return the versions of a sequence, oldest first; those that are damaged are not there."""
        found = []
        for folder in (self._folder / sequence / "versions").glob("[!.]*/"):
            with suppress(StoreError):
                found.append(_read_info(folder))
        return sorted(found, key=lambda version: version.built_at)

    def open(self, sequence: str, version: str) -> Version:
        """Open a version; see the port."""
        folder = self._folder / sequence / "versions" / version
        if not folder.is_dir():
            held = [info.id for info in self.versions(sequence)]
            raise StoreError(
                f"version {version} of the training store of '{sequence}' is not there",
                where=str(self._folder / sequence),
                found=nearest(version, held),
                expected="the version that the data set was made with",
                next_step="make the data set again: sequence-platform training build; "
                "or copy the store to this machine",
            )
        info = _read_info(folder, is_verified=self._is_verified)
        parts = self._parts(sequence, info.lineage, info.parts)
        return Version(info, folder, parts)

    def add(
        self,
        lineage: Lineage,
        kept: Sequence[PartInfo],
        built: Iterable[tuple[Mapping[date, str], Iterable[pl.DataFrame]]],
        built_at: datetime,
        lake_snapshot: int,
    ) -> VersionInfo:
        """Make a version, the newest; see the port."""
        home = self._folder / lineage.sequence
        with _locked(home):
            _sweep(home)
            vocabularies = self._vocabularies(lineage, kept)
            parts = list(kept)
            for digests, frames in built:
                parts.append(_add_part(home / "parts", lineage, digests, frames, vocabularies))
            parts.sort(key=lambda part: part.first_day)
            return self._add_version(lineage, parts, vocabularies, built_at, lake_snapshot)

    def collect(self, sequence: str, keep: Collection[str]) -> int:
        """Remove all versions of a sequence but these, and parts that none needs; return bytes."""
        home = self._folder / sequence
        if not home.is_dir():
            return 0
        with _locked(home):
            _sweep(home)
            dropped = 0
            versions = self.versions(sequence)
            needed = {part.name for info in versions if info.id in keep for part in info.parts}
            kept = {info.id for info in versions if info.id in keep}
            gone = [path for path in (home / "versions").glob("*/") if path.name not in kept]
            gone += [path for path in (home / "parts").glob("*/") if path.name not in needed]
            for folder in gone:
                dropped += folder_bytes(folder)
                shutil.rmtree(folder)
            return dropped

    def _parts(self, sequence: str, lineage: Lineage, infos: Iterable[PartInfo]) -> list[Part]:
        folder = self._folder / sequence / "parts"
        return [Part(folder / info.name, lineage, is_verified=self._is_verified) for info in infos]

    def _vocabularies(self, lineage: Lineage, kept: Sequence[PartInfo]) -> dict[str, Vocabulary]:
        """Return the newest vocabularies, so that codes in parts that stay are right."""
        columns = {name: at for at, name in enumerate(lineage.columns)}
        texts = [name for name, dtype in lineage.columns.items() if is_text(dtype)]
        newest = self.newest(lineage) if kept else None
        if newest is None:
            return {name: Vocabulary() for name in texts}
        folder = self._folder / lineage.sequence / "versions" / newest.id
        _read_info(folder, is_verified=True)
        return {name: Vocabulary.read(folder / vocabulary_file(columns[name])) for name in texts}

    def _add_version(
        self,
        lineage: Lineage,
        parts: list[PartInfo],
        vocabularies: Mapping[str, Vocabulary],
        built_at: datetime,
        lake_snapshot: int,
    ) -> VersionInfo:
        versions = self._folder / lineage.sequence / "versions"
        id_ = version_id(lineage, parts)
        temporary = versions / f".{uuid4().hex}"
        temporary.mkdir(parents=True)
        opened = self._parts(lineage.sequence, lineage, parts)
        entities = write_index(temporary, opened)
        for at, name in enumerate(lineage.columns):
            if name in vocabularies:
                used = [part.used_codes(name) for part in opened]
                vocabularies[name].forget_all_but(np.unique(np.concatenate([[0], *used])))
                vocabularies[name].write(temporary / vocabulary_file(at))
        info = VersionInfo(
            id=id_,
            lineage=lineage,
            parts=tuple(parts),
            entities=entities,
            rows=sum(part.rows for part in parts),
            bytes=sum(part.bytes for part in parts) + folder_bytes(temporary),
            built_at=built_at,
            lake_snapshot=lake_snapshot,
        )
        types = pl.DataFrame(schema={ENTITY: lineage.entity, **lineage.columns})
        write_table(temporary / SCHEMA, types)
        if lineage.has_copies:
            write_copies(temporary, Version(info, temporary, opened))
        checksums = {path.name: checksum(path) for path in sorted(temporary.iterdir())}
        described = _to_json(info) | {"checksums": checksums}
        write_description(temporary / DESCRIPTION, described)
        sync([*temporary.iterdir(), temporary])
        final = versions / id_
        if final.exists():  # of the same days, in other parts perhaps: the newest is as good
            final.rename(versions / f".{uuid4().hex}")
        temporary.rename(final)
        sync([versions])
        return info


def version_id(lineage: Lineage, parts: Iterable[PartInfo]) -> str:
    """Return the id of a version: the same for the same days of equal lakes."""
    days = {day.isoformat(): digest for part in parts for day, digest in part.digests.items()}
    return fingerprint([lineage.id, days])


def _add_part(
    home: Path,
    lineage: Lineage,
    digests: Mapping[date, str],
    frames: Iterable[pl.DataFrame],
    vocabularies: Mapping[str, Vocabulary],
) -> PartInfo:
    name = uuid4().hex
    written = write_part(home / f".{name}", lineage, digests, frames, vocabularies)
    sync([*(home / f".{name}").iterdir(), home / f".{name}"])
    (home / f".{name}").rename(home / name)
    sync([home])
    return replace(written, name=name)


def _to_json(info: VersionInfo) -> dict[str, Any]:
    lineage = info.lineage
    return {
        "id": info.id,
        "lineage": {
            "id": lineage.id,
            "sequence": lineage.sequence,
            "fingerprint": lineage.fingerprint,
            "types": lineage.types,
            "has_copies": lineage.has_copies,
        },
        "parts": [
            {
                "name": part.name,
                "rows": part.rows,
                "bytes": part.bytes,
                "days": {day.isoformat(): digest for day, digest in sorted(part.digests.items())},
            }
            for part in info.parts
        ],
        "entities": info.entities,
        "rows": info.rows,
        "bytes": info.bytes,
        "built_at": info.built_at.astimezone(UTC).isoformat(),
        "lake_snapshot": info.lake_snapshot,
    }


def _read_info(folder: Path, *, is_verified: bool = False) -> VersionInfo:
    """Return what a version says of itself; with its own files compared with their checksums."""
    try:
        read = read_description(folder / DESCRIPTION)
        types = read_table(folder / SCHEMA).schema
        about = read["lineage"]
        lineage = Lineage(
            sequence=about["sequence"],
            fingerprint=about["fingerprint"],
            entity=types[ENTITY],
            columns={name: dtype for name, dtype in types.items() if name != ENTITY},
            types=tuple(about["types"]),
            has_copies=about["has_copies"],
            id=about["id"],
        )
        parts = tuple(
            PartInfo(
                part["name"],
                {date.fromisoformat(day): digest for day, digest in part["days"].items()},
                part["rows"],
                part["bytes"],
            )
            for part in read["parts"]
        )
        info = VersionInfo(
            id=read["id"],
            lineage=lineage,
            parts=parts,
            entities=read["entities"],
            rows=read["rows"],
            bytes=read["bytes"],
            built_at=datetime.fromisoformat(read["built_at"]),
            lake_snapshot=read["lake_snapshot"],
        )
        for name, expected in read["checksums"].items() if is_verified else ():
            if (found := checksum(folder / name)) != expected:
                raise damaged(folder / name, f"checksum {found}", f"checksum {expected}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(folder, str(error), "the description of a version") from error
    return info


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sweep(home: Path) -> None:
    """Remove what a killed build left."""
    for folder in [*(home / "parts").glob(".*/"), *(home / "versions").glob(".*/")]:
        shutil.rmtree(folder)
