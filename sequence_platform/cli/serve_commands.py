"""Commands about serving: run a server, make and revoke its keys."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table

from sequence_platform.api.keys import KeyRing
from sequence_platform.cli.console import open_console
from sequence_platform.settings import Settings

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Others need keys.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="0: one that is free.",
)
@click.option(
    "--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes."
)
@click.option("--tls-cert", type=FILE, help="Certificate chain, PEM; with --tls-key.")
@click.option("--tls-key", type=FILE, help="Its private key, PEM.")
@click.option(
    "--log-requests",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    metavar="RATE",
    help="Share of requests written to standard output, a line of JSON each.",
)
@click.option("--log-entities", is_flag=True, help="Write entities as they are, not hashed.")
@click.pass_obj
def serve(
    settings: Settings,
    host: str,
    port: int,
    workers: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    log_requests: float,
    *,
    log_entities: bool,
) -> None:
    """Serve sequences over HTTP until Ctrl-C; the page for people is at /.

    SIGHUP replaces the workers one by one: they then run the definitions of now.
    """
    from sequence_platform.api import server  # noqa: PLC0415 - other commands need no server
    from sequence_platform.api.service import Options  # noqa: PLC0415 - likewise

    server.serve(
        settings,
        server.Address(host, port, tls_cert, tls_key),
        Options(log_requests=log_requests, logs_entities=log_entities),
        workers=workers,
        tell=lambda url: click.echo(f"serving at {url}   (Ctrl-C ends it)", err=log_requests > 0),
    )


@click.group()
def keys() -> None:
    """API keys: without any, a server answers this machine only."""


@keys.command()
@click.argument("name")
@click.option("--tenant", help="Who shares a rate; the key's name unless given.")
@click.option(
    "--sequences", default="*", show_default=True, help="Names or patterns, separated by commas."
)
@click.option(
    "--requests-per-second",
    type=click.FloatRange(0, min_open=True),
    help="Of the tenant, at each worker; unlimited unless given.",
)
@click.pass_obj
def create(
    settings: Settings,
    name: str,
    tenant: str | None,
    sequences: str,
    requests_per_second: float | None,
) -> None:
    """Make a key called NAME and print it: only its hash is kept."""
    patterns = tuple(part.strip() for part in sequences.split(",") if part.strip())
    ring = KeyRing.of(settings)
    is_first = not ring.is_required
    click.echo(ring.create(name, tenant or name, patterns, requests_per_second))
    if is_first:
        click.echo("the first key: servers that run need a restart to ask for it", err=True)


@keys.command("list")
@click.pass_obj
def list_(settings: Settings) -> None:
    """List keys, without what is secret."""
    table = Table("name", "tenant", "sequences", "requests a second", "hash begins")
    for key in KeyRing.of(settings).known():
        rate = "" if key.requests_per_second is None else f"{key.requests_per_second:g}"
        table.add_row(key.name, key.tenant, ", ".join(key.sequences), rate, key.hash[:8])
    open_console().print(table if table.row_count else "no keys")


@keys.command()
@click.argument("name")
@click.pass_obj
def revoke(settings: Settings, name: str) -> None:
    """Remove the key NAME; servers stop taking it within a second."""
    KeyRing.of(settings).revoke(name)
    click.echo(f"revoked {name}")
