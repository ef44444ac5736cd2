"""Commands that make input."""

from __future__ import annotations

import subprocess

from sequence_platform_tests.unit.cli.conftest import Shell


def test_generate_shop_writes_below_the_source_root(shell: Shell) -> None:
    done = shell.run(
        "generate-shop", "--days", "2", "--events", "300", "--users", "10", "--products", "10"
    )
    assert done.exit_code == 0, done.output
    folder = shell.root / "data" / "shop"
    assert len(list((folder / "product_view").iterdir())) == 2
    assert "product_view" in done.output


def test_export_git_writes_commits_of_a_checkout(shell: Shell) -> None:
    checkout = shell.root / "checkout"
    checkout.mkdir()
    (checkout / "a.txt").write_text("a", encoding="utf-8")
    for arguments in (
        ["init", "--quiet"],
        ["add", "."],
        ["-c", "user.name=A", "-c", "user.email=a@b.c", "commit", "--quiet", "-m", "First"],
    ):
        subprocess.run(["git", *arguments], cwd=checkout, check=True)
    out = shell.root / "out"
    done = shell.run("export-git", str(checkout), "--out", str(out))
    assert done.exit_code == 0, done.output
    assert any(out.rglob("*"))


def test_a_checkout_that_is_none_is_refused(shell: Shell) -> None:
    done = shell.run("export-git", str(shell.root / "clicks"))
    assert done.exit_code == 1
    assert "Error: " in done.output
