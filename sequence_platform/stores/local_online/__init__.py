"""The online store on one machine."""

from sequence_platform.stores.local_online.store import LocalOnlineStore
from sequence_platform.stores.local_online.values import LocalValueStore

__all__ = ["LocalOnlineStore", "LocalValueStore"]
