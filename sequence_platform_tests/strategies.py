"""What property tests draw from: event types with plain twins, hostile rows, random policies.

Every Polars expression stands beside the Python function that means the same, so that the oracle
never runs Polars.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from math import isnan
from typing import Any

import polars as pl
from hypothesis import strategies as st

from sequence_platform.definition import (
    Dedupe,
    Enrichment,
    EventType,
    Files,
    Sequence,
    Sessions,
    Source,
    Vector,
)
from sequence_platform.errors import Problem
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.compile_sequence import compile_sequence
from sequence_platform.plan.plan import EventPlan, Plan, SequencePlan
from sequence_platform.plan.report import Report
from sequence_platform_tests import oracle
from sequence_platform_tests.oracle import Row, Rows

US = timedelta(microseconds=1)
DAY = timedelta(days=1)
D0 = datetime(2024, 3, 10, tzinfo=UTC)
"""A midnight, on the day American clocks change."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# ---- times: ties, day boundaries, huge gaps

# Hypothesis favours what comes first: what is usual stands there.
OFFSETS = [
    *(timedelta(hours=12), timedelta(hours=1), timedelta(minutes=30), timedelta(minutes=30) + US),
    *(timedelta(seconds=1), timedelta(seconds=1) + US, timedelta(0), US, -US),
    *(DAY - US, DAY, DAY + US, 2 * DAY, 3 * DAY - US, 5 * DAY, 40 * DAY, 400 * DAY),
]
TIMES = [D0 + offset for offset in OFFSETS]
IMPOSSIBLE = [
    datetime(1969, 12, 31, tzinfo=UTC),
    datetime(1970, 12, 31, tzinfo=UTC),
    datetime(2100, 1, 1, tzinfo=UTC),
]
times = st.sampled_from([*TIMES, *TIMES[:11]])  # near ones more often
busy_times = st.sampled_from(
    [
        *3
        * [
            D0 + timedelta(minutes=minutes)
            for minutes in (0, 1, 2, 29, 30, 31, 59, 60, 61, 90, 720, 751)
        ],
        *TIMES,
    ]
)
"""Mostly within one day, often a round distance apart: where sessions and bursts begin and end."""
raw_times = st.one_of(times, times, times, times, st.sampled_from([*IMPOSSIBLE, None]))
RAW_MICROSECONDS = [0, -1, 2**62, -(2**62), 4_102_444_800_000_000]
"""Epoch times that are impossible; some are beyond what a Python datetime can say."""


def microseconds(time: datetime) -> int:
    """Return microseconds since the epoch, exact."""
    return (time - EPOCH) // US


def from_microseconds(value: int | None) -> datetime | None:
    """Return the time, or the nearest one that Python can say."""
    if value is None:
        return None
    try:
        return EPOCH + timedelta(microseconds=value)
    except OverflowError:
        return datetime(9999 if value > 0 else 1, 1, 1, tzinfo=UTC)


# ---- values

WORDS = ["a", "é", "e\u0301", "日本", "😀", "\uffff", "", " ", "A", "null"]
STRING_ENTITIES = ["ann", "", "é", "😀", "bot"]
INTEGER_ENTITIES = [7, 0, -1, 2**53 + 1, 13]
FLOATS = [1.5, -1.0, 0.0, 75.0, float("nan"), float("inf"), None]
ITEMS = [1, 2, 3, -4, None]


def optional(values: Items[Any]) -> st.SearchStrategy[Any]:
    """Draw one of the values, seldom a null."""
    return st.sampled_from([*values, *values, *values, None])


