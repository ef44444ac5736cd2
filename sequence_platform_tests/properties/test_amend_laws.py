"""Laws of amending: batch by batch, a partition becomes what resolving all at once gives it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from sequence_platform.definition import Log
from sequence_platform.engine.amend import Amended, amend, keys_of
from sequence_platform.engine.enrich import Enriched
from sequence_platform.engine.raw import raw_rows as stored_rows
from sequence_platform.engine.raw import received_rows
from sequence_platform.engine.resolve import KEY, resolve
from sequence_platform.plan.plan import ENVELOPE, EventPlan
from sequence_platform.plan.tables import raw_table
from sequence_platform_tests import oracle
from sequence_platform_tests.oracle import Rows
from sequence_platform_tests.strategies import as_set, frame, raw_rows, tables, world
from sequence_platform_tests.unit.plan.examples import click, event_plan

HERE = world()
EVENTS = ("view", "buy", "search")
ENRICHED = {
    name: st.tuples(raw_rows(name, HERE.entities), tables(HERE.entities)) for name in EVENTS
}
STRENGTH = ("revision", "arrival_time", "removes", "event_time")


def enriched(event: EventPlan, rows: Rows) -> Enriched:
    """Return rows of which the rejected ones name their rule."""
    admitted = [row for row in rows if "rule" not in row]
    rejected = [row for row in rows if "rule" in row]
    rules = {column: event.schema[column] for column in ENVELOPE} | {"rule": pl.String()}
    return Enriched(
        frame(admitted, event.schema), frame(rejected, rules), Enriched.empty(event).dead
    )


@dataclass(slots=True)
class Partition:
    """A partition that is amended, as the lake does it."""

    event: EventPlan
    rows: pl.DataFrame
    rejected: pl.DataFrame
    corrections: list[pl.DataFrame] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    filtered: Counter[str] = field(default_factory=Counter)

    @classmethod
    def empty(cls, event: EventPlan) -> Partition:
        none = Enriched.empty(event)
        return cls(event, none.rows, none.rejected)

    def take(self, new: Enriched) -> Amended:
        keys = keys_of(new)
        stored = self.rows.join(keys, on=KEY, how="semi")
        rejected = self.rejected.join(keys, on=KEY, how="semi")
        done = amend(self.event, stored, rejected, new)
        left = self.rows.join(done.removed, on=done.removed.columns, how="anti")
        self.rows = pl.concat([left, done.added])
        self.rejected = pl.concat([self.rejected, new.rejected])
        self.corrections.append(done.corrections)
        self.counts.update(
            received=done.received,
            admitted=done.admitted,
            superseded=done.superseded,
            deleted=done.deleted,
        )
        self.filtered.update(done.filtered)
        return done


def strongest(corrections: pl.DataFrame) -> Rows:
    """Return of each key's corrections the one that beats the others: the only one that counts."""
    return corrections.sort(*STRENGTH).unique(KEY, keep="last").to_dicts()


def batches_of(data: st.DataObject, rows: Rows) -> list[Rows]:
    """Return rows in any order, some of them twice, cut anywhere."""
    repeated = data.draw(st.lists(st.sampled_from(rows), max_size=4)) if rows else []
    shuffled = data.draw(st.permutations(rows + repeated))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(shuffled)), max_size=4)))
    edges = [0, *cuts, len(shuffled)]
    return [list(shuffled[start:end]) for start, end in pairwise(edges)]


def judged(name: str, data: st.DataObject) -> Rows:
    rows, known = data.draw(ENRICHED[name])
    admitted, rejected, _ = oracle.enrich(HERE.oracles[name], rows, known)
    return [*admitted, *rejected]


@pytest.mark.parametrize("name", EVENTS)
@given(data=st.data())
def test_amending_batch_by_batch_equals_resolving_all_at_once(
    name: str, data: st.DataObject
) -> None:
    event = HERE.event(name)
    batches = batches_of(data, judged(name, data))
    partition = Partition.empty(event)
    for batch in batches:
        partition.take(enriched(event, batch))
    whole = enriched(event, [row for batch in batches for row in batch])
    expected = resolve(event, whole.rows, whole.rejected)
    assert as_set(partition.rows.to_dicts()) == as_set(expected.rows.to_dicts())
    assert +partition.filtered == Counter(expected.filtered)
    assert not -partition.filtered
    assert partition.counts == Counter(
        received=whole.rows.height + whole.rejected.height,
        admitted=expected.rows.height,
        superseded=expected.superseded,
        deleted=expected.deleted,
    )
    assert as_set(strongest(pl.concat(partition.corrections))) == as_set(
        expected.corrections.to_dicts()
    )


@pytest.mark.parametrize("name", EVENTS)
@given(data=st.data())
def test_amending_what_is_there_with_the_same_again_changes_no_row(
    name: str, data: st.DataObject
) -> None:
    event = HERE.event(name)
    rows = judged(name, data)
    partition = Partition.empty(event)
    partition.take(enriched(event, rows))
    again = partition.take(enriched(event, rows))
    assert again.added.is_empty()
    assert again.removed.is_empty()
    assert (again.admitted, again.deleted, dict(again.filtered)) == (0, 0, {})
    assert again.superseded == again.received == len(rows)


