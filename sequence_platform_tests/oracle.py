"""The definition of correct: plain Python over lists of dicts, slow, meant to be obviously right.

Whoever doubts an answer of the platform reads this file. It shares no code with the engine and
runs no Polars: expressions arrive as Python functions of one row, or of one entity's events.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from math import isnan
from typing import Any

from sequence_platform.definition import Dedupe, Sequence, Sessions

Row = dict[str, Any]
Rows = list[Row]
Of = Callable[[Row], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """An enrichment as an event type attaches it: the event's column, the columns attached."""

    enrichment: str
    column: Of
    columns: tuple[str, ...]
    rejects: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What an EventType means, as Python functions of a raw row.

    A function that cannot say anything of a row raises ValueError. ``executor`` returns the row
    with more columns, or None.
    """

    name: str
    event_id: Of
    entity: Of
    event_time: Of
    payload: tuple[str, ...]
    arrival_time: Of = lambda _: None
    revision: Of = lambda _: None
    operation: Of = lambda _: None
    rules: Mapping[str, Of] = field(default_factory=dict)
    executor: Of = lambda row: row
    columns: Mapping[str, Of] = field(default_factory=dict)
    lookups: tuple[Lookup, ...] = ()
    corrects: bool = False
    earliest: datetime = datetime(1971, 1, 1, tzinfo=UTC)
    latest: datetime = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """What a Sequence means; ``derived`` are functions of the events of one entity."""

    policy: Sequence
    lookback: timedelta
    carried: tuple[str, ...]
    derived: Mapping[str, Callable[[Rows], list[Any]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """What became of one day's raw rows."""

    received: int
    rows: Rows
    dead: Rows
    filtered: Mapping[str, int]
    superseded: int
    deleted: int
    corrections: Rows


# ---- values: null is the smallest, NaN the largest number, text compares by its bytes


def rank(value: object) -> tuple[Any, ...]:
    """Return what orders any two values of a column."""
    if value is None:
        return (0,)
    if isinstance(value, float) and isnan(value):
        return (2,)
    if isinstance(value, str):
        return (1, value.encode())
    if isinstance(value, list):
        return (1, [rank(item) for item in value])
    return (1, value)


# ---- enrich: one raw row to one of admitted, rejected by a rule, dead by a rule


def enrich(event: Event, raw: Iterable[Row], tables: Mapping[str, Rows]) -> tuple[Rows, Rows, Rows]:
    """Return the rows admitted, rejected (``rule``: why) and dead (``rule``: why)."""
    admitted, rejected, dead = [], [], []
    for row in raw:
        try:
            envelope, payload, dies, rejects = judged(event, row, tables)
        except ValueError:
            dead.append({"rule": "failed"})
            continue
        if dies:
            dead.append({"rule": dies})
        elif rejects:
            rejected.append(envelope | {"rule": rejects})
        else:
            admitted.append(envelope | {name: payload[name] for name in event.payload})
    return admitted, rejected, dead


def judged(event: Event, row: Row, tables: Mapping[str, Rows]) -> tuple[Row, Row, str, str]:
    """Return a row's envelope and payload, why it is dead, why rejected; stop at the first."""
    operation, envelope = event.operation(row) or "upsert", envelope_of(event, row)
    if dies := unusable(event, envelope, operation):
        return envelope, {}, dies, ""
    if operation == "delete":
        return envelope, {}, "", "delete"
    payload, rejects = payload_of(event, envelope, row, tables)
    return envelope, payload, "", rejects


def envelope_of(event: Event, row: Row) -> Row:
    """Return what every enriched row starts with; no arrival is on time, no revision the first."""
    arrival, revision = event.arrival_time(row), event.revision(row)
    return {
        "entity": event.entity(row),
        "event_id": event.event_id(row),
        "event_time": event.event_time(row),
        "arrival_time": event.event_time(row) if arrival is None else arrival,
        "revision": 0 if revision is None else revision,
    }


def unusable(event: Event, envelope: Row, operation: str) -> str:
    """Return why a row is a dead letter, or nothing."""
    for name in ("entity", "event_id", "event_time"):
        if envelope[name] is None:
            return f"null_{name}"
    if not event.earliest <= envelope["event_time"] < event.latest:
        return "impossible_event_time"
    return "" if operation in {"upsert", "delete"} else "unknown_operation"


