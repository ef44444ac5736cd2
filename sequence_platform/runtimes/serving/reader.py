"""Requests for sequences: checked, answered from the store and from what is looked up by key."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache

import polars as pl

from sequence_platform.clock import Clock
from sequence_platform.engine.account import account_for
from sequence_platform.engine.point import EPOCH, OF_THE_PLATFORM, narrowed, read_point
from sequence_platform.engine.request import Context, Needed, columns_needed
from sequence_platform.errors import RequestError, UnknownNameError, listed, nearest
from sequence_platform.plan.plan import Plan, SequencePlan
from sequence_platform.ports.online import Freshness, OnlineReader, OnlineView
from sequence_platform.runtimes.serving.draft import Answer, Ask, Draft, Together
from sequence_platform.runtimes.serving.lookups import Lookups

MAX_ENTITIES = 1_000
"""Entities of one batch."""
FUTURE = timedelta(days=1)
"""Clocks differ; further ahead as_of is a mistake."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of a sequence. Everything narrows; nothing widens the definition.

    Attributes:
        columns: In this order; None: all but late, read and request columns.
        limit: Newest events.
        max_age: Of an event, before ``as_of``.
        types: Event types; others do not exist for this query.
        where: By column, values that an event must have one of, before trimming: those of a
            candidate, say.
        as_of: Excluded end; None: now.
        known_at: As the store was then; None: as it is.
        context: What request columns need.
    """

    columns: tuple[str, ...] | None = None
    limit: int | None = None
    max_age: timedelta | None = None
    types: tuple[str, ...] | None = None
    where: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    as_of: datetime | None = None
    known_at: datetime | None = None
    context: Mapping[str, object] = field(default_factory=dict)


ALL = Query()


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """Why a sequence is what it is.

    Attributes:
        rows: ``engine.account.account_for``.
    """

    sequence: SequencePlan
    entity: object
    as_of: datetime
    rows: pl.DataFrame
    freshness: Mapping[str, Freshness]


class SequenceReader:
    """Answers queries; used by many threads at once.

    Args:
        plan: All definitions.
        store: Where segments and tail are.
        clock: For now.
        lookups: Where read columns are looked up; None: nobody asks for them.
    """

    def __init__(
        self, plan: Plan, store: OnlineReader, clock: Clock, lookups: Lookups | None = None
    ) -> None:
        self.plan = plan
        self._store = store
        self._clock = clock
        self._lookups = lookups
        self._narrowed = lru_cache(maxsize=1024)(self._narrow)

    def sequence(self, name: str) -> SequencePlan:
        """Return a sequence by its name.

        Raises:
            UnknownNameError: there is none.
        """
        found = self.plan.sequences.get(name)
        if found is None:
            raise UnknownNameError(
                f"there is no sequence '{name}'", expected=nearest(name, self.plan.sequences)
            )
        return found

    def read(self, name: str, entity: object, query: Query = ALL) -> Answer:
        """Return an entity's sequence; one that nothing is known of has no events.

        Raises:
            UnknownNameError: there is no such sequence.
            RequestError: the query asks for what the sequence does not have.
            StateMismatchError: ``known_at`` is before what the store still holds.
            StoreError: the store failed, or a lookup did that must not.
        """
        (answer,) = self.read_many(name, [(entity, query)])
        return answer

    def read_many(self, name: str, asked: Sequence[tuple[object, Query]]) -> list[Answer]:
        """Return sequences of several entities, each with its own query, in order.

        All are read from one moment of the store, unless ``known_at`` differs.
        """
        sequence = self.sequence(name)
        now = self._clock.now()
        prepared = self._prepare_all(sequence, asked, now)
        drafts: dict[int, Draft] = {}
        for known_at in dict.fromkeys(query.known_at for _, query in asked):
            with self._store.view(known_at) as view:
                freshness: dict[str, Freshness] = {}
                for at, (entity, query, ask) in enumerate(prepared):
                    if query.known_at == known_at:
                        drafts[at] = _draft(view, entity, ask, freshness)
        together = self.look_up([drafts[at] for at in range(len(asked))])
        together.wait()
        return list(together.answers())

    def draft(self, name: str, entity: object, query: Query = ALL) -> Draft:
        """Return what the store has of an entity's sequence; see ``draft_in_turn``."""
        (draft,) = self.draft_in_turn(name, [(entity, query)], query.known_at)
        return draft

    def draft_in_turn(
        self, name: str, asked: Sequence[tuple[object, Query]], known_at: datetime | None = None
    ) -> Generator[Draft, None, None]:
        """Yield what ``read_many`` answers, one by one, so that a caller can do else in between.

        Those that look something up are answered by ``look_up``, of all of them together. All
        queries are of one ``known_at``, and read from one moment of the store: it stays open until
        the last draft, or until the generator is closed.
        """
        sequence = self.sequence(name)
        prepared = self._prepare_all(sequence, asked, self._clock.now())
        with self._store.view(known_at) as view:
            freshness: dict[str, Freshness] = {}
            for entity, _, ask in prepared:
                yield _draft(view, entity, ask, freshness)

    def look_up(self, drafts: Sequence[Draft]) -> Together:
        """Begin what drafts look up, each enrichment once for all of them."""
        return Together.of(self._lookups, drafts)

    def account_for(self, name: str, entity: object, query: Query = ALL) -> Account:
        """Return every row that may count for a sequence, and what became of each.

        The columns and context of the query change nothing.

        Raises:
            As ``read``.
        """
        sequence = self.sequence(name)
        ask = self._prepare(sequence, query, self._clock.now())
        with self._store.view(query.known_at) as view:
            freshness = {e.name: view.freshness(e) for e in ask.sequence.events}
            found = [view.candidates(event, entity) for event in ask.sequence.events]
            rows = account_for(ask.sequence, found, entity, ask.as_of, ask.where)
        return Account(ask.sequence, entity, ask.as_of, rows, freshness)

    def freshness(self) -> dict[str, Freshness]:
        """Return how far the store is, by event type."""
        with self._store.view() as view:
            return {name: view.freshness(event) for name, event in self.plan.events.items()}

    def _prepare_all(
        self, sequence: SequencePlan, asked: Sequence[tuple[object, Query]], now: datetime
    ) -> list[tuple[object, Query, Ask]]:
        """Check queries; one that several entities share is checked once."""
        asks = {id(query): self._prepare(sequence, query, now) for query in _distinct(asked)}
        return [(entity, query, asks[id(query)]) for entity, query in asked]

    def _prepare(self, sequence: SequencePlan, query: Query, now: datetime) -> Ask:
        """Check a query against the definition, all problems at once."""
        ensure_answerable(sequence, query_problems(sequence, query, now))
        narrow, columns, needed = self._narrowed(
            sequence.name, query.limit, query.max_age, query.types, query.columns
        )
        where = {name: _values(sequence, name, values) for name, values in query.where.items()}
        as_of = query.as_of or now
        return Ask(
            narrow,
            columns,
            needed,
            as_of,
            min(as_of, query.known_at or as_of),
            where,
            _context(sequence, query, now),
        )

    def _narrow(
        self,
        name: str,
        limit: int | None,
        max_age: timedelta | None,
        types: tuple[str, ...] | None,
        asked: tuple[str, ...] | None,
    ) -> tuple[SequencePlan, tuple[str, ...], Needed]:
        """Return what is left of a sequence, the columns of the answer, and what they take."""
        sequence = self.plan.sequences[name]
        columns = asked or default_columns(sequence)
        if limit is not None or max_age is not None or types is not None:
            sequence = narrowed(sequence, limit=limit, max_age=max_age, types=types)
        return sequence, columns, columns_needed(sequence, columns)


