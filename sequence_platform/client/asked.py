"""What a client asks, and how it is said in an address or a body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

import numpy as np

Where = Mapping[str, Sequence[object]]
Context = Mapping[str, object]


class Asked(TypedDict, total=False):
    """What may be asked of a sequence; each narrows it.

    Attributes:
        columns: In this order; all but late and request columns unless given.
        limit: Newest events.
        max_age: A duration, or ``"7d"``, ``"12h"``.
        types: Event types; others do not exist then.
        as_of: Excluded end; without a zone it is UTC.
        known_at: As the store was then.
        where: Values by column, one of which an event must have.
        context: For request columns.
    """

    columns: Sequence[str] | None
    limit: int | None
    max_age: timedelta | str | None
    types: Sequence[str] | None
    as_of: datetime | None
    known_at: datetime | None
    where: Where | None
    context: Context | None


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity of a batch with what is its own.

    Attributes:
        context: For its request columns.
        where: Values that its events must have one of.
    """

    entity: object
    context: Context | None = None
    where: Where | None = None

    def to_json(self) -> dict[str, object]:
        """Return it as the server reads it."""
        own = {"context": self.context, "where": self.where}
        return {"entity": plain(self.entity)} | {
            n: plain(v) for n, v in own.items() if v is not None
        }


def plain(value: object) -> Any:  # noqa: ANN401, PLR0911 - JSON; a case a kind of value
    """Return a value as JSON says it."""
    match value:
        case datetime():
            return _iso(value)
        case timedelta():
            return value.total_seconds()
        case Mapping():
            return {str(name): plain(inner) for name, inner in value.items()}
        case str() | bytes():
            return value
        case Sequence():
            return [plain(inner) for inner in value]
        case np.generic():
            return value.item()
        case _:
            return value


def _iso(moment: datetime) -> str:
    return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).isoformat()


def to_parameters(asked: Mapping[str, Any]) -> list[tuple[str, str]] | None:
    """Return a query as parameters of an address; None if an address cannot say it."""
    pairs: list[tuple[str, str]] = []
    for label, value in asked.items():
        match value:
            case None:
                continue
            case Mapping():
                for name, inner in value.items():
                    texts = _texts(inner)
                    if inner is None or not texts or any("," in text for text in texts):
                        return None
                    pairs.append((f"{label}.{name}", ",".join(texts)))
            case _:
                pairs.append((label, ",".join(_texts(value))))
    return pairs


def _texts(value: object) -> list[str]:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [text for inner in value for text in _texts(inner)]
    return [str(value).lower() if isinstance(value, bool) else str(plain(value))]
