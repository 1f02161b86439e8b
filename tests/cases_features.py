"""Cases of tests/cases.py: features."""

from __future__ import annotations

CASES: dict = {}
