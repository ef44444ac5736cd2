"""Commands about what was built, on a lake of one day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest

from sequence_platform.catalog import load_plan
from sequence_platform.cli.lake_commands import first_day
from sequence_platform.clock import FixedClock
from sequence_platform.runtimes.batch import build_events, build_sequence
from sequence_platform.settings import Settings
from sequence_platform.wiring import open_platform
from sequence_platform_tests.unit.cli.conftest import FIRST, Shell, shell_in

CLOCK = FixedClock(datetime(2026, 4, 1, tzinfo=UTC))


def build_in(shell: Shell) -> None:
    settings = Settings(
        home=shell.root / "home", definitions=shell.root / "definitions", source_root=shell.root
    )
    with open_platform(settings, clock=CLOCK) as platform:
        event, sequence = platform.plan.events["click"], platform.plan.sequences["feed"]
        build_events(platform.lake, platform.source_of("click"), event, FIRST, CLOCK)
        build_sequence(platform.lake, sequence, FIRST, CLOCK)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A lake that commands look at, for all tests that change nothing in it."""
    with shell_in(tmp_path_factory.mktemp("built")) as shell:
        build_in(shell)
        yield shell


def words(output: str) -> str:
    """Return what was printed on one line: a narrow table's title is broken into several."""
    return " ".join(output.split())


def cells(output: str) -> list[list[str]]:
    """Return the cells of a printed table, a list a row."""
    return [
        [cell.strip() for cell in line.replace("┃", "│").strip("│").split("│")]
        for line in output.splitlines()
        if line.startswith(("│", "┃"))
    ]


def test_status_says_what_is_built(built: Shell) -> None:
    done = built.run("status")
    assert done.exit_code == 0, done.output
    head, clicks, feeds = cells(done.output)
    assert head == [
        *("table", "days", "first", "last", "rows", "MB", "dead letters", "stale days"),
    ]
    assert (clicks[:5], clicks[6:]) == (
        ["enriched.click", "1", "2026-03-01", "2026-03-01", "3"],
        ["0", ""],
    )
    assert feeds[:5] == ["sequences.feed", "1", "2026-03-01", "2026-03-01", "2"]


def test_show_prints_the_newest_event_first(built: Shell) -> None:
    done = built.run("show", "feed", "7")
    assert done.exit_code == 0, done.output
    assert "entity 7: the newest 2 of 2 events" in words(done.output)
    assert cells(done.output) == [
        ["event_time", "event_type", "pin"],
        ["2026-03-01 10:00:00", "click", "11"],
        ["2026-03-01 09:00:00", "click", "10"],
    ]


def test_show_takes_limit_columns_and_time(built: Shell) -> None:
    one = built.run("show", "feed", "7", "--limit", "1", "--columns", "event_id")
    assert "the newest 1 of 2 events" in words(one.output)
    before = built.run("show", "feed", "7", "--as-of", "2026-03-01T10:00:00")
    assert "the newest 1 of 1 events" in words(before.output)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["feed", "8"], 0, "8 has no events in feed then"),
        (["feed", "me"], 2, "'me' is not an integer, as the entities of feed are"),
        (["fed", "7"], 1, "close: 'feed'"),
        (["feed", "7", "--columns", "pni"], 1, "close: 'pin'"),
        (["feed", "7", "--as-of", "soon"], 2, "'soon' does not match"),
    ],
)
def test_show_answers_what_is_not_there(
    built: Shell, arguments: list[str], code: int, text: str
) -> None:
    done = built.run("show", *arguments)
    assert done.exit_code == code, done.output
    assert text in done.output


def test_show_takes_entities_below_zero(built: Shell) -> None:
    done = built.run("show", "feed", "--", "-3")
    assert "entity -3: the newest 1 of 1 events" in words(done.output)


@pytest.mark.parametrize("command", [["status"], ["show", "feed", "7"]])
def test_before_anything_is_built_commands_say_so(shell: Shell, command: list[str]) -> None:
    done = shell.run(*command)
    assert done.exit_code == 1
    assert "Error: " in done.output
    assert "next: " in done.output


def test_maintain_says_what_it_did(built: Shell) -> None:
    done = built.run("maintain")
    assert done.exit_code == 0, done.output
    assert "snapshots expired" in done.output


