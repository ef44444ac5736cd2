"""What requests are answered with is what the oracle says, while the lake is streamed and built.

The histories are those of the lake's test; beside them the online store is fed, published, merged
and tidied up at any moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from tempfile import TemporaryDirectory
from threading import Event

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sequence_platform.clock import FixedClock
from sequence_platform.engine.decode import decode
from sequence_platform.online_format import switching
from sequence_platform.plan.tables import enrichment_table
from sequence_platform.ports.online import OnlineStore
from sequence_platform.runtimes.segments import collect, publish_day, unpublished_days
from sequence_platform.runtimes.serving import Query, SequenceReader, default_columns
from sequence_platform.runtimes.streaming import OnlineSink, Pace, StreamReport, StreamWorker
from sequence_platform.sources.memory_log import MemoryLog
from sequence_platform.stores.ducklake import DuckLakeLake
from sequence_platform_tests import oracle
from sequence_platform_tests.backends import ONLINE_STORES
from sequence_platform_tests.oracle import Row, Rows
from sequence_platform_tests.parity.test_stream_equals_oracle import (
    CLOCK,
    EVENTS,
    EXAMPLES,
    HERE,
    History,
    Killed,
    Run,
    days_of,
    histories,
)
from sequence_platform_tests.strategies import D0, DAY, comparable


@dataclass(frozen=True, slots=True)
class Follow:
    """The online worker reads all that the log holds, unless it dies after some flushes."""

    flush_messages: int
    dies_after: int | None


@dataclass(frozen=True, slots=True)
class Publish:
    """Days that the lake holds otherwise are published, open ones, too, if wanted."""

    name: str
    with_open_days: bool


@dataclass(frozen=True, slots=True)
class Tidy:
    """Segments are merged, and what they hold of the tail is dropped."""

    name: str


Extra = Follow | Publish | Tidy
EXTRAS = st.one_of(
    st.builds(Follow, st.sampled_from([1, 3, 100]), st.sampled_from([None, None, 1])),
    st.builds(Publish, st.sampled_from(EVENTS), st.booleans()),
    st.builds(Tidy, st.sampled_from(EVENTS)),
)


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """A history, and what is done to the online store after each of its steps."""

    history: History
    extras: list[list[Extra]]
    as_of: datetime


@st.composite
def served(draw: st.DrawFn) -> Served:
    history = draw(histories())
    extras = [draw(st.lists(EXTRAS, max_size=2)) for _ in history.steps]
    as_of = draw(st.sampled_from([D0 + DAY, D0 + 2 * DAY, D0 + timedelta(hours=12), D0 + 9 * DAY]))
    return Served(history, extras, as_of)


class ServedRun(Run):
    """A lake, a log and an online store."""

    def __init__(self, case: Served, lake: DuckLakeLake, store: OnlineStore) -> None:
        super().__init__(case.history, lake)
        self.case = case
        self.store = store
        self.reader = SequenceReader(self.plan, store, FixedClock(CLOCK.at))

    def step_by_step(self) -> None:
        for step, extras in zip(self.history.steps, self.case.extras, strict=True):
            self.do_one(step)
            for extra in extras:
                self.extra(extra)
        self.work(100, None)
        self.follow(100, None)

    def extra(self, extra: Extra) -> None:
        match extra:
            case Follow():
                self.follow(extra.flush_messages, extra.dies_after)
            case Publish():
                # What is published has been streamed: one that reads both sees no message early.
                self.follow(100, None)
                self.publish(extra.name, with_open_days=extra.with_open_days)
            case Tidy():
                event = self.plan.events[extra.name]
                self.store.compact(event, CLOCK.at)
                collect(self.store, event, timedelta(0), CLOCK)

    def follow(self, flush_messages: int, dies_after: int | None) -> None:
        flushes = 0

        def tell(report: StreamReport) -> None:
            nonlocal flushes
            flushes += report.flushed is not None
            if flushes == dies_after:
                raise Killed

        pace = Pace(
            flush_seconds=60, flush_messages=flush_messages, poll_messages=2, poll_seconds=0
        )
        sink = OnlineSink(
            self.store,
            CLOCK,
            lambda _: decode,
            lambda enrichment, keys: self.lake.read_lookup(enrichment_table(enrichment), keys),
        )
        worker = StreamWorker(
            MemoryLog(self.topics), sink, self.plan.events.values(), CLOCK, pace=pace, tell=tell
        )
        try:
            worker.run(Event(), until_caught_up=True)
        except Killed:
            assert dies_after is not None

    def publish(self, name: str, *, with_open_days: bool) -> None:
        event = self.plan.events[name]
        days = list(unpublished_days(self.lake, self.store, event))
        if with_open_days:
            days = sorted(set(self.lake.ledger(f"enriched.{event.table}")["day"]))
        for day in days:
            publish_day(self.lake, self.store, event, day, CLOCK)

    def answer(self, entity: object) -> Row:
        [sequence] = self.plan.sequences.values()
        columns = default_columns(sequence)
        found = self.reader.read(
            sequence.name, entity, Query(as_of=self.case.as_of, columns=columns)
        )
        lists = {name: column.to_series(name).to_list() for name, column in found.columns.items()}
        return {"length": found.length, "trimmed": dict(found.trimmed)} | lists

    def check_answers(self, rows: dict[str, Rows]) -> None:
        twin = self.history.sequence.twin
        kept = {
            name: [row for part in days_of(self.history, rows, name).values() for row in part.rows]
            for name in EVENTS
        }
        expected = {row["entity"]: row for row in oracle.assemble(twin, kept, self.case.as_of)}
        for entity in HERE.entities:
            found = self.answer(entity)
            if entity not in expected:
                assert found["length"] == 0
                continue
            wanted = {name: expected[entity][name] for name in found}
            assert comparable([found]) == comparable([wanted])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ONLINE_STORES)
@given(case=served())
@settings(max_examples=EXAMPLES, phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink])
def test_answers_converge_to_the_oracle_however_events_arrive(kind: str, case: Served) -> None:
    with (
        TemporaryDirectory() as home,
        DuckLakeLake(f"{home}/catalog.sqlite", f"{home}/data", threads=1) as lake,
        pytest.MonkeyPatch.context() as patch,
        ONLINE_STORES[kind]() as store,
    ):
        patch.setattr(switching, "MAX_SEGMENTS", 2)
        run = ServedRun(case, lake, store)
        run.step_by_step()
        if not any(case.history.batch.values()):  # batch rows are served once published
            run.check_answers(case.history.sent)
        rows = {name: [*case.history.batch[name], *case.history.sent[name]] for name in EVENTS}
        for name in EVENTS:
            for day in days_of(case.history, rows, name):
                run.build(name, day)
            run.publish(name, with_open_days=False)
        run.check_answers(rows)
        for name in EVENTS:  # the answers come from segments alone
            collect(store, run.plan.events[name], timedelta(0), CLOCK)
        run.check_answers(rows)
