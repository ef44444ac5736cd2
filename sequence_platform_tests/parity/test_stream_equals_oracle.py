"""However events arrive, once all is sealed the lake holds what the oracle says; streams before it.

Rows come by stream, by batch or by both, in any order, in flushes of any size, through workers that
die, between seals and backfills of any day.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from math import isfinite
from tempfile import TemporaryDirectory
from threading import Event

import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sequence_platform.clock import FixedClock
from sequence_platform.definition import Definition, Log
from sequence_platform.engine.dead_letters import DEAD_LETTERS
from sequence_platform.engine.enrich import event_times
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.plan import EventPlan, Plan, Window
from sequence_platform.plan.tables import (
    all_tables,
    enriched_table,
    raw_table,
    sequence_table,
)
from sequence_platform.ports import BatchSource, RawBatch
from sequence_platform.runtimes.batch import (
    build_enrichment,
    build_events,
    build_sequence,
    stale_days,
)
from sequence_platform.runtimes.streaming import LakeStream, Pace, StreamReport, StreamWorker
from sequence_platform.sources.memory_log import MemoryLog, MemoryLogWriter, MemoryTopics
from sequence_platform.stores.ducklake import DuckLakeLake
from sequence_platform_tests import oracle
from sequence_platform_tests.oracle import Row, Rows
from sequence_platform_tests.strategies import (
    D0,
    DAY,
    Drawn,
    as_set,
    comparable,
    frame,
    raw_rows,
    sequences,
    tables,
    world,
)

HERE = world(pl.String())
EVENTS = ("view", "buy", "search")
CLOCK = FixedClock(datetime(2025, 1, 1, tzinfo=UTC))  # no day is beyond retention
START = datetime(2020, 1, 1, tzinfo=UTC)
EVER = Window(datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))
EXAMPLES = max(3, settings().max_examples // 10)
"""A whole lake is built for each."""
PARTITIONS = 3


class Killed(Exception):  # noqa: N818 - no error of ours
    """Ends a worker where a kill would."""


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """History in memory: a batch source."""

    rows: pl.DataFrame
    event: EventPlan | None = None

    def read(self, window: Window | None) -> Iterator[RawBatch]:
        """Yield the rows of a day; those without a usable time belong to none."""
        rows = self.rows
        if window is not None and self.event is not None:
            times = event_times(self.event, rows)
            rows = rows.filter(times.is_between(window.start, window.end, closed="left"))
        yield RawBatch(rows, pl.DataFrame(schema=DEAD_LETTERS), "held")


@dataclass(frozen=True, slots=True, eq=False)
class Send:
    """Messages are appended to the topic of an event type."""

    name: str
    rows: Rows


@dataclass(frozen=True, slots=True)
class Work:
    """A worker reads all that the log holds, unless it dies after some flushes."""

    flush_messages: int
    dies_after: int | None


@dataclass(frozen=True, slots=True)
class Build:
    """A day of an event type is built by batch."""

    name: str
    day: date


Step = Send | Work | Build


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """What comes, by which way, and what is done in between.

    Attributes:
        batch: Rows of history, by event type.
        steps: In the order in which they are done.
    """

    facts: Mapping[str, Rows]
    batch: Mapping[str, Rows]
    steps: list[Step]
    sequence: Drawn

    @property
    def plan(self) -> Plan:
        events = {
            name: replace(event, log=Log(name), batch=event.batch if self.batch[name] else None)
            for name, event in HERE.definitions.items()
        }
        policy = self.sequence.twin.policy
        policy = replace(policy, events=[events[event.name] for event in policy.events])
        values: list[Definition] = [*events.values(), policy]
        return compile_plan([Located("tests.py", value) for value in values])

    @property
    def sent(self) -> dict[str, Rows]:
        """Rows that were streamed, by event type."""
        sent: dict[str, Rows] = {name: [] for name in EVENTS}
        for step in self.steps:
            if isinstance(step, Send):
                sent[step.name] += step.rows
        return sent


def plain(row: Row) -> Row:
    """Return a row that JSON can say: without NaN and infinity."""
    return {
        name: None if isinstance(value, float) and not isfinite(value) else value
        for name, value in row.items()
    }


@st.composite
def histories(draw: st.DrawFn) -> History:
    facts = draw(tables(HERE.entities))
    batch: dict[str, Rows] = {name: [] for name in EVENTS}
    steps: list[Step] = []
    days = [(D0 + n * DAY).date() for n in (-1, 0, 1, 2)]
    for name in EVENTS:
        rows = [plain(row) for row in draw(raw_rows(name, HERE.entities))]
        way = draw(st.sampled_from(["stream", "stream", "both"]))
        cut = draw(st.integers(0, len(rows))) if way == "both" else 0
        overlap = draw(st.integers(0, cut)) if way == "both" else 0
        batch[name] = rows[:cut]
        sent = rows[cut - overlap :]
        while sent:
            size = draw(st.integers(1, len(sent)))
            steps.append(Send(name, sent[:size]))
            sent = sent[size:]
    works = st.builds(Work, st.sampled_from([1, 2, 5, 100]), st.sampled_from([None, None, 1, 2]))
    builds = st.builds(Build, st.sampled_from(EVENTS), st.sampled_from(days))
    steps += draw(st.lists(st.one_of(works, works, builds), max_size=10))
    steps = draw(st.permutations(steps))
    return History(facts, batch, list(steps), draw(sequences(HERE.definitions, name="first")))


def message(row: Row) -> bytes:
    text = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in row.items()
    }
    return json.dumps(text, ensure_ascii=False).encode()


class Run:
    """A lake and a log, and the steps of a history done to them."""

    def __init__(self, history: History, lake: DuckLakeLake) -> None:
        self.history = history
        self.plan = history.plan
        self.lake = lake
        self.topics = MemoryTopics(CLOCK)
        self.built: set[tuple[str, date]] = set()
        writer = MemoryLogWriter(self.topics)
        for name in EVENTS:
            writer.create_topic(name, PARTITIONS)
        lake.ensure_tables(all_tables(self.plan))
        for name, enrichment in self.plan.enrichments.items():
            build_enrichment(lake, Held(raw_facts(name, history.facts[name])), enrichment, CLOCK)

    def do(self) -> None:
        for step in self.history.steps:
            self.do_one(step)
        self.work(100, None)

    def do_one(self, step: Step) -> None:
        match step:
            case Send():
                values = [message(row) for row in step.rows]
                MemoryLogWriter(self.topics).append(step.name, values)
            case Work():
                self.work(step.flush_messages, step.dies_after)
            case Build():
                self.build(step.name, step.day)

    def work(self, flush_messages: int, dies_after: int | None) -> None:
        """Let a new worker read on; it may die after some flushes."""
        flushes = 0

        def tell(report: StreamReport) -> None:
            nonlocal flushes
            flushes += report.flushed is not None
            if flushes == dies_after:
                raise Killed

        pace = Pace(
            flush_seconds=60, flush_messages=flush_messages, poll_messages=2, poll_seconds=0
        )
        events = list(self.plan.events.values())
        worker = StreamWorker(
            MemoryLog(self.topics),
            LakeStream(self.lake, CLOCK),
            events,
            CLOCK,
            pace=pace,
            tell=tell,
        )
        try:
            worker.run(Event(), until_caught_up=True)
        except Killed:
            assert dies_after is not None

    def build(self, name: str, day: date) -> None:
        event = self.plan.events[name]
        rows = self.history.batch[name]
        source: BatchSource | None = Held(frame(rows, event.raw_schema), event) if rows else None
        build_events(self.lake, source, event, day, CLOCK)
        self.built.add((name, day))


def raw_facts(name: str, rows: Rows) -> pl.DataFrame:
    """Return the source rows of an enrichment's table."""
    schema = HERE.plan.enrichments[name].raw_schema
    if name == "user_facts":
        return frame([{"user": row["key"], "country": row["country"]} for row in rows], schema)
    cents = {True: 1, False: 5000, None: None}
    raw = [
        {
            "item_id": row["key"],
            "published": row["available_time"],
            "brand": row["brand"],
            "cents": cents[row["is_cheap"]],
            "vector": row["item_vector"],
        }
        for row in rows
    ]
    return frame(raw, schema)


