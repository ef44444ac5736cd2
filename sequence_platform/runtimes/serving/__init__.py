"""The serving runtime: a request for an entity's sequence, checked and answered."""

from sequence_platform.runtimes.serving.draft import Answer, Draft, Together
from sequence_platform.runtimes.serving.lookups import LookedUp, Lookups, Outcome, Pending
from sequence_platform.runtimes.serving.reader import (
    MAX_ENTITIES,
    Account,
    Query,
    SequenceReader,
    available_columns,
    default_columns,
    ensure_answerable,
    entity_of,
    query_problems,
)

__all__ = [
    "MAX_ENTITIES",
    "Account",
    "Answer",
    "Draft",
    "LookedUp",
    "Lookups",
    "Outcome",
    "Pending",
    "Query",
    "SequenceReader",
    "Together",
    "available_columns",
    "default_columns",
    "ensure_answerable",
    "entity_of",
    "query_problems",
]
