"""The batch runtime, the lake and the engine together say what the oracle says, whatever the order of building."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from tempfile import TemporaryDirectory

import polars as pl
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sequence_platform.clock import FixedClock
from sequence_platform.engine.dead_letters import DEAD_LETTERS
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.plan import Plan, Window
from sequence_platform.plan.tables import (
    all_tables,
    enriched_table,
    enrichment_table,
    sequence_table,
)
from sequence_platform.ports import BatchSource, Lake, RawBatch
from sequence_platform.runtimes import offline
from sequence_platform.runtimes.batch import (
    build_enrichment,
    build_events,
    build_sequence,
    stale_days,
)
from sequence_platform.stores.ducklake import DuckLakeLake
from sequence_platform_tests import oracle
from sequence_platform_tests.oracle import Partition, Row, Rows
from sequence_platform_tests.strategies import (
    D0,
    DAY,
    IMPOSSIBLE,
    ITEMS,
    US,
    WORDS,
    Drawn,
    as_set,
    comparable,
    frame,
    optional,
    raw_rows,
    sequences,
    times,
    vectors,
    world,
)

HERE = world()
EVENTS = ("view", "buy", "search")
DAYS = [(D0 + n * DAY).date() for n in range(4)]
MOMENTS = [timedelta(hours=12), timedelta(hours=12, minutes=1), timedelta(0), DAY - US]
TIMES = st.sampled_from(
    [*[D0 + n * DAY + at for at in MOMENTS for n in range(4)], None, IMPOSSIBLE[0]]
)
AS_OF = st.sampled_from(
    [
        D0 + DAY,
        *[D0 + n * DAY + at for at in (timedelta(0), timedelta(hours=12), US) for n in range(6)],
        D0 + 80 * DAY,
    ]
)
EVER = Window(datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))
CLOCK = FixedClock(datetime(2024, 6, 1, tzinfo=UTC))
Task = tuple[str, date]


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A source that holds its rows by the day they belong to."""

    rows: Mapping[date | None, Rows]
    schema: pl.Schema

    def read(self, window: Window | None) -> Iterator[RawBatch]:
        rows = self.rows.get(None if window is None else window.start.date(), [])
        for part in (rows[:3], rows[3:]):
            yield RawBatch(frame(part, self.schema), pl.DataFrame(schema=DEAD_LETTERS))


