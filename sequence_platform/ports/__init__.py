"""What runtimes need from outside, as protocols. Adapters implement them; runtimes receive them."""

from sequence_platform.plan.tables import TableSpec
from sequence_platform.ports.decoder import MessageDecoder
from sequence_platform.ports.lake import (
    CORRECTION_COLUMNS,
    EXPIRED,
    Append,
    Appended,
    Committed,
    Counts,
    DayAppend,
    Expired,
    Lake,
    LakeAppender,
    LakeKeeper,
    LakeReader,
    LakeWriter,
    Maintenance,
    OffsetMove,
    PartitionCommit,
    PartitionState,
    Staged,
)
from sequence_platform.ports.log import Bounds, EventLog, LogBatch, LogPartition, LogWriter
from sequence_platform.ports.source import BatchSource, RawBatch

__all__ = [
    "CORRECTION_COLUMNS",
    "EXPIRED",
    "Append",
    "Appended",
    "BatchSource",
    "Bounds",
    "Committed",
    "Counts",
    "DayAppend",
    "EventLog",
    "Expired",
    "Lake",
    "LakeAppender",
    "LakeKeeper",
    "LakeReader",
    "LakeWriter",
    "LogBatch",
    "LogPartition",
    "LogWriter",
    "Maintenance",
    "MessageDecoder",
    "OffsetMove",
    "PartitionCommit",
    "PartitionState",
    "RawBatch",
    "Staged",
    "TableSpec",
]
