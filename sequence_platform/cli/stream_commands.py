"""Commands about streams: run a worker, decide where to go on, dead letters."""

from __future__ import annotations

import signal
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC
from threading import Event
from time import monotonic
from types import FrameType
from typing import cast

import click
import polars as pl
from rich.console import Console
from rich.table import Table

from sequence_platform.cli.console import open_console
from sequence_platform.clock import SystemClock
from sequence_platform.errors import StateMismatchError, nearest
from sequence_platform.plan.plan import EventPlan, Plan
from sequence_platform.plan.tables import raw_table
from sequence_platform.ports import Lake
from sequence_platform.runtimes.streaming import (
    Flushed,
    From,
    LakeStream,
    Shard,
    StreamReport,
    Tell,
    replay,
    resume,
    run_side_by_side,
)
from sequence_platform.settings import Settings
from sequence_platform.wiring import (
    EVERYWHERE,
    StreamTo,
    open_log,
    open_online,
    open_platform,
    open_workers,
    streamed_events,
)

SHOWN_LETTERS = 50
TALLY_SECONDS = 5.0


class ShardType(click.ParamType[Shard]):
    """Reads ``i/n``: share i of n, counted from 0."""

    name = "i/n"

    def convert(
        self, value: str | Shard, param: click.Parameter | None, ctx: click.Context | None
    ) -> Shard:
        """Return the shard that a text names."""
        if isinstance(value, Shard):
            return value
        index, _, count = value.partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            self.fail(
                f"{value!r} is not a share such as 0/1 or 2/4 (the third of four)", param, ctx
            )
        return Shard(int(index), int(count))


@click.group(invoke_without_command=True)
@click.option("--event-types", metavar="NAME,...", help="All that have a log unless given.")
@click.option(
    "--shard", type=ShardType(), default="0/1", show_default=True, help="Share of topics."
)
@click.option(
    "--flush-seconds", type=click.FloatRange(0.05), help="From the settings unless given."
)
@click.option(
    "--to",
    type=click.Choice(["both", "lake", "online"]),
    default="both",
    show_default=True,
    help="Lake, online store, or both; each keeps its own offsets.",
)
@click.option("--until-caught-up", is_flag=True, help="End once all that the log holds is read.")
@click.pass_context
def stream(
    context: click.Context,
    event_types: str | None,
    shard: Shard,
    flush_seconds: float | None,
    to: str,
    *,
    until_caught_up: bool,
) -> None:
    """Stream events from the log into lake and online store; 'make ui' does it in Dagster.

    Until Ctrl-C.

    A worker may be killed at any moment: the next one goes on where it was, nothing is lost and
    nothing is there twice.
    """
    if context.invoked_subcommand is not None:
        return
    settings: Settings = context.obj
    console = open_console()
    sinks: tuple[StreamTo, ...] = EVERYWHERE if to == "both" else (cast("StreamTo", to),)
    tells: dict[StreamTo, Tell] = {
        "lake": lambda report: _tell(console, report),
        "online": _Tally(console).tell,
    }
    with open_platform(settings) as platform, _stopping() as stop:
        names = None if event_types is None else map(str.strip, event_types.split(","))
        events = _chosen(platform.plan, names)
        console.print(
            f"streaming {', '.join(event.name for event in events)} from {settings.log_url} to "
            f"{' and '.join(sinks)}, shard {shard}; Ctrl-C ends it"
        )
        opened = open_workers(
            platform, events, tells, shard=shard, flush_seconds=flush_seconds, to=sinks
        )
        with opened as workers:
            run_side_by_side(workers, stop, until_caught_up=until_caught_up)


