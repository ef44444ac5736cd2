"""The commands. An error of the platform ends a command with its text and exit code 1."""

from __future__ import annotations

import click
from pydantic import ValidationError

from sequence_platform.cli.data_commands import export_git, generate_shop
from sequence_platform.cli.definition_commands import check, compile_, diff, explain, publish
from sequence_platform.cli.demo import demo
from sequence_platform.cli.dev_commands import dev
from sequence_platform.cli.lake_commands import backfill, maintain, settings, show, status
from sequence_platform.cli.online_commands import online
from sequence_platform.cli.serve_commands import keys, serve
from sequence_platform.cli.stream_commands import dead_letters, stream
from sequence_platform.cli.training_commands import training
from sequence_platform.errors import SequencePlatformError
from sequence_platform.settings import Settings


class Commands(click.Group):
    """Turns the platform's errors into messages, in one place."""

    def invoke(self, ctx: click.Context) -> object:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except (SequencePlatformError, ValidationError) as error:
            raise click.ClickException(str(error)) from error


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="sequence-platform")
@click.pass_context
def main(context: click.Context) -> None:
    """User sequences: check definitions, build their tables, see what was built.

    Settings are environment variables named SEQUENCE_PLATFORM_...; 'sequence-platform settings'
    lists them.
    """
    context.obj = Settings()


for command in (
    check,
    compile_,
    diff,
    explain,
    publish,
    backfill,
    status,
    show,
    stream,
    dead_letters,
    online,
    training,
    serve,
    keys,
    maintain,
    settings,
    demo,
    dev,
    generate_shop,
    export_git,
):
    main.add_command(command)