def test_maintain_removes_what_is_beyond_retention_and_backfill_does_not_bring_it_back(
    shell: Shell,
) -> None:
    build_in(shell)
    shell.define("days=36500", "days=60", folder="short")
    done = shell.run("maintain", definitions="short")
    assert done.exit_code == 0, done.output
    assert "enriched.click: 1 days before 20" in done.output
    assert " are beyond retention; removed 3 rows, 0 dead letters\n" in done.output
    assert "sequences.feed: 1 days before 20" in done.output
    day = ("--from", "2026-03-01", "--to", "2026-03-01")
    again = shell.run("backfill", "feed", *day, definitions="short")
    assert again.exit_code == 0, again.output
    assert "2 partitions look back on days beyond retention and were left alone" in again.output
    assert cells(shell.run("status", definitions="short").output)[1:] == []


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (["sequences/feed"], FIRST),
        (["enriched/click"], FIRST),
        (["enrichments/pins"], date(2026, 9, 9)),
        ([], date(2026, 9, 9)),
    ],
)
def test_a_backfill_starts_where_its_tables_do(
    shell: Shell, tables: list[str], expected: date
) -> None:
    plan = load_plan(shell.root / "definitions")
    assert first_day(plan, tables, default=date(2026, 9, 9)) == expected


def test_settings_are_listed_without_passwords(shell: Shell) -> None:
    done = shell.run(
        "settings",
        catalog="postgresql://me:secret@host/lake",
        databases__warehouse="postgresql://me:secret@host/shop",
        threads="3",
    )
    assert done.exit_code == 0, done.output
    values = {row[0]: row[1] for row in cells(done.output)}
    assert values["SEQUENCE_PLATFORM_THREADS"] == "3"
    assert values["SEQUENCE_PLATFORM_CATALOG"] == "host/lake"
    assert values["SEQUENCE_PLATFORM_DATABASES"] == "{'warehouse': '...'}"
    assert "secret" not in done.output


def test_a_setting_that_makes_no_sense_ends_the_command(shell: Shell) -> None:
    done = shell.run("check", threads="many")
    assert done.exit_code == 1
    assert "threads" in done.output
    assert "Traceback" not in done.output


def test_backfill_builds_a_sequence_and_all_it_is_made_from(shell: Shell) -> None:
    day = ("--from", "2026-03-01", "--to", "2026-03-01")
    first, again = shell.run("backfill", "feed", *day), shell.run("backfill", "feed", *day)
    assert first.exit_code == 0, first.output
    assert "2 partitions in " in first.output
    assert ", 2 of them changed" in first.output
    assert [row[:3] for row in cells(first.output)[1:]] == [
        ["enriched.click", "1", "3"],
        ["sequences.feed", "1", "2"],
    ]
    assert ", 0 of them changed" in again.output


def test_a_backfill_names_the_days_that_failed_and_builds_the_others(shell: Shell) -> None:
    done = shell.run("backfill", "enriched/click", "--from", "2026-03-01", "--to", "2026-03-02")
    assert done.exit_code == 1
    assert "Error: some of it failed; what does not look back on it is built" in done.output
    assert "\nenriched/click: 1 of 2 days failed\n" in done.output
    assert "\n    2026-03-02: no file matches" in done.output
    (_, built) = cells(shell.run("status").output)
    assert built[:4] == ["enriched.click", "1", "2026-03-01", "2026-03-01"]


def test_a_backfill_that_cannot_open_the_lake_says_so_and_fails(shell: Shell) -> None:
    (shell.root / "home").mkdir(exist_ok=True)
    (shell.root / "home" / "catalog.sqlite").write_bytes(b"this is no database" * 100)
    done = shell.run("backfill", "feed", "--from", "2026-03-01", "--to", "2026-03-02")
    assert done.exit_code == 1
    assert done.output.count("\ncannot open the lake\n") == 1
    assert "restore catalog and data from one backup" in done.output


def test_a_backfill_of_something_else_names_the_closest(shell: Shell) -> None:
    done = shell.run("backfill", "sequences/fed")
    assert done.exit_code == 1
    assert "close: 'sequences/feed'" in done.output
