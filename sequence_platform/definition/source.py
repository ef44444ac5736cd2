"""Where events and enrichments come from, as plain values. Naming a source reads nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

MessageFormat = Literal["json", "avro"]
FileFormat = Literal["parquet", "csv", "tsv", "ndjson"]
FORMAT_OF_SUFFIX: dict[str, FileFormat] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
}
COMPRESSIONS = (".gz", ".zst")


@dataclass(frozen=True, slots=True)
class Files:
    """Files in a folder or an object store.

    A pattern with ``{day}`` names the files of one day of event_time and is formatted with that
    day (``{day}`` or ``{day:%Y/%m/%d}``). A pattern without it names files that hold any days:
    they are split by day once, when first seen, and not read again for every day.

    Attributes:
        pattern: Path or URL, ``*`` and ``**`` allowed; relative paths start at the source root.
        format: Told from the suffix (before ``.gz`` or ``.zst``) unless given.
        late: A ``{day}`` file may hold events up to this much older than its day (rows that
            landed late, or redeliveries). Older rows become dead letters.
        missing: What a ``{day}`` pattern that matches no file means: an ``"error"``, or a day
            without events (``"empty"``).
        missing_columns: What a column that a file does not have means: an ``"error"``, or
            ``"null"`` (files older than the column).
    """

    pattern: str
    format: FileFormat | None = None
    late: timedelta = timedelta(0)
    missing: Literal["error", "empty"] = "error"
    missing_columns: Literal["error", "null"] = "error"

    @property
    def is_daily(self) -> bool:
        """Whether the pattern names one day's files."""
        return "{day" in self.pattern

    @property
    def file_format(self) -> FileFormat | None:
        """The format given or told from the suffix; None if neither says."""
        name = self.pattern.lower()
        for suffix in COMPRESSIONS:
            name = name.removesuffix(suffix)
        return self.format or next(
            (f for s, f in FORMAT_OF_SUFFIX.items() if name.endswith(s)), None
        )


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view in a SQL database, read by ranges of its time column.

    Attributes:
        name: ``table`` or ``schema.table``.
        time_column: The column compared with a partition's bounds, so that the database reads
            only that time. It must say the same time as the event type's event_time. None is for
            enrichments, which are read whole.
        database: Path of a DuckDB file, or the name of a connection in the settings (a name, so
            that no password stands in a definition).
        time_unit: For an integer time column: since the epoch in ``s``, ``ms`` or ``us``.
    """

    name: str
    time_column: str | None = None
    database: str = "warehouse"
    time_unit: Literal["s", "ms", "us"] | None = None


@dataclass(frozen=True, slots=True)
class Log:
    """A topic of the event log that the streaming runtime reads.

    Attributes:
        topic: Its name.
        format: What its messages are: ``"json"`` objects, or ``"avro"`` records whose schemas a
            registry has (SEQUENCE_PLATFORM_SCHEMA_REGISTRY).
    """

    topic: str
    format: MessageFormat = "json"


Source = Files | Table
