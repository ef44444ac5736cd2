"""TrainingSet: labels, and the sequences that a model would have seen when they were made."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import polars as pl

from sequence_platform.definition.sequence import Sequence
from sequence_platform.definition.source import Source

Known = Literal["at_request", "now"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingSet:
    """For each label the sequence as it was at its request time, without a look at what came later.

    A label sees the events with ``event_time < request_time - delay`` that had arrived by then, as
    serving would have answered at that moment.

    Attributes:
        name: Unique; ``[a-z][a-z0-9_]*``.
        sequence: Whose rules apply.
        labels: Where labels are. They keep their order and all their columns.
        schema: The columns of labels and their types.
        entity: Whose sequence: a column, or a row-level expression of the sequence's entity type.
        request_time: When the model would have asked: a column, or a row-level expression that
            gives a datetime; without a zone it is UTC.
        delay: How long it takes until an event can be read; what came within it before the request
            is not seen.
        known: ``"at_request"``: an event counts once it had arrived. ``"now"``: everything that is
            known today counts, late arrivals too, which no model could have seen.
        columns: Of the sequence's, vectors too; what the training store holds. None: all.
        lists: Whether labels are written with a list a column too, for tools that need that.
            Pointers into the training store, a few bytes a label, always are.
        owner: An e-mail address or ``team:name``.
        description: What it is, for people.
        version: Raise it when the meaning changes.
    """

    name: str
    sequence: Sequence
    labels: Source
    schema: Mapping[str, pl.DataType | type[pl.DataType]]
    entity: str | pl.Expr = "user_id"
    request_time: str | pl.Expr = "request_time"
    delay: timedelta = timedelta(0)
    known: Known = "at_request"
    columns: Items[str] | None = None
    lists: bool = False
    owner: str = ""
    description: str = ""
    version: int = 1
