"""What runtimes need from outside, as protocols. Adapters implement them; runtimes receive them."""

from sequence_platform.ports.decoder import MessageDecoder
from sequence_platform.ports.lake import (
    CORRECTION_COLUMNS,
    Committed,
    Counts,
    Lake,
    LakeKeeper,
    LakeReader,
    LakeWriter,
    Maintenance,
    PartitionCommit,
    Staged,
    TableSpec,
)
from sequence_platform.ports.log import Bounds, EventLog, LogBatch, LogPartition, LogWriter
from sequence_platform.ports.source import BatchSource, RawBatch

__all__ = [
    "CORRECTION_COLUMNS",
    "BatchSource",
    "Bounds",
    "Committed",
    "Counts",
    "EventLog",
    "Lake",
    "LakeKeeper",
    "LakeReader",
    "LakeWriter",
    "LogBatch",
    "LogPartition",
    "LogWriter",
    "Maintenance",
    "MessageDecoder",
    "PartitionCommit",
    "RawBatch",
    "Staged",
    "TableSpec",
]
