"""Which events of ordered sequences stay. One numpy form serves many entities and a single one.

Every rule sees the whole merged sequence and says, event by event, what it keeps. ``runs`` gives
the entity of each event as a number that does not fall; events of one entity stand together,
oldest first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from sequence_platform.definition import Dedupe, Sessions
from sequence_platform.plan.plan import SequencePlan

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

NO_KEY = -1
"""The dedupe key of an event that repeats nothing."""


def keep_sessions(runs: Ints, time_us: Ints, gap: timedelta, keep: int) -> Mask:
    """Keep the newest sessions; one ends where the time to the next event exceeds ``gap``."""
    gap_us = gap // timedelta(microseconds=1)
    starts = np.ones(len(runs), dtype=np.bool_)
    starts[1:] = (np.diff(time_us) > gap_us) | (np.diff(runs) != 0)
    session = np.cumsum(starts)
    newest = session[_last_of_run(runs)]
    return session > newest - keep


def drop_consecutive(runs: Ints, keys: Ints, *, keep_last: bool) -> Mask:
    """Keep one of each run of adjacent events with equal keys."""
    same = (keys[1:] == keys[:-1]) & (runs[1:] == runs[:-1]) & (keys[1:] != NO_KEY)
    return ~_repeats(same, len(runs), keep_last=keep_last)


def drop_within(
    runs: Ints, time_us: Ints, keys: Ints, within: timedelta, *, keep_last: bool
) -> Mask:
    """Drop an event if the next (or previous) one with its key is at most ``within`` away."""
    within_us = within // timedelta(microseconds=1)
    order = np.lexsort((keys, runs))  # stable: time order stays within a key
    r, k, t = runs[order], keys[order], time_us[order]
    same = (k[1:] == k[:-1]) & (r[1:] == r[:-1]) & (k[1:] != NO_KEY) & (t[1:] - t[:-1] <= within_us)
    kept = np.empty(len(runs), dtype=np.bool_)
    kept[order] = ~_repeats(same, len(runs), keep_last=keep_last)
    return kept


def keep_newest(runs: Ints, limit: int) -> Mask:
    """Keep the newest ``limit`` events of each entity."""
    return _last_of_run(runs) - np.arange(len(runs)) < limit


def keep_quotas(runs: Ints, types: npt.NDArray[np.integer], quotas: Mapping[int, int]) -> Mask:
    """Keep the newest events of each event type that has a quota, by the type's number."""
    kept = np.ones(len(runs), dtype=np.bool_)
    for number, quota in quotas.items():
        of_type = np.flatnonzero(types == number)
        kept[of_type] = keep_newest(runs[of_type], quota)
    return kept


@dataclass(slots=True)
class Trim:
    """Applies rules one after the other and counts what each cuts.

    Attributes:
        kept: Positions in the original sequence of the events still there.
        cut: By rule, positions in the original sequence of the events it cut.
    """

    kept: Ints
    cut: dict[str, Ints]

    def apply(self, rule: str, mask: Mask) -> None:
        """Take over a rule's verdict on the events still there."""
        self.cut[rule] = self.kept[~mask]
        self.kept = self.kept[mask]


@dataclass(frozen=True, slots=True)
class TrimPolicy:
    """What a sequence trims beside age; where no definition is at hand, all there is to know.

    Attributes:
        quotas: Newest events kept of an event type, by its number.
    """

    max_length: int
    sessions: Sessions | None = None
    dedupe: Dedupe | None = None
    quotas: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, sequence: SequencePlan) -> TrimPolicy:
        """Return the policy of a sequence."""
        policy = sequence.definition
        given = policy.quotas or {}
        numbered = enumerate(sequence.events)
        quotas = {number: given[event.name] for number, event in numbered if event.name in given}
        return cls(policy.max_length, policy.sessions, policy.dedupe, quotas)

    @property
    def is_length_alone(self) -> bool:
        """Whether what stays is always the newest events."""
        return self.sessions is None and self.dedupe is None and not self.quotas


def trim_events(
    policy: TrimPolicy,
    runs: Ints,
    time_us: Ints,
    types: npt.NDArray[np.integer],
    dedupe_keys: Callable[[Ints], Ints],
) -> Trim:
    """Apply a trim policy, in its fixed order, to merged sequences; age is cut before.

    Args:
        policy: What to keep.
        runs: The entity of each event, as a number that does not fall.
        time_us: When each event happened.
        types: The number of each event's type, by priority.
        dedupe_keys: Returns for events at positions a number each, equal where all of
            ``dedupe.by`` are, NO_KEY where one is null.
    """
    trim = Trim(np.arange(len(runs)), {})
    if policy.sessions is not None:
        mask = keep_sessions(runs, time_us, policy.sessions.gap, policy.sessions.keep)
        trim.apply("sessions", mask)
    if policy.dedupe is not None:
        left = (runs[trim.kept], time_us[trim.kept], dedupe_keys(trim.kept))
        trim.apply("dedupe", _deduped(policy.dedupe, *left))
    if policy.quotas:
        trim.apply("quotas", keep_quotas(runs[trim.kept], types[trim.kept], policy.quotas))
    trim.apply("max_length", keep_newest(runs[trim.kept], policy.max_length))
    return trim


def _deduped(dedupe: Dedupe, runs: Ints, time_us: Ints, keys: Ints) -> Mask:
    keep_last = dedupe.keep == "last"
    if dedupe.within == "consecutive":
        return drop_consecutive(runs, keys, keep_last=keep_last)
    return drop_within(runs, time_us, keys, dedupe.within, keep_last=keep_last)


def _repeats(same: Mask, length: int, *, keep_last: bool) -> Mask:
    """Return which events repeat a neighbour, given which adjacent pairs are equal."""
    repeats = np.zeros(length, dtype=np.bool_)
    if keep_last:
        repeats[:-1] = same
    else:
        repeats[1:] = same
    return repeats


def _last_of_run(runs: Ints) -> Ints:
    """Return for each event the position of its entity's last event."""
    if not len(runs):
        return np.empty(0, dtype=np.int64)
    ends = np.append(np.flatnonzero(np.diff(runs)), len(runs) - 1)
    return np.repeat(ends, np.diff(ends, prepend=-1))
