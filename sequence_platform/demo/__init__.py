"""Believable input to try the platform on: a generated shop, and the history of any git checkout.

Imports nothing of the platform but its errors; what it writes are plain files.
"""

from __future__ import annotations

from datetime import date

FIRST_DAY = date(2026, 10, 1)
LAST_DAY = date(2026, 10, 30)
"""The demo's month: the generator's default days, and the ``start`` of ``definitions/shop``."""
