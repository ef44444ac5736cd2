"""A log of JSONL files in a folder: no server, and files that anybody can tail or write.

One folder a topic, one a partition in it, and in that segments of lines, named for the offset of
their first line: ``clicks/partition=0/00000000000000000000.jsonl``. A line is a message.
"""

from sequence_platform.sources.jsonl_log.reader import JsonlLog
from sequence_platform.sources.jsonl_log.writer import JsonlLogWriter

__all__ = ["JsonlLog", "JsonlLogWriter"]
