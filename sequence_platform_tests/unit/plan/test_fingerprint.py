"""A fingerprint changes when and only when results can change, and is equal in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sequence_platform.catalog import load_plan
from sequence_platform.definition import Dedupe, Files, Log, Sessions
from sequence_platform.plan.fingerprint import canonical_json, fingerprint
from sequence_platform_tests.unit.plan.examples import (
    click,
    compiled,
    event_plan,
    feed,
    pins,
    save,
    sequence_plan,
)


def of_event(**changes: Any) -> str:
    return event_plan(click(**changes)).fingerprint


def of_feed(**changes: Any) -> str:
    return sequence_plan(feed(**changes)).fingerprint


def of_pins(**changes: Any) -> str:
    return compiled(pins(**changes)).enrichments["pins"].fingerprint


def test_equal_values_have_one_form() -> None:
    assert canonical_json({"b": [1, "é"], "a": None}) == '{"a":null,"b":[1,"é"]}'
    assert fingerprint({"b": 1, "a": 2}) == fingerprint({"a": 2, "b": 1})
    assert len(fingerprint({})) == 32


UNCHANGING = {"owner": "x@example.com", "description": "Other words."}


def test_owner_and_description_change_nothing() -> None:
    assert of_event(**UNCHANGING) == of_event()
    assert of_feed(**UNCHANGING) == of_feed()
    assert of_pins(**UNCHANGING) == of_pins()


def test_when_and_how_long_change_nothing_in_a_row() -> None:
    longer = timedelta(days=999)
    assert of_event(retention=longer) == of_event()
    assert of_event(allowed_lateness=timedelta(hours=1)) == of_event()
    assert of_event(start=date(2024, 1, 1)) == of_event()
    assert of_event(log=Log("click")) == of_event()


def test_the_same_columns_in_another_order_of_writing_are_the_same_but_tables_are_not() -> None:
    a, b = {"a": pl.col("dwell") + 1}, {"b": pl.col("dwell") + 2}
    assert of_event(columns=a | b) != of_event(columns=b | a)  # the table's columns are in order


@pytest.mark.parametrize(
    "changes",
    [
        {"where": pl.col("dwell") > 0},
        {"columns": {"x": pl.col("dwell") + 1}},
        {"event_time": pl.from_epoch("ts", time_unit="s")},
        {"entity": pl.col("user_id") + 1},
        {"event_id": pl.col("id").str.to_lowercase()},
        {"arrival_time": pl.from_epoch("ts", time_unit="ms")},
        {"revision": pl.col("dwell")},
        {"operation": pl.lit("upsert")},
        {"batch": Files("others/{day}.parquet")},
        {"batch": Files("clicks/{day}.parquet", missing="empty")},
        {"batch": None, "log": Log("click")},
        {"schema": {**click().schema, "dwell": pl.Int64}},
        {"schema": {**click().schema, "more": pl.Int64}},
        {"enrich": [pins()]},
        {"earliest": datetime(1999, 1, 1, tzinfo=UTC)},
        {"latest": datetime(2050, 1, 1, tzinfo=UTC)},
        {"executor": lambda frame: frame},
        {"version": 2},
    ],
)
def test_what_decides_a_row_changes_it(changes: Any) -> None:
    assert of_event(**changes) != of_event()


def test_filters_columns_and_rule_names_count() -> None:
    dwell = pl.col("dwell")
    assert of_event(where=dwell > 0) != of_event(where=dwell > 1)
    assert of_event(where={"a": dwell > 0}) != of_event(where={"b": dwell > 0})
    both = {"a": dwell > 0, "b": dwell < 9}
    assert of_event(where=both) != of_event(where=dict(reversed(both.items())))
    assert of_event(columns={"x": dwell + 1}) != of_event(columns={"x": dwell + 2})


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "pin_id", "columns": ["vector", "topic"]},
        {"columns": {"topic": pl.col("topic").str.to_lowercase(), "vector": pl.col("vector")}},
        {"available_time": None},
        {"source": Files("other.parquet")},
        {"version": 2},
    ],
)
def test_what_decides_an_enrichment_changes_it_and_the_events_it_is_attached_to(
    changes: Any,
) -> None:
    assert of_pins(**changes) != of_pins()
    assert of_event(enrich=[pins(**changes)]) != of_event(enrich=[pins()])


def test_how_a_lookup_is_done_changes_the_event_only() -> None:
    assert of_pins(on_missing="reject") == of_pins()
    assert of_event(enrich=[pins(on_missing="reject")]) != of_event(enrich=[pins()])
    assert of_event(enrich=[pins().by("ts")]) != of_event(enrich=[pins()])


@pytest.mark.parametrize(
    "changes",
    [
        {"max_length": 9},
        {"max_age": timedelta(days=31)},
        {"max_age": None},
        {"sessions": Sessions(gap=timedelta(hours=1), keep=2)},
        {"dedupe": Dedupe(by="pin_id")},
        {"quotas": {"click": 3}},
        {"columns": ["pin_id", "dwell"]},
        {"derived": {"n": pl.col("pin_id").cum_count()}},
        {"late": ["pin_id"]},
        {"events": [save(), click()]},
        {"events": [click(where=pl.col("dwell") > 0), save()]},
        {"version": 2},
    ],
)
def test_what_decides_a_sequence_changes_it(changes: Any) -> None:
    assert of_feed(**changes) != of_feed()


def test_every_part_of_trim_counts() -> None:
    dedupe = [
        Dedupe(by="pin_id"),
        Dedupe(by="event_type"),
        Dedupe(by="pin_id", keep="first"),
        Dedupe(by="pin_id", within=timedelta(minutes=1)),
        Dedupe(by=["pin_id", "event_type"]),
    ]
    assert len({of_feed(dedupe=rule) for rule in dedupe}) == len(dedupe)
    assert of_feed(dedupe=Dedupe(by=["pin_id"])) == of_feed(dedupe=Dedupe(by="pin_id"))
    gap = timedelta(minutes=30)
    assert of_feed(sessions=Sessions(gap, 2)) != of_feed(sessions=Sessions(gap, 3))
    assert of_feed(sessions=Sessions(gap, 2)) != of_feed(sessions=Sessions(2 * gap, 2))


def test_request_columns_have_a_fingerprint_of_their_own() -> None:
    plain = sequence_plan(feed())
    asked = sequence_plan(feed(request={"n": pl.col("pin_id") + 1}))
    assert asked.fingerprint == plain.fingerprint
    assert asked.request_fingerprint != plain.request_fingerprint
    context = sequence_plan(feed(context={"shown": pl.Int64}))
    assert context.request_fingerprint != plain.request_fingerprint


# Executors: the code counts, with all that it names.

PROJECT = '''
from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache, partial

import polars as pl

from sequence_platform import EventType, Files
from {package}.cleaning import trimmed, LIMIT
from {package} import cleaning


class Kind(Enum):
    A = "a"


@dataclass(frozen=True)
class Rule:
    low: int = 3


WORDS = {{"x", "y", "z", "clear", "blue", "green"}}
PATTERN = re.compile("a+")
RULES = [Rule(), {{"k": (1.5, None, True)}}]
CODES = pl.DataFrame({{"code": ["a"]}})
NAMES = pl.Series(["a", "b"])
POSITIVE = pl.col("dwell") > 0


class Lowering:
    """Lowers."""

    def lower(self, expr):
        """Lower."""
        return expr.str.to_lowercase()  # lowered


@lru_cache
def threshold(low: int = 2, *, factor: int = 10) -> int:
    return low * factor


def deco(function):
    def inner(frame):
        return function(frame)

    return inner


@deco
def clean(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Clean."""
    # one row at a time
    kept = frame.filter(POSITIVE & (pl.col("dwell") < threshold()) & (pl.col("dwell") < LIMIT))
    kept = kept.filter(~pl.col("id").is_in(WORDS) & pl.col("id").is_in(NAMES.implode()).not_())
    kept = kept.with_columns(text=trimmed(Lowering().lower(pl.col("id"))), k=pl.lit(Kind.A.value))
    kept = kept.with_columns(other=cleaning.doubled(pl.col("dwell")), rules=pl.lit(str(RULES)))
    kept = kept.with_columns(found=pl.col("id").str.contains(PATTERN.pattern))
    return kept.with_columns(code=pl.lit(CODES[0, 0]))


