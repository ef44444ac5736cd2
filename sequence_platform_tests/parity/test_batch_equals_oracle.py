"""Sources, batch runtime, lake and engine together say what the oracle says, whatever the order."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sequence_platform.clock import FixedClock
from sequence_platform.definition import Definition, Files
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.plan import Plan, Window
from sequence_platform.plan.tables import (
    all_tables,
    enriched_table,
    enrichment_table,
    sequence_table,
)
from sequence_platform.ports import Lake
from sequence_platform.runtimes import offline
from sequence_platform.runtimes.batch import (
    build_enrichment,
    build_events,
    build_sequence,
    stale_days,
)
from sequence_platform.settings import Settings
from sequence_platform.stores.ducklake import DuckLakeLake, connect_read_only
from sequence_platform.wiring import Platform
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
    microseconds,
    optional,
    raw_rows,
    sequences,
    times,
    vectors,
    world,
)

LATE = {"buy": DAY}
HERE = world(
    pl.String(),
    view=Files("view/*.parquet"),
    buy=Files("buy/day={day}/*.parquet", late=LATE["buy"], missing="empty"),
    search=Files("search/{day:%Y/%m/%d}.ndjson.gz", missing="empty"),
    item_facts=Files("item_facts.parquet"),
    user_facts=Files("user_facts.ndjson"),
)
EVENTS = ("view", "buy", "search")
DAYS = [(D0 + n * DAY).date() for n in range(4)]
"""Days with events, and a last one without, whose files hold late rows."""
MOMENTS = [timedelta(hours=12), timedelta(hours=12, minutes=1), timedelta(0), DAY - US]
TIMES = st.sampled_from(
    [*[D0 + n * DAY + at for n in range(3) for at in MOMENTS], None, *IMPOSSIBLE]
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
EXAMPLES = max(3, settings().max_examples // 10)
"""A whole lake is built for each."""
Task = tuple[str, date]
File = date | int
"""A file of a day, or a numbered one that holds any days."""

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
    st.fixed_dictionaries({"user": optional(HERE.entities), "country": optional(WORDS)}),
    max_size=8,
)


VIEW_ROW: Row = {
    "id": "1",
    "user": "ann",
    "ts": microseconds(D0),
    "item_id": 1,
    "surface": "a",
    "score": 1.0,
}


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Raw rows by event type and file, raw rows of the enrichments, and the order of building."""

    files: Mapping[str, Mapping[File, Rows]]
    items: Rows
    users: Rows
    sequences: list[Drawn]
    order: list[Task]

    @property
    def plan(self) -> Plan:
        values: list[Definition] = list(HERE.definitions.values())
        values += [drawn.twin.policy for drawn in self.sequences]
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
        raw: dict[date, Rows] = {day: [] for day in DAYS}
        for file, rows in self.files[name].items():
            at = [usable_time(name, row) for row in rows]
            own = file if isinstance(file, date) else min(t.date() for t in at if t)
            for row, t in zip(rows, at, strict=True):
                raw[t.date() if t and may_hold(name, file, t) else own].append(row)
        return oracle.build_days(HERE.oracles[name], raw, known)


def usable_time(name: str, row: Row) -> datetime | None:
    """Return when an event happened, or None for no time or an impossible one."""
    event = HERE.oracles[name]
    at: datetime | None = event.event_time(row)
    return at if at is not None and event.earliest <= at < event.latest else None


def may_hold(name: str, file: File, at: datetime) -> bool:
    """Return whether a time may stand in a file: any, or those of its day and somewhat before."""
    if not isinstance(file, date):
        return True
    start = datetime(file.year, file.month, file.day, tzinfo=UTC)
    return start - LATE.get(name, timedelta(0)) <= at < start + DAY


@st.composite
def histories(draw: st.DrawFn) -> History:
    files: dict[str, dict[File, Rows]] = {"view": {}, "buy": {}, "search": {}}
    for name in EVENTS:
        for row in draw(raw_rows(name, HERE.entities, TIMES)):
            at = usable_time(name, row)
            days = [*3 * [at.date()], at.date() + DAY, *DAYS] if at else DAYS
            choice: list[File] = [0, 1] if name == "view" else [*days]
            file = draw(st.sampled_from(choice))
            files[name].setdefault(file, []).append(row)
    for rows in files["view"].values():
        # An undated file without a usable time belongs to no day, which is an error of its own.
        rows.append(rows[0] | {"ts": microseconds(D0)})
    files["view"] = files["view"] or {0: [VIEW_ROW]}
    drawn = [draw(sequences(HERE.definitions, name=name)) for name in ("first", "second")]
    tasks = [(name, day) for name in (*EVENTS, "first", "second") for day in DAYS]
    order = draw(st.permutations([*tasks, *draw(st.lists(st.sampled_from(tasks), max_size=6))]))
    return History(files, draw(ITEM_ROWS), draw(USER_ROWS), drawn, order)


