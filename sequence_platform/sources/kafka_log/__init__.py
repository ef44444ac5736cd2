"""Topics of Apache Kafka, from positions that the caller keeps: no groups, no commits.

Only committed messages of transactions are read. Nothing is skipped: a position that is gone is
an error, and so is a topic that was deleted and made anew.
"""

from sequence_platform.sources.kafka_log.reader import KafkaLog
from sequence_platform.sources.kafka_log.writer import KafkaLogWriter

__all__ = ["KafkaLog", "KafkaLogWriter"]