ITEM_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "item_id": st.sampled_from(ITEMS),
            "published": st.one_of(times, times, times, st.none()),
            "brand": optional(WORDS),
            "cents": st.sampled_from([100, 999, 1000, None]),
            "vector": vectors,
        }
    ),
    max_size=12,
)
USER_ROWS = st.lists(
    st.fixed_dictionaries({"user": optional(HERE.entities), "country": optional(WORDS)}), max_size=8
)


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Raw rows by event type and the day they belong to, raw rows of the enrichments, and the order of building."""

    raw: Mapping[str, Mapping[date, Rows]]
    items: Rows
    users: Rows
    sequences: list[Drawn]
    order: list[Task]

    @property
    def plan(self) -> Plan:
        values = [*HERE.definitions.values(), *(drawn.twin.policy for drawn in self.sequences)]
        return compile_plan([Located("tests.py", value) for value in values])

    @property
    def tables(self) -> dict[str, tuple[Rows, Rows]]:
        """The rows and dead letters of the enrichments, as the oracle has them."""
        items = [
            {
                "key": row["item_id"],
                "available_time": row["published"],
                "brand": row["brand"],
                "is_cheap": None if row["cents"] is None else row["cents"] < 1000,
                "item_vector": row["vector"],
            }
            for row in self.items
        ]
        users = [{"key": row["user"], "country": row["country"]} for row in self.users]
        return {
            "item_facts": oracle.build_lookup(items, ["key", "available_time"]),
            "user_facts": oracle.build_lookup(users, ["key"]),
        }

    def days(self, name: str) -> dict[date, Partition]:
        """Return what every partition of an event type holds at the end, as the oracle has it."""
        known = {table: rows for table, (rows, _) in self.tables.items()}
        return oracle.build_days(HERE.oracles[name], self.raw[name], known)


@st.composite
def histories(draw: st.DrawFn) -> History:
    raw: dict[str, dict[date, Rows]] = {name: {day: [] for day in DAYS} for name in EVENTS}
    for name in EVENTS:
        for row in draw(raw_rows(name, HERE.entities, TIMES)):
            at = HERE.oracles[name].event_time(row)
            astray = (
                at is None or at.date() not in DAYS or draw(st.sampled_from([*7 * [False], True]))
            )
            day = draw(st.sampled_from(DAYS)) if astray else at.date()
            raw[name][day].append(row)
    drawn = [draw(sequences(HERE.definitions, name=name)) for name in ("first", "second")]
    tasks = [(name, day) for name in (*EVENTS, "first", "second") for day in DAYS]
    order = draw(st.permutations([*tasks, *draw(st.lists(st.sampled_from(tasks), max_size=6))]))
    return History(raw, draw(ITEM_ROWS), draw(USER_ROWS), drawn, order)


def build(lake: Lake, history: History, plan: Plan, sources: Mapping[str, BatchSource]) -> None:
    """Build all as a backfill would, in the drawn order; then the sequences whose events changed since."""
    lake.ensure_tables(all_tables(plan))
    for enrichment in plan.enrichments.values():
        build_enrichment(lake, sources[enrichment.name], enrichment, CLOCK)
    for name, day in history.order:
        if name in plan.events:
            build_events(lake, sources[name], plan.events[name], day, CLOCK)
        else:
            build_sequence(lake, plan.sequences[name], day, CLOCK, bucket_rows=3)
    for sequence in plan.sequences.values():
        for day in stale_days(lake, sequence):
            build_sequence(lake, sequence, day, CLOCK)
        assert stale_days(lake, sequence) == []


def held(history: History, plan: Plan) -> dict[str, BatchSource]:
    facts: dict[str, Mapping[date | None, Rows]] = {
        "item_facts": {None: history.items},
        "user_facts": {None: history.users},
    }
    rows = {**facts, **history.raw}
    schemas = {
        name: given.raw_schema for name, given in (*plan.events.items(), *plan.enrichments.items())
    }
    return {name: Held(rows[name], schema) for name, schema in schemas.items()}


def ledger_of(lake: Lake, table: str) -> dict[date | None, Row]:
    return {row["day"]: row for row in lake.ledger(table).to_dicts()}


def check_enrichments(lake: Lake, history: History, plan: Plan) -> None:
    for name, enrichment in plan.enrichments.items():
        rows, dead = history.tables[name]
        spec = enrichment_table(enrichment)
        keys = pl.Series([row["key"] for row in rows], dtype=enrichment.schema["key"])
        assert as_set(lake.read_lookup(spec, keys).to_dicts()) == as_set(rows)
        entry = ledger_of(lake, spec.name)[None]
        assert (entry["admitted"], entry["dead_lettered"]) == (len(rows), len(dead))


def check_events(lake: Lake, history: History, plan: Plan) -> None:
    for name, event in plan.events.items():
        spec, days = enriched_table(event), history.days(name)
        rows = lake.read_events(spec, list(spec.columns), EVER).to_dicts()
        assert as_set(rows) == as_set([row for part in days.values() for row in part.rows])
        ledger = ledger_of(lake, spec.name)
        for day, part in days.items():
            entry = ledger[day]
            counts = {rule: n for rule, n in json.loads(entry["filtered"]).items() if n}
            assert entry["rows"] == entry["admitted"] == len(part.rows)
            assert counts == part.filtered
            assert entry["received"] == part.received
            assert entry["dead_lettered"] == len(part.dead)
            assert (entry["superseded"], entry["deleted"]) == (part.superseded, part.deleted)
            assert sum(lake.violations(spec, day).values()) == 0


def check_sequences(lake: Lake, history: History, plan: Plan) -> None:
    days = {name: history.days(name) for name in EVENTS}
    for drawn in history.sequences:
        spec = sequence_table(plan.sequences[drawn.plan.name])
        for day in DAYS:
            newest = lake.read_snapshots(spec, list(spec.columns), day)
            rows = newest.filter(day=day).drop("day").to_dicts()
            assert comparable(rows) == comparable(oracle.build_snapshot(drawn.twin, days, day))
            assert sum(lake.violations(spec, day).values()) == 0


def check_reads(lake: Lake, history: History, plan: Plan, as_of: datetime) -> None:
    rows = {
        name: [row for part in history.days(name).values() for row in part.rows] for name in EVENTS
    }
    for drawn in history.sequences:
        found = offline.read_sequences(lake, plan.sequences[drawn.plan.name], as_of=as_of)
        assert comparable(found.to_dicts()) == comparable(oracle.assemble(drawn.twin, rows, as_of))


@given(data=st.data())
@settings(
    max_examples=max(3, settings.default.max_examples // 10),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
def test_tables_snapshots_and_counts_equal_the_oracle(data: st.DataObject) -> None:
    history = data.draw(histories())
    plan = history.plan
    with (
        TemporaryDirectory() as home,
        DuckLakeLake(f"{home}/catalog.sqlite", f"{home}/data") as lake,
    ):
        build(lake, history, plan, held(history, plan))
        check_enrichments(lake, history, plan)
        check_events(lake, history, plan)
        check_sequences(lake, history, plan)
        for as_of in data.draw(st.lists(AS_OF, min_size=5, max_size=10)):
            check_reads(lake, history, plan, as_of)