def payload_of(
    event: Event, envelope: Row, raw: Row, tables: Mapping[str, Rows]
) -> tuple[Row, str]:
    """Return the columns beside the envelope, and the rule that rejects the row, if one does."""
    for rule, keeps in event.rules.items():
        if keeps(raw) is not True:
            return {}, rule
    row = event.executor(raw)
    if row is None:
        return {}, "executor"
    payload = row | {name: of(row) for name, of in event.columns.items()}
    for lookup in event.lookups:
        found = look_up(tables[lookup.enrichment], lookup.column(row), envelope["event_time"])
        if found is None and lookup.rejects:
            return {}, f"missing:{lookup.enrichment}"
        payload |= {name: found[name] if found else None for name in lookup.columns}
    return payload, ""


def look_up(table: Rows, key: object, at: datetime) -> Row | None:
    """Return the newest row of a key that was available at a time; without one, always."""
    rows = [
        row
        for row in table
        if key is not None and row["key"] == key and row.get("available_time", at) <= at
    ]
    return max(rows, key=lambda row: row.get("available_time", at), default=None)


def build_lookup(rows: Rows, identity: Items[str]) -> tuple[Rows, Rows]:
    """Return an enrichment's table, and the dead rows; of one identity the largest row counts."""
    best: dict[object, Row] = {}
    dead = []
    for row in rows:
        absent = [name for name in identity if row[name] is None]
        if absent:
            dead.append({"rule": f"null_{absent[0]}"})
            continue
        key = tuple(row[name] for name in identity)
        candidates = [best[key], row] if key in best else [row]
        best[key] = max(
            candidates, key=lambda candidate: [rank(value) for value in candidate.values()]
        )
    return list(best.values()), dead


# ---- resolve: one winner per (entity, event_id)


def standing(row: Row) -> tuple[Any, ...]:
    """Return what decides between versions of an event; a removal (with ``rule``) beats a row."""
    return (row["revision"], row["arrival_time"], "rule" in row, row["event_time"])


def winners(rows: Rows, payload: Iterable[str]) -> Rows:
    """Return the best row per (entity, event_id); of equals the larger payload, by column."""
    columns = ("rule", *payload)
    best: dict[object, Row] = {}
    for row in rows:
        key = (row["entity"], row["event_id"])
        candidates = [best[key], row] if key in best else [row]
        best[key] = max(
            candidates, key=lambda r: (standing(r), [rank(r.get(name)) for name in columns])
        )
    return list(best.values())


def resolve(event: Event, admitted: Rows, rejected: Rows, dead: Rows) -> Partition:
    """Return one day on its own: a winner that is a delete or filtered drops the event."""
    won = winners(admitted + rejected, event.payload)
    removed = Counter(row["rule"] for row in won if "rule" in row)
    return Partition(
        received=len(admitted) + len(rejected) + len(dead),
        rows=[row for row in won if "rule" not in row],
        dead=dead,
        filtered={rule: count for rule, count in removed.items() if rule != "delete"},
        superseded=len(admitted) + len(rejected) - len(won),
        deleted=removed["delete"],
        corrections=[row for row in won if row["revision"] > 0 or row.get("rule") == "delete"],
    )


def build_days(
    event: Event, raw: Mapping[date, Rows], tables: Mapping[str, Rows]
) -> dict[date, Partition]:
    """Return every partition once all are built; corrections of one day beat rows of another.

    ``raw`` has each row under the day it belongs to; one whose event_time is on another is dead.
    """
    own = {}
    for day, rows in raw.items():
        admitted, rejected, dead = enrich(event, rows, tables)
        here = [
            [row for row in part if row["event_time"].date() == day]
            for part in (admitted, rejected)
        ]
        strays = len(admitted) + len(rejected) - len(here[0]) - len(here[1])
        lost = dead + [{"rule": "outside_partition"}] * strays
        own[day] = resolve(event, here[0], here[1], lost)
    return {day: corrected(part, own, day) for day, part in own.items()} if event.corrects else own


def corrected(part: Partition, own: Mapping[date, Partition], day: date) -> Partition:
    """Return a day without the rows beaten by corrections of other days."""
    foreign = [row for other, their in own.items() if other != day for row in their.corrections]
    live = [row for row in part.rows if not any(beats(correction, row) for correction in foreign)]
    return replace(part, rows=live, superseded=part.superseded + len(part.rows) - len(live))


def beats(correction: Row, row: Row) -> bool:
    """Return whether a correction supersedes a row."""
    same = (correction["entity"], correction["event_id"]) == (row["entity"], row["event_id"])
    return same and standing(correction) > standing(row)


