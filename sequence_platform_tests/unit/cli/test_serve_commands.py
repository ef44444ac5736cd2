"""Commands about keys and serving."""

from __future__ import annotations

import json

from sequence_platform_tests.unit.cli.conftest import Shell


def test_a_key_is_made_listed_and_revoked(shell: Shell) -> None:
    made = shell.run(
        "keys", "create", "ranker", "--tenant", "ads", "--sequences", "feed, shop_*",
        "--requests-per-second", "50",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    secret = made.stdout.strip()
    assert secret.startswith("sp_")
    assert "servers that run need a restart" in made.stderr
    (kept,) = json.loads((shell.root / "home" / "keys.json").read_text(encoding="utf-8"))
    assert kept["tenant"] == "ads"
    assert kept["sequences"] == ["feed", "shop_*"]
    assert secret not in json.dumps(kept)

    listed = shell.run("keys", "list")
    for text in ("ranker", "ads", "feed, shop_*", "50"):
        assert text in listed.output
    assert secret not in listed.output

    assert shell.run("keys", "revoke", "ranker").output == "revoked ranker\n"
    assert shell.run("keys", "list").output == "no keys\n"


def test_a_key_that_cannot_be_is_refused(shell: Shell) -> None:
    assert shell.run("keys", "create", "a b").exit_code == 1
    shell.run("keys", "create", "a")
    again = shell.run("keys", "create", "a")
    assert again.exit_code == 1
    assert "there is a key 'a' already" in again.output
    unknown = shell.run("keys", "revoke", "b")
    assert unknown.exit_code == 1
    assert "close: 'a'" in unknown.output or "present: a" in unknown.output


def test_keys_of_a_setting_are_not_changed(shell: Shell) -> None:
    done = shell.run("keys", "create", "a", api_keys="[]")
    assert done.exit_code == 1
    assert "given by a setting" in done.output


def test_the_last_key_revoked_does_not_open_the_server(shell: Shell) -> None:
    shell.run("keys", "create", "a")
    shell.run("keys", "revoke", "a")
    assert (shell.root / "home" / "keys.json").exists()


def test_a_server_without_keys_answers_this_machine_only(shell: Shell) -> None:
    done = shell.run("serve", "--host", "0.0.0.0", "--port", "0")
    assert done.exit_code == 1
    assert "answers this machine only" in done.output
    assert "keys create" in done.output


def test_tls_needs_both_files(shell: Shell) -> None:
    done = shell.run("serve", "--tls-cert", str(shell.root / "definitions" / "feed.py"))
    assert done.exit_code == 1
    assert "--tls-key" in done.output


def test_settings_hide_keys(shell: Shell) -> None:
    done = shell.run("settings", api_keys='[{"name": "geheim"}]')
    assert "geheim" not in done.output
    assert "API_KEYS" in done.output
