"""Conditions on whole objects: which of them stay.

An object is a connected component (`graph/merge.py`) or all voxels of one value (`graph/values.py`). Either way its
measurements, one row of exact numbers, add up over blocks, and a condition is asked once, where the object is complete.

    n        voxels
    border   1 if the object has a voxel at the border, else 0
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Rows = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Size:
    """Objects of `least` to `most` voxels, both included."""

    least: int = 0
    most: int | None = None
    columns = ("n",)

    def __call__(self, rows: Rows) -> np.ndarray:
        keep = rows["n"] >= self.least
        return keep if self.most is None else keep & (rows["n"] <= self.most)


@dataclass(frozen=True)
class Border:
    """Objects that touch the border; or those that do not."""

    touching: bool
    columns = ("border",)

    def __call__(self, rows: Rows) -> np.ndarray:
        return (rows["border"] > 0) == self.touching


@dataclass(frozen=True)
class Largest:
    """The `n` largest objects; of equal ones, those with the smallest name.

    The only condition that no object can answer by itself. It comes last.
    """

    n: int
    columns = ("n",)

    def best(self, names: np.ndarray, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Names and sizes of the largest of some, largest first."""
        order = np.lexsort((names, -rows["n"].astype(np.int64)))[: self.n]
        return names[order], rows["n"][order]


Condition = Callable[[Rows], np.ndarray]


def columns_of(conditions: Sequence[Any]) -> tuple[str, ...]:
    """The measurements that conditions ask for."""
    return tuple(sorted({c for condition in conditions for c in condition.columns}))


def kept(conditions: Sequence[Any], rows: Rows, count: int) -> np.ndarray:
    """Which of `count` objects meet all conditions but `Largest`."""
    keep = np.ones(count, bool)
    for condition in conditions:
        if not isinstance(condition, Largest):
            keep &= condition(rows)
    return keep
