"""Files in folders and object stores as a batch source: Parquet, CSV, TSV and NDJSON."""

from sequence_platform.sources.files.file_source import FileSource

__all__ = ["FileSource"]