@stream.command("resume")
@click.argument("event_type")
@click.option(
    "--from",
    "start",
    required=True,
    metavar="earliest|latest|PARTITION=OFFSET,...",
    help="Where to read on: at one end of what the log holds, or at an offset a partition.",
)
@click.pass_obj
def resume_(settings: Settings, event_type: str, start: str) -> None:
    """Decide where the stream of EVENT_TYPE goes on, when its log does not hold what comes next.

    earliest reads all that the log has: what was read already is recognised by its id. latest reads
    only what is new: the gap is for the batch source. Stop the workers first.
    """
    with (
        open_platform(settings) as platform,
        open_log(settings) as log,
        open_online(settings) as store,
    ):
        [event] = _chosen(platform.plan, [event_type])
        lake = LakeStream(platform.lake, platform.clock)
        moves = resume(lake, log, event, _start_of(start), platform.clock)
        store.reset_offsets(event, moves.values(), platform.clock.now())
    for at, move in moves.items():
        click.echo(f"{at.topic}/{at.partition} goes on at {move.next}")


@click.group("dead-letters")
def dead_letters() -> None:
    """Messages that could not be used: list them, look at them, replay them after a fix."""


@dead_letters.command("list")
@click.argument("event_type", required=False)
@click.pass_obj
def list_(settings: Settings, event_type: str | None) -> None:
    """Count dead letters by event type and reason."""
    table = Table("event type", "rule", "letters", "first", "last", "for example")
    with open_platform(settings) as platform:
        for event in _chosen(platform.plan, None if event_type is None else [event_type]):
            letters = platform.lake.dead_letters(raw_table(event))
            counted = letters.group_by("rule").agg(
                pl.len(), pl.col("recorded_at").min().alias("first"),
                pl.col("recorded_at").max().alias("last"), pl.col("detail").first(),
            )  # fmt: skip
            for rule, count, first, last, detail in counted.sort("rule").iter_rows():
                times = (f"{time:%Y-%m-%d %H:%M:%S}" for time in (first, last))
                table.add_row(event.name, rule, f"{count:,}", *times, detail)
    open_console().print(table if table.row_count else "no dead letters of streams")


@dead_letters.command("show")
@click.argument("event_type")
@click.option("--rule", help="Only those that failed for this reason.")
@click.option("--limit", default=10, show_default=True, help="How many.")
@click.pass_obj
def show_(settings: Settings, event_type: str, rule: str | None, limit: int) -> None:
    """Show dead letters of EVENT_TYPE: where each was, why it is dead, and what came."""
    with open_platform(settings) as platform:
        [event] = _chosen(platform.plan, [event_type])
        letters = _letters(platform.lake, event, rule)
    for row in letters.head(limit).iter_rows(named=True):
        click.secho(f"{row['source']} offset {row['position']}: {row['rule']}", bold=True)
        recorded = row["recorded_at"].astimezone(UTC)
        click.echo(f"  {row['detail']}; recorded {recorded:%Y-%m-%d %H:%M:%S} UTC")
        click.echo(textwrap.indent(_payload_text(row["payload"]), "  "))
    if letters.height > limit:
        click.echo(f"... and {letters.height - limit:,} more (--limit)")
    if letters.is_empty():
        click.echo("none")


@dead_letters.command("replay")
@click.argument("event_type")
@click.option("--rule", help="Only those that failed for this reason.")
@click.pass_obj
def replay_(settings: Settings, event_type: str, rule: str | None) -> None:
    """Feed dead letters of EVENT_TYPE through the stream's way again, each exactly once.

    What can be used now becomes rows of the days that it belongs to; the rest stays.
    """
    with open_platform(settings) as platform:
        [event] = _chosen(platform.plan, [event_type])
        letters = _letters(platform.lake, event, rule)
        if letters.is_empty():
            click.echo("none to replay")
            return
        decode = platform.decode_of(event)
        done = replay(platform.lake, event, letters, platform.clock, decode)
    click.echo(
        f"{done.messages - done.dead:,} of {done.messages:,} could be used, {done.dead:,} stay"
    )
    for day, change in sorted(done.days.items()):
        click.echo(f"  {day}: {change.received:,} messages, {change.admitted:+,} rows")


