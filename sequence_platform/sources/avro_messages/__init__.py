"""Avro messages whose schemas are in a registry that speaks Confluent's interface.

A message is a zero byte, the schema's number in four bytes, and one Avro value, a record.
"""

from sequence_platform.sources.avro_messages.decoder import AvroDecoder
from sequence_platform.sources.avro_messages.registry import SchemaRegistry

__all__ = ["AvroDecoder", "SchemaRegistry"]
