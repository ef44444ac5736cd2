"""The training runtime: labels to pointers, pointers to sequences, and the check of both."""

from sequence_platform.runtimes.training.collecting import Collected, collect
from sequence_platform.runtimes.training.exporting import Exported, Told, export
from sequence_platform.runtimes.training.verifying import Difference, Verification, verify

__all__ = [
    "Collected",
    "Difference",
    "Exported",
    "Told",
    "Verification",
    "collect",
    "export",
    "verify",
]
