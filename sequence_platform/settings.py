"""Settings, read once from the environment. The only reader of the environment."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "sequence-platform"


def share_metrics(folder: Path) -> None:
    """Let the processes that this one starts count in files of one folder.

    prometheus_client asks nothing but the environment, and only while it is imported.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


class Settings(BaseSettings):
    """Where things are and how much of the machine to use; each field is an environment variable.

    ``home`` is SEQUENCE_PLATFORM_HOME, and so on; ``databases`` is one variable a name:
    SEQUENCE_PLATFORM_DATABASES__WAREHOUSE=postgresql://...
    """

    model_config = SettingsConfigDict(
        env_prefix="SEQUENCE_PLATFORM_", env_nested_delimiter="__", frozen=True
    )

    home: Path = Field(
        Path(".sequence_platform"), description="Folder of everything the platform writes."
    )
    definitions: Path = Field(Path("definitions"), description="Folder of definitions.")
    source_root: Path = Field(Path(), description="Where relative paths of sources start.")
    catalog: str = Field(
        "", description="Lake catalog: a SQLite file (default: in home) or postgresql://..."
    )
    data_path: str = Field(
        "", description="Lake data: a folder (default: in home) or s3://bucket/prefix."
    )
    databases: dict[str, str] = Field(
        {}, description="Databases that Table sources name: DuckDB files or postgresql://..."
    )
    log: str = Field(
        "",
        description="Log of events: jsonl:FOLDER (default: in home) or kafka://host:port,host:port.",
    )
    kafka: dict[str, SecretStr] = Field(
        {}, description="More for Kafka clients: security_protocol, sasl_mechanism, ssl_cafile..."
    )
    kafka_bootstrap_servers: str = Field(
        "",
        description="Brokers, if no log is given.",
        validation_alias=AliasChoices("kafka_bootstrap_servers", "KAFKA_BOOTSTRAP_SERVERS"),
    )
    schema_registry: str = Field(
        "", description="Where Avro schemas are: http://host:8081 (Confluent's interface)."
    )
    schema_registry_user: SecretStr = Field(
        SecretStr(""), description="name:password, if the schema registry wants one."
    )
    online: str = Field(
        "", description="Online store: a local folder (default: in home) or redis://host:port/0."
    )
    online_tail_mb: int = Field(
        16_384, ge=64, description="Room for streamed rows that no segment covers yet."
    )
    training: str = Field(
        "", description="Folder of training stores and data sets (default: in home)."
    )
    api_keys: SecretStr = Field(
        SecretStr(""),
        description="API keys, hashed: a JSON list as in keys.json in home, and instead of it.",
    )
    ready_lag_seconds: float = Field(
        300.0, gt=0, description="A server whose stream is further behind says it is not ready."
    )
    serve_in_flight: int = Field(
        64, ge=1, description="Requests that one worker of a server answers at once."
    )
    serve_body_bytes: int = Field(
        1_000_000, ge=1_000, description="Longest body that a server reads."
    )
    cache: Path = Field(
        default_factory=_cache,
        description="Folder of what was downloaded, such as Kafka's jars.",
    )
    memory_limit_mb: int = Field(1024, ge=128, description="Memory of DuckDB in one process.")
    threads: int = Field(2, ge=1, description="Threads of DuckDB in one process.")
    bucket_rows: int = Field(
        1_500_000, ge=1, description="Rows of events assembled at a time; bounds memory."
    )
    stream_shards: int = Field(
        1, ge=1, description="Workers that share every topic; each is a run in Dagster."
    )
    stream_flush_seconds: float = Field(
        30.0, gt=0, description="A streamed event waits at most about this long to be readable."
    )
    online_flush_seconds: float = Field(0.03, gt=0, description="Likewise, to be served online.")
    stream_lease_minutes: float = Field(
        10.0, gt=0, description="How long a streaming run of Dagster lasts before its successor."
    )
    settle_seconds: int = Field(
        60, ge=1, description="A changed day is built again once it stood still for so long."
    )
    partitions_per_run: int = Field(
        50, ge=1, description="Partitions that one run of a backfill takes."
    )

    @field_validator("log")
    @classmethod
    def _is_a_log(cls, given: str) -> str:
        scheme, _, rest = given.partition(":")
        if given and not (scheme in {"jsonl", "kafka"} and rest.removeprefix("//")):
            raise ValueError(f"found '{given}', expected jsonl:FOLDER or kafka://host:port,...")
        return given

    @property
    def log_url(self) -> str:
        """The log given, or the brokers, or the folder in home."""
        if not self.log and self.kafka_bootstrap_servers:
            return f"kafka://{self.kafka_bootstrap_servers}"
        return self.log or f"jsonl:{self.home.absolute() / 'log'}"

    @property
    def online_url(self) -> str:
        """The online store given, or the folder in home."""
        return self.online or str(self.home.absolute() / "online")

    @property
    def training_folder(self) -> Path:
        """The folder of training stores and data sets given, or that in home."""
        return Path(self.training) if self.training else self.home.absolute() / "training"

    @property
    def catalog_url(self) -> str:
        """The catalog given, or the SQLite file in home."""
        return self.catalog or str(self.home.absolute() / "catalog.sqlite")

    @property
    def data_url(self) -> str:
        """The data path given, or the folder in home."""
        return self.data_path or str(self.home.absolute() / "data")
