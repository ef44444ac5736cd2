"""Commands about definitions: what they print, and their exit codes."""

from __future__ import annotations

import json

from sequence_platform_tests.unit.cli.conftest import Shell

STRICTER = ('pl.col("pin") > 0', 'pl.col("pin") > 1')
LONGER = ("max_age=", "max_length=900, max_age=")


def test_check_counts_what_is_right(shell: Shell) -> None:
    done = shell.run("check")
    assert done.exit_code == 0, done.output
    assert (
        "1 event types, 0 enrichments, 1 sequences, 0 training sets, no problems (plan "
        in done.output
    )


def test_check_reports_every_problem_and_fails(shell: Shell) -> None:
    shell.define('columns=["pin"]', 'columns=["pni"]', folder="broken/definitions")
    done = shell.run("check", definitions="broken/definitions")
    assert done.exit_code == 1
    assert "Error: 1 problem in the definitions:" in done.output
    assert "definitions/feed.py: sequence 'feed', field 'columns'" in done.output
    assert "close: 'pin'" in done.output


def test_compile_writes_canonical_json(shell: Shell) -> None:
    printed = shell.run("compile")
    assert printed.exit_code == 0, printed.output
    assert sorted(json.loads(printed.output)["sequences"]) == ["feed"]
    file = shell.root / "manifest.json"
    written = shell.run("compile", "--out", str(file))
    assert written.output.startswith(f"wrote {file}, ")
    assert file.read_text(encoding="utf-8") == printed.output


def test_explain_prints_words_and_refuses_unknown_names(shell: Shell) -> None:
    known = shell.run("explain", "feed")
    assert known.exit_code == 0, known.output
    assert known.output.startswith("sequence feed (version 1, team:feed)")
    unknown = shell.run("explain", "fed")
    assert unknown.exit_code == 1
    assert "no definition is called 'fed'" in unknown.output
    assert "close: 'feed'" in unknown.output


def test_diff_against_a_manifest_of_before(shell: Shell) -> None:
    file = str(shell.root / "manifest.json")
    shell.run("compile", "--out", file)
    same = shell.run("diff", "--against", file)
    assert (same.exit_code, same.output) == (0, "nothing changed\n")
    shell.define(*LONGER, folder="longer/definitions")
    longer = shell.run("diff", "--against", file, definitions="longer/definitions")
    assert longer.exit_code == 0
    assert longer.output.splitlines() == [
        "compatible sequence 'feed', trim: max_length 500 -> 900; backfill sequences.feed",
        "1 changes, 0 breaking",
    ]


def test_diff_fails_on_a_breaking_change(shell: Shell) -> None:
    shell.run("publish")
    shell.define(*STRICTER, folder="stricter/definitions")
    done = shell.run("diff", definitions="stricter/definitions")
    assert done.exit_code == 1
    where, followed, total = done.output.splitlines()
    assert where.startswith("breaking   event type 'click', where: the meaning changed; backfill")
    assert followed.startswith("compatible sequence 'feed', events: follows the change of 'click'")
    assert total == "2 changes, 1 breaking"


def test_diff_against_something_else_than_a_manifest_is_refused(shell: Shell) -> None:
    done = shell.run("diff", "--against", str(shell.root / "definitions" / "feed.py"))
    assert done.exit_code == 1
    assert "Error: not a manifest" in done.output


def test_diff_before_anything_is_published_adds_everything(shell: Shell) -> None:
    done = shell.run("diff")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == "2 changes, 0 breaking"


def test_publish_once_then_not_again_and_never_what_breaks_unless_told(shell: Shell) -> None:
    first, again = shell.run("publish"), shell.run("publish")
    assert first.exit_code == 0, first.output
    assert first.output.splitlines()[-1] == "published 2 changes"
    assert again.output == "already published\n"
    shell.define(*STRICTER, folder="stricter/definitions")
    refused = shell.run("publish", definitions="stricter/definitions")
    assert refused.exit_code == 1
    assert "would break readers" in refused.output
    assert "--accept-breaking" in refused.output
    told = shell.run("publish", "--accept-breaking", definitions="stricter/definitions")
    assert told.exit_code == 0, told.output
    assert told.output.splitlines()[-1] == "published 2 changes"
