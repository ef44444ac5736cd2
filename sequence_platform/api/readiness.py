"""Whether a worker should be asked: its definitions are those published, its store is not behind.

A lake that cannot be read takes nothing from serving, so it is a note and not a reason: an outage
of the catalog must not take every server with it. So is an enrichment that cannot be looked up: it
takes a few columns, of those who ask for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic

from sequence_platform.api.answers import Lateness
from sequence_platform.clock import Clock
from sequence_platform.errors import SequencePlatformError
from sequence_platform.plan.manifest import load_manifest
from sequence_platform.runtimes.serving import SequenceReader
from sequence_platform.settings import Settings
from sequence_platform.wiring import open_lake

LOOK_SECONDS = 5.0
"""How often the lake is asked what is published."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Why a worker should not be asked, and what else somebody should know."""

    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def published_fingerprint(settings: Settings) -> str | None:
    """Return the fingerprint of the published plan, None if none is.

    Raises:
        StoreError: the lake cannot be read.
    """
    with open_lake(settings, read_only=True) as lake:
        text = lake.published()
    return None if text is None else str(load_manifest(text)["plan"])


@dataclass(slots=True)
class Readiness:
    """Judges a worker.

    Attributes:
        published: Reads the fingerprint of the published plan; may take long.
        faults: Returns why enrichments cannot be looked up; may take long.
    """

    reader: SequenceReader
    lateness: Lateness
    clock: Clock
    published: Callable[[], str | None]
    faults: Callable[[], Iterable[str]]
    _looked: float = field(default=-LOOK_SECONDS)
    _seen: Ready = field(default_factory=Ready)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def judge(self) -> Ready:
        """Return whether this worker is ready."""
        async with self._lock:
            if monotonic() - self._looked >= LOOK_SECONDS:
                self._seen = await asyncio.to_thread(self._look)
                self._looked = monotonic()
        store = self._of_store(self.clock.now())
        return Ready((*self._seen.reasons, *store), self._seen.notes)

    def _look(self) -> Ready:
        definitions = self._of_definitions()
        return Ready(definitions.reasons, (*definitions.notes, *self.faults()))

    def _of_definitions(self) -> Ready:
        mine = self.reader.plan.fingerprint
        try:
            published = self.published()
        except SequencePlatformError as error:
            return Ready(notes=(f"what is published is not known: {error.what}",))
        if published is None:
            return Ready(notes=("nothing is published in the lake",))
        if published == mine:
            return Ready()
        text = f"plan {published} is published, this worker runs {mine}: restart it, or send HUP"
        return Ready(reasons=(text,))

    def _of_store(self, now: datetime) -> list[str]:
        try:
            freshness = self.reader.freshness()
        except SequencePlatformError as error:
            return [f"the online store cannot be read: {error.what}"]
        reasons = []
        for name in self.lateness.behind(freshness, now):
            lag = self.lateness.lag_of(name, freshness[name], now)
            far = "was never streamed" if lag is None else f"is {lag.total_seconds():.0f} s behind"
            most = self.lateness.after.total_seconds()
            reasons.append(f"event type '{name}' {far}; up to {most:.0f} s is ready")
        return reasons