def is_dead(history: History, name: str, row: Row) -> bool:
    event = HERE.oracles[name]
    _, _, dead = oracle.enrich(event, [row], history.facts)
    if dead:
        return True
    at: datetime = event.event_time(row)
    return not START <= at < CLOCK.at + 2 * DAY


def days_of(history: History, rows: Mapping[str, Rows], name: str) -> dict[date, oracle.Partition]:
    """Return every partition of an event type made of some rows, as the oracle has it."""
    event = HERE.oracles[name]
    raw: dict[date, Rows] = {}
    for row in rows[name]:
        if not is_dead(history, name, row):
            raw.setdefault(event.event_time(row).date(), []).append(row)
    return oracle.build_days(event, raw, history.facts)


def check(run: Run, name: str, days: Mapping[date, oracle.Partition]) -> None:
    """Compare rows and counts of an event type with the oracle's."""
    spec = enriched_table(run.plan.events[name])
    rows = run.lake.read_events(spec, list(spec.columns), EVER).to_dicts()
    assert as_set(rows) == as_set([row for part in days.values() for row in part.rows])
    ledger = {row["day"]: row for row in run.lake.ledger(spec.name).to_dicts()}
    for day, part in days.items():
        entry = ledger[day]
        assert entry["rows"] == entry["admitted"] == len(part.rows)
        assert json.loads(entry["filtered"]) == part.filtered
        assert entry["received"] - entry["dead_lettered"] == part.received
        assert (entry["superseded"], entry["deleted"]) == (part.superseded, part.deleted)
        assert sum(run.lake.violations(spec, day).values()) == 0