# ---- a world: event types, enrichments and their twins, for one type of entity


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Definitions and what they mean in plain Python, by name."""

    entities: Items[Any]
    definitions: Mapping[str, EventType]
    enrichments: Mapping[str, Enrichment]
    plan: Plan
    oracles: Mapping[str, oracle.Event]

    def event(self, name: str) -> EventPlan:
        """Return the plan of an event type."""
        return self.plan.events[name]


ITEM_COLUMNS = ("brand", "is_cheap", "item_vector")
USER_COLUMNS = ("country",)
VIEW_PAYLOAD = ("ts", "item_id", "surface", "score", "is_home", *ITEM_COLUMNS)
BUY_PAYLOAD = (
    "item_id",
    "amount",
    "note",
    "note_length",
    "is_big",
    "is_long",
    *ITEM_COLUMNS,
    *USER_COLUMNS,
)
SEARCH_PAYLOAD = ("delay_ms", "query", "tags", "hits", "is_blank", "found")


@cache
def world(entity: pl.DataType = pl.String(), **sources: Source) -> World:  # noqa: B008 - a value
    """Return the world for entities of a type; ``sources`` by name, for tests that read files."""
    ids = INTEGER_ENTITIES if entity.is_integer() else STRING_ENTITIES
    bot = ids[-1]
    item_facts = Enrichment(
        name="item_facts",
        owner="team:tests",
        key="item_id",
        schema={
            "item_id": pl.Int64,
            "published": pl.Datetime("us", "UTC"),
            "brand": pl.String,
            "cents": pl.Int32,
            "vector": Vector(2),
        },
        source=sources.get("item_facts", Files("item_facts.parquet")),
        columns={
            "brand": pl.col("brand"),
            "is_cheap": pl.col("cents") < 1000,
            "item_vector": pl.col("vector"),
        },
        available_time="published",
    )
    user_facts = Enrichment(
        name="user_facts",
        owner="team:tests",
        key="user",
        schema={"user": entity, "country": pl.String},
        source=sources.get("user_facts", Files("user_facts.ndjson")),
        columns=["country"],
        on_missing="reject",
    )
    view = EventType(
        name="view",
        owner="team:tests",
        schema={
            "id": pl.String,
            "user": entity,
            "ts": pl.Int64,
            "item_id": pl.Int64,
            "surface": pl.String,
            "score": pl.Float64,
        },
        event_id="id",
        entity="user",
        event_time=pl.from_epoch("ts", time_unit="us"),
        batch=sources.get("view", Files("view.parquet")),
        where=pl.col("score") >= 0,
        columns={"is_home": pl.col("surface") == "a"},
        enrich=[item_facts],
    )
    buy = EventType(
        name="buy",
        owner="team:tests",
        schema={
            "order_no": pl.Int64,
            "buyer": entity,
            "at": pl.Datetime("us"),
            "seen": pl.Datetime("us", "UTC"),
            "rev": pl.Int32,
            "op": pl.String,
            "item_id": pl.Int64,
            "amount": pl.Float64,
            "note": pl.String,
        },
        event_id="order_no",
        entity="buyer",
        event_time="at",
        arrival_time="seen",
        revision="rev",
        operation="op",
        batch=sources.get("buy", Files("buy.parquet")),
        where={"paid": pl.col("amount") > 0, "human": pl.col("buyer") != bot},
        executor=without_tests,
        columns={"is_big": pl.col("amount") > 50, "is_long": pl.col("note_length") > 1},
        enrich=[item_facts, user_facts.by("buyer")],
    )
    search = EventType(
        name="search",
        owner="team:tests",
        schema={
            "sid": pl.String,
            "user": entity,
            "time": pl.Datetime("us"),
            "delay_ms": pl.Int64,
            "query": pl.String,
            "tags": pl.List(pl.String),
            "hits": pl.String,
        },
        event_id="sid",
        entity="user",
        event_time="time",
        arrival_time=pl.col("time") + pl.duration(milliseconds="delay_ms"),
        batch=sources.get("search", Files("search.parquet")),
        columns={"is_blank": pl.col("query") == "", "found": pl.col("hits").cast(pl.Int64)},
    )
    events = (view, buy, search)
    return World(
        entities=ids,
        definitions={event.name: event for event in events},
        enrichments={"item_facts": item_facts, "user_facts": user_facts},
        plan=compile_plan([Located("tests.py", event) for event in events]),
        oracles={event.name: event for event in (VIEW, buy_oracle(bot), SEARCH)},
    )


def without_tests(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Drop test orders and measure the note: the executor of ``buy``."""
    kept = frame.filter(pl.col("note").ne_missing("test"))
    return kept.with_columns(note_length=pl.col("note").str.len_chars().cast(pl.Int32))


def without_tests_row(row: Row) -> Row | None:
    """Mean the same as ``without_tests``, for one row."""
    if row["note"] == "test":
        return None
    return row | {"note_length": None if row["note"] is None else len(row["note"])}


