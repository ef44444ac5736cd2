"""Commands about streams and dead letters, on a project of two event types with logs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sequence_platform.cli.stream_commands import flush_text
from sequence_platform.ports import PartitionState
from sequence_platform.runtimes.streaming import DayFlush, Flushed
from sequence_platform.settings import Settings
from sequence_platform.sources.jsonl_log import JsonlLogWriter
from sequence_platform.stores.ducklake import connect_read_only
from sequence_platform_tests.unit.cli.conftest import FIRST, Shell

STREAMED = """
click = EventType(
    name="click", owner="team:feed", description="A click.", start=date(2026, 3, 1),
    schema={"id": pl.String, "user_id": pl.Int64, "at": pl.Datetime("us", "UTC"), "pin": pl.Int64},
    event_id="id", event_time="at", entity="user_id",
    log=Log("clicks"), retention=timedelta(days=36500))

save = EventType(
    name="save", owner="team:feed", description="A save.", start=date(2026, 3, 1),
    schema={"id": pl.String, "user_id": pl.Int64, "at": pl.Datetime("us", "UTC")},
    event_id="id", event_time="at", entity="user_id", log=Log("saves"),
    retention=timedelta(days=36500))

feed"""
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def streamed(shell: Shell) -> Shell:
    """A project whose clicks and saves have logs that hold nothing yet."""
    file = shell.root / "definitions" / "feed.py"
    text = file.read_text()
    start, end = text.index("click = EventType"), text.index("feed = Sequence")
    text = text[:start] + STREAMED.lstrip().removesuffix("feed") + text[end:]
    file.write_text(text.replace("import EventType, Files,", "import EventType, Log,"))
    writer = JsonlLogWriter(shell.root / "home" / "log")
    for topic in ("clicks", "saves"):
        writer.create_topic(topic, 2)
    writer.close()
    return shell


def send(shell: Shell, topic: str, *values: bytes) -> None:
    writer = JsonlLogWriter(shell.root / "home" / "log")
    writer.append(topic, values, [b"k"] * len(values))
    writer.close()


def event(event_id: str, **values: object) -> bytes:
    return json.dumps(
        {"id": event_id, "user_id": 7, "at": NOON.isoformat(), "pin": 1} | values
    ).encode()


EARLY = event("b", at="2026-02-20T12:00:00Z")
EARLIER = event("c", at="2026-01-20T12:00:00Z")


def ids(shell: Shell, name: str) -> list[str]:
    settings = Settings(home=shell.root / "home")
    with connect_read_only(settings.catalog_url, settings.data_url) as connection:
        found = connection.execute(f"SELECT event_id FROM enriched.{name} ORDER BY event_id")
        return [row[0] for row in found.fetchall()]


def caught_up(shell: Shell, *arguments: str) -> str:
    done = shell.run("stream", *arguments, "--until-caught-up")
    assert done.exit_code == 0, done.output
    return done.output


def mend(shell: Shell) -> None:
    """Write definitions that begin a month earlier; another folder stands for a later checkout."""
    text = (shell.root / "definitions" / "feed.py").read_text()
    (shell.root / "mended").mkdir()
    mended = text.replace("start=date(2026, 3, 1)", "start=date(2026, 2, 1)", 1)
    (shell.root / "mended" / "feed.py").write_text(mended)


# stream


def test_stream_reads_all_event_types_and_says_what_it_did(streamed: Shell) -> None:
    send(streamed, "clicks", event("a"), event("b"), b"{torn")
    send(streamed, "saves", event("s"))
    output = " ".join(caught_up(streamed).split())  # a long path wraps the line
    assert "streaming click, save from jsonl:" in output
    assert "shard 0/1; Ctrl-C ends it" in output
    assert "click: 3 messages, 2026-03-01, +2 rows, 2 late, 1 dead" in output
    assert "save: 1 messages, 2026-03-01, +1 rows, 1 late" in output
    assert (ids(streamed, "click"), ids(streamed, "save")) == (["a", "b"], ["s"])


def test_stream_reads_the_event_types_named_and_no_others(streamed: Shell) -> None:
    send(streamed, "clicks", event("a"))
    send(streamed, "saves", event("s"))
    caught_up(streamed, "--event-types", "save")
    assert (ids(streamed, "click"), ids(streamed, "save")) == ([], ["s"])
    # One that is named twice is streamed once.
    caught_up(streamed, "--event-types", "click, save,click")
    assert (ids(streamed, "click"), ids(streamed, "save")) == (["a"], ["s"])


def test_stream_reads_its_shard_alone(streamed: Shell) -> None:
    for number in range(6):
        writer = JsonlLogWriter(streamed.root / "home" / "log")
        writer.append("clicks", [event(f"{number}")], [f"{number}".encode()])
        writer.close()
    caught_up(streamed, "--shard", "0/2")
    some = ids(streamed, "click")
    assert 0 < len(some) < 6
    caught_up(streamed, "--shard", "1/2")
    assert ids(streamed, "click") == list("012345")


@pytest.mark.parametrize("shard", ["2/2", "0/0", "1", "-1/2", "0/2/3", "a/b", "", "/", "1/"])
def test_a_share_that_makes_no_sense_is_refused(shell: Shell, shard: str) -> None:
    done = shell.run("stream", "--shard", shard)
    assert done.exit_code == 2
    assert f"{shard!r} is not a share such as 0/1 or 2/4 (the third of four)" in done.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["stream", "--event-types", "clik"], "close: 'click'"),
        (["stream", "--event-types", "click,"], "no event type '' with a log"),
        (["stream", "resume", "clik", "--from", "latest"], "close: 'click'"),
        (["stream", "resume", "click,save", "--from", "latest"], "no event type 'click,save'"),
        (["dead-letters", "list", "nothing"], "present: click, save"),
        (["dead-letters", "show", "clik"], "close: 'click'"),
        (["dead-letters", "show", "click,save"], "no event type 'click,save'"),
        (["dead-letters", "replay", "clik"], "close: 'click'"),
    ],
)
def test_an_event_type_that_has_no_log_is_named_with_what_to_do(
    streamed: Shell, arguments: list[str], text: str
) -> None:
    done = streamed.run(*arguments)
    assert done.exit_code == 1, done.output
    assert text in done.output
    assert "next: name one of these, or give it log=Log('topic')" in done.output


def test_without_any_log_there_is_nothing_to_stream(shell: Shell) -> None:
    done = shell.run("stream", "--until-caught-up")
    assert done.exit_code == 1
    assert "no event type has a log" in done.output
    assert "next: add it in definitions/" in done.output


def test_an_absent_topic_ends_with_the_error_after_the_others_are_read(streamed: Shell) -> None:
    folder = streamed.root / "home" / "log" / "saves"
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    folder.rmdir()
    send(streamed, "clicks", event("a"))
    done = streamed.run("stream", "--until-caught-up")
    assert done.exit_code == 1
    assert "waiting: " in done.output
    assert "'saves'" in done.output
    assert "next: " in done.output
    assert ids(streamed, "click") == ["a"]


# resume


def test_resume_goes_on_where_an_operator_says(streamed: Shell) -> None:
    send(streamed, "clicks", event("a"), event("b"))
    [at] = [
        partition.name.removeprefix("partition=")
        for partition in (streamed.root / "home" / "log" / "clicks").iterdir()
        if any(file.stat().st_size for file in partition.glob("*.jsonl"))
    ]
    done = streamed.run("stream", "resume", "click", "--from", f"{at}=1")
    assert done.exit_code == 0, done.output
    assert done.output == f"clicks/{at} goes on at 1\n"
    caught_up(streamed)
    assert ids(streamed, "click") == ["b"]
    earliest = streamed.run("stream", "resume", "click", "--from", "earliest")
    assert earliest.output == "clicks/0 goes on at 0\nclicks/1 goes on at 0\n"
    caught_up(streamed)
    assert ids(streamed, "click") == ["a", "b"]
    latest = streamed.run("stream", "resume", "click", "--from", "latest")
    assert f"clicks/{at} goes on at 2\n" in latest.output


@pytest.mark.parametrize("start", ["newest", "0", "0=", "0=1=2", "0:1", "", "a=b"])
def test_a_start_that_makes_no_sense_is_refused(streamed: Shell, start: str) -> None:
    done = streamed.run("stream", "resume", "click", "--from", start)
    assert done.exit_code == 2
    assert f"{start!r} is not earliest, latest or offsets such as 0=1200,1=900" in done.output


def test_offsets_that_the_log_does_not_have_are_refused_with_those_it_has(streamed: Shell) -> None:
    done = streamed.run("stream", "resume", "click", "--from", "0=5,9=0")
    assert done.exit_code == 1
    assert "found: partition 0: 5, partition 9: 0" in done.output
    assert "expected: partition 0: 0 to 0, partition 1: 0 to 0" in done.output
    assert "next: choose offsets that it has" in done.output


# dead-letters


@pytest.fixture
def dead(streamed: Shell) -> Shell:
    send(streamed, "clicks", event("a"), b"{torn", EARLY, EARLIER)
    caught_up(streamed)
    return streamed


def test_dead_letters_are_counted_by_event_type_and_reason(dead: Shell) -> None:
    done = dead.run("dead-letters", "list")
    assert done.exit_code == 0, done.output
    cells = [[cell.strip() for cell in line.split("│")[1:4]] for line in done.output.splitlines()]
    assert ["click", "malformed_json", "1"] in cells
    assert ["click", "outside_partition", "2"] in cells
    assert dead.run("dead-letters", "list", "save").output == "no dead letters of streams\n"


def test_dead_letters_are_shown_with_where_why_and_what_came(dead: Shell) -> None:
    done = dead.run("dead-letters", "show", "click", "--rule", "malformed_json")
    assert done.exit_code == 0, done.output
    place, why, what = done.output.splitlines()
    assert place.startswith("clicks/")
    assert place.endswith("offset 1: malformed_json")
    assert "expected one JSON object; recorded 20" in why
    assert what == "  {torn"
    one = dead.run("dead-letters", "show", "click", "--limit", "1")
    assert "... and 2 more (--limit)" in one.output
    assert dead.run("dead-letters", "show", "save").output == "none\n"


def test_a_long_payload_is_shown_up_to_a_bound(streamed: Shell) -> None:
    send(streamed, "saves", b'{"id":"' + b"x" * 5000)
    caught_up(streamed)
    done = streamed.run("dead-letters", "show", "save")
    assert "xxx... (5,007 bytes)" in done.output
    assert len(done.output) < 3000


def test_dead_letters_are_replayed_after_a_fix_once(dead: Shell) -> None:
    before = dead.run("dead-letters", "replay", "click")
    assert before.output == "0 of 3 could be used, 3 stay\n"
    mend(dead)
    arguments = ("dead-letters", "replay", "click", "--rule", "outside_partition")
    done = dead.run(*arguments, definitions="mended")
    assert done.exit_code == 0, done.output
    assert done.output == "1 of 2 could be used, 1 stay\n  2026-02-20: 1 messages, +1 rows\n"
    assert ids(dead, "click") == ["a", "b"]
    again = dead.run(*arguments, definitions="mended")
    assert again.output == "0 of 1 could be used, 1 stay\n"
    none = dead.run(*arguments[:4], "null_entity", definitions="mended")
    assert none.output == "none to replay\n"


# What is said of a flush


def flushed(**changes: object) -> Flushed:
    change = DayFlush(3, -1, is_late=False, after=PartitionState(2, 9, "open"))
    fields: dict[str, object] = {
        "event": "click",
        "messages": 1234,
        "days": {FIRST: change, FIRST + timedelta(days=2): change},
        "dead": 0,
        "offsets": (),
        "corrected": (),
        "newest_event_time": NOON,
        "oldest_appended": NOON,
        "newest_appended": NOON,
        "committed_at": NOON + timedelta(seconds=2.5),
    }
    return Flushed(**(fields | changes))  # type: ignore[arg-type]  # values by name


def test_a_flush_is_said_in_a_line() -> None:
    assert flush_text(flushed()) == (
        "click: 1,234 messages, 2026-03-01 to 2026-03-03, -2 rows, readable after 2.5 s at most"
    )
    nothing = flushed(messages=0, days={}, dead=7, oldest_appended=None)
    assert flush_text(nothing) == "click: 0 messages, +0 rows, 7 dead"


def test_the_log_is_a_folder_in_home_unless_given(streamed: Shell, tmp_path: Path) -> None:
    other = JsonlLogWriter(tmp_path / "elsewhere")
    for topic in ("clicks", "saves"):
        other.create_topic(topic, 1)
    other.append("clicks", [event("z")])
    other.close()
    done = streamed.run("stream", "--until-caught-up", log=f"jsonl:{tmp_path / 'elsewhere'}")
    assert done.exit_code == 0, done.output
    assert ids(streamed, "click") == ["z"]
