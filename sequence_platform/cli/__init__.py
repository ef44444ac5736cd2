"""The command line: a shell over what is below it. It prints; it decides nothing."""

from __future__ import annotations

from sequence_platform.cli.main import main

__all__ = ["main"]
