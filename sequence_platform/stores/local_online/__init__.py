"""The online store on one machine."""

from sequence_platform.stores.local_online.store import LocalOnlineStore

__all__ = ["LocalOnlineStore"]
