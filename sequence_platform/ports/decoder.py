"""What messages of a log are written in: bytes to rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import polars as pl

from sequence_platform.engine.decode import Decoded


class MessageDecoder(Protocol):
    """Turns messages into rows of a raw schema. Used by one thread at a time."""

    def decode(self, messages: Sequence[bytes | None], schema: pl.Schema) -> Decoded:
        """Return a row or a dead letter for each message, at its place.

        What a value means, and when it does not fit its column, is as in ``engine.decode``: however
        an event was written, it becomes the same row. The position of a dead letter is its place
        among the messages; None is an empty message.

        Guarantees:
            A message has one outcome, whatever is beside it.

        Raises:
            StoreError: what says how to read a message cannot be had now (retryable), or at all;
                no message was judged.
        """
        ...