def check_dead_letters(run: Run) -> None:
    """Every message that could not be used is there once, with its bytes."""
    for name in EVENTS:
        letters = run.lake.dead_letters(raw_table(run.plan.events[name]))
        expected = [row for row in run.history.sent[name] if is_dead(run.history, name, row)]
        assert sorted(letters["payload"]) == sorted(message(row) for row in expected)
        assert letters.select("source", "position").is_unique().all()


def check_sequences(run: Run, days: Mapping[str, Mapping[date, oracle.Partition]]) -> None:
    [sequence] = run.plan.sequences.values()
    spec = sequence_table(sequence)
    every = sorted({day for parts in days.values() for day in parts})
    for day in every:
        build_sequence(run.lake, sequence, day, CLOCK)
        newest = run.lake.read_snapshots(spec, list(spec.columns), day)
        rows = newest.filter(day=day).drop("day").to_dicts()
        expected = oracle.build_snapshot(run.history.sequence.twin, days, day)
        assert comparable(rows) == comparable(expected)
    assert stale_days(run.lake, sequence, CLOCK) == []


@pytest.mark.slow
@given(history=histories())
@settings(max_examples=EXAMPLES, phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink])
def test_lake_converges_to_the_oracle_however_events_arrive(history: History) -> None:
    with (
        TemporaryDirectory() as home,
        DuckLakeLake(f"{home}/catalog.sqlite", f"{home}/data", threads=1) as lake,
    ):
        run = Run(history, lake)
        run.do()
        check_dead_letters(run)
        rows = {name: [*history.batch[name], *history.sent[name]] for name in EVENTS}
        for name in EVENTS:  # what only streams brought is right already, sealed or not
            if not history.batch[name]:
                check(run, name, days_of(history, history.sent, name))
        days = {name: days_of(history, rows, name) for name in EVENTS}
        for name in EVENTS:
            for day in days[name]:
                run.build(name, day)
        for name in EVENTS:
            check(run, name, days[name])
            ledger = lake.ledger(enriched_table(run.plan.events[name]).name)
            sealed = ledger.filter(pl.col("day").is_in(list(days[name])))
            assert set(sealed["state"]) <= {"sealed", "corrected"}
        check_sequences(run, days)
