"""A request half answered: what the store has is read, what is looked up by key is under way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from sequence_platform.engine.columns import Column, concat
from sequence_platform.engine.freshest import keys_of
from sequence_platform.engine.point import Point, Where
from sequence_platform.engine.request import Context, Needed, compute
from sequence_platform.errors import StoreError, listed
from sequence_platform.plan.plan import ReadLookupPlan, SequencePlan
from sequence_platform.ports.online import Freshness
from sequence_platform.runtimes.serving.lookups import LookedUp, Lookups, Pending, Wanted


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """A sequence as it was asked for.

    Attributes:
        columns: Aligned, oldest event first.
        trimmed: How many events each rule cut; age is not counted.
        freshness: How far the store is, by event type.
        lookups: What became of what was looked up by key, by enrichment.
    """

    sequence: SequencePlan
    entity: object
    as_of: datetime
    length: int
    columns: Mapping[str, Column]
    trimmed: Mapping[str, int]
    freshness: Mapping[str, Freshness]
    lookups: Mapping[str, LookedUp] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """A query that was checked.

    Attributes:
        needed: What it takes to answer for its columns.
        available_at: What is looked up by key was available then.
    """

    sequence: SequencePlan
    columns: Sequence[str]
    needed: Needed
    as_of: datetime
    available_at: datetime
    where: Where
    context: Context


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A sequence as the store has it; what is looked up by key is not in it yet."""

    ask: Ask
    entity: object
    point: Point
    freshness: Mapping[str, Freshness]

    @property
    def looks_up(self) -> bool:
        """Whether something is to be looked up."""
        return bool(self.ask.needed.lookups)

    def keys(self, lookup: ReadLookupPlan) -> Column:
        """Return the key of each event."""
        sequence, columns, length = self.ask.sequence, self.point.columns, self.point.length
        if "entity" in lookup.by.values():
            owner = pl.Series([self.entity], dtype=sequence.entity_type)
            columns = {**columns, "entity": Column.of(owner.new_from_index(0, length))}
        return keys_of(sequence, lookup, columns, length)

    def answer(self, lookups: Mapping[str, LookedUp] = {}) -> Answer:
        """Return the answer, with what was looked up for its events, by enrichment."""
        ask, point = self.ask, self.point
        columns = dict(point.columns)
        for each in lookups.values():
            columns |= each.columns
        if ask.needed.computes:
            columns |= compute(ask.sequence, columns, point.length, ask.context, ask.columns)
        return Answer(
            ask.sequence,
            self.entity,
            ask.as_of,
            point.length,
            {name: columns[name] for name in ask.columns},
            point.trimmed,
            {event.name: self.freshness[event.name] for event in ask.sequence.events},
            lookups,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Together:
    """What several drafts look up, under way.

    Attributes:
        pending: The lookups.
        places: For each draft and lookup of it, which of them, and where its values begin.
    """

    drafts: Sequence[Draft]
    lookups: Lookups | None
    pending: Sequence[Pending]
    places: Sequence[Sequence[tuple[int, int]]]

    @classmethod
    def of(cls, lookups: Lookups | None, drafts: Sequence[Draft]) -> Together:
        """Begin to look up; drafts that agree in enrichment and time share a lookup."""
        wanted: dict[tuple[str, datetime, tuple[str, ...]], tuple[int, ReadLookupPlan]] = {}
        keys: list[list[Column]] = []
        ends: list[int] = []
        places = []
        for draft in drafts:
            mine = []
            for lookup in draft.ask.needed.lookups:
                group = (lookup.enrichment.name, draft.ask.available_at, lookup.columns)
                number, _ = wanted.setdefault(group, (len(wanted), lookup))
                if number == len(keys):
                    keys.append([])
                    ends.append(0)
                mine.append((number, ends[number]))
                keys[number].append(draft.keys(lookup))
                ends[number] += draft.point.length
            places.append(mine)
        if not wanted:
            return cls(drafts, lookups, (), places)
        if lookups is None:
            raise StoreError(
                "there is no store of values to look up in",
                found=f"columns of {listed(name for name, _, _ in wanted)}",
                next_step="ask for other columns",
            )
        asked = [
            Wanted(
                lookup.enrichment, concat(lookup.enrichment.schema["key"], keys[number]), at, names
            )
            for (_, at, names), (number, lookup) in wanted.items()
        ]
        return cls(drafts, lookups, lookups.start(asked), places)

    def wait(self) -> None:
        """Return once all is answered, or late."""
        if self.lookups is not None:
            self.lookups.wait(self.pending)

    def answers(self) -> Iterator[Answer]:
        """Yield the answers of the drafts, in order; what is not there yet is left behind.

        Raises:
            StoreError: a lookup failed that must not.
        """
        found = [] if self.lookups is None else self.lookups.end(self.pending)
        for draft, mine in zip(self.drafts, self.places, strict=True):
            length = draft.point.length
            yield draft.answer(
                {
                    self.pending[number].wanted.enrichment.name: found[number].slice(
                        start, start + length
                    )
                    for number, start in mine
                }
            )