def _letters(lake: Lake, event: EventPlan, rule: str | None) -> pl.DataFrame:
    letters = lake.dead_letters(raw_table(event))
    return letters if rule is None else letters.filter(pl.col("rule") == rule)


def _payload_text(payload: bytes | None) -> str:
    if payload is None:
        return "a tombstone (no value)"
    shown = payload[:2000].decode(errors="backslashreplace")
    return shown + (f"... ({len(payload):,} bytes)" if len(payload) > len(shown) else "")


def _chosen(plan: Plan, names: Iterable[str] | None) -> list[EventPlan]:
    """Return the event types named, each once, or all that have a log."""
    streamed = streamed_events(plan)
    wanted = list(streamed) if names is None else list(dict.fromkeys(names))
    for name in wanted:
        if name not in streamed:
            raise StateMismatchError(
                f"no event type '{name}' with a log",
                expected=nearest(name, streamed),
                next_step="name one of these, or give it log=Log('topic')",
            )
    if not wanted:
        raise StateMismatchError(
            "no event type has a log",
            expected="at least one with log=Log('topic')",
            next_step="add it in definitions/",
        )
    return [streamed[name] for name in wanted]


def _start_of(text: str) -> From:
    match text:
        case "earliest" | "latest":
            return text
        case _:
            pass
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {int(partition): int(offset) for partition, offset in pairs}
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not earliest, latest or offsets such as 0=1200,1=900",
            param_hint="--from",
        ) from None


def _tell(console: Console, report: StreamReport) -> None:
    now = f"{SystemClock().now():%H:%M:%S}"
    if report.trouble:
        console.print(f"{now} waiting: {report.trouble}", style="yellow")
    elif report.flushed is not None:
        console.print(f"{now} {flush_text(report.flushed)}")
    elif any(report.lag.values()):
        lag = ", ".join(f"{name} {count:,}" for name, count in report.lag.items() if count)
        console.print(f"{now} behind: {lag} messages")


class _Tally:
    """Says every few seconds what was made readable online: flushes come many a second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._messages: Counter[str] = Counter()
        self._slowest = 0.0
        self._told_at = monotonic()

    def tell(self, report: StreamReport) -> None:
        """Take what the worker tells."""
        if report.trouble:
            self._console.print(f"online: waiting: {report.trouble}", style="yellow")
        if report.flushed is not None:
            self._messages[report.flushed.event] += report.flushed.messages
            age = report.flushed.freshness
            self._slowest = max(self._slowest, 0.0 if age is None else age.total_seconds())
        if self._messages.total() and monotonic() - self._told_at >= TALLY_SECONDS:
            counts = ", ".join(
                f"{name} {count:,}" for name, count in self._messages.items() if count
            )
            now = f"{SystemClock().now():%H:%M:%S}"
            self._console.print(
                f"{now} online: {counts} messages, readable after {self._slowest:.3f} s at most"
            )
            self._messages.clear()
            self._slowest, self._told_at = 0.0, monotonic()


def flush_text(flushed: Flushed) -> str:
    """Return what a flush did, in a line."""
    days = sorted(flushed.days)
    span = "" if not days else f", {days[0]}" + (f" to {days[-1]}" if len(days) > 1 else "")
    age = flushed.freshness
    parts = [
        f"{flushed.event}: {flushed.messages:,} messages{span}",
        f"{sum(day.admitted for day in flushed.days.values()):+,} rows",
        *([f"{flushed.late:,} late"] if flushed.late else []),
        *([f"{flushed.dead:,} dead"] if flushed.dead else []),
        *([f"readable after {age.total_seconds():.1f} s at most"] if age is not None else []),
    ]
    return ", ".join(parts)


@contextmanager
def _stopping() -> Iterator[Event]:
    """Yield what Ctrl-C and SIGTERM set; a second one ends the program at once."""
    stop = Event()

    def ask(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        click.echo("ending after this flush", err=True)
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
