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

NOTHING: Mapping[str, LookedUp] = {}


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

    def answer(self, lookups: Mapping[str, LookedUp] = NOTHING) -> Answer:
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


@dataclass(slots=True, eq=False)
class _Group:
    """What several drafts look up of an enrichment, as of one time."""

    lookup: ReadLookupPlan
    at: datetime
    keys: list[Column] = field(default_factory=list)
    length: int = 0

    def add(self, keys: Column) -> slice:
        """Take the keys of a draft's events; return where their values will be."""
        start = self.length
        self.keys.append(keys)
        self.length += len(keys)
        return slice(start, self.length)

    def wanted(self) -> Wanted:
        enrichment = self.lookup.enrichment
        keys = concat(enrichment.schema["key"], self.keys)
        return Wanted(enrichment, keys, self.at, self.lookup.columns)


@dataclass(frozen=True, slots=True, eq=False)
class Together:
    """What several drafts look up, under way.

    Attributes:
        pending: The lookups.
        places: For each draft, where its values are: which of the lookups, and which of its keys.
    """

    drafts: Sequence[Draft]
    lookups: Lookups | None
    pending: Sequence[Pending]
    places: Sequence[Sequence[tuple[int, slice]]]

    @classmethod
    def of(cls, lookups: Lookups | None, drafts: Sequence[Draft]) -> Together:
        """Begin to look up; drafts that agree in enrichment, columns and time share a lookup."""
        groups: dict[object, tuple[int, _Group]] = {}
        places = []
        for draft in drafts:
            mine = []
            for lookup in draft.ask.needed.lookups:
                at = draft.ask.available_at
                alike = (lookup.enrichment.name, lookup.columns, at)
                number, group = groups.setdefault(alike, (len(groups), _Group(lookup, at)))
                mine.append((number, group.add(draft.keys(lookup))))
            places.append(mine)
        if not groups:
            return cls(drafts, lookups, (), places)
        if lookups is None:
            raise StoreError(
                "there is no store of values to look up in",
                found=listed(group.lookup.enrichment.name for _, group in groups.values()),
                next_step="ask for other columns",
            )
        wanted = [group.wanted() for _, group in groups.values()]
        return cls(drafts, lookups, lookups.start(wanted), places)

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
        names = [each.wanted.enrichment.name for each in self.pending]
        for draft, mine in zip(self.drafts, self.places, strict=True):
            yield draft.answer({names[number]: found[number].part(at) for number, at in mine})
