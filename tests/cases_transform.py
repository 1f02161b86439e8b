"""Cases of tests/cases.py: transform."""

from __future__ import annotations

CASES: dict = {}
