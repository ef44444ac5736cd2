"""What becomes of a manifest when days are published, confirmed, merged or rolled back.

Pure: an adapter reads the live manifest, changes it so and stores it, unless another was faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import zip_longest
from typing import Any

from sequence_platform.errors import StateMismatchError
from sequence_platform.ports.online import DayRows, DayVersion, Manifest, Reflected, Segment

MAX_SEGMENTS = 8
"""Live segments of an event type before they are merged: each costs a reader a search."""
MERGED_ROWS = 5_000_000
"""A merged segment holds at most so many rows."""
Change = Callable[[Manifest], Manifest]


def changed_days(current: Manifest, days: Iterable[DayRows]) -> list[DayRows]:
    """Return the days that a manifest does not hold so."""
    known = current.days
    return [
        each
        for each in days
        if each.day not in known or known[each.day].content_hash != each.version.content_hash
    ]


def publishing(
    days: Sequence[DayRows], changed: Sequence[DayRows], written: Sequence[Segment]
) -> tuple[str, Change]:
    """Return reason and change that let new segments answer for the days that changed."""
    replaced = {each.day for each in changed}
    moved = {each.day: each.version for each in days if each.day not in replaced}

    def change(current: Manifest) -> Manifest:
        kept = _without(current.segments, replaced)
        kept = [_with_versions(each, moved) for each in kept]
        return replace(current, segments=(*kept, *written))

    names = ", ".join(str(each.day) for each in changed) or "nothing new"
    return f"publish {names}", change


def confirming(unchanged: Mapping[date, str], reflected: Reflected) -> Change:
    """Return the change that moves on how far the log is in days that have not changed."""

    def change(current: Manifest) -> Manifest:
        moved = {
            day: replace(version, reflected=reflected)
            for day, version in current.days.items()
            if unchanged.get(day) == version.content_hash
            and version.reflected.offsets != reflected.offsets
        }
        if not moved:
            return current
        segments = tuple(_with_versions(each, moved) for each in current.segments)
        return replace(current, segments=segments)

    return change


def expiring(before: date) -> Change:
    """Return the change that lets the days before one go."""

    def change(current: Manifest) -> Manifest:
        if before <= current.kept_from and not any(day < before for day in current.days):
            return current
        gone = {day for day in current.days if day < before}
        return replace(current, segments=(*_without(current.segments, gone),), kept_from=before)

    return change


def merging(group: Sequence[Segment], merged: Segment) -> Change:
    """Return the change that lets a segment answer for those it was merged of."""
    names = {each.name: each for each in group}

    def change(now: Manifest) -> Manifest:
        there = {each.name: each for each in now.segments}
        # Days that were published meanwhile keep their newer segments.
        left = {
            day: there[old.name].days[day]
            for old in names.values()
            if old.name in there
            for day in old.days
            if day in there[old.name].days
        }
        kept = tuple(each for each in now.segments if each.name not in names)
        return replace(now, segments=(*kept, replace(merged, days=left)))

    return change


def rolled_back(event: str, kept: Iterable[Manifest], number: int) -> tuple[Segment, ...]:
    """Return the segments of an earlier manifest.

    Raises:
        StateMismatchError: it is not kept any more.
    """
    found = {each.number: each for each in kept}
    if number not in found:
        raise StateMismatchError(
            f"event type '{event}' has no manifest {number}",
            expected=f"one of {', '.join(map(str, found)) or 'none'}",
            next_step="sequence-platform online history",
        )
    return found[number].segments


def following(current: Manifest, changed: Manifest, at: datetime, reason: str) -> Manifest | None:
    """Return the manifest to store behind the live one; None if nothing changed."""
    if (changed.segments, changed.kept_from) == (current.segments, current.kept_from):
        return None
    # No two manifests at one moment, whatever the clock: known_at must choose.
    activated_at = max(at, current.activated_at + timedelta(microseconds=1))
    return replace(changed, number=current.number + 1, activated_at=activated_at, reason=reason)


def kept_since(manifests: Sequence[Manifest], before: datetime) -> list[Manifest]:
    """Return the manifests that were live at a time or later; ``manifests`` oldest first."""
    return [
        each
        for each, after in zip_longest(manifests, manifests[1:])
        if after is None or after.activated_at >= before
    ]


def to_merge(segments: Sequence[Segment]) -> list[Segment]:
    """Return segments to merge into one: the longest run of neighbours that is small enough.

    They are neighbours by their first days; so a merged one is read as one span.
    """
    if len(segments) <= MAX_SEGMENTS:
        return []
    ordered = sorted(segments, key=lambda each: min(each.days))
    best: list[Segment] = []
    group: list[Segment] = []
    for each in ordered:
        if sum(s.rows for s in group) + each.rows > MERGED_ROWS:
            group = []
        group.append(each)
        if len(group) > len(best):
            best = list(group)
    return best if len(best) > 1 else []


def merged_days(group: Iterable[Segment]) -> dict[date, DayVersion]:
    """Return the days that segments answer for."""
    return {day: version for each in group for day, version in each.days.items()}


def _without(segments: Iterable[Segment], days: set[date]) -> list[Segment]:
    """Return segments that answer no more for some days; those left with none are dropped."""
    left = [
        replace(each, days={day: version for day, version in each.days.items() if day not in days})
        for each in segments
    ]
    return [each for each in left if each.days]


def _with_versions(segment: Segment, versions: Mapping[date, Any]) -> Segment:
    if not versions.keys() & segment.days.keys():
        return segment
    return replace(
        segment, days={day: versions.get(day, version) for day, version in segment.days.items()}
    )
