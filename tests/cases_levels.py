"""Cases of tests/cases.py: levels."""

from __future__ import annotations

CASES: dict = {}
