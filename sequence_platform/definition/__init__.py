"""The definition language: frozen values that say what events, enrichments and sequences are."""

from sequence_platform.definition.enrichment import Enrichment, Lookup, Vector
from sequence_platform.definition.event_type import EventType, Executor
from sequence_platform.definition.sequence import Dedupe, Sequence, Sessions
from sequence_platform.definition.source import Files, Log, Source, Table
from sequence_platform.definition.training_set import TrainingSet

Definition = EventType | Enrichment | Sequence | TrainingSet

__all__ = [
    "Dedupe",
    "Definition",
    "Enrichment",
    "EventType",
    "Executor",
    "Files",
    "Log",
    "Lookup",
    "Sequence",
    "Sessions",
    "Source",
    "Table",
    "TrainingSet",
    "Vector",
]