ITEM_LOOKUP = oracle.Lookup(
    enrichment="item_facts", column=lambda row: row["item_id"], columns=ITEM_COLUMNS
)
USER_LOOKUP = oracle.Lookup(
    enrichment="user_facts", column=lambda row: row["buyer"], columns=USER_COLUMNS, rejects=True
)


def above(limit: float) -> Callable[[float | None], bool | None]:
    """Compare as columns do: null says nothing, NaN is the largest number."""
    return lambda value: None if value is None else isnan(value) or value > limit


def equal(left: object, right: object) -> bool | None:
    """Compare as columns do: null says nothing."""
    return None if left is None else left == right


VIEW = oracle.Event(
    name="view",
    event_id=lambda row: row["id"],
    entity=lambda row: row["user"],
    event_time=lambda row: from_microseconds(row["ts"]),
    rules={
        "where": lambda row: (
            None if row["score"] is None else isnan(row["score"]) or row["score"] >= 0
        )
    },
    columns={"is_home": lambda row: equal(row["surface"], "a")},
    lookups=(ITEM_LOOKUP,),
    payload=VIEW_PAYLOAD,
)
SEARCH = oracle.Event(
    name="search",
    event_id=lambda row: row["sid"],
    entity=lambda row: row["user"],
    event_time=lambda row: row["time"] and row["time"].replace(tzinfo=UTC),
    arrival_time=lambda row: (
        None
        if row["time"] is None or row["delay_ms"] is None
        else row["time"].replace(tzinfo=UTC) + timedelta(milliseconds=row["delay_ms"])
    ),
    columns={
        "is_blank": lambda row: equal(row["query"], ""),
        "found": lambda row: None if row["hits"] is None else int(row["hits"]),
    },
    payload=SEARCH_PAYLOAD,
)


def buy_oracle(bot: object) -> oracle.Event:
    """Return the twin of ``buy``."""
    return oracle.Event(
        name="buy",
        event_id=lambda row: None if row["order_no"] is None else str(row["order_no"]),
        entity=lambda row: row["buyer"],
        event_time=lambda row: row["at"] and row["at"].replace(tzinfo=UTC),
        arrival_time=lambda row: row["seen"],
        revision=lambda row: row["rev"],
        operation=lambda row: row["op"],
        rules={
            "paid": lambda row: above(0)(row["amount"]),
            "human": lambda row: row["buyer"] != bot,
        },
        executor=without_tests_row,
        columns={
            "is_big": lambda row: above(50)(row["amount"]),
            "is_long": lambda row: None if row["note_length"] is None else row["note_length"] > 1,
        },
        lookups=(ITEM_LOOKUP, USER_LOOKUP),
        corrects=True,
        payload=BUY_PAYLOAD,
    )


# ---- raw rows


def raw_rows(
    name: str, entities: Items[Any], when: st.SearchStrategy[Any] = raw_times
) -> st.SearchStrategy[Rows]:
    """Draw rows of an event type: few ids and times and altered copies, so that ties are common."""
    fields = ROWS[name](entities, when)

    def altered(row: Row) -> st.SearchStrategy[Row]:
        changed = st.sampled_from(sorted(fields)).flatmap(
            lambda field: st.tuples(st.just(field), fields[field])
        )
        return changed.map(lambda change: row | {change[0]: change[1]})

    def with_versions(rows: Rows) -> st.SearchStrategy[Rows]:
        if not rows:
            return st.just(rows)
        versions = st.lists(st.sampled_from(rows).flatmap(altered), max_size=4)
        return versions.map(lambda more: [*rows, *more])

    def at_least(size: int) -> st.SearchStrategy[Rows]:
        return st.lists(st.fixed_dictionaries(fields), min_size=size, max_size=10)

    few_or_many = st.one_of(at_least(4), at_least(1), at_least(0))
    return few_or_many.flatmap(with_versions).flatmap(with_repeats)


def with_repeats(rows: Rows) -> st.SearchStrategy[Rows]:
    """Draw the rows with some of them delivered again, in any order."""
    if not rows:
        return st.just(rows)
    repeats = st.lists(st.sampled_from(rows), max_size=3)
    return repeats.flatmap(lambda extra: st.permutations([*rows, *extra]))


