"""The online store answers what the oracle says, whatever is settled, fresh, merged or dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_platform.engine.enrich import Enriched, enrich
from sequence_platform.engine.point import read_point
from sequence_platform.online_format import switching
from sequence_platform.plan.plan import EventPlan, SequencePlan
from sequence_platform.ports import LogPartition, OffsetMove
from sequence_platform.ports.online import (
    DayRows,
    DayVersion,
    OnlineStore,
    Reflected,
    TailAppend,
    log_id,
)
from sequence_platform_tests import oracle
from sequence_platform_tests.backends import ONLINE_STORES
from sequence_platform_tests.oracle import Row, Rows
from sequence_platform_tests.strategies import (
    D0,
    DAY,
    TIMES,
    Drawn,
    comparable,
    frame,
    raw_rows,
    sequences,
    tables,
    world,
)

HERE = world(pl.String())
EVENTS = ("view", "buy", "search")
START = datetime(2026, 1, 1, tzinfo=UTC)
IDENTITY = "id"


@dataclass(frozen=True, slots=True)
class Stream:
    """The next messages of an event type reach the tail."""

    name: str
    count: int


@dataclass(frozen=True, slots=True)
class Publish:
    """Days are published as the lake has them; it is ``behind`` messages behind the tail."""

    name: str
    days: tuple[date, ...]
    behind: int


@dataclass(frozen=True, slots=True)
class Confirm:
    """The publisher looks which days have not changed."""

    name: str


@dataclass(frozen=True, slots=True)
class Keep:
    """Segments are merged, and what is covered is dropped."""

    name: str


Step = Stream | Publish | Confirm | Keep
DAYS = [(D0 + n * DAY).date() for n in (-1, 0, 1, 2, 3, 5)]


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """Messages by event type, what is done with them, and what is asked."""

    facts: Mapping[str, Rows]
    messages: Mapping[str, Rows]
    steps: list[Step]
    sequence: Drawn
    as_of: datetime


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    facts = draw(tables(HERE.entities))
    messages = {name: draw(raw_rows(name, HERE.entities)) for name in EVENTS}
    names = st.sampled_from(EVENTS)
    step = st.one_of(
        st.builds(Stream, names, st.integers(1, 6)),
        st.builds(Stream, names, st.integers(1, 6)),
        st.builds(
            Publish,
            names,
            st.lists(st.sampled_from(DAYS), min_size=1, max_size=3, unique=True).map(tuple),
            st.integers(0, 4),
        ),
        st.builds(Confirm, names),
        st.builds(Keep, names),
    )
    steps = draw(st.lists(step, min_size=1, max_size=14))
    as_of = draw(st.sampled_from([D0 + DAY, D0 + DAY, D0 + 2 * DAY, D0 + 50 * DAY, *TIMES]))
    return Script(facts, messages, steps, draw(sequences(HERE.definitions)), as_of)


def rows_of(facts: Mapping[str, Rows], name: str) -> pl.DataFrame:
    enrichment = HERE.plan.enrichments[name]
    return frame(facts[name], enrichment.schema)


class Played:
    """A store, and beside it a lake in memory."""

    def __init__(self, store: OnlineStore, script: Script) -> None:
        self.store = store
        self.script = script
        self.at = START
        self.tail = dict.fromkeys(EVENTS, 0)
        self.lake = dict.fromkeys(EVENTS, 0)
        lookups = {name: rows_of(script.facts, name) for name in HERE.enrichments}
        self.enriched = {
            name: [
                enrich(HERE.event(name), frame([row], HERE.event(name).raw_schema), lookups)
                for row in rows
            ]
            for name, rows in script.messages.items()
        }

    def do(self, step: Step) -> None:
        self.at += timedelta(seconds=1)
        event = HERE.event(step.name)
        match step:
            case Stream():
                self.stream(event, step.count)
            case Publish():
                self.publish(event, step.days, step.behind)
            case Confirm():
                hashes = {
                    day: repr(self.day(event, day)) for day in self.store.manifest(event).days
                }
                self.store.confirm(event, hashes, self.reflected(event), self.at)
            case Keep():
                self.store.compact(event, self.at)
                self.store.collect(event, keep=timedelta(0), at=self.at)

    def stream(self, event: EventPlan, count: int) -> None:
        begin = self.tail[event.name]
        end = min(begin + count, len(self.enriched[event.name]))
        new = Enriched.concat([Enriched.empty(event), *self.enriched[event.name][begin:end]])
        move = OffsetMove(LogPartition(event.name, 0), IDENTITY, begin or None, end)
        if end > begin:
            self.store.append(TailAppend(event, new.rows, new.rejected, [move], self.at))
        self.tail[event.name] = end

    def reflected(self, event: EventPlan) -> Reflected:
        return Reflected({(log_id(event.name, IDENTITY), 0): self.lake[event.name]})

    def publish(self, event: EventPlan, days: tuple[date, ...], behind: int) -> None:
        self.lake[event.name] = max(self.lake[event.name], self.tail[event.name] - behind)
        published = []
        for day in days:
            rows, removals = self.day(event, day)
            version = DayVersion(repr((rows, removals)), self.reflected(event))
            published.append(DayRows(day, rows, removals, version))
        self.store.publish(event, published, self.at)

    def day(self, event: EventPlan, day: date) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return a day as the lake has it, and the keys that were removed from it."""
        count, meant = self.lake[event.name], HERE.oracles[event.name]
        raw: dict[date, Rows] = {}
        for row in self.script.messages[event.name][:count]:
            if not oracle.enrich(meant, [row], self.script.facts)[2]:
                raw.setdefault(meant.event_time(row).date(), []).append(row)
        built = oracle.build_days(meant, raw, self.script.facts).get(day)
        rows = frame(built.rows if built else [], event.schema)
        parts = Enriched.concat([Enriched.empty(event), *self.enriched[event.name][:count]])
        here = pl.col("event_time").dt.date() == day
        return rows.sort("entity", "event_time", "event_id"), parts.rejected.filter(here)

    def answer(self, entity: object, columns: list[str], plan: SequencePlan) -> Row:
        with self.store.view() as view:
            found = [view.candidates(event, entity) for event in plan.events]
            point = read_point(plan, found, entity, self.script.as_of, columns)
        lists = {name: column.to_series(name).to_list() for name, column in point.columns.items()}
        return {"entity": entity, "length": point.length, "trimmed": dict(point.trimmed)} | lists

    def expected(self, plan: SequencePlan) -> dict[object, Row]:
        twin = self.script.sequence.twin
        rows: dict[str, Rows] = {}
        for event in plan.events:
            raw: dict[date, Rows] = {}
            meant = HERE.oracles[event.name]
            for row in self.script.messages[event.name][: self.tail[event.name]]:
                if not oracle.enrich(meant, [row], self.script.facts)[2]:
                    raw.setdefault(meant.event_time(row).date(), []).append(row)
            days = oracle.build_days(meant, raw, self.script.facts)
            rows[event.name] = [row for part in days.values() for row in part.rows]
        whole = replace(twin, carried=tuple(plan.columns))
        return {row["entity"]: row for row in oracle.assemble(whole, rows, self.script.as_of)}


@pytest.fixture(autouse=True)
def merges_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switching, "MAX_SEGMENTS", 2)


@pytest.mark.parametrize("kind", ONLINE_STORES)
@given(script=scripts())
def test_answers_equal_the_oracle_at_every_step(kind: str, script: Script) -> None:
    plan = script.sequence.plan
    columns = ["event_type", "event_time", "event_id", *plan.columns, *plan.derived]
    with ONLINE_STORES[kind]() as store:
        played = Played(store, script)
        for step in script.steps:
            played.do(step)
            expected = played.expected(plan)
            none: Row = {name: [] for name in columns}
            for entity in HERE.entities:
                wanted = expected.get(entity)
                found = played.answer(entity, columns, plan)
                if wanted is None:
                    assert {name: found[name] for name in columns} == none
                    continue
                wanted = {name: wanted[name] for name in found}
                assert comparable([found]) == comparable([wanted])
