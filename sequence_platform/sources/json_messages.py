"""JSON messages: the engine reads them, and needs nothing else for it."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from sequence_platform.engine.decode import Decoded, decode


class JsonDecoder:
    """Reads one JSON object a message: ports.MessageDecoder."""

    def decode(self, messages: Sequence[bytes | None], schema: pl.Schema) -> Decoded:
        """Return a row or a dead letter for each message: ports.MessageDecoder."""
        return decode(messages, schema)
