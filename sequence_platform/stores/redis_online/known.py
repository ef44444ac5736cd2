"""What a process knows of a store on Redis: manifests it has looked at, layouts, columns asked for.

It may be old; whoever reads compares it with the store, and looks again.
"""

from __future__ import annotations

from sequence_platform.errors import StoreError
from sequence_platform.online_format.manifests import NOTHING, from_json
from sequence_platform.plan.plan import EventPlan
from sequence_platform.ports.online import Manifest
from sequence_platform.stores.redis_online.connection import Client, translated
from sequence_platform.stores.redis_online.keys import keys
from sequence_platform.stores.redis_online.live import Habit, Live
from sequence_platform.stores.redis_online.segments import hows
from sequence_platform.stores.redis_online.tail import LayoutRegister

ATTEMPTS = 20
"""Looks at a manifest that is switched again and again."""
OLDER = 16
"""Earlier manifests that are remembered."""


class Known:
    """What is known; shared by the views of a store."""

    def __init__(self, client: Client, address: str) -> None:
        self.client = client
        self.address = address
        self._live: dict[str, Live] = {}
        self._older: dict[tuple[str, int], Live] = {}
        self._habits: dict[str, Habit] = {}
        self._layouts: dict[str, LayoutRegister] = {}

    def manifest(self, event: EventPlan) -> Manifest:
        """Return the manifest that is live now."""
        names = keys(event)
        with translated(self.address):
            for _ in range(ATTEMPTS):
                number = self.client.hget(names.state, "live")
                if number is None:
                    return NOTHING
                text = self.client.hget(names.manifests, number)
                if text is not None:
                    return from_json(text)
        raise unsettled(event, self.address)

    def habit(self, event: EventPlan) -> Habit:
        """Return which columns of an event type are asked for."""
        return self._habits.setdefault(event.table, Habit())

    def layouts(self, event: EventPlan) -> LayoutRegister:
        """Return the layouts of an event type's tail."""
        found = self._layouts.get(event.table)
        if found is None or found.event is not event:
            found = self._layouts[event.table] = LayoutRegister(self.client, event)
        return found

    def live(self, event: EventPlan) -> Live:
        """Return the manifest that was live when it was last looked for."""
        found = self._live.get(event.table)
        return found if found is not None and found.event is event else self.look(event)

    def look(self, event: EventPlan) -> Live:
        """Return the manifest that is live."""
        manifest = self.manifest(event)
        live = Live(event, manifest, hows(self.client, event, manifest.segments))
        self._live[event.table] = live
        return live

    def older(self, event: EventPlan, number: int) -> Live:
        """Return an earlier manifest."""
        found = self._older.get((event.table, number))
        if found is None or found.event is not event:
            text = self.client.hget(keys(event).manifests, str(number)) if number else None
            if number and text is None:
                raise unsettled(event, self.address)
            manifest = NOTHING if text is None else from_json(text)
            found = Live(event, manifest, hows(self.client, event, manifest.segments))
            if len(self._older) > OLDER:
                self._older.clear()
            self._older[event.table, number] = found
        return found


def unsettled(event: EventPlan, address: str) -> StoreError:
    """Return the error that a store does not stand still for long enough to be read."""
    return StoreError(
        "manifests are switched faster than they are read",
        where=f"{address}, event type '{event.name}'",
        found=f"{ATTEMPTS} looks, each at another one",
        expected="one publisher",
        next_step="look for publishers that run in a circle; ask again",
        retryable=True,
    )
