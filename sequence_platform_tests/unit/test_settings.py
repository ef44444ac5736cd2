"""Settings say which log there is, and keep secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from sequence_platform.runtimes.batch import DEFAULT_BUCKET_ROWS
from sequence_platform.settings import Settings
from sequence_platform.wiring import open_log, open_log_writer

HOME = Path("/srv/home")


def test_dagster_builds_in_the_buckets_that_benchmarks_measure() -> None:
    assert Settings().bucket_rows == DEFAULT_BUCKET_ROWS


def test_the_log_is_a_folder_in_home_unless_said() -> None:
    assert Settings(home=HOME, kafka_bootstrap_servers="").log_url == "jsonl:/srv/home/log"


def test_brokers_are_the_log_unless_another_is_said() -> None:
    brokers = "a:9092,b:9092"
    assert Settings(kafka_bootstrap_servers=brokers).log_url == "kafka://a:9092,b:9092"
    assert Settings(kafka_bootstrap_servers=brokers, log="jsonl:/x").log_url == "jsonl:/x"


def test_brokers_are_read_from_the_variable_that_everybody_uses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "a:9092")
    monkeypatch.setenv("SEQUENCE_PLATFORM_KAFKA__SASL_PLAIN_PASSWORD", "geheim")
    settings = Settings()
    assert settings.kafka_bootstrap_servers == "a:9092"
    assert [value.get_secret_value() for value in settings.kafka.values()] == ["geheim"]
    assert "geheim" not in repr(settings)


@pytest.mark.parametrize("log", ["events", "jsonl:", "kafka://", "redis://a:1"])
def test_what_is_no_log_is_refused(log: str) -> None:
    with pytest.raises(ValidationError, match="expected jsonl:FOLDER or kafka://"):
        Settings(log=log)


def test_the_log_that_settings_name_is_opened(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, log=f"jsonl:{tmp_path / 'elsewhere'}")
    with open_log_writer(settings) as writer, open_log(settings) as log:
        writer.create_topic("clicks", 1)
        writer.append("clicks", [b"a"])
        assert {number: tuple(held) for number, held in log.bounds("clicks").items()} == {0: (0, 1)}
    assert (tmp_path / "elsewhere/clicks/partition=0/00000000000000000000.jsonl").exists()
