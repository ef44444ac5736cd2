"""Values by key: enrichments that are looked up when a sequence is read, as requests need them.

The lake has the same rows; a store of values answers in a fraction of what a query there takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import polars as pl

from sequence_platform.engine.columns import Column
from sequence_platform.plan.plan import EnrichmentPlan


@dataclass(frozen=True, slots=True)
class ValuesVersion:
    """What is published of an enrichment.

    Attributes:
        number: Rises by one.
        content: Tells whether its table has changed since.
    """

    number: int
    content: str
    rows: int
    bytes: int
    published_at: datetime


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a lookup found.

    Attributes:
        columns: One value a key, in the order of the keys; null where no row counts.
        published_at: When the version that answered was published.
    """

    columns: Mapping[str, Column]
    published_at: datetime


class ValueReader(Protocol):
    """Looks values up; used by many threads and processes at once.

    All answers of one lookup come from one version. A lookup ends by itself, within seconds: who
    does not wait so long leaves it behind.
    """

    @property
    def is_near(self) -> bool:
        """Whether a lookup reads memory of this machine: a thread of its own would take longer."""
        ...

    def look_up(
        self, enrichment: EnrichmentPlan, keys: Column, at: datetime, columns: Sequence[str]
    ) -> Found:
        """Return columns of the row that counts for each key: ``engine.freshest``.

        Args:
            enrichment: The compiled enrichment.
            keys: Of its key's type; keys may repeat, and a null finds nothing.
            at: What was available then, included.
            columns: Of the enrichment; null where what was published lacks one.

        Raises:
            StoreError: nothing is published, or the store failed.
        """
        ...


class ValuePublisher(Protocol):
    """Replaces what is looked up. A reader sees the version before, or the new one, whole.

    It may see the one before for as long as it takes to open the new one.
    """

    def publish(
        self, enrichment: EnrichmentPlan, rows: pl.DataFrame, content: str, at: datetime
    ) -> ValuesVersion:
        """Store an enrichment's rows and answer from them from now on.

        Nothing changes for readers if it fails on the way.

        Args:
            enrichment: The compiled enrichment.
            rows: All of its table: in its schema, sorted by key and available_time.
            content: Of the table; publishing what is published already, by it, changes nothing.
            at: Now.
        """
        ...

    def version(self, enrichment: EnrichmentPlan) -> ValuesVersion | None:
        """Return what is published, or None."""
        ...


class ValueStore(ValueReader, ValuePublisher, Protocol):
    """Both."""

    def close(self) -> None:
        """Release files and connections."""
        ...
