from __future__ import annotations

import gzip
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sequence_platform.demo.git_export import GitReport, export_git, hash_author
from sequence_platform.errors import StoreError

ADA, BO = "Ada@example.org", "bo@example.org"


class Checkout:
    """A small repository with people, dates and settings of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(
        self,
        *arguments: str,
        author: str = ADA,
        at: str = "2024-03-01T10:00:00+01:00",
        committed: str = "",
    ) -> str:
        name = author.split("@", maxsplit=1)[0]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.path.parent),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": name,
            "GIT_AUTHOR_EMAIL": author,
            "GIT_AUTHOR_DATE": at,
            "GIT_COMMITTER_NAME": name,
            "GIT_COMMITTER_EMAIL": author,
            "GIT_COMMITTER_DATE": committed or at,
        }
        command = ["git", "-C", str(self.path), *arguments]
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        ).stdout

    def write(self, name: str, content: str | bytes) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", "--all")

    def commit(
        self,
        subject: str,
        *,
        author: str = ADA,
        at: str = "2024-03-01T10:00:00+01:00",
        committed: str = "",
    ) -> str:
        self.git(
            "commit",
            "--quiet",
            "--allow-empty",
            "-m",
            subject,
            author=author,
            at=at,
            committed=committed,
        )
        return self.git("rev-parse", "HEAD").strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "brook")


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).decode().splitlines()]


def exported(checkout: Checkout) -> tuple[GitReport, list[dict[str, Any]], list[dict[str, Any]]]:
    report = export_git(checkout.path, checkout.path.parent / "out")
    return report, rows(report.commits_file), rows(report.file_changes_file)


def test_a_commit_and_its_files_are_rows(checkout: Checkout) -> None:
    checkout.write("src/a.py", "one\ntwo\n")
    checkout.write("b.txt", "x\n")
    sha = checkout.commit("feat(core)!: begin", committed="2024-03-05T09:30:00-07:00")
    report, commits, changes = exported(checkout)
    assert commits == [
        {
            "sha": sha,
            "author": hash_author("ada@example.org"),
            "authored_at": "2024-03-01T10:00:00+01:00",
            "committed_at": "2024-03-05T09:30:00-07:00",
            "repository": "brook",
            "parents": 0,
            "subject_length": 18,
            "kind": "feat",
            "files": 2,
            "insertions": 3,
            "deletions": 0,
        }
    ]
    shared = {
        "sha": sha,
        "author": hash_author("ada@example.org"),
        "authored_at": "2024-03-01T10:00:00+01:00",
        "committed_at": "2024-03-05T09:30:00-07:00",
        "repository": "brook",
    }
    assert changes == [
        {**shared, "n": 0, "path": "b.txt", "insertions": 1, "deletions": 0},
        {**shared, "n": 1, "path": "src/a.py", "insertions": 2, "deletions": 0},
    ]
    assert (report.repository, report.commits, report.file_changes) == ("brook", 1, 2)


def test_commits_come_oldest_first_with_their_own_authors(checkout: Checkout) -> None:
    first = checkout.commit("one", author=ADA, at="2024-03-01T10:00:00+00:00")
    second = checkout.commit("two", author=BO, at="2024-03-02T10:00:00+00:00")
    _, commits, _ = exported(checkout)
    assert [row["sha"] for row in commits] == [first, second]
    assert [row["author"] for row in commits] == [hash_author(ADA), hash_author(BO)]


def test_a_time_in_utc_has_a_numeric_offset(checkout: Checkout) -> None:
    checkout.commit("one", at="2024-03-01T10:00:00+00:00")
    _, commits, _ = exported(checkout)
    assert commits[0]["authored_at"] == "2024-03-01T10:00:00+00:00"


@pytest.mark.parametrize(
    ("subject", "kind"),
    [("fix: it", "fix"), ("docs(api): say it", "docs"), ("Fix it", None), ("Merge: no", None)],
)
def test_the_kind_is_the_conventional_word_or_null(
    checkout: Checkout, subject: str, kind: str | None
) -> None:
    checkout.commit(subject)
    _, commits, _ = exported(checkout)
    assert commits[0]["kind"] == kind


def test_a_rename_counts_under_its_new_path(checkout: Checkout) -> None:
    checkout.write("old.txt", "one\ntwo\nthree\nfour\n")
    checkout.commit("one")
    checkout.git("mv", "old.txt", "new.txt")
    checkout.write("new.txt", "one\ntwo\nthree\nfour\nfive\n")
    checkout.commit("two", at="2024-03-02T10:00:00+00:00")
    _, _, changes = exported(checkout)
    assert (changes[-1]["path"], changes[-1]["insertions"], changes[-1]["deletions"]) == (
        "new.txt",
        1,
        0,
    )
    assert len(changes) == 2


def test_binary_files_have_no_line_counts(checkout: Checkout) -> None:
    checkout.write("logo.png", b"\x00\x01\x02")
    checkout.write("a.txt", "x\n")
    checkout.commit("one")
    _, commits, changes = exported(checkout)
    assert [(row["path"], row["insertions"], row["deletions"]) for row in changes] == [
        ("a.txt", 1, 0),
        ("logo.png", None, None),
    ]
    assert (commits[0]["files"], commits[0]["insertions"]) == (2, 1)


@pytest.mark.parametrize(
    "path", ["grüße/日本.txt", "two\nlines.txt", 'tab\tand "quotes".txt', " spaced "]
)
def test_any_path_arrives_as_it_is(checkout: Checkout, path: str) -> None:
    checkout.write(path, "x\n")
    checkout.commit("one")
    checkout.git("mv", path, f"{path}2")
    checkout.commit("two", at="2024-03-02T10:00:00+00:00")
    _, _, changes = exported(checkout)
    assert [row["path"] for row in changes] == [path, f"{path}2"]


def test_merges_and_empty_commits_list_no_files(checkout: Checkout) -> None:
    checkout.write("a.txt", "x\n")
    checkout.commit("one")
    checkout.git("checkout", "--quiet", "-b", "side")
    checkout.write("b.txt", "x\n")
    checkout.commit("two", at="2024-03-02T10:00:00+00:00")
    checkout.git("checkout", "--quiet", "main")
    checkout.commit("nothing", at="2024-03-03T10:00:00+00:00")
    checkout.git(
        "merge", "--quiet", "--no-ff", "-m", "join", "side", at="2024-03-04T10:00:00+00:00"
    )
    _, commits, changes = exported(checkout)
    assert [(row["parents"], row["files"]) for row in commits] == [(0, 1), (1, 1), (1, 0), (2, 0)]
    assert [row["path"] for row in changes] == ["a.txt", "b.txt"]


def test_settings_of_the_machine_do_not_change_the_export(checkout: Checkout) -> None:
    checkout.write("ä.txt", "x\n")
    checkout.commit("one")
    _, commits, changes = exported(checkout)
    for name, value in {
        "log.showRoot": "false",
        "log.date": "relative",
        "format.pretty": "oneline",
        "core.quotePath": "true",
        "color.ui": "always",
        "log.showSignature": "true",
    }.items():
        checkout.git("config", name, value)
    _, commits_again, changes_again = exported(checkout)
    assert (commits_again, changes_again) == (commits, changes)


def test_the_repository_is_named_after_its_origin(checkout: Checkout) -> None:
    checkout.commit("one")
    checkout.git("remote", "add", "origin", "git@example.org:rivers/brook-lib.git")
    report, commits, _ = exported(checkout)
    assert report.commits_file.name == "commits-rivers-brook-lib.ndjson.gz"
    assert commits[0]["repository"] == "rivers/brook-lib"


def test_the_same_history_is_the_same_bytes(checkout: Checkout, tmp_path: Path) -> None:
    checkout.write("a.txt", "x\n")
    checkout.commit("one")
    first, second = (export_git(checkout.path, tmp_path / name) for name in ("x", "y"))
    assert first.commits_file.read_bytes() == second.commits_file.read_bytes()
    assert first.file_changes_file.read_bytes() == second.file_changes_file.read_bytes()


def test_progress_ends_with_all_commits(checkout: Checkout, tmp_path: Path) -> None:
    checkout.commit("one")
    checkout.commit("two")
    told: list[tuple[int, int]] = []
    export_git(
        checkout.path, tmp_path / "out", progress=lambda done, total: told.append((done, total))
    )
    assert told == [(2, 2)]


def test_an_author_is_a_small_number_whatever_the_case_of_letters() -> None:
    assert hash_author("Ada@Example.org ") == hash_author("ada@example.org")
    assert 0 <= hash_author("ada@example.org") < 2**53
    assert hash_author("ada@example.org") != hash_author("bo@example.org")


@pytest.mark.parametrize("kind", ["absent", "no repository", "no commits"])
def test_what_is_no_checkout_with_commits_is_refused(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "place"
    if kind == "no repository":
        place.mkdir()
    if kind == "no commits":
        Checkout(place)
    with pytest.raises(StoreError, match="cannot read the history") as raised:
        export_git(place, tmp_path / "out")
    assert str(place) in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_history_that_breaks_half_way_leaves_the_earlier_files(
    checkout: Checkout, tmp_path: Path
) -> None:
    checkout.write("a.txt", "x\n")
    first = checkout.commit("one")
    checkout.write("a.txt", "y\n")
    checkout.commit("two", at="2024-03-02T10:00:00+00:00")
    report = export_git(checkout.path, tmp_path / "out")
    before = report.commits_file.read_bytes()
    tree = checkout.git("rev-parse", f"{first}^{{tree}}").strip()
    (checkout.path / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    with pytest.raises(StoreError, match="cannot read the history"):
        export_git(checkout.path, tmp_path / "out")
    assert report.commits_file.read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "commits-brook.ndjson.gz",
        "file_changes-brook.ndjson.gz",
    ]


def test_a_folder_that_cannot_be_written_is_an_error_with_its_place(
    checkout: Checkout, tmp_path: Path
) -> None:
    checkout.commit("one")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StoreError, match="cannot be written") as raised:
        export_git(checkout.path, blocked)
    assert str(blocked) in str(raised.value)


def test_this_project_can_be_exported(tmp_path: Path) -> None:
    here = Path(__file__).parents[3]
    head = subprocess.run(
        ["git", "-C", str(here), "rev-list", "--count", "HEAD"],
        check=False,
        capture_output=True,
        text=True,
    )
    if head.returncode:
        pytest.skip(
            f"this copy of the project is no git checkout with commits: {head.stderr.strip()}"
        )
    report = export_git(here, tmp_path)
    assert report.commits == int(head.stdout) == len(rows(report.commits_file))
    assert report.file_changes == len(rows(report.file_changes_file))
