"""Entities as keys: a number for the index of a segment, bytes for the tail."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import polars as pl

from sequence_platform.engine.columns import Ints

KEY_BYTES = 16


def entity_number(entity: object) -> int:
    """Return a number of 64 bits: an integer entity itself, of text a hash."""
    if isinstance(entity, int):
        return entity
    digest = blake2b(str(entity).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def entity_numbers(entities: pl.Series) -> Ints:
    """Return ``entity_number`` of each."""
    if entities.dtype.is_integer():
        return entities.cast(pl.Int64).to_numpy()
    return np.fromiter(map(entity_number, entities), np.int64, len(entities))


def entity_key(entity: object) -> bytes:
    """Return bytes that no other entity has (for text: that no other has by chance)."""
    if isinstance(entity, int):
        return entity.to_bytes(KEY_BYTES, "big", signed=True)
    return blake2b(str(entity).encode(), digest_size=KEY_BYTES).digest()
