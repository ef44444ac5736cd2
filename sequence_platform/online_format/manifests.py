"""Manifests as JSON: readable, and small where days share how far the log was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sequence_platform.ports.online import DayVersion, Manifest, Reflected, Segment

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
US = timedelta(microseconds=1)

NOTHING = Manifest(0, EPOCH)


def to_us(time: datetime) -> int:
    """Return microseconds since the epoch."""
    return (time - EPOCH) // US


def time_of(us: int) -> datetime:
    """Return a time from microseconds since the epoch."""
    return EPOCH + us * US


def to_json(manifest: Manifest) -> bytes:
    """Return a manifest as JSON."""
    marks: list[Reflected] = []
    places: dict[int, int] = {}

    def mark(reflected: Reflected) -> int:
        if id(reflected) not in places:
            places[id(reflected)] = len(marks)
            marks.append(reflected)
        return places[id(reflected)]

    segments = [
        {
            "name": each.name,
            "days": {
                str(day): [version.content_hash, mark(version.reflected)]
                for day, version in each.days.items()
            },
            "held_days": each.held_days,
            "rows": each.rows,
            "bytes": each.bytes,
            "checksum": each.checksum,
        }
        for each in manifest.segments
    ]
    return json.dumps(
        {
            "number": manifest.number,
            "activated_us": to_us(manifest.activated_at),
            "reason": manifest.reason,
            "reflected": [
                [[log, partition, offset] for (log, partition), offset in each.offsets.items()]
                for each in marks
            ],
            "segments": segments,
            "kept_from": str(manifest.kept_from),
        }
    ).encode()


def from_json(text: bytes) -> Manifest:
    """Return the manifest of its JSON."""
    said: Mapping[str, Any] = json.loads(text)
    marks = [
        Reflected({(log, partition): offset for log, partition, offset in each})
        for each in said["reflected"]
    ]
    segments = tuple(
        Segment(
            name=each["name"],
            days={
                date.fromisoformat(day): DayVersion(digest, marks[at])
                for day, (digest, at) in each["days"].items()
            },
            held_days=each["held_days"],
            rows=each["rows"],
            bytes=each["bytes"],
            checksum=each["checksum"],
        )
        for each in said["segments"]
    )
    activated_at = EPOCH + said["activated_us"] * US
    kept_from = date.fromisoformat(said.get("kept_from", str(date.min)))
    return Manifest(said["number"], activated_at, said["reason"], segments, kept_from)
