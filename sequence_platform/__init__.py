"""User sequences for ranking and retrieval models: one definition, many runtimes.

``from sequence_platform import EventType, Enrichment, Sequence`` is what a definition needs;
``connect`` and ``read_sequences`` are what a notebook needs; ``Client`` and ``AsyncClient`` ask a
server; ``training_set`` and ``TrainingReader`` are for training. Importing this loads no vendor but
Polars.
"""

from typing import TYPE_CHECKING

from sequence_platform.definition import (
    Dedupe,
    Enrichment,
    EventType,
    Files,
    Log,
    Sequence,
    Sessions,
    Table,
    TrainingSet,
    Vector,
)

if TYPE_CHECKING:
    from sequence_platform.client import AsyncClient, Client
    from sequence_platform.notebook import connect, read_sequences
    from sequence_platform.training import TrainingReader, training_set

__all__ = [
    "AsyncClient",
    "Client",
    "Dedupe",
    "Enrichment",
    "EventType",
    "Files",
    "Log",
    "Sequence",
    "Sessions",
    "Table",
    "TrainingReader",
    "TrainingSet",
    "Vector",
    "connect",
    "read_sequences",
    "training_set",
]


def __getattr__(name: str) -> object:
    if name in {"connect", "read_sequences"}:
        from sequence_platform import notebook  # noqa: PLC0415 - DuckDB is loaded only for those who read

        return getattr(notebook, name)
    if name in {"AsyncClient", "Client"}:
        from sequence_platform import client  # noqa: PLC0415 - likewise, httpx and Arrow

        return getattr(client, name)
    if name in {"TrainingReader", "training_set"}:
        from sequence_platform import training  # noqa: PLC0415 - likewise

        return getattr(training, name)
    msg = f"module 'sequence_platform' has no attribute '{name}'"
    raise AttributeError(msg)
