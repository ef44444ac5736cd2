"""Which days are kept at a time: whole days, by event day, as definitions say. Pure."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from sequence_platform.plan.plan import EventPlan, SequencePlan

DAY = timedelta(days=1)


def first_kept(event: EventPlan, now: datetime) -> date:
    """Return the first day of an event type that is not wholly older than its retention."""
    retention = event.definition.retention
    if retention > now - datetime.min.replace(tzinfo=UTC):
        return date.min
    return (now - retention).astimezone(UTC).date()


def first_kept_snapshot(sequence: SequencePlan, now: datetime) -> date:
    """Return the first day whose snapshot may hold an event that is still kept."""
    return min(first_kept(event, now) for event in sequence.events)


def first_whole_snapshot(sequence: SequencePlan, now: datetime) -> date:
    """Return the first day whose snapshot can still be built whole.

    All days that it looks back on are kept. Where the sequence has no max_age, what is kept is what
    counts, and it is the day itself.
    """
    max_age = sequence.definition.max_age or DAY
    before = (-(-max_age // DAY) - 1) * DAY
    expired = [
        first_kept(event, now)
        for event in sequence.events
        if event.definition.start < first_kept(event, now)
    ]
    return max(expired) + before if expired else date.min
