"""What is wrong with a definition by itself is named by field, found and expected."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from sequence_platform.definition import (
    Dedupe,
    Definition,
    Files,
    Log,
    Sessions,
    Table,
)
from sequence_platform.definition.check import Fault, check_definition, check_types
from sequence_platform_tests.unit.plan.examples import click, feed, pins, save


def only_fault(definition: Definition) -> Fault:
    assert check_types(definition) == []
    (fault,) = check_definition(definition)
    return fault


@pytest.mark.parametrize("make", [click, save, pins, feed])
def test_the_examples_have_no_faults(make: Any) -> None:
    assert check_types(make()) == []
    assert list(check_definition(make())) == []


@pytest.mark.parametrize("make", [click, pins, feed])
@pytest.mark.parametrize("name", ["", "Click", "2nd", "pin-click", "pin click", "ä", "a" * 64])
def test_a_name_is_lower_case_letters_digits_and_underscores(make: Any, name: str) -> None:
    fault = only_fault(make(name=name))
    assert fault.field == "name"
    assert fault.found == repr(name)
    assert fault.expected == "lower-case letters, digits and underscores, a letter first"


@pytest.mark.parametrize("name", ["a", "pin_click2", "a" * 63])
def test_names_that_are_right_pass(name: str) -> None:
    assert list(check_definition(click(name=name))) == []


@pytest.mark.parametrize("make", [click, pins, feed])
@pytest.mark.parametrize("owner", ["", "me", "team:", "team: feed", "a@b", "a b@c.de"])
def test_an_owner_is_an_address_or_a_team(make: Any, owner: str) -> None:
    fault = only_fault(make(owner=owner))
    assert (fault.field, fault.found) == ("owner", repr(owner))
    assert fault.expected == "an e-mail address or 'team:name'"
    assert fault.next_step == "say who answers for it"


@pytest.mark.parametrize("owner", ["team:home-feed", "team:a.b", "first.last@mail.example.com"])
def test_owners_that_are_right_pass(owner: str) -> None:
    assert list(check_definition(feed(owner=owner))) == []


@pytest.mark.parametrize("make", [click, pins, feed])
def test_a_version_starts_at_one(make: Any) -> None:
    fault = only_fault(make(version=0))
    assert fault == Fault("version", "0", "a whole number from 1")


NEGATIVE = timedelta(days=-1)


@pytest.mark.parametrize(
    ("definition", "field", "found", "expected"),
    [
        (click(schema={}), "schema", "no columns", "the source's columns and their types"),
        (
            pins(deadline=timedelta(seconds=1)),
            "deadline",
            "0:00:01 with resolve='ingest'",
            "None: nobody waits for what is stored with events",
        ),
        (
            pins(on_timeout="fail"),
            "on_timeout",
            "fail with resolve='ingest'",
            "None: nobody waits for what is stored with events",
        ),
        (
            pins(resolve="read", deadline=timedelta(0)),
            "deadline",
            "0:00:00",
            "a positive duration, or None",
        ),
        (
            pins(resolve="read", on_missing="reject"),
            "on_missing",
            "'reject' with resolve='read'",
            "'null': an event that is stored cannot be rejected when it is read",
        ),
        (click(batch=None), "batch", "neither batch nor log", "at least one source of events"),
        (
            click(batch=Table("clicks")),
            "batch",
            "a Table without time_column",
            "the column to read a day by",
        ),
        (click(retention=timedelta(0)), "retention", "0:00:00", "a positive duration"),
        (click(retention=NEGATIVE), "retention", "-1 day, 0:00:00", "a positive duration"),
        (
            click(allowed_lateness=NEGATIVE),
            "allowed_lateness",
            "-1 day, 0:00:00",
            "a positive duration",
        ),
        (
            click(earliest=datetime(2020, 1, 1)),  # noqa: DTZ001 - that is the mistake
            "earliest",
            "2020-01-01 00:00:00",
            "a time with a time zone",
        ),
        (
            click(latest=datetime(2020, 1, 1)),  # noqa: DTZ001 - that is the mistake
            "latest",
            "2020-01-01 00:00:00",
            "a time with a time zone",
        ),
        (
            click(latest=datetime(1971, 1, 1, tzinfo=UTC)),
            "earliest",
            "1971-01-01 00:00:00+00:00 .. 1971-01-01 00:00:00+00:00",
            "earliest before latest",
        ),
        (
            click(batch=Files("clicks.txt")),
            "batch",
            "clicks.txt",
            "a suffix .parquet, .csv, .tsv, .ndjson or .jsonl (also .gz, .zst)",
        ),
        (
            click(batch=Files("{day}.csv", late=NEGATIVE)),
            "batch",
            "late=-1 day, 0:00:00",
            "a positive duration, and a pattern with {day}",
        ),
        (
            click(batch=Files("all.csv", late=timedelta(days=1))),
            "batch",
            "late=1 day, 0:00:00",
            "a positive duration, and a pattern with {day}",
        ),
        (
            pins(source=Files("pins/{day}.parquet")),
            "source",
            "pins/{day}.parquet",
            "a pattern without {day}: enrichments are read whole",
        ),
        (pins(source=Table("a.b.c")), "source", "'a.b.c'", "'table' or 'schema.table'"),
        (pins(source=Table("a.")), "source", "'a.'", "'table' or 'schema.table'"),
        (feed(events=[]), "events", "none", "at least one event type"),
        (feed(max_length=0), "max_length", "0", "a whole number from 1"),
        (feed(max_age=timedelta(0)), "max_age", "0:00:00", "a positive duration, or None"),
        (
            feed(sessions=Sessions(gap=timedelta(0), keep=1)),
            "sessions.gap",
            "0:00:00",
            "a positive duration",
        ),
        (
            feed(sessions=Sessions(gap=timedelta(1), keep=0)),
            "sessions.keep",
            "0",
            "a whole number from 1",
        ),
        (
            feed(dedupe=Dedupe(by=[])),
            "dedupe.by",
            "no columns",
            "the columns that make events repeats of each other",
        ),
        (
            feed(dedupe=Dedupe(by="pin_id", within=NEGATIVE)),
            "dedupe.within",
            "-1 day, 0:00:00",
            "a positive duration",
        ),
        (feed(quotas={"view": 3}), "quotas", "'view'", "one of its event types: click, save"),
        (feed(quotas={"click": 0}), "quotas", "click: 0", "a whole number from 1"),
        (feed(quotas={"click": -1}), "quotas", "click: -1", "a whole number from 1"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(
    definition: Definition, field: str, found: str, expected: str
) -> None:
    assert only_fault(definition)[:3] == (field, found, expected)


@pytest.mark.parametrize(
    "definition",
    [
        click(batch=None, log=Log("click")),
        click(batch=Table("warehouse.clicks", time_column="ts", time_unit="ms")),
        click(batch=Files("clicks/{day:%Y/%m}.data", format="csv", late=timedelta(hours=1))),
        pins(source=Table("pins")),
        pins(available_time=None),
        feed(max_age=None),
        feed(sessions=Sessions(gap=timedelta(minutes=30), keep=1)),
        feed(dedupe=Dedupe(by=("pin_id", "event_type"), keep="first", within=timedelta(0))),
        feed(quotas={"click": 1}),
    ],
)
def test_values_at_the_edge_of_sense_pass(definition: Definition) -> None:
    assert check_types(definition) == []
    assert list(check_definition(definition)) == []


@pytest.mark.parametrize(
    ("definition", "field", "found", "expected"),
    [
        (click(name=3), "name", "3 (int)", "text"),
        (click(owner=None), "owner", "None (NoneType)", "text"),
        (click(version=True), "version", "True (bool)", "whole number"),
        (click(version="2"), "version", "'2' (str)", "whole number"),
        (click(retention=730), "retention", "730 (int)", "timedelta"),
        (
            click(start=datetime(2026, 1, 1, tzinfo=UTC)),
            "start",
            "datetime.datetime(2026, 1, 1, 0, 0, tzinfo=datetime.timezone.utc) (datetime)",
            "date",
        ),
        (
            click(where="dwell > 0"),
            "where",
            "'dwell > 0' (str)",
            "Polars expression or mapping of text to Polars expression or None",
        ),
        (
            click(columns={"a": "dwell"}),
            "columns",
            "{'a': 'dwell'} (dict)",
            "mapping of text to Polars expression or None",
        ),
        (click(executor="clean"), "executor", "'clean' (str)", "function or None"),
        (click(batch=Files(3)), "batch.pattern", "3 (int)", "text"),  # type: ignore[arg-type] # on purpose
        (
            click(batch="clicks.csv"),
            "batch",
            "'clicks.csv' (str)",
            "Files or Table or None",
        ),
        (click(enrich=pins()), "enrich", "'pins' (Enrichment)", "list of Enrichment or Lookup"),
        (
            click(enrich=[click()]),
            "enrich",
            "['click'] (list)",
            "list of Enrichment or Lookup",
        ),
        (
            pins(columns="topic"),
            "columns",
            "'topic' (str)",
            "list of text or mapping of text to Polars expression",
        ),
        (pins(on_missing="drop"), "on_missing", "'drop' (str)", "'null' or 'reject'"),
        (pins(on_missing=pl.col("a")), "on_missing", 'col("a") (Expr)', "'null' or 'reject'"),
        (feed(events=click()), "events", "'click' (EventType)", "list of EventType"),
        (feed(columns="pin_id"), "columns", "'pin_id' (str)", "list of text"),
        (feed(max_age=90), "max_age", "90 (int)", "timedelta or None"),
        (feed(dedupe="pin_id"), "dedupe", "'pin_id' (str)", "Dedupe or None"),
        (
            feed(dedupe=Dedupe(by="pin_id", keep="newest")),  # type: ignore[arg-type] # on purpose
            "dedupe.keep",
            "'newest' (str)",
            "'first' or 'last'",
        ),
        (
            feed(dedupe=Dedupe(by="pin_id", within="1h")),  # type: ignore[arg-type] # on purpose
            "dedupe.within",
            "'1h' (str)",
            "'consecutive' or timedelta",
        ),
        (
            feed(quotas={"click": 1.5}),
            "quotas",
            "{'click': 1.5} (dict)",
            "mapping of text to whole number or None",
        ),
    ],
)
def test_a_value_of_a_wrong_type_is_named(
    definition: Definition, field: str, found: str, expected: str
) -> None:
    assert check_types(definition) == [Fault(field, found, expected)]


def test_everything_wrong_with_one_definition_is_told() -> None:
    faults = check_definition(click(name="X", owner="", version=0, batch=None, schema={}))
    assert [fault.field for fault in faults] == ["name", "owner", "version", "schema", "batch"]
