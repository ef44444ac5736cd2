"""The streaming runtime: from a log into the lake, nothing lost and nothing twice."""

from sequence_platform.runtimes.streaming.lake_sink import DayFlush, Flushed, LakeSink
from sequence_platform.runtimes.streaming.positions import (
    From,
    Shard,
    resume,
    starting_positions,
)
from sequence_platform.runtimes.streaming.replay import replay
from sequence_platform.runtimes.streaming.worker import (
    Pace,
    StreamReport,
    StreamWorker,
    Tell,
)

__all__ = [
    "DayFlush",
    "Flushed",
    "From",
    "LakeSink",
    "Pace",
    "Shard",
    "StreamReport",
    "StreamWorker",
    "Tell",
    "replay",
    "resume",
    "starting_positions",
]
