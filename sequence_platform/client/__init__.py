"""The client of a serving API: sequences as Polars frames, from a process that has no definitions.

    client = Client("http://127.0.0.1:8080")
    client.sequences.get("shop_activity", 42, columns=["event_time", "product_id"]).frame

Answers travel as Arrow. Reading changes nothing, so what failed on the way is asked again.
"""

from sequence_platform.client.answers import Answer
from sequence_platform.client.asked import Entity
from sequence_platform.client.client import AsyncClient, Client

__all__ = ["Answer", "AsyncClient", "Client", "Entity"]