@pytest.mark.parametrize("name", EVENTS)
@given(data=st.data())
def test_every_amendment_adds_up_and_is_sorted_as_tables_are(
    name: str, data: st.DataObject
) -> None:
    event = HERE.event(name)
    partition = Partition.empty(event)
    for batch in batches_of(data, judged(name, data)):
        done = partition.take(enriched(event, batch))
        ended = done.admitted + sum(done.filtered.values()) + done.superseded + done.deleted
        assert done.received == ended == len(batch)
        assert done.admitted == done.added.height - done.removed.height
        assert done.added.equals(done.added.sort("entity", "event_time", "event_id"))
        assert partition.rows.select(KEY).is_unique().all()


# Raw rows

ZONE = "America/New_York"
TIMES = st.datetimes(datetime(1972, 1, 1), datetime(2099, 1, 1))  # noqa: DTZ001 - naive by type


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


def milliseconds(at: datetime) -> datetime:
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def zoned(zone: str) -> st.SearchStrategy[datetime]:
    return TIMES.map(milliseconds).map(lambda at: at.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)))


TYPES: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "i8": (pl.Int8(), st.integers(-128, 127)),
    "u64": (pl.UInt64(), st.integers(0, 2**64 - 1)),
    "f32": (pl.Float32(), st.floats(width=32)),
    "f64": (pl.Float64(), st.floats()),
    "flag": (pl.Boolean(), st.booleans()),
    "text": (pl.String(), st.text(max_size=5)),
    "bytes": (pl.Binary(), st.binary(max_size=5)),
    "kind": (pl.Enum(["a", "b"]), st.sampled_from("ab")),
    "category": (pl.Categorical(), st.sampled_from(["x", "y"])),
    "on": (pl.Date(), st.dates()),
    "cost": (pl.Decimal(18, 4), st.integers(-(10**9), 10**9).map(lambda n: Decimal(n) / 10_000)),
    "naive_us": (pl.Datetime("us"), TIMES),
    "naive_ms": (pl.Datetime("ms"), TIMES.map(milliseconds)),
    "utc_ms": (pl.Datetime("ms", "UTC"), zoned("UTC")),
    "local_us": (pl.Datetime("us", ZONE), zoned(ZONE)),
    "local_ms": (pl.Datetime("ms", ZONE), zoned(ZONE)),
    "times": (pl.List(pl.Datetime("ms", ZONE)), st.lists(optional(zoned(ZONE)), max_size=2)),
    "told": (
        pl.Struct({"at": pl.Datetime("ms"), "by": pl.String()}),
        st.fixed_dictionaries({"at": optional(TIMES.map(milliseconds)), "by": st.just("us")}),
    ),
    "tags": (pl.List(pl.String()), st.lists(optional(st.text(max_size=3)), max_size=2)),
    "vector": (pl.Array(pl.Float32(), 2), st.tuples(st.floats(width=32), st.floats(width=32))),
    "nested": (
        pl.Struct({"a": pl.Int32(), "b": pl.List(pl.Int8())}),
        st.fixed_dictionaries({"a": optional(st.integers(-9, 9)), "b": optional(st.just([1]))}),
    ),
}
KEYS = {"id": pl.String(), "user": pl.Int32(), "at": pl.Datetime("ms", ZONE)}
EVENT = event_plan(
    click(
        batch=None,
        log=Log("clicks"),
        schema=KEYS | {name: dtype for name, (dtype, _) in TYPES.items()},
        event_id="id",
        event_time="at",
        entity="user",
    )
)
RAW_ROWS = st.fixed_dictionaries(
    {"id": st.text(max_size=3), "user": st.integers(-9, 9), "at": zoned(ZONE)}
    | {name: optional(values) for name, (_, values) in TYPES.items()}
)


@given(rows=st.lists(RAW_ROWS, max_size=4))
def test_messages_come_back_from_the_raw_table_exactly(rows: Rows) -> None:
    sent = frame(rows, EVENT.raw_schema)
    messages = pl.DataFrame(
        [("clicks", 3, n, datetime(2026, 3, 1, tzinfo=UTC)) for n in range(len(rows))],
        schema={
            "_topic": pl.String,
            "_partition": pl.Int32,
            "_offset": pl.Int64,
            "_appended_at": pl.Datetime("us", "UTC"),
        },
        orient="row",
    )
    kept = stored_rows(EVENT, sent, messages)
    assert kept.schema == raw_table(EVENT).columns
    assert_frame_equal(kept.select(messages.columns), messages)
    assert kept["_event_id"].to_list() == [row["id"] for row in rows]
    assert kept["_entity"].to_list() == [row["user"] for row in rows]
    assert kept["_event_time"].to_list() == [row["at"] for row in rows]
    back = received_rows(EVENT, kept)
    assert back.schema == EVENT.raw_schema
    assert_frame_equal(back, sent)
