"""What it means that a log does not hold a position. One text for every adapter and operator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sequence_platform.errors import LogPositionError, StoreError, listed
from sequence_platform.ports.log import Bounds, LogPartition

RESUME = (
    "decide where to go on: 'sequence-platform stream resume EVENT_TYPE --from "
    "earliest|latest|PARTITION=OFFSET,...'; nothing was skipped"
)


def ensure_positions(
    positions: Mapping[LogPartition, int], bounds: Mapping[str, Mapping[int, Bounds]], *, log: str
) -> None:
    """Raise unless every position is within what its partition holds.

    Args:
        positions: Where somebody wants to read on.
        bounds: What is held, by topic and partition.
        log: What the log is, for errors.

    Raises:
        StoreError: a partition does not exist.
        LogPositionError: offsets are not within ``first <= offset <= end``; tells all such.
    """
    missing = sorted(at for at in positions if at.partition not in bounds[at.topic])
    if missing:
        raise StoreError(
            "partitions of a log do not exist",
            where=log,
            found=listed(f"{topic}/{held}" for topic, held in sorted(bounds.items())),
            expected=listed(map(shown, missing)),
            next_step="check the topic; partitions can be added to one but not taken away",
        )
    gone = {
        at: (offset, bounds[at.topic][at.partition])
        for at, offset in sorted(positions.items())
        if not _holds(bounds[at.topic][at.partition], offset)
    }
    if gone:
        raise position_gone(
            (
                f"{shown(at)} at {offset}, which {_why(held, offset)}"
                for at, (offset, held) in gone.items()
            ),
            log=log,
            expected=listed(
                f"{shown(at)} from {held.first} to {held.end}" for at, (_, held) in gone.items()
            ),
        )


def ensure_same_topics(found: Mapping[str, str], expected: Mapping[str, str], *, log: str) -> None:
    """Raise unless topics have the identities that they had when reading began.

    Raises:
        LogPositionError: a topic was made anew: its offsets count other messages.
    """
    anew = sorted(topic for topic in expected if found.get(topic) != expected[topic])
    if anew:
        raise position_gone(
            (f"'{topic}' made anew, as {found.get(topic)}" for topic in anew),
            log=log,
            expected=listed(f"'{topic}' as {expected[topic]}" for topic in anew),
        )


def position_gone(found: Iterable[str], *, log: str, expected: str) -> LogPositionError:
    """Return the error that messages at some positions cannot be read, and never will be."""
    return LogPositionError(
        "a log does not hold the messages that were to be read next",
        where=log,
        found=listed(found),
        expected=expected,
        next_step=RESUME,
    )


def shown(at: LogPartition) -> str:
    """Return a partition as text."""
    return f"{at.topic}/{at.partition}"


def _holds(bounds: Bounds, offset: int) -> bool:
    return bounds.first <= offset <= bounds.end


def _why(bounds: Bounds, offset: int) -> str:
    if offset < bounds.first:
        return f"expired: the first is {bounds.first}"
    return f"is beyond the end, {bounds.end}: the log was cut or made anew"
