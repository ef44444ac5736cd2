"""Fetching Kafka's jars: whole or not at all, and a word about what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from sequence_platform.dev.kafka_jars import ensure_jars, ensure_java
from sequence_platform.errors import StoreError

JAVA = "#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n"
MAVEN = """#!/bin/sh
for option in "$@"; do case $option in -DoutputDirectory=*) out=${option#*=};; esac; done
mkdir -p "$out"
echo "Downloaded from central: https://example/kafka_2.13.jar"
echo x > "$out/kafka_2.13.jar"
exit $FAILS
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs, the only one beside the system's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    links = [("sh", "/bin/sh"), ("mkdir", "/bin/mkdir")]
    for name, target in links:
        (folder / name).symlink_to(target)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("FAILS", "0")
    return folder


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def test_missing_java_is_told_with_what_to_install(programs: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="apt-get install maven default-jre-headless"):
        ensure_jars(tmp_path / "cache")


def test_old_java_is_told(programs: Path) -> None:
    program(programs, "java", JAVA.format(version="11.0.2"))
    with pytest.raises(StoreError, match="Java is too old"):
        ensure_java()


def test_missing_maven_is_told(programs: Path, tmp_path: Path) -> None:
    program(programs, "java", JAVA.format(version="17.0.1"))
    with pytest.raises(StoreError, match="Maven is missing"):
        ensure_jars(tmp_path / "cache")


def test_jars_are_fetched_once_and_told(programs: Path, tmp_path: Path) -> None:
    program(programs, "java", JAVA.format(version="21"))
    program(programs, "mvn", MAVEN)
    said: list[str] = []
    jars = ensure_jars(tmp_path / "cache", said.append)
    assert [jar.name for jar in jars.iterdir()] == ["kafka_2.13.jar"]
    (programs / "mvn").unlink()
    assert ensure_jars(tmp_path / "cache", said.append) == jars
    assert said == ["kafka_2.13.jar"]


def test_a_fetch_that_failed_leaves_nothing_that_looks_whole(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(programs, "java", JAVA.format(version="17"))
    program(programs, "mvn", MAVEN)
    monkeypatch.setenv("FAILS", "1")
    with pytest.raises(StoreError, match="Maven did not get the jars") as raised:
        ensure_jars(tmp_path / "cache")
    assert raised.value.retryable
    monkeypatch.setenv("FAILS", "0")
    assert (ensure_jars(tmp_path / "cache") / "kafka_2.13.jar").exists()
