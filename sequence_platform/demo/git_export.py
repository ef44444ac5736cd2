"""Exports the history of a git checkout as two NDJSON files: commits, and the files of each.

Authors are hashed; subjects leave only their length and their conventional-commit word. Merges
list no files, a rename counts under its new path, and a shallow clone's oldest commit looks like
the first.
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, NamedTuple

from sequence_platform.errors import StoreError

Progress = Callable[[int, int], None]
"""Called with what is done and what there is to do."""

PROGRESS_EVERY = 500
"""Commits between two calls of progress."""

_CHUNK_BYTES = 1 << 16
_MARK = b"\x1e"
_FORMAT = "%x1e%H%x1f%P%x1f%aE%x1f%aN%x1f%ad%x1f%cd%x1f%s"
_LOG = (
    # Root commits list their files whatever the settings of this machine say; so for the flags.
    *(
        "-c",
        "log.showRoot=true",
        "log",
        "-z",
        "--reverse",
        "--numstat",
        "--find-renames",
        "--encoding=UTF-8",
    ),
    *("--no-color", "--no-ext-diff", "--no-textconv", "--no-show-signature", "--no-notes"),
    *("--date=iso-strict", f"--format={_FORMAT}"),
)
_KIND = re.compile(r"([a-z]+)(?:\([^)]*\))?!?:")
_REMOTE = re.compile(r"[:/]([^:/]+/[^:/]+?)(?:\.git)?/?$")


@dataclass(frozen=True, slots=True)
class GitReport:
    """What an export wrote."""

    repository: str
    commits: int
    file_changes: int
    commits_file: Path
    file_changes_file: Path


class _Change(NamedTuple):
    """A file of a commit; lines are None for binary files."""

    path: str
    insertions: int | None
    deletions: int | None


class _Commit(NamedTuple):
    """A commit as git tells it."""

    sha: str
    parents: int
    author: str
    authored_at: str
    committed_at: str
    subject: str
    changes: list[_Change]


def export_git(
    checkout: Path, folder: Path, *, repository: str = "", progress: Progress | None = None
) -> GitReport:
    """Write ``commits-<repository>.ndjson.gz`` and ``file_changes-<repository>.ndjson.gz``.

    Rows are oldest first. Exporting the same history again writes the same bytes; a failed export
    leaves earlier files as they were.

    Args:
        checkout: A folder inside a git working copy (or a bare repository).
        folder: Where the files go; made if absent.
        repository: The name that rows carry. Default: that of the remote ``origin``, or else the
            folder's.
        progress: Told how many commits are done, and of how many.

    Raises:
        StoreError: git is not installed, or ``checkout`` is no repository with commits.
    """
    total = int(_git(checkout, "rev-list", "--count", "HEAD"))
    repository = repository or _repository_name(checkout)
    suffix = re.sub(r"\W+", "-", repository).strip("-") + ".ndjson.gz"
    commits_file, changes_file = folder / f"commits-{suffix}", folder / f"file_changes-{suffix}"
    commits = changes = 0
    with _writer(commits_file) as commit_rows, _writer(changes_file) as change_rows:
        for commit in _read_commits(checkout):
            _write(commit_rows, _commit_row(commit, repository))
            for row in _change_rows(commit, repository):
                _write(change_rows, row)
            commits, changes = commits + 1, changes + len(commit.changes)
            if progress and (commits % PROGRESS_EVERY == 0 or commits == total):
                progress(commits, total)
    return GitReport(repository, commits, changes, commits_file, changes_file)


def hash_author(email: str) -> int:
    """Return a stable number for an author; letters' case does not matter.

    52 bits, so that every reader of JSON gets it exactly.

    >>> hash_author("Ada@example.org") == hash_author("ada@example.org")
    True
    """
    return int.from_bytes(blake2b(email.strip().lower().encode(), digest_size=8).digest()) >> 12


def _commit_row(commit: _Commit, repository: str) -> dict[str, Any]:
    kind = _KIND.match(commit.subject)
    return {
        "sha": commit.sha,
        "author": hash_author(commit.author),
        "authored_at": commit.authored_at,
        "committed_at": commit.committed_at,
        "repository": repository,
        "parents": commit.parents,
        "subject_length": len(commit.subject),
        "kind": kind[1] if kind else None,
        "files": len(commit.changes),
        "insertions": sum(change.insertions or 0 for change in commit.changes),
        "deletions": sum(change.deletions or 0 for change in commit.changes),
    }


def _change_rows(commit: _Commit, repository: str) -> Iterator[dict[str, Any]]:
    for number, change in enumerate(commit.changes):
        yield {
            "sha": commit.sha,
            "n": number,
            "author": hash_author(commit.author),
            "authored_at": commit.authored_at,
            "committed_at": commit.committed_at,
            "repository": repository,
            "path": change.path,
            "insertions": change.insertions,
            "deletions": change.deletions,
        }


def _read_commits(checkout: Path) -> Iterator[_Commit]:
    """Yield commits, oldest first, as git writes them; memory is bounded by a commit."""
    # Errors go to a file: a pipe that nobody reads until the end could fill up and block git.
    with ExitStack() as stack:
        errors = stack.enter_context(tempfile.TemporaryFile())
        try:
            git = stack.enter_context(
                subprocess.Popen(  # noqa: S603 - git, with arguments of our own
                    _command(checkout, *_LOG), stdout=subprocess.PIPE, stderr=errors
                )
            )
        except OSError as error:
            raise _cannot_run(checkout, error) from error
        stack.callback(git.terminate)
        assert git.stdout is not None  # noqa: S101 - for the type checker: it was asked for above
        yield from _parse(_tokens(git.stdout))
        if git.wait():
            errors.seek(0)
            raise _refused(checkout, errors.read())


def _tokens(stream: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while chunk := stream.read(_CHUNK_BYTES):
        *whole, rest = (rest + chunk).split(b"\0")
        yield from whole
    if rest:
        yield rest


def _parse(tokens: Iterator[bytes]) -> Iterator[_Commit]:
    r"""Yield commits from the NUL-separated output of git log.

    A header starts with the mark; each file is ``insertions \t deletions \t path``, and after a
    rename the path is empty and the old and the new one are the next two tokens.
    """
    commit: _Commit | None = None
    for token in tokens:
        text = token.removeprefix(b"\n")
        if text.startswith(_MARK):
            if commit:
                yield commit
            commit = _parse_header(text)
        elif text and commit:
            commit.changes.append(_parse_change(text, tokens))
    if commit:
        yield commit


def _parse_header(text: bytes) -> _Commit:
    fields = text.removeprefix(_MARK).decode("utf-8", "replace").split("\x1f", 6)
    sha, parents, email, name, authored_at, committed_at, subject = fields
    return _Commit(
        sha=sha,
        parents=len(parents.split()),
        author=email or name,
        authored_at=_offset_time(authored_at),
        committed_at=_offset_time(committed_at),
        subject=subject,
        changes=[],
    )


def _parse_change(text: bytes, tokens: Iterator[bytes]) -> _Change:
    insertions, deletions, path = text.split(b"\t", 2)
    if not path:
        next(tokens)
        path = next(tokens)
    return _Change(path.decode("utf-8", "replace"), _lines(insertions), _lines(deletions))


def _lines(count: bytes) -> int | None:
    return None if count == b"-" else int(count)


def _offset_time(text: str) -> str:
    """Return an ISO time with a numeric offset: newer versions of git write UTC as Z."""
    return f"{text[:-1]}+00:00" if text.endswith("Z") else text


def _repository_name(checkout: Path) -> str:
    remotes = _git(checkout, "config", "--get-regexp", r"^remote\.origin\.url$", allowed=(0, 1))
    known = _REMOTE.search(remotes)
    if known:
        return known[1]
    folder = Path(_git(checkout, "rev-parse", "--absolute-git-dir"))
    return folder.parent.name if folder.name == ".git" else folder.stem


def _git(checkout: Path, *arguments: str, allowed: tuple[int, ...] = (0,)) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - git, with arguments of our own
            _command(checkout, *arguments), capture_output=True, check=False
        )
    except OSError as error:
        raise _cannot_run(checkout, error) from error
    if done.returncode not in allowed:
        raise _refused(checkout, done.stderr)
    return done.stdout.decode("utf-8", "replace").strip()


def _command(checkout: Path, *arguments: str) -> list[str]:
    return ["git", "-C", str(checkout), *arguments]


def _cannot_run(checkout: Path, error: OSError) -> StoreError:
    return StoreError(
        "git cannot be run",
        where=str(checkout),
        found=str(error),
        expected="the command git on the path",
        next_step="install git and try again",
    )


def _refused(checkout: Path, message: bytes) -> StoreError:
    return StoreError(
        "git cannot read the history",
        where=str(checkout),
        found=message.decode("utf-8", "replace").strip(),
        expected="a git checkout with at least one commit",
        next_step="give the path of a checkout, or of a folder inside one",
    )


@contextmanager
def _writer(path: Path) -> Iterator[gzip.GzipFile]:
    """Open a gzip file that appears under its name only when all of it is written."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # No name and no time in the header, so that equal rows are equal bytes.
        with partial.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            yield packed
        partial.replace(path)
    except OSError as error:
        raise StoreError(
            "the export cannot be written",
            where=str(path),
            found=str(error),
            expected="a folder on a disk with room for it",
            next_step="free space or choose another folder, then export again",
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _write(file: gzip.GzipFile, row: dict[str, Any]) -> None:
    file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
