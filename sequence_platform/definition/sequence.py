"""Sequence: the ordered last N enriched events of an entity, and the policy that trims them."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import polars as pl

from sequence_platform.definition.event_type import EventType


@dataclass(frozen=True, slots=True)
class Dedupe:
    """Drops repeats: events of one entity that agree in every column of ``by``.

    An event with a null in ``by`` repeats nothing. Columns may be those of the sequence's events or
    ``event_type``.

    Attributes:
        by: One column or several.
        keep: Which of a run of repeats stays, the oldest (``first``) or the newest (``last``).
        within: ``"consecutive"``: repeats with no other event between them. A duration: an event
            goes when the next (``last``) or previous (``first``) event that agrees with it is at
            most this far away, so that a burst collapses into one.
    """

    by: str | Items[str]
    keep: Literal["first", "last"] = "last"
    within: Literal["consecutive"] | timedelta = "consecutive"


@dataclass(frozen=True, slots=True)
class Sessions:
    """Keeps the newest sessions; one ends where the time to the next event exceeds ``gap``."""

    gap: timedelta
    keep: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sequence:
    """The ordered last N enriched events of an entity over one or more event types.

    Order is (event_time, position in ``events``, event_id), oldest to newest. Trim runs on the
    merged sequence, in this order: max_age, sessions, dedupe, quotas, max_length.

    Attributes:
        name: Unique; ``[a-z][a-z0-9_]*``.
        events: Event types, by priority among events of the same time (the first sorts first).
        columns: Columns of the events to carry; null where an event type does not have one. Beside
            these every sequence carries event_type, event_time and event_id. Those of enrichments
            with ``resolve="read"`` are looked up when they are asked for, by a key that is among
            the columns.
        max_length: Newest events kept.
        max_age: Events older than as_of minus this are cut. None: as old as retention allows.
        sessions: Newest sessions kept.
        dedupe: Repeats dropped.
        quotas: Newest events kept of an event type, by its name; at least 1.
        derived: Columns over the final, ordered sequence of one entity
            (``pl.col("event_time").diff()``).
        request: Columns computed per request; may use request_time, ``context`` and what is looked
            up when the sequence is read.
        context: What a request brings with it, by name and type.
        late: Columns left out of snapshots and filled in on read when asked for. None: all vectors.
        owner: An e-mail address or ``team:name``.
        description: What it is, for people.
        version: Raise it when the meaning changes: a new table is built beside the old one.
    """

    name: str
    events: Items[EventType]
    columns: Items[str] = ()
    max_length: int = 500
    max_age: timedelta | None = timedelta(days=90)
    sessions: Sessions | None = None
    dedupe: Dedupe | None = None
    quotas: Mapping[str, int] | None = None
    derived: Mapping[str, pl.Expr] | None = None
    request: Mapping[str, pl.Expr] | None = None
    context: Mapping[str, pl.DataType | type[pl.DataType]] | None = None
    late: Items[str] | None = None
    owner: str = ""
    description: str = ""
    version: int = 1
