"""What a stream worker tells, as events of Dagster: a materialization per partition, now and then.

Not per flush: every event is a row in Dagster's database, and wakes what depends on it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dagster as dg

from sequence_platform.orchestration.keys import enriched_key, raw_key
from sequence_platform.plan.plan import EventPlan
from sequence_platform.runtimes.streaming import DayFlush, Flushed, StreamReport

REPORT_SECONDS = 20.0
"""Between two materializations of a partition."""

IDLE_SECONDS = 60.0
"""Between two observations of an event type that has nothing new: the sign of life."""

Log = Callable[[dg.AssetMaterialization | dg.AssetObservation], None]


@dataclass(slots=True)
class _Day:
    """What flushes since the last report did to a partition."""

    received: int = 0
    admitted: int = 0
    late: int = 0
    last: DayFlush | None = None

    def add(self, flush: DayFlush) -> None:
        self.received += flush.received
        self.admitted += flush.admitted
        self.late += flush.received if flush.is_late else 0
        self.last = flush


@dataclass(slots=True)
class _Stream:
    """What flushes of an event type since its last report did."""

    messages: int = 0
    dead: int = 0
    slowest_seconds: float = 0.0
    days: dict[date, _Day] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)
    newest_event_time: Any = None
    reported_at: float = 0.0

    def add(self, flushed: Flushed) -> None:
        self.messages += flushed.messages
        self.dead += flushed.dead
        for day, flush in flushed.days.items():
            self.days.setdefault(day, _Day()).add(flush)
        self.offsets |= {
            f"{move.at.topic}/{move.at.partition}": move.next for move in flushed.offsets
        }
        if flushed.freshness is not None and flushed.messages:
            self.slowest_seconds = max(self.slowest_seconds, flushed.freshness.total_seconds())
        times = [t for t in (self.newest_event_time, flushed.newest_event_time) if t is not None]
        self.newest_event_time = max(times, default=None)


class StreamReporter:
    """Gathers what a worker tells and passes it on to Dagster.

    Args:
        events: The event types, by name.
        partitions: Their partitions, by name.
        shard: Which share of the log the worker reads, as text.
        log: Takes events of Dagster.
        warn: Takes words about trouble.
        say: Takes words about a flush.
    """

    def __init__(  # noqa: PLR0913 - what is told of, and who listens
        self,
        events: Mapping[str, EventPlan],
        partitions: Mapping[str, dg.PartitionsDefinition[str]],
        *,
        shard: str,
        log: Log,
        warn: Callable[[str], None],
        say: Callable[[str], None],
    ) -> None:
        self._events = events
        self._partitions = partitions
        self._shard = shard
        self._log = log
        self._warn = warn
        self._say = say
        self._streams = {name: _Stream() for name in events}
        self._lag: dict[str, int] = {}

    def tell(self, report: StreamReport) -> None:
        """Take what a worker tells, and pass on what is due."""
        self._lag |= report.lag
        if report.trouble:
            self._warn(f"waiting for what may pass: {report.trouble}")
        if report.flushed is not None:
            self._streams[report.flushed.event].add(report.flushed)
        for name in self._streams:
            self._report(name, self._lag.get(name, 0), is_last=False)

    def finish(self) -> None:
        """Pass on all that is left."""
        for name in self._streams:
            self._report(name, self._lag.get(name, 0), is_last=True)

    def _report(self, name: str, lag: int, *, is_last: bool) -> None:
        stream, now = self._streams[name], time.monotonic()
        waited = now - stream.reported_at
        if stream.messages and (is_last or waited >= REPORT_SECONDS):
            for event in self._materializations(name, stream, lag):
                self._log(event)
            self._say(
                f"{name}: {stream.messages:,} messages, {stream.dead:,} dead, lag {lag:,}, "
                f"readable after {stream.slowest_seconds:.1f} s at most"
            )
        elif not stream.messages and not is_last and waited >= IDLE_SECONDS:
            self._log(self._observation(name, stream, lag))
        else:
            return
        self._streams[name] = _Stream(
            offsets=stream.offsets,
            newest_event_time=stream.newest_event_time,
            reported_at=now,
        )

    def _materializations(
        self, name: str, stream: _Stream, lag: int
    ) -> Iterator[dg.AssetMaterialization]:
        common = self._metadata(stream, lag) | {
            "freshness_seconds": round(stream.slowest_seconds, 3),
            "dead_letters": stream.dead,
        }
        for day, change in sorted(stream.days.items()):
            key = day.isoformat()
            if change.last is None or not self._partitions[name].has_partition_key(key):
                continue  # a clock that is ahead may bring tomorrow's events
            after = change.last.after
            metadata = common | {
                "dagster/partition_row_count": after.rows,
                "messages": change.received,
                "rows_gained": change.admitted,
                "late": change.late,
                "state": after.state,
                "version": after.version,
            }
            text = f"{key}: {change.received:,} messages, {change.admitted:+,} rows, {after.state}"
            yield dg.AssetMaterialization(
                enriched_key(self._events[name].table),
                description=text,
                partition=key,
                metadata=metadata,
            )
            yield dg.AssetMaterialization(
                raw_key(name),
                description=f"{key}: {change.received:,} messages",
                partition=key,
                metadata=common | {"messages": change.received, "late": change.late},
            )

    def _observation(self, name: str, stream: _Stream, lag: int) -> dg.AssetObservation:
        return dg.AssetObservation(
            raw_key(name), description="nothing new", metadata=self._metadata(stream, lag)
        )

    def _metadata(self, stream: _Stream, lag: int) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "shard": self._shard,
            "lag": lag,
            "offsets": dg.MetadataValue.json(json.loads(json.dumps(stream.offsets))),
        }
        if stream.newest_event_time is not None:
            metadata["newest_event_time"] = dg.MetadataValue.timestamp(stream.newest_event_time)
        return metadata


def warn_of_trouble(warn: Callable[[str], None]) -> Callable[[StreamReport], None]:
    """Return what passes on only the trouble of a worker: the lake's worker reports the rest."""

    def tell(report: StreamReport) -> None:
        if report.trouble:
            warn(f"online: waiting for what may pass: {report.trouble}")

    return tell
