"""The stream worker: reads its share of the log and hands it to a sink, flush by flush.

It reads ahead while a flush is under way, and no further than one flush: a slow sink slows reading.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_delay,
    wait_random_exponential,
)

from sequence_platform.clock import Clock
from sequence_platform.errors import LogPositionError, StoreError
from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports import EventLog, LogPartition
from sequence_platform.runtimes.streaming.positions import Shard
from sequence_platform.runtimes.streaming.reader import Reader, Taken
from sequence_platform.runtimes.streaming.sink import Flushed, Sink

LONGEST_WAIT_SECONDS = 30.0
QUIET_SECONDS = 10.0
"""When nothing came for so long, what a log counts beyond what was read are no messages."""

LOOK_SECONDS = 0.05
"""How often a worker that waits for a flush looks whether it is done."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How much is taken at a time. Memory holds about twice ``flush_bytes`` of messages.

    Attributes:
        flush_seconds: A message waits at most about this long before it is committed.
        flush_messages: So many messages of an event type are committed at once, if they come.
        flush_bytes: Likewise, bytes of messages over all event types.
        poll_messages: Read at a time.
        poll_seconds: Waited for the first of them.
        look_seconds: How often new partitions are looked for and the lag is measured.
        give_up_seconds: A failure that lasts longer than this ends the worker.
    """

    flush_seconds: float = 30.0
    flush_messages: int = 200_000
    flush_bytes: int = 64 << 20
    poll_messages: int = 20_000
    poll_seconds: float = 0.2
    look_seconds: float = 15.0
    give_up_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class StreamReport:
    """What a worker tells whoever runs it.

    Attributes:
        flushed: A flush that was committed; None for a sign of life.
        lag: Messages that the log holds and the sink does not, by event type, when last measured.
        trouble: A failure that is being waited out, in words; empty if there is none.
    """

    flushed: Flushed | None
    lag: Mapping[str, int]
    trouble: str = ""


Tell = Callable[[StreamReport], None]


class StreamWorker:
    """Streams event types of one shard from a log into a sink, until it is told to stop.

    Offsets are stored with the data, so a worker may be killed at any moment, and another one, here
    or elsewhere, goes on where it was. Two workers of one shard do no harm: one ends with a
    FencedError.

    Args:
        log: What is read; used by the thread that runs the worker.
        sink: Where rows go; used by one thread at a time.
        events: Event types, each with a log.
        clock: For when.
        shard: The share of every topic that is read.
        pace: How much at a time.
        tell: Is told of every flush, of trouble, and every ``look_seconds`` of being alive; called
            by the thread that runs the worker.
        ensure: Is asked every ``look_seconds``; what it raises ends the worker, which then commits
            nothing more.
    """

    def __init__(  # noqa: PLR0913 - what is read, where it goes, and how
        self,
        log: EventLog,
        sink: Sink,
        events: Iterable[EventPlan],
        clock: Clock,
        *,
        shard: Shard | None = None,
        pace: Pace | None = None,
        tell: Tell | None = None,
        ensure: Callable[[], None] | None = None,
    ) -> None:
        self._events = list(events)
        self._reader = Reader(log, sink, self._events, shard or Shard())
        self._sink = sink
        self._clock = clock
        self._pace = pace or Pace()
        self._tell = tell or _tell_nobody
        self._ensure = ensure or _ensure_nothing
        self._news: SimpleQueue[Flushed | str] = SimpleQueue()
        self._committed: dict[tuple[str, LogPartition], int] = {}
        self._lag: dict[str, int] = {}

    def run(self, stop: Event, *, until_caught_up: bool = False) -> None:
        """Read and flush until ``stop`` is set; then flush what was read, and return.

        Args:
            stop: Set it to end the worker; it returns within a poll and a flush.
            until_caught_up: Return as well once all that the log holds is in the sink.

        An event type whose topic is absent, or does not hold what comes next, is told of and looked
        at again; the others go on.

        Raises:
            LogPositionError, StoreError: at the end, of an event type that could not be read.
            FencedError: another worker reads the same partitions.
            StoreError: log or sink failed for good, or for longer than ``give_up_seconds``.
        """
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="flush") as flusher:
            self._begin(stop)
            # At once, though empty: where a new partition begins is known from now on.
            flushing = flusher.submit(self._flush, self._reader.take())
            flushed_at = looked_at = time.monotonic()
            while not stop.is_set():
                is_whole = self._poll(stop)
                if self._is_full():
                    self._settle(flushing)  # the sink is slower than the log
                now = time.monotonic()
                if flushing.done() and (self._is_full() or self._is_due(now - flushed_at)):
                    self._settle(flushing)
                    flushing, flushed_at = flusher.submit(self._flush, self._reader.take()), now
                is_time = now - looked_at >= self._pace.look_seconds
                looked_at = now if is_time else looked_at
                if not is_whole or (is_time and self._look(stop)):
                    self._settle(flushing)
                    self._flush(self._reader.take())
                    self._begin(stop)
                    flushing = flusher.submit(self._flush, self._reader.take())
                if until_caught_up and self._is_caught_up(stop):
                    break
                self._pass_on()
            self._settle(flushing)
            self._flush(self._reader.take())
            self._pass_on()
            self._can(self._note_quiet, stop)
        for error in self._reader.refused.values():
            raise error

    def _begin(self, stop: Event) -> None:
        """Take up the stored positions."""
        self._patiently(self._reader.begin, stop)
        for error in self._reader.refused.values():
            self._tell(StreamReport(None, self._lag, trouble=str(error)))

    def _poll(self, stop: Event) -> bool:
        """Read on; return False if the log does not hold what comes next."""

        def poll() -> None:
            timeout = min(self._pace.poll_seconds, self._pace.flush_seconds)
            self._reader.poll(max_messages=self._pace.poll_messages, timeout_seconds=timeout)

        return self._can(poll, stop)

    def _is_full(self) -> bool:
        is_long = self._reader.messages >= self._pace.flush_messages
        return is_long or self._reader.bytes >= self._pace.flush_bytes

    def _is_due(self, seconds: float) -> bool:
        return self._reader.messages > 0 and seconds >= self._pace.flush_seconds

    def _flush(self, taken: Sequence[Taken]) -> None:
        """Commit; what was read must not be lost to a passing failure, also when told to stop."""
        for part in taken:

            def flush(part: Taken = part) -> None:
                self._news.put(self._sink.flush(part.event, part.batches, part.moves))

            self._patiently(flush, Event())

    def _look(self, stop: Event) -> bool:
        """Measure the lag, tell of being alive, and return whether there is more to read."""
        found: list[bool] = []

        def look() -> None:
            self._ensure()
            self._note_quiet()
            found.append(self._reader.has_more())

        if not self._can(look, stop):
            return True
        self._tell(StreamReport(None, self._lag))
        return found[-1] if found else False

    def _note_quiet(self) -> None:
        """Measure the lag, and let the sink know of event types that have none."""
        began = self._clock.now()
        self._lag = self._reader.lag(self._committed)
        for event in self._events:
            if self._lag.get(event.name) == 0:
                self._sink.heard(event, self._reader.places(event), began)

    def _is_caught_up(self, stop: Event) -> bool:
        """Return whether all that the log held was read; its last records may be no messages."""
        if time.monotonic() - self._reader.heard_at >= QUIET_SECONDS:
            return True
        unread: dict[str, int] = {}
        return self._can(lambda: unread.update(self._reader.unread()), stop) and not any(
            unread.values()
        )

    def _can(self, work: Callable[[], None], stop: Event) -> bool:
        """Do something with the log, patiently.

        Return False if an operator must look after an event type: the next begin tells which.
        """
        try:
            self._patiently(work, stop)
        except LogPositionError:
            return False
        except StoreError:
            if not self._reader.has_lost_topic():
                raise
            return False
        return True

    def _settle(self, flushing: Future[None]) -> None:
        """Wait for a flush, and pass on what it has to tell meanwhile."""
        began = time.monotonic()
        while not flushing.done():
            self._pass_on()
            if time.monotonic() - began >= self._pace.look_seconds:
                began = time.monotonic()
                self._tell(StreamReport(None, self._lag))
            with suppress(TimeoutError):
                flushing.exception(timeout=LOOK_SECONDS)
        flushing.result()
        self._pass_on()

    def _pass_on(self) -> None:
        with suppress(Empty):
            while True:
                news = self._news.get_nowait()
                if isinstance(news, str):
                    self._tell(StreamReport(None, self._lag, trouble=news))
                    continue
                self._committed |= {(news.event, move.at): move.next for move in news.offsets}
                self._tell(StreamReport(news, self._lag))

    def _patiently(self, work: Callable[[], None], stop: Event) -> None:
        """Do something; wait out failures that may pass, until told to stop."""

        def tell(state: RetryCallState) -> None:
            self._news.put(str(state.outcome.exception()) if state.outcome else "")

        attempts = Retrying(
            retry=retry_if_exception(_may_pass),
            wait=wait_random_exponential(max=LONGEST_WAIT_SECONDS),
            stop=lambda state: (
                stop.is_set() or bool(stop_after_delay(self._pace.give_up_seconds)(state))
            ),
            sleep=sleep_using_event(stop),
            before_sleep=tell,
            reraise=True,
        )
        try:
            attempts(work)
        except StoreError as error:
            if not (stop.is_set() and _may_pass(error)):
                raise


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, StoreError) and error.retryable


def _ensure_nothing() -> None:
    """Let it go on."""


def _tell_nobody(_: StreamReport) -> None:
    """Tell nobody."""
