"""The streaming runtime: from a log into lake and online store, nothing lost and nothing twice."""

from sequence_platform.runtimes.streaming.lake_sink import LakeSink, LakeStream
from sequence_platform.runtimes.streaming.online_sink import OnlineSink
from sequence_platform.runtimes.streaming.positions import (
    From,
    Shard,
    resume,
    starting_positions,
)
from sequence_platform.runtimes.streaming.replay import replay
from sequence_platform.runtimes.streaming.side_by_side import run_side_by_side
from sequence_platform.runtimes.streaming.sink import DayFlush, Flushed, Sink
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
    "LakeStream",
    "OnlineSink",
    "Pace",
    "Shard",
    "Sink",
    "StreamReport",
    "StreamWorker",
    "Tell",
    "replay",
    "resume",
    "run_side_by_side",
    "starting_positions",
]
