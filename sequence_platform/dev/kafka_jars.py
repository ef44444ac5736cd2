"""Fetches the jars of Apache Kafka with Maven, once, into a cache: they are there whole or not."""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from importlib.resources import as_file, files
from pathlib import Path

from sequence_platform.errors import StoreError

POM = files("sequence_platform.dev") / "pom.xml"
OLDEST_JAVA = 17
"""What brokers of Kafka 4 run on."""
INSTALL = "Debian: apt-get install maven default-jre-headless; macOS: brew install maven openjdk"
FETCHED = re.compile(r"Downloaded from \S+ \S+/(\S+\.jar)|Copying (\S+\.jar)")
LAST_LINES = 15
"""Of Maven's words, shown when it fails."""

Progress = Callable[[str], None]
"""Takes a word about what is being done."""


def ensure_java() -> str:
    """Return the path of Java.

    Raises:
        StoreError: there is none, or an old one.
    """
    java = _ensure_program("java", "Java 17 or newer")
    done = subprocess.run([java, "-version"], check=False, capture_output=True, text=True)  # noqa: S603 - ours
    version = re.search(r'version "(\d+)', done.stderr)
    if version is None or int(version[1]) < OLDEST_JAVA:
        raise StoreError(
            "Java is too old for Kafka",
            where=java,
            found=done.stderr.strip(),
            expected="Java 17 or newer",
            next_step=INSTALL,
        )
    return java


def ensure_jars(cache: Path, progress: Progress = lambda _: None) -> Path:
    """Return the folder of jars, fetched if need be; of several processes one fetches.

    Raises:
        StoreError: Maven is missing, or did not get them.
    """
    pom = POM.read_bytes()
    folder = cache / f"kafka-{blake2b(pom, digest_size=6).hexdigest()}"
    if folder.is_dir():
        return folder
    ensure_java()
    maven = _ensure_program("mvn", "Maven")
    with _alone(cache, progress):
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        if not folder.is_dir():
            with as_file(POM) as path:
                _fetch(maven, path, part, progress)
            part.rename(folder)
    return folder


def _fetch(maven: str, pom: Path, folder: Path, progress: Progress) -> None:
    command = [maven, "--batch-mode", "--file", str(pom), "dependency:copy-dependencies"]
    command += [f"-DoutputDirectory={folder.absolute()}", "-DincludeScope=runtime"]
    said: list[str] = []
    with subprocess.Popen(  # noqa: S603 - ours
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            for line in process.stdout or ():
                said = [*said, line.rstrip()][-LAST_LINES:]
                if match := re.search(
                    r"Downloaded from \S+ \S+/(\S+\.jar)|Copying (\S+\.jar)", line
                ):
                    progress(match[1] or match[2])
        finally:
            process.terminate()
    if process.returncode or not any(folder.glob("kafka_*.jar")):
        raise StoreError(
            "Maven did not get the jars of Kafka",
            where=str(pom),
            found=" | ".join(said)[-500:],
            expected="a repository that serves Maven Central's packages",
            next_step="check the network, and Maven's settings; what was fetched is kept",
            retryable=True,
        )


def _ensure_program(name: str, what: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise StoreError(
            f"{what} is missing",
            found=f"no '{name}' on the PATH",
            expected=what,
            next_step=INSTALL,
        )
    return found


@contextmanager
def _alone(cache: Path, progress: Progress) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "kafka.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("another process fetches them")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
