"""Where commands print: a terminal as wide as it is; files and pipes as wide as tables want."""

from __future__ import annotations

from rich.console import Console

WIDTH_OF_FILES = 132


def open_console() -> Console:
    """Return the console of a command."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=WIDTH_OF_FILES, highlight=False)