# ---- assemble: merge, order, trim, derive


def assemble(assembly: Assembly, rows: Mapping[str, Rows], as_of: datetime) -> Rows:
    """Return a row per entity with its sequence as of a time, exclusive; ``rows`` by event type."""
    by_entity: dict[Any, Rows] = defaultdict(list)
    for priority, event in enumerate(assembly.policy.events):
        seen = [
            row
            for row in rows[event.name]
            if as_of - assembly.lookback <= row["event_time"] < as_of
        ]
        for row in winners(seen, assembly.carried):
            carried = {name: row.get(name) for name in assembly.carried}
            times = {
                "event_type": event.name,
                "event_time": row["event_time"],
                "event_id": row["event_id"],
            }
            by_entity[row["entity"]].append(carried | times | {"priority": priority})
    sequences = [
        sequence_of(assembly, entity, by_entity[entity], as_of)
        for entity in sorted(by_entity, key=rank)
    ]
    return [sequence for sequence in sequences if sequence["length"]]


def sequence_of(assembly: Assembly, entity: object, events: Rows, as_of: datetime) -> Row:
    """Return an entity's events as a row of lists, oldest first, and how many each rule cut."""
    events = sorted(
        events,
        key=lambda event: (event["event_time"], event["priority"], event["event_id"].encode()),
    )
    policy = assembly.policy
    recent = newest_sessions(events, policy.sessions)
    distinct = without_repeats(recent, policy.dedupe)
    allowed = within_quotas(distinct, policy.quotas or {})
    final = allowed[-policy.max_length :]
    trimmed = {
        "sessions": len(events) - len(recent),
        "dedupe": len(recent) - len(distinct),
        "quotas": len(distinct) - len(allowed),
        "max_length": len(allowed) - len(final),
    }
    names = ("event_type", "event_time", "event_id", *assembly.carried)
    lists = {name: [event[name] for event in final] for name in names}
    derived = {name: of(final) for name, of in assembly.derived.items()} if final else {}
    return (
        {"entity": entity, "as_of": as_of, "length": len(final)}
        | lists
        | derived
        | {"trimmed": trimmed}
    )


def newest_sessions(events: Rows, sessions: Sessions | None) -> Rows:
    """Return the newest sessions; a gap longer than the limit starts one."""
    if sessions is None:
        return events
    number, numbers = 0, []
    for position, event in enumerate(events):
        if position and event["event_time"] - events[position - 1]["event_time"] > sessions.gap:
            number += 1
        numbers.append(number)
    return [event for event, n in zip(events, numbers, strict=True) if n > number - sessions.keep]


def without_repeats(events: Rows, dedupe: Dedupe | None) -> Rows:
    """Return the events that do not repeat the next (keep last) or previous (first) like them."""
    if dedupe is None:
        return events
    by = [dedupe.by] if isinstance(dedupe.by, str) else list(dedupe.by)
    keys = [[rank(event[name]) for name in by] for event in events]

    def is_repeat(position: int) -> bool:
        later = (
            range(position + 1, len(events))
            if dedupe.keep == "last"
            else range(position - 1, -1, -1)
        )
        others = later[:1] if dedupe.within == "consecutive" else later
        same = next((other for other in others if keys[other] == keys[position]), None)
        if same is None or rank(None) in keys[position]:
            return False
        if dedupe.within == "consecutive":
            return True
        return bool(
            abs(events[same]["event_time"] - events[position]["event_time"]) <= dedupe.within
        )

    return [event for position, event in enumerate(events) if not is_repeat(position)]


def within_quotas(events: Rows, quotas: Mapping[str, int]) -> Rows:
    """Return the newest events of every type that has a quota, and all of the others."""
    kept, left = [], dict(quotas)
    for event in reversed(events):
        if left.get(event["event_type"], 1) > 0:
            kept.append(event)
        if event["event_type"] in left:
            left[event["event_type"]] -= 1
    return kept[::-1]


def build_snapshot(
    assembly: Assembly, days: Mapping[str, Mapping[date, Partition]], day: date
) -> Rows:
    """Return a day's snapshot: sequences as of its end of the entities with an event on it."""
    as_of = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    names = [event.name for event in assembly.policy.events]
    rows = {name: [row for part in days[name].values() for row in part.rows] for name in names}
    active = {
        row["entity"] for name in names for row in rows[name] if row["event_time"].date() == day
    }
    return [row for row in assemble(assembly, rows, as_of) if row["entity"] in active]