def stretched(frame: pl.LazyFrame, by: int) -> pl.LazyFrame:
    return clean(frame).with_columns(by=pl.lit(by))


click = EventType(
    name="click", owner="team:feed",
    schema={{"id": pl.String, "user_id": pl.Int64, "at": pl.Datetime("us"), "dwell": pl.Int64}},
    event_id="id", event_time="at", entity="user_id", batch=Files("clicks.parquet"),
    where=pl.col("id").is_in({{"p", "q", "r", "s"}}), executor=partial(stretched, by=3))
'''
CLEANING = """
import polars as pl

LIMIT = 100


def trimmed(expr):
    return _strip(expr).str.slice(0, 10)


def _strip(expr):
    return expr.str.strip_chars()


def doubled(expr):
    return expr * 2
"""


@pytest.fixture
def executor_fingerprint(tmp_path: Path) -> Callable[..., str]:
    """Return what compiles the project with some text replaced, in a folder of its own."""

    def compile_(*changes: tuple[str, str], name: str = "") -> str:
        package = name or f"executors_{len(list(tmp_path.iterdir()))}"
        folder = tmp_path / package
        folder.mkdir()
        texts = {"events.py": PROJECT.format(package=package), "cleaning.py": CLEANING}
        for old, new in changes:
            assert sum(old in text for text in texts.values()) >= 1, old
            texts = {file: text.replace(old, new) for file, text in texts.items()}
        for file, text in texts.items():
            (folder / file).write_text(text, encoding="utf-8")
        return load_plan(folder).events["click"].fingerprint

    return compile_


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# one row at a time", "# row by row\n\n"),
        ('"""Clean."""', '"""Keep\n\n    what is good."""'),
        ('"""Lowers."""', '"""Makes small."""'),
        ("  # lowered", ""),
        ("expr.str.to_lowercase()", "expr.str .to_lowercase( )"),
        ('{"p", "q", "r", "s"}', '{"s", "q", "p", "r"}'),
        ('"clear", "blue", "green"', '"green", "blue", "clear"'),
        ("LIMIT = 100", "LIMIT = 100\nUNUSED = 3"),
    ],
)
def test_comments_docstrings_layout_and_order_of_sets_do_not_count(
    executor_fingerprint: Callable[..., str], old: str, new: str
) -> None:
    # The folder's name is the package's, which names of library functions do not hold.
    assert executor_fingerprint((old, new)) == executor_fingerprint()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("POSITIVE & (", "("),  # the executor
        ('pl.col("dwell") > 0', 'pl.col("dwell") > 1'),  # an expression it names
        ("LIMIT = 100", "LIMIT = 101"),  # a constant of another module
        ("slice(0, 10)", "slice(0, 11)"),  # a helper of another module
        ("strip_chars()", "strip_chars_start()"),  # a helper's helper
        ("expr * 2", "expr * 3"),  # a helper reached through its module
        ("to_lowercase", "to_uppercase"),  # a method of a class
        ("low * factor", "low + factor"),  # a cached function
        ("low: int = 2", "low: int = 1"),  # a default
        ("factor: int = 10", "factor: int = 11"),  # a keyword's default
        ("return function(frame)", "return function(frame).head(99)"),  # a decorator
        ("by=3", "by=4"),  # an argument of partial
        ('re.compile("a+")', 're.compile("a+", re.IGNORECASE)'),
        ('re.compile("a+")', 're.compile("b+")'),
        ("low: int = 3", "low: int = 4"),  # a field of a dataclass
        ("(1.5, None, True)", "(1.5, None, False)"),
        ('{"code": ["a"]}', '{"code": ["b"]}'),  # a frame
        ('["a", "b"]', '["b", "a"]'),  # a series
        ('"x", "y", "z"', '"x", "y"'),  # a set
        ('A = "a"', 'A = "b"'),  # an enum
    ],
)
def test_code_and_what_it_names_count(
    executor_fingerprint: Callable[..., str], old: str, new: str
) -> None:
    assert executor_fingerprint((old, new)) != executor_fingerprint()


def test_lambdas_are_told_apart_by_what_they_do() -> None:
    prints = {
        of_event(executor=lambda frame: frame.filter(pl.col("dwell") > 1)),
        of_event(executor=lambda frame: frame.filter(pl.col("dwell") > 2)),
        of_event(executor=lambda frame: frame.filter(pl.col("dwell").is_null())),
        of_event(executor=lambda frame: frame.filter(pl.col("dwell").is_not_null())),
    }
    assert len(prints) == 4


class Whole:
    """A static method may be an executor too."""

    @staticmethod
    def all(frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame


def test_closures_and_static_methods_count() -> None:
    def above(low: int) -> Callable[[pl.LazyFrame], pl.LazyFrame]:
        def keep(frame: pl.LazyFrame) -> pl.LazyFrame:
            return frame.filter(pl.col("dwell") > low)

        return keep

    assert of_event(executor=above(1)) == of_event(executor=above(1))
    assert of_event(executor=above(1)) != of_event(executor=above(2))
    assert of_event(executor=Whole.all) != of_event()


class Size(Enum):
    SMALL = 1
    LARGE = 9


SIZE = Size.SMALL


@dataclass(frozen=True)
class Above:
    low: int

    def keep(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.filter(pl.col("dwell") > self.low * SIZE.value)


def test_a_method_counts_with_its_object() -> None:
    assert of_event(executor=Above(1).keep) == of_event(executor=Above(1).keep)
    assert of_event(executor=Above(1).keep) != of_event(executor=Above(2).keep)


def test_members_of_enums_have_a_stable_form() -> None:
    def one(frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.filter(pl.col("dwell") > SIZE.value)

    assert len(of_event(executor=one)) == 32


PROGRAM = """
import sys
from pathlib import Path
from sequence_platform.catalog import load_plan
from sequence_platform.plan.manifest import build_manifest, dump_manifest
plan = load_plan(Path(sys.argv[1]))
print(plan.fingerprint, hash("a"), dump_manifest(build_manifest(plan)), sep="\\n")
"""


def test_fingerprints_and_manifests_are_equal_in_processes_of_other_hash_seeds(
    executor_fingerprint: Callable[..., str], tmp_path: Path
) -> None:
    executor_fingerprint(name="seeds")
    outputs = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "seeds")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(done.stdout.splitlines())
    one, two = outputs
    assert one[1] != two[1]  # the seeds do differ
    assert one[0] == two[0]
    assert one[2] == two[2]
