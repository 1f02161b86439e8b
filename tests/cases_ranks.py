"""Cases of tests/cases.py: ranks."""

from __future__ import annotations

CASES: dict = {}