def default_columns(sequence: SequencePlan) -> tuple[str, ...]:
    """Return the columns of an answer that names none: all but late, read and request columns."""
    return (*OF_THE_PLATFORM, *sequence.carried, *sequence.derived)


def available_columns(sequence: SequencePlan) -> tuple[str, ...]:
    """Return all columns that can be asked for."""
    return (
        *OF_THE_PLATFORM,
        *sequence.columns,
        *sequence.derived,
        *sequence.read,
        *sequence.request,
    )


def _draft(view: OnlineView, entity: object, ask: Ask, freshness: dict[str, Freshness]) -> Draft:
    """Read from the store; ``freshness`` is that of the view, as far as it has been asked for."""
    sequence = ask.sequence
    found = [view.candidates(event, entity) for event in sequence.events]
    # Afterwards: a store across a network then knows it already.
    for event in sequence.events:
        if event.name not in freshness:
            freshness[event.name] = view.freshness(event)
    point = read_point(sequence, found, entity, ask.as_of, ask.needed.stored, ask.where)
    return Draft(ask, entity, point, freshness)


Problems = Iterator[tuple[str, str]]
"""What is wrong with a query, and what would be right."""


def _distinct(asked: Sequence[tuple[object, Query]]) -> Iterable[Query]:
    return {id(query): query for _, query in asked}.values()


