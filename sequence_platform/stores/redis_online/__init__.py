"""The online store on Redis or Valkey, which several machines share."""

from sequence_platform.stores.redis_online.store import RedisOnlineStore
from sequence_platform.stores.redis_online.values import RedisValueStore

__all__ = ["RedisOnlineStore", "RedisValueStore"]
