"""The online store on Redis or Valkey, which several machines share."""

from sequence_platform.stores.redis_online.store import RedisOnlineStore

__all__ = ["RedisOnlineStore"]