def ensure_answerable(sequence: SequencePlan, problems: Iterable[tuple[str, str]]) -> None:
    """Raise one RequestError of all problems, unless there are none."""
    problems = list(problems)
    if problems:
        raise RequestError(
            f"sequence '{sequence.name}' cannot be read so",
            found="; ".join(problem for problem, _ in problems),
            expected="; ".join(expected for _, expected in problems),
            next_step=f"see /v1/definitions/{sequence.name}",
        )


def query_problems(sequence: SequencePlan, query: Query, now: datetime) -> Problems:
    """Yield what is wrong with a query, and what would be right."""
    yield from _wrong_columns(sequence, query)
    yield from _wrong_trims(sequence, query)
    for name in query.where:
        if name not in sequence.columns:
            yield f"a filter on '{name}'", nearest(name, sequence.columns)
    for label, time in (("as_of", query.as_of), ("known_at", query.known_at)):
        if time is not None and not EPOCH <= time <= now + FUTURE:
            yield f"{label} {time.isoformat()}", f"a time from 1970 up to {now.isoformat()}"
    declared = sequence.definition.context or {}
    for name in query.context:
        if name not in declared:
            yield f"context '{name}'", nearest(name, declared)


def _wrong_columns(sequence: SequencePlan, query: Query) -> Problems:
    if query.columns is None:
        return
    available = available_columns(sequence)
    for name in query.columns:
        if name not in available:
            yield f"column '{name}'", nearest(name, available)
    if len(set(query.columns)) < len(query.columns) or not query.columns:
        yield f"columns {listed(query.columns)}", "at least one column, each once"


def _wrong_trims(sequence: SequencePlan, query: Query) -> Problems:
    if query.limit is not None and not 1 <= query.limit <= sequence.definition.max_length:
        yield f"limit {query.limit}", f"1 to {sequence.definition.max_length}"
    if query.max_age is not None and not timedelta(0) < query.max_age <= sequence.lookback:
        yield f"max_age {query.max_age}", f"above 0, up to {sequence.lookback}"
    names = [event.name for event in sequence.events]
    for name in query.types or ():
        if name not in names:
            yield f"event type '{name}'", nearest(name, names)
    if query.types == ():
        yield "no event types", f"some of {listed(names)}"


def _context(sequence: SequencePlan, query: Query, now: datetime) -> Context:
    if not query.context:
        return Context(query.as_of or now, {})
    declared = dict(pl.Schema(sequence.definition.context or {}))
    values = {}
    for name, value in query.context.items():
        try:
            values[name] = pl.Series([value]).cast(declared[name]).item()
        except (pl.exceptions.PolarsError, TypeError, OverflowError) as error:
            raise RequestError(
                f"context '{name}' is not of its type",
                found=repr(value),
                expected=str(declared[name]),
            ) from error
    return Context(query.as_of or now, values)


def _values(sequence: SequencePlan, name: str, values: Iterable[object]) -> pl.Series:
    dtype = sequence.columns[name]
    try:
        return pl.Series(name, list(values), strict=True).cast(dtype)
    except (pl.exceptions.PolarsError, TypeError, OverflowError) as error:
        raise RequestError(
            f"a filter on '{name}' needs values of its type",
            found=listed(map(repr, values)),
            expected=str(dtype),
        ) from error


def entity_of(sequence: SequencePlan, text: str) -> object:
    """Return the entity that a text names.

    Raises:
        RequestError: entities are integers, and it is none.
    """
    if not sequence.entity_type.is_integer():
        return text
    try:
        number = int(text)
    except ValueError as error:
        raise RequestError(
            f"'{text[:100]}' is no entity of '{sequence.name}'", expected="an integer"
        ) from error
    if not -(2**63) <= number < 2**63:
        raise RequestError(f"{text[:100]} is no entity", expected="an integer of 64 bits")
    return number
