"""What all tests share: how many examples hypothesis tries."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

SLOW_MACHINES = [HealthCheck.too_slow, HealthCheck.data_too_large]
"""Drawing a history takes milliseconds, which a busy machine stretches; that says nothing about the code."""

settings.register_profile(
    "dev", max_examples=40, deadline=None, suppress_health_check=SLOW_MACHINES
)
settings.register_profile(
    "ci", max_examples=400, deadline=None, print_blob=True, suppress_health_check=SLOW_MACHINES
)
settings.register_profile(
    "long", max_examples=4000, deadline=None, print_blob=True, suppress_health_check=SLOW_MACHINES
)


def pytest_configure(config: pytest.Config) -> None:
    """Use the fast profile unless ``--hypothesis-profile`` says otherwise."""
    if not config.getoption("--hypothesis-profile"):
        settings.load_profile("dev")
