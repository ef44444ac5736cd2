"""Every error the platform raises. Few classes, each named for what its reader can do next.

A message says what, where, found, expected and the next step, in that order, and is bounded in
length.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

MAX_TEXT = 600
"""Characters of any one fact of a message: enough for a path and a reason, not for a dump."""
MAX_ITEMS = 12
"""Names shown of a list before the rest is counted."""


def listed(names: Iterable[object]) -> str:
    """Return names as bounded text: ``a, b, c (+4 more)``."""
    items = [str(name) for name in names]
    shown = ", ".join(items[:MAX_ITEMS])
    return (
        f"{shown} (+{len(items) - MAX_ITEMS} more)" if len(items) > MAX_ITEMS else shown or "none"
    )


def nearest(name: str, names: Iterable[str]) -> str:
    """Return ``present: ...``, led by the closest name if one is close."""
    present = sorted(names)
    close = get_close_matches(name, present, n=1)
    return (f"close: '{close[0]}'; " if close else "") + f"present: {listed(present)}"


class SequencePlatformError(Exception):
    """Base of all errors; carries the five facts as attributes and survives pickling."""

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        found: str = "",
        expected: str = "",
        next_step: str = "",
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.found = found
        self.expected = expected
        self.next_step = next_step

    @property
    def facts(self) -> dict[str, str]:
        """What is known beside ``what``, bounded, in the order of a message."""
        facts = {
            "where": self.where,
            "found": self.found,
            "expected": self.expected,
            "next": self.next_step,
        }
        return {label: _bounded(text) for label, text in facts.items() if text}

    def __str__(self) -> str:
        return "\n".join([self.what, *(f"  {label}: {text}" for label, text in self.facts.items())])

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, dict(self.__dict__)))


class DefinitionError(SequencePlatformError):
    """The author must fix definitions; carries every problem found, sorted."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(
            sorted(set(problems), key=lambda p: (p.file, p.definition, p.field, p.found))
        )
        count = len(self.problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the definitions")

    def __str__(self) -> str:
        return "\n\n".join([f"{self.what}:", *(str(problem) for problem in self.problems)])


class FrameSchemaError(SequencePlatformError):
    """A caller passed a frame with the wrong columns or types."""


class StateMismatchError(SequencePlatformError):
    """Stored state belongs to other definitions; an operator publishes or rebuilds."""


class StoreError(SequencePlatformError):
    """Something outside failed: a file, a database, a disk.

    ``retryable`` says whether trying again can help.
    """

    def __init__(  # noqa: PLR0913 - the five facts of every message, and one more
        self,
        what: str,
        *,
        where: str = "",
        found: str = "",
        expected: str = "",
        next_step: str = "",
        retryable: bool = False,
    ) -> None:
        super().__init__(what, where=where, found=found, expected=expected, next_step=next_step)
        self.retryable = retryable


class ConflictError(StoreError):
    """Another writer committed the same partition first; reading again and retrying is safe."""


class LogPositionError(StateMismatchError):
    """A stored offset is not in the log: retention passed it, the topic was made anew, or cut.

    An operator decides where to go on; nothing is skipped.
    """


class FencedError(SequencePlatformError):
    """Another worker has moved this worker's offsets; what it had in hand is not committed."""


class RequestError(SequencePlatformError):
    """Whoever asked for a sequence asked for what cannot be; the request is to be changed."""


class UnknownNameError(RequestError):
    """Nothing has the name that was asked for."""


class PartitionsFailedError(SequencePlatformError):
    """Some partitions of a range failed; their neighbours were committed."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one field of one definition."""

    file: str
    definition: str
    field: str
    found: str
    expected: str
    next_step: str = ""

    def __str__(self) -> str:
        head = f"{self.file}: {self.definition}" + (f", field '{self.field}'" if self.field else "")
        lines = [head, f"  found: {_bounded(self.found)}", f"  expected: {_bounded(self.expected)}"]
        return "\n".join(
            [*lines, *([f"  next: {_bounded(self.next_step)}"] if self.next_step else [])]
        )


def _bounded(text: str) -> str:
    return (
        text
        if len(text) <= MAX_TEXT
        else text[:MAX_TEXT] + f"... (+{len(text) - MAX_TEXT} characters)"
    )


def _rebuild(
    cls: type[SequencePlatformError], what: str, state: dict[str, object]
) -> SequencePlatformError:
    error = cls.__new__(cls)
    Exception.__init__(error, what)
    error.__dict__.update(state)
    return error
