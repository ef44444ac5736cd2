"""Compiling a project: names, references, and all problems at once."""

from __future__ import annotations

import pickle
import subprocess
import sys

import polars as pl
import pytest

from sequence_platform.errors import DefinitionError, Problem
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.plan import Window
from sequence_platform_tests.unit.plan.examples import (
    FILE,
    T0,
    click,
    compiled,
    feed,
    pins,
    problem,
    problems,
    save,
)


def test_a_plan_holds_every_definition_by_name_in_order() -> None:
    both = [save(), click()]
    plan = compiled(*both, feed(name="b", events=both), feed(name="a", events=both), pins())
    assert list(plan.events) == ["click", "save"]
    assert list(plan.sequences) == ["a", "b"]
    assert list(plan.enrichments) == ["pins"]


def test_what_is_only_referred_to_is_compiled_too() -> None:
    plan = compiled(feed(events=[click(enrich=[pins()])], columns=["topic"]))
    assert (list(plan.events), list(plan.enrichments)) == (["click"], ["pins"])


def test_one_value_found_twice_is_one_definition() -> None:
    one = click()
    located = [Located("b.py", one), Located("a.py", one), Located("c.py", feed(events=[one]))]
    assert list(compile_plan(located).events) == ["click"]


def test_what_is_only_referred_to_is_reported_where_it_is_referred_to() -> None:
    event = click(enrich=[pins(owner="")])
    (found,) = problems(feed(events=[event]))
    assert (found.file, found.definition) == (FILE, "enrichment 'pins'")


def test_a_name_taken_in_another_file_is_reported_with_both_files() -> None:
    with pytest.raises(DefinitionError) as caught:
        compile_plan([Located("a.py", click()), Located("b.py", click())])
    (found,) = caught.value.problems
    assert found == Problem(
        "b.py",
        "event type 'click'",
        "name",
        "'click'",
        "a name of its own; 'click' is defined in a.py too",
        "rename one, or import the other",
    )


def test_two_kinds_may_share_a_name() -> None:
    plan = compiled(click(name="pins"), pins())
    assert (list(plan.events), list(plan.enrichments)) == (["pins"], ["pins"])


def test_all_problems_of_all_definitions_come_at_once_sorted_and_once_each() -> None:
    located = [
        Located("z.py", feed(owner="", events=[save()], columns=["pni_id"])),
        Located("a.py", click(owner="", where=pl.col("dwel") > 0, columns={"n": pl.len()})),
        Located("m.py", pins(version=0)),
    ]
    broken = Problem("k.py", "file", "", "SyntaxError: no (line 3)", "a file that imports")
    with pytest.raises(DefinitionError) as caught:
        compile_plan(located, [broken, broken])
    assert [(p.file, p.field) for p in caught.value.problems] == [
        ("a.py", "columns.n"),
        ("a.py", "owner"),
        ("a.py", "where.where"),
        ("k.py", ""),
        ("m.py", "version"),
        ("z.py", "columns"),
        ("z.py", "owner"),
    ]
    assert str(caught.value).startswith("7 problems in the definitions:\n\na.py: event type")


def test_problems_survive_pickling() -> None:
    with pytest.raises(DefinitionError) as caught:
        compiled(click(owner=""))
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is DefinitionError
    assert again.problems == caught.value.problems
    assert str(again) == str(caught.value)


def test_fields_of_wrong_types_are_reported_and_nothing_else_is_asked_of_them() -> None:
    found = problems(
        feed(events=click(), max_age=90), click(name=["x"], enrich=None), pins(columns="topic")
    )
    assert [(p.definition, p.field) for p in found] == [
        ("enrichment 'pins'", "columns"),
        ("event type '['x']'", "enrich"),
        ("event type '['x']'", "name"),
        ("sequence 'feed'", "events"),
        ("sequence 'feed'", "max_age"),
    ]


def test_what_refers_to_something_broken_is_not_blamed_for_it() -> None:
    broken = pins(owner=3)
    found = problem(feed(events=[click(enrich=[broken])], columns=["topic"]))
    assert (found.definition, found.field) == ("enrichment 'pins'", "owner")


def test_the_plan_has_a_fingerprint_that_follows_every_definition() -> None:
    plain = compiled(feed()).fingerprint
    assert compiled(feed()).fingerprint == plain
    assert compiled(feed(), pins()).fingerprint != plain
    assert compiled(feed(max_length=9)).fingerprint != plain
    assert compiled(feed(events=[click(where=pl.col("dwell") > 1), save()])).fingerprint != plain
    with_request = feed(request={"n": pl.lit(1)})
    assert compiled(with_request).fingerprint != plain


def test_compiling_needs_no_definition_file() -> None:
    program = (
        "import polars as pl\n"
        "from sequence_platform import EventType, Files\n"
        "from sequence_platform.plan.compile import Located, compile_plan\n"
        "event = EventType(name='e', owner='team:a', schema={'id': pl.Int64, 'at': pl.Datetime},"
        " event_id='id', entity='id', event_time='at', batch=Files('e.csv'),"
        " executor=lambda frame: frame.filter(pl.col('id') > 3))\n"
        "print(compile_plan([Located('-', event)]).events['e'].fingerprint)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert len(done.stdout.strip()) == 32


def test_sequences_that_share_event_types_start_on_one_day() -> None:
    def starting(name: str, day: int) -> object:
        return click(name=name, start=T0.replace(day=day).date())

    a, b, c, d, e = (
        starting(name, day) for name, day in zip("abcde", (5, 3, 4, 1, 9), strict=True)
    )
    plan = compiled(
        feed(name="ab", events=[a, b]),
        feed(name="bc", events=[b, c]),
        feed(name="de", events=[d, e]),
    )
    starts = {name: plan.start_of(item).day for name, item in plan.sequences.items()}
    assert starts == {"ab": 3, "bc": 3, "de": 1}
    days = {name: plan.start_of(item).day for name, item in plan.events.items()}
    assert days == {"a": 3, "b": 3, "c": 3, "d": 1, "e": 1}


def test_a_window_of_a_day_ends_where_the_next_begins() -> None:
    window = Window.of_day(T0.date())
    assert (window.start, window.end) == (T0, T0.replace(day=2))
