"""Lookups of a request: each enrichment has until its deadline; then its policy decides.

A store across a network is asked on threads of its own, so that a request can leave a lookup
behind; one in memory is asked at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic
from typing import Literal

from sequence_platform.engine.columns import Column
from sequence_platform.engine.point import EPOCH
from sequence_platform.errors import StoreError
from sequence_platform.plan.plan import EnrichmentPlan
from sequence_platform.ports.values import Found, ValueReader

THREADS = 32
"""Lookups under way at once: others wait for their turn, and may time out meanwhile."""

Outcome = Literal["answered", "timed_out", "failed"]
Tell = Callable[[str, Outcome, float], None]
"""Takes the enrichment, what became of a lookup, and how many seconds the request waited."""


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """What is looked up of an enrichment, for all sequences of a request."""

    enrichment: EnrichmentPlan
    keys: Column
    at: datetime
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class LookedUp:
    """What became of it.

    Attributes:
        columns: One value a key; nulls without an answer.
        outcome: Whether it was answered.
        published_at: When what answered was published.
    """

    columns: Mapping[str, Column]
    outcome: Outcome
    published_at: datetime | None

    def part(self, at: slice) -> LookedUp:
        """Return the values of some keys."""
        columns = {name: each.slice(at.start, at.stop) for name, each in self.columns.items()}
        return replace(self, columns=columns)


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A lookup under way; its result is what was found, or why nothing was."""

    wanted: Wanted
    result: Future[Found | StoreError]
    began: float

    @property
    def seconds_left(self) -> float:
        """How long it may still take."""
        return max(0.0, self.began + self.wanted.enrichment.deadline.total_seconds() - monotonic())


class Lookups:
    """Looks values up within deadlines; used by many threads at once.

    Args:
        values: Where they are.
        tell: Is told of every lookup.
        threads: How many are under way at once.
    """

    def __init__(
        self,
        values: ValueReader,
        *,
        tell: Tell = lambda *_: None,
        threads: int = THREADS,
    ) -> None:
        self._values = values
        self._tell = tell
        # Threads start with the first lookup that needs one.
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="lookup")

    def close(self) -> None:
        """Start no more; what is under way ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def faults(self, enrichments: Iterable[EnrichmentPlan]) -> list[str]:
        """Return why some cannot be looked up; the others are open then, and no request waits."""
        found = []
        for each in enrichments:
            if each.is_read:
                nothing = Column.nulls(each.schema["key"], 0)
                result = self._look_up(Wanted(each, nothing, EPOCH, ()))
                if isinstance(result, StoreError):
                    found.append(f"enrichment '{each.name}' cannot be looked up: {result.what}")
        return found

    def start(self, wanted: Sequence[Wanted]) -> list[Pending]:
        """Begin lookups, all at once."""
        began = monotonic()
        if not self._values.is_near:
            return [Pending(each, self._pool.submit(self._look_up, each), began) for each in wanted]
        done = []
        for each in wanted:
            result: Future[Found | StoreError] = Future()
            result.set_result(self._look_up(each))
            done.append(Pending(each, result, began))
        return done

    def wait(self, pending: Sequence[Pending]) -> None:
        """Return once each is done, or late."""
        for each in pending:
            with suppress(FutureTimeoutError):
                each.result.result(each.seconds_left)

    def end(self, pending: Sequence[Pending]) -> list[LookedUp]:
        """Return what became of lookups; those that are not done are left behind.

        Raises:
            StoreError: one of an enrichment that lets requests fail was not answered.
        """
        found = [(each, self._result(each)) for each in pending]
        for each, result in found:  # all are counted before one fails the request
            self._tell(each.wanted.enrichment.name, _outcome(result), monotonic() - each.began)
        return [
            LookedUp(result.columns, "answered", result.published_at)
            if isinstance(result, Found)
            else _unanswered(each.wanted, result)
            for each, result in found
        ]

    def _look_up(self, wanted: Wanted) -> Found | StoreError:
        try:
            return self._values.look_up(wanted.enrichment, wanted.keys, wanted.at, wanted.columns)
        except StoreError as error:
            return error

    def _result(self, pending: Pending) -> Found | StoreError | None:
        if pending.result.cancel() or not pending.result.done():
            return None  # no thread has begun with it, or it is left behind
        return pending.result.result()


def _outcome(result: Found | StoreError | None) -> Outcome:
    match result:
        case None:
            return "timed_out"
        case StoreError():
            return "failed"
        case Found():
            return "answered"


def _unanswered(wanted: Wanted, error: StoreError | None) -> LookedUp:
    """Return nulls, or raise where the enrichment lets requests fail."""
    enrichment = wanted.enrichment
    if not enrichment.fails_on_timeout:
        length = len(wanted.keys)
        nulls = {name: Column.nulls(enrichment.schema[name], length) for name in wanted.columns}
        return LookedUp(nulls, _outcome(error), None)
    if error is not None:
        raise StoreError(
            f"enrichment '{enrichment.name}' cannot be looked up: {error.what}",
            where=error.where,
            found=error.found,
            expected=error.expected,
            next_step=error.next_step,
            retryable=error.retryable,
        ) from error
    deadline_ms = enrichment.deadline.total_seconds() * 1000
    raise StoreError(
        f"enrichment '{enrichment.name}' was not looked up in time",
        found=f"no answer within {deadline_ms:g} ms",
        expected="an answer: the enrichment says on_timeout='fail'",
        next_step="try again, or ask for other columns",
        retryable=True,
    )
