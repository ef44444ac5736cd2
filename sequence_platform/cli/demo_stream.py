"""The demo's second half: live events into the log, a worker that streams them, and sequences."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table

from sequence_platform.cli.demo_serve import serving, show_served
from sequence_platform.clock import Clock, SystemClock
from sequence_platform.demo.shop_live import TOPICS, LiveShop
from sequence_platform.notebook import read_sequences
from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports import EventLog
from sequence_platform.ports.online import OnlineStore
from sequence_platform.runtimes.streaming import (
    LakeStream,
    Sink,
    StreamReport,
    resume,
    run_side_by_side,
)
from sequence_platform.settings import Settings
from sequence_platform.wiring import (
    open_log,
    open_log_writer,
    open_online,
    open_platform,
    open_workers,
)

PARTITIONS = 2
EVENTS_A_SECOND = 300
FLUSH_SECONDS = 1.0
SHOW_SECONDS = 3.0
SEQUENCE = "shop_activity"


@dataclass(slots=True)
class _Seen:
    """What was sent and what arrived."""

    sent: int = 0
    arrived: int = 0
    dead: int = 0
    late: int = 0
    ages: list[float] = field(default_factory=list)
    length: int = 0
    trouble: str = ""

    def tell(self, report: StreamReport) -> None:
        self.trouble = report.trouble
        flushed = report.flushed
        if flushed is None or flushed.freshness is None:
            return
        self.arrived += flushed.messages
        self.dead += flushed.dead
        self.late += sum(
            day.received for at, day in flushed.days.items() if at < flushed.committed_at.date()
        )
        self.ages.append(flushed.freshness.total_seconds())

    def table(self, entity: int, left: float) -> Table:
        table = Table(title=f"live events, another {left:.0f} s" if left > 0 else "live events")
        for name in ("sent", "readable", "lag", "slowest", "late", "dead", f"length of {entity}"):
            table.add_column(name, justify="right")
        slowest = f"{self.ages[-1]:.1f} s" if self.ages else ""
        numbers = (self.sent, self.arrived, self.sent - self.arrived)
        table.add_row(
            *(f"{number:,}" for number in numbers),
            slowest,
            f"{self.late:,}",
            f"{self.dead:,}",
            f"{self.length:,}",
        )
        return table


def stream_live(
    console: Console, settings: Settings, folder: Path, day: date, entity: int, seconds: float
) -> None:
    """Let the shop be open for some seconds: produce, stream and show; then say what came of it.

    Args:
        console: Where to show.
        settings: Which log and lake.
        folder: Where the shop was generated.
        day: The day that is lived again.
        entity: A user to watch.
        seconds: For how long.
    """
    clock, seen = SystemClock(), _Seen()
    label = f"live-{clock.now():%Y%m%dT%H%M%S}"
    shop = LiveShop.open(folder, day, watched=entity, label=label, seed=7)
    console.print(f"live events for {seconds:.0f} s through {settings.log_url}")
    with ExitStack() as stack:
        writer = stack.enter_context(open_log_writer(settings))
        for topic in TOPICS.values():
            writer.create_topic(topic, PARTITIONS)
        stack.enter_context(_streaming(settings, seen, clock))
        url = stack.enter_context(serving())
        console.print(f"the API is up at {url}; the page for people is at {url}/")
        events = shop.events()
        began = shown = time.monotonic()
        seen.length = _length(settings, entity, clock)
        first = seen.length
        with Live(console=console, transient=not console.is_terminal, auto_refresh=False) as live:
            while (passed := time.monotonic() - began) < seconds:
                due = int(passed * EVENTS_A_SECOND) - seen.sent
                for name, values in shop.messages(events, max(0, due), clock.now()).items():
                    if values:
                        writer.append(TOPICS[name], values)
                        seen.sent += len(values)
                if time.monotonic() - shown >= SHOW_SECONDS:
                    seen.length = _length(settings, entity, clock)
                    shown = time.monotonic()
                    live.update(seen.table(entity, seconds - passed), refresh=True)
                time.sleep(0.1)
        show_served(console, url, writer, shop, clock)
        seen.sent += 1
    seen.length = _length(settings, entity, clock)
    console.print(seen.table(entity, 0))
    p50, p99 = np.percentile(seen.ages, [50, 99]) if seen.ages else (0.0, 0.0)
    console.print(
        f"user {entity}: {first:,} events before, {seen.length:,} now; flushed every "
        f"{FLUSH_SECONDS:g} s, the slowest event of a flush "
        f"was readable after {p50:.1f} s (median), {p99:.1f} s (p99)"
    )
    if seen.trouble:
        console.print(seen.trouble, style="yellow")


@contextmanager
def _streaming(settings: Settings, seen: _Seen, clock: Clock) -> Iterator[None]:
    """Run a worker beside; at the end let it read all that was sent."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with (
                open_platform(settings) as platform,
                open_log(settings) as log,
                open_online(settings) as store,
            ):
                events = [platform.plan.events[name] for name in TOPICS]
                lake = LakeStream(platform.lake, clock)
                for event in events:
                    _begin_anew(lake, store, log, event, clock)
                opened = open_workers(
                    platform, events, {"lake": seen.tell}, flush_seconds=FLUSH_SECONDS
                )
                with opened as workers:
                    run_side_by_side(workers, stop)
                    run_side_by_side(workers, threading.Event(), until_caught_up=True)
        except BaseException as error:  # noqa: BLE001 - raised by the thread that waits
            failures.append(error)

    thread = threading.Thread(target=work, name="stream")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failures:
        raise failures[0]


def _begin_anew(
    lake: Sink, store: OnlineStore, log: EventLog, event: EventPlan, clock: Clock
) -> None:
    """Read a log from its start that is another one than in an earlier demo."""
    known = set(lake.offsets(event)["identity"]) | set(store.offsets(event)["identity"])
    if known - {log.identity(TOPICS[event.name])}:
        moves = resume(lake, log, event, "earliest", clock)
        store.reset_offsets(event, moves.values(), clock.now())


def _length(settings: Settings, entity: int, clock: Clock) -> int:
    """Return how long a user's sequence is as of now."""
    found = read_sequences(SEQUENCE, clock.now(), [entity], ["length"], settings=settings)
    return 0 if found.is_empty() else int(found["length"].item())