def write(history: History, root: Path) -> None:
    """Write the files that the sources of HERE read."""
    for name in EVENTS:
        for file, rows in history.files[name].items():
            table = frame(rows, HERE.event(name).raw_schema)
            if name == "view":
                put(table, root / f"view/{file}.parquet")
            elif name == "buy":
                put(table.gather_every(2), root / f"buy/day={file}/even.parquet")
                put(table.gather_every(2, 1), root / f"buy/day={file}/odd.parquet")
            else:
                put(table, root / f"search/{file:%Y/%m/%d}.ndjson.gz")
    facts = HERE.plan.enrichments
    put(frame(history.items, facts["item_facts"].raw_schema), root / "item_facts.parquet")
    put(frame(history.users, facts["user_facts"].raw_schema), root / "user_facts.ndjson")


def put(table: pl.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        table.write_parquet(path)
        return
    rows = (json.dumps(row, default=str, ensure_ascii=False) for row in table.to_dicts())
    data = "".join(f"{row}\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def build(platform: Platform, history: History) -> None:
    """Build all in the drawn order, as a backfill would; then sequences with changed events."""
    lake, plan = platform.lake, platform.plan
    lake.ensure_tables(all_tables(plan))
    for enrichment in plan.enrichments.values():
        build_enrichment(lake, platform.source_of(enrichment.name), enrichment, CLOCK)
    for name, day in history.order:
        if name in plan.events:
            build_events(lake, platform.source_of(name), plan.events[name], day, CLOCK)
        else:
            build_sequence(lake, plan.sequences[name], day, CLOCK, bucket_rows=3)
    for sequence in plan.sequences.values():
        for day in stale_days(lake, sequence, CLOCK):
            build_sequence(lake, sequence, day, CLOCK)
        assert stale_days(lake, sequence, CLOCK) == []


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
            assert entry["rows"] == entry["admitted"] == len(part.rows)
            assert json.loads(entry["filtered"]) == part.filtered
            assert entry["received"] == part.received
            assert entry["dead_lettered"] == len(part.dead)
            assert (entry["superseded"], entry["deleted"]) == (part.superseded, part.deleted)
            assert sum(lake.violations(spec, day).values()) == 0


def check_dead_letters(home: str, history: History, plan: Plan) -> None:
    """Compare the rules; a stray without entity is dead for either reason, so strays say less."""
    connection = connect_read_only(f"{home}/catalog.sqlite", f"{home}/data")
    found = connection.sql("SELECT table_name, day, rule FROM platform.dead_letters").fetchall()
    connection.close()
    for name, event in plan.events.items():
        for day, part in history.days(name).items():
            rules = sorted(
                rule for table, on, rule in found if (table, on) == (f"enriched.{event.table}", day)
            )
            expected = sorted(row["rule"] for row in part.dead)
            if "outside_partition" in rules:
                assert len(rules) == len(expected)
            else:
                assert rules == expected


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
    rows = {name: [r for part in history.days(name).values() for r in part.rows] for name in EVENTS}
    for drawn in history.sequences:
        found = offline.read_sequences(lake, plan.sequences[drawn.plan.name], as_of=as_of)
        expected = oracle.assemble(drawn.twin, rows, as_of)
        assert comparable(found.to_dicts()) == comparable(expected)


@pytest.mark.slow
@given(data=st.data())
@settings(
    max_examples=EXAMPLES,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
def test_tables_snapshots_and_counts_equal_the_oracle(data: st.DataObject) -> None:
    history = data.draw(histories())
    with (
        TemporaryDirectory() as home,
        DuckLakeLake(f"{home}/catalog.sqlite", f"{home}/data", threads=1) as lake,
    ):
        write(history, Path(home))
        plan, placed = history.plan, Settings(home=Path(home), source_root=Path(home))
        build(Platform(plan, lake, CLOCK, placed), history)
        check_enrichments(lake, history, plan)
        check_events(lake, history, plan)
        check_dead_letters(home, history, plan)
        check_sequences(lake, history, plan)
        for as_of in data.draw(st.lists(AS_OF, min_size=5, max_size=10)):
            check_reads(lake, history, plan, as_of)