def naive(when: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw times without a zone."""
    return when.map(lambda time: time and time.replace(tzinfo=None))


ROWS: Mapping[
    str, Callable[[Items[Any], st.SearchStrategy[Any]], dict[str, st.SearchStrategy[Any]]]
] = {
    "view": lambda entities, when: {
        "id": optional(["1", "2", "3", "", "😀", "\uffff"]),
        "user": optional(entities[:4]),
        "ts": st.one_of(
            *6 * [when.map(lambda time: time and microseconds(time))],
            st.sampled_from(RAW_MICROSECONDS),
        ),
        "item_id": st.sampled_from(ITEMS),
        "surface": optional(WORDS),
        "score": st.sampled_from(FLOATS),
    },
    "buy": lambda entities, when: {
        "order_no": optional([1, 9, 10]),
        "buyer": optional(entities),
        "at": naive(when),
        "seen": optional(TIMES),
        "rev": optional([0, 0, 1, 2]),
        "op": st.sampled_from(["upsert"] * 6 + ["delete"] * 2 + [None] * 3 + ["Delete"]),
        "item_id": st.sampled_from(ITEMS),
        "amount": st.sampled_from([*FLOATS, 10.0, 60.0]),
        "note": optional([*WORDS, "test"]),
    },
    "search": lambda entities, when: {
        "sid": optional(["s1", "s2", "10", "9"]),
        "user": optional(entities),
        "time": naive(when),
        "delay_ms": optional([0, 0, 5, 86_400_000]),
        "query": optional(WORDS),
        "tags": st.one_of(st.none(), st.lists(optional(["x", "é", ""]), max_size=2)),
        "hits": st.sampled_from(["1", "2", "10", "-3", None, "many"]),
    },
}

vectors = st.one_of(st.none(), st.lists(st.sampled_from([0.5, -1.0, 2.25]), min_size=2, max_size=2))
item_tables = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(ITEMS[:-1]),
            "available_time": times,
            "brand": optional(WORDS),
            "is_cheap": st.sampled_from([True, False, None]),
            "item_vector": vectors,
        }
    ),
    max_size=10,
    unique_by=lambda row: (row["key"], row["available_time"]),
)


def user_tables(entities: Items[Any]) -> st.SearchStrategy[Rows]:
    """Draw the rows of ``user_facts``; some users have none."""
    row = st.fixed_dictionaries({"key": st.sampled_from(entities), "country": optional(WORDS)})
    return st.lists(row, max_size=len(entities), unique_by=lambda row: row["key"])


def tables(entities: Items[Any]) -> st.SearchStrategy[dict[str, Rows]]:
    """Draw the rows of both enrichments."""
    return st.fixed_dictionaries({"item_facts": item_tables, "user_facts": user_tables(entities)})


# ---- enriched rows

PAYLOADS: Mapping[str, dict[str, st.SearchStrategy[Any]]] = {
    "view": {
        "ts": st.just(0),
        "item_id": st.sampled_from([1, 2, None]),
        "surface": st.sampled_from(["a", "", None]),
        "score": st.sampled_from([1.5, float("nan"), None]),
        "is_home": st.sampled_from([True, False, None]),
        "brand": optional(WORDS[:2]),
        "is_cheap": st.sampled_from([True, None]),
        "item_vector": vectors,
    },
    "buy": {
        "item_id": st.sampled_from([1, 2, None]),
        "amount": st.sampled_from(FLOATS),
        "note": optional(WORDS),
        "note_length": st.sampled_from([0, 3, None]),
        "is_big": st.sampled_from([True, False, None]),
        "is_long": st.sampled_from([True, None]),
        "brand": optional(WORDS[:2]),
        "is_cheap": st.sampled_from([True, None]),
        "item_vector": vectors,
        "country": optional(["CH", "", "é"]),
    },
    "search": {
        "delay_ms": st.just(0),
        "query": optional(["a", "", "日本"]),
        "tags": st.one_of(st.none(), st.lists(optional(["x", ""]), max_size=2)),
        "hits": st.just("1"),
        "is_blank": st.sampled_from([True, None]),
        "found": st.sampled_from([1, 2, None]),
    },
}


def enriched_rows(
    name: str, entities: Items[Any], when: st.SearchStrategy[Any] = busy_times
) -> st.SearchStrategy[Rows]:
    """Draw enriched rows: ties, versions of one event on several days, exact repeats."""
    envelope = {
        "entity": st.sampled_from([*5 * [entities[0]], *2 * [entities[1]], entities[2]]),
        "event_id": st.sampled_from(["", "1", "2", "3", "4", "5", "10", "é", "\uffff", "😀"]),
        "event_time": when,
        "arrival_time": st.sampled_from(TIMES[:3]),
        "revision": st.sampled_from([0, 0, 0, 1]),
    }
    row = st.fixed_dictionaries(envelope | PAYLOADS[name])

    def between(least: int, most: int) -> st.SearchStrategy[Rows]:
        # Full ties with other payloads never reach assemble: resolve has seen their partition.
        return st.lists(
            row,
            min_size=least,
            max_size=most,
            unique_by=lambda r: tuple(r[column] for column in envelope),
        )

    return st.one_of(between(6, 14), between(2, 8), between(0, 2)).flatmap(with_repeats)


# ---- sequences

CARRIED = {
    "view": {"item_id", "surface", "score", "is_home", "brand", "is_cheap", "item_vector"},
    "buy": {
        "item_id",
        "amount",
        "note",
        "note_length",
        "is_big",
        "brand",
        "is_cheap",
        "item_vector",
        "country",
    },
    "search": {"query", "tags", "is_blank", "delay_ms", "found"},
}
DEDUPE_BY = ("item_id", "surface", "brand", "query", "country", "is_cheap", "event_type", "score")


@dataclass(frozen=True, slots=True)
class Derived:
    """A derived column: the expression, what it means, the carried columns it needs."""

    expression: pl.Expr
    twin: Callable[[Rows], list[Any]]
    needs: frozenset[str] = frozenset()


def _gaps(events: Rows) -> list[int | None]:
    return [
        None,
        *(
            (after["event_time"] - before["event_time"]) // timedelta(seconds=1)
            for before, after in pairwise(events)
        ),
    ]


def _views_so_far(events: Rows) -> list[int]:
    return [
        sum(event["event_type"] == "view" for event in events[: i + 1]) for i in range(len(events))
    ]


def _ages(events: Rows) -> list[int]:
    newest = events[-1]["event_time"]
    return [(newest - event["event_time"]) // timedelta(milliseconds=1) for event in events]


def _is_new_item(events: Rows) -> list[bool]:
    items = [event["item_id"] for event in events]
    return [item not in items[:i] for i, item in enumerate(items)]


DERIVED = {
    "gap_s": Derived(pl.col("event_time").diff().dt.total_seconds(), _gaps),
    "position": Derived(pl.int_range(pl.len()), lambda events: list(range(len(events)))),
    "previous_type": Derived(
        pl.col("event_type").shift(1),
        lambda events: [None, *(event["event_type"] for event in events[:-1])],
    ),
    "views_so_far": Derived(
        (pl.col("event_type") == "view").cast(pl.Int64).cum_sum(), _views_so_far
    ),
    "age_ms": Derived(
        (pl.col("event_time").max() - pl.col("event_time")).dt.total_milliseconds(), _ages
    ),
    "events": Derived(pl.len().cast(pl.Int64), lambda events: [len(events)] * len(events)),
    "newest": Derived(
        pl.col("event_time").max(), lambda events: [events[-1]["event_time"]] * len(events)
    ),
    "is_new_item": Derived(
        pl.col("item_id").is_first_distinct(), _is_new_item, frozenset({"item_id"})
    ),
}


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A sequence: its plan and its twin."""

    plan: SequencePlan
    twin: oracle.Assembly

    def __repr__(self) -> str:
        policy = self.twin.policy
        names = [event.name for event in policy.events]
        shown = ("columns", "max_length", "max_age", "sessions", "dedupe", "quotas")
        facts = ", ".join(f"{name}={getattr(policy, name)!r}" for name in shown)
        rest = f"derived={list(policy.derived or {})}, late={policy.late}"
        return f"Sequence(events={names}, {facts}, {rest})"

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        printer.text(repr(self))


_COMPILED: dict[int, EventPlan] = {}
"""By the id of the definition, which its plan keeps alive."""


def _compiled(event: EventType) -> EventPlan:
    """Return the plan of an event type; made once, since that takes longer than most examples."""
    if id(event) not in _COMPILED:
        _COMPILED[id(event)] = compile_plan([Located("tests.py", event)]).events[event.name]
    return _COMPILED[id(event)]


def drawn(sequence: Sequence, vector_columns: Items[str] = ("item_vector",)) -> Drawn:
    """Compile a sequence and make its twin."""
    problems: list[Problem] = []
    plans = {id(event): _compiled(event) for event in sequence.events}
    plan = compile_sequence(sequence, plans, Report("tests.py", sequence.name, problems))
    assert plan is not None, problems
    late = vector_columns if sequence.late is None else sequence.late
    twin = oracle.Assembly(
        policy=sequence,
        lookback=sequence.max_age or min(event.retention for event in sequence.events),
        carried=tuple(name for name in sequence.columns if name not in late),
        derived={name: DERIVED[name].twin for name in sequence.derived or {}},
    )
    return Drawn(plan, twin)


durations = st.sampled_from(
    [timedelta(minutes=30), timedelta(minutes=1), timedelta(hours=1), timedelta(seconds=1), US, DAY]
)


@st.composite
def sequences(draw: st.DrawFn, definitions: Mapping[str, EventType], name: str = "drawn") -> Drawn:
    """Draw a sequence over one to three of the event types, with any trim policy."""
    order = draw(st.permutations(sorted(definitions)))
    events = order[: draw(st.sampled_from([2, 1, 3, 3]))]
    carried = set().union(*(CARRIED[event] for event in events))
    available = [
        *(name for name in DEDUPE_BY if name in carried),
        *sorted(carried.difference(DEDUPE_BY)),
    ]
    columns = draw(st.lists(st.sampled_from(available), unique=True, max_size=4))
    by = [column for column in (*columns, "event_type") if column in DEDUPE_BY]
    dedupe = st.builds(
        Dedupe,
        by=st.one_of(
            st.lists(st.sampled_from(by), min_size=1, max_size=3, unique=True), st.sampled_from(by)
        ),
        keep=st.sampled_from(["first", "last"]),
        within=st.one_of(st.just("consecutive"), durations, st.just(timedelta(0))),
    )
    derived = st.lists(
        st.sampled_from([n for n, d in DERIVED.items() if d.needs <= set(columns)]), unique=True
    )
    quotas = st.dictionaries(st.sampled_from(events), st.sampled_from([2, 1, 3]))
    return drawn(
        Sequence(
            name=name,
            owner="team:tests",
            events=[definitions[event] for event in events],
            columns=columns,
            max_length=draw(st.sampled_from([500, 6, 3, 2, 1])),
            max_age=draw(
                st.sampled_from(
                    [*5 * [3 * DAY, 90 * DAY, None], DAY, DAY - US, timedelta(hours=1), US]
                )
            ),
            sessions=draw(
                st.one_of(st.none(), st.builds(Sessions, gap=durations, keep=st.integers(1, 3)))
            ),
            dedupe=draw(st.one_of(st.none(), dedupe)),
            quotas=draw(st.one_of(st.none(), quotas)),
            derived={column: DERIVED[column].expression for column in draw(derived)},
            late=draw(st.sampled_from([None, ()])),
        )
    )


# ---- frames and comparison


def frame(rows: Rows, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return rows as a frame of exactly this schema."""
    return pl.DataFrame(
        [{name: row.get(name) for name in schema} for row in rows], schema=schema, orient="row"
    )


def comparable(value: Any) -> Any:
    """Return a value that equals another when both say the same: NaN is NaN, 1 is not True."""
    match value:
        case dict():
            return tuple((name, comparable(item)) for name, item in value.items())
        case list() | tuple():
            return tuple(comparable(item) for item in value)
        case datetime():
            return value.astimezone(UTC)
        case bool() | None:
            return repr(value)
        case float() if isnan(value):
            return "NaN"
        case _:
            return value


def as_set(rows: Rows) -> list[Any]:
    """Return rows in an order that depends on nothing but what they say."""
    return sorted((comparable(row) for row in rows), key=repr)
