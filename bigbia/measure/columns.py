"""From exact sums to scikit-image's columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bigbia.kernels.measurements import SHIFT_FLOAT, SHIFT_INTEGER

GEOMETRY = ("area", "num_pixels", "bbox", "area_bbox", "extent", "centroid")
INTENSITY = ("intensity_mean", "intensity_min", "intensity_max", "intensity_std")
PROPERTIES = ("label", *GEOMETRY, *INTENSITY)


@dataclass(frozen=True)
class Columns:
    """How rows become a frame: which properties, of how many axes and which channels, in what voxels."""

    properties: tuple[str, ...]
    ndim: int
    channels: tuple[str | None, ...]
    spacing: tuple[float, ...] | None
    separator: str
    dtype: str  # of the labels
    floats: tuple[bool, ...] = ()

    def __call__(self, rows: Mapping[str, np.ndarray] | None) -> Any:
        """The frame of some rows; None: an empty one."""
        import pandas as pd

        if rows is None:
            rows = self._empty()
        return pd.DataFrame(dict(self._columns(rows)))

    def _empty(self) -> dict[str, np.ndarray]:
        integers = np.zeros((0, self.ndim), np.int64)
        rows = {
            "label": np.zeros(0, self.dtype),
            "n": integers[:, 0],
            "sum": integers,
            "low": integers,
            "high": integers,
        }
        for k in range(len(self.channels)):
            kind = np.float64 if self.floats and self.floats[k] else np.int64
            rows |= {
                f"sums{k}": np.zeros((0, 8), np.int64),
                f"ends{k}": np.zeros((0, 2), kind),
                f"nans{k}": np.zeros(0, np.int64),
            }
            rows[f"unit{k}"] = np.zeros(0)
        return rows

    def _columns(self, rows: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        voxel = math.prod(self.spacing) if self.spacing else 1.0
        for name in self.properties:
            if name == "label":
                # int64 as in scikit-image, but for labels that do not fit it
                yield "label", rows["label"].astype(np.uint64 if self.dtype == "uint64" else np.int64)
            elif name == "area":
                yield "area", rows["n"] * voxel
            elif name == "num_pixels":
                yield "num_pixels", rows["n"]
            elif name == "bbox":
                for a in range(self.ndim):
                    yield self._named("bbox", a), rows["low"][:, a]
                for a in range(self.ndim):
                    yield self._named("bbox", self.ndim + a), rows["high"][:, a] + 1
            elif name == "area_bbox":
                yield "area_bbox", self._box(rows) * voxel
            elif name == "extent":
                yield "extent", (rows["n"] * voxel) / (self._box(rows) * voxel)
            elif name == "centroid":
                for a in range(self.ndim):
                    yield (
                        self._named("centroid", a),
                        rows["sum"][:, a] / rows["n"] * (self.spacing[a] if self.spacing else 1),
                    )
            else:
                for k, channel in enumerate(self.channels):
                    column = name if channel is None else self._named(name, channel)
                    yield column, self._intensity(name, rows, k)

    def _named(self, name: str, part: Any) -> str:
        return f"{name}{self.separator}{part}"

    def _box(self, rows: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.prod(rows["high"] - rows["low"] + 1, axis=1, dtype=np.float64)

    def _intensity(self, name: str, rows: Mapping[str, np.ndarray], k: int) -> np.ndarray:
        is_float = bool(self.floats and self.floats[k])
        bad = rows[f"nans{k}"] > 0
        if name in ("intensity_min", "intensity_max"):
            out = rows[f"ends{k}"][:, int(name == "intensity_max")].astype(np.float64)
        else:
            total, n = exact(rows[f"sums{k}"][:, :4], is_float), rows["n"]
            # units of the sums: 1, or unit * 2**-76; of the squares 1, or unit**2 * 2**-76
            unit = rows[f"unit{k}"] if is_float else np.ones(len(n))
            if name == "intensity_mean":
                out = ratio(total, n) * (unit * 2.0**-76 if is_float else 1.0)
            else:
                squares = exact(rows[f"sums{k}"][:, 4:], is_float).astype(object) * (2**76 if is_float else 1)
                n, total = n.astype(object), total.astype(object)
                spread = np.maximum(n * squares - total * total, 0)
                variance = np.array([s / (m * m) for s, m in zip(spread, n)], np.float64)
                out = np.sqrt(variance) * (unit * 2.0**-76 if is_float else 1.0)
        return np.where(bad, np.nan, out)


def exact(limbs: np.ndarray, is_float: bool) -> np.ndarray:
    """Sums from their four limbs: int64 where they fit, else Python integers."""
    shift = SHIFT_FLOAT if is_float else SHIFT_INTEGER
    estimate = np.abs(limbs.astype(np.float64)) @ np.array([2.0 ** (32 + shift), 2.0**shift, 2.0**32, 1.0])
    if not len(limbs) or estimate.max() < 2.0**62:
        return ((limbs[:, 0] << 32) + limbs[:, 1] << shift) + (limbs[:, 2] << 32) + limbs[:, 3]
    a, b, c, d = (limbs[:, i].astype(object) for i in range(4))
    return ((a * 2**32 + b) * 2**shift) + c * 2**32 + d


def ratio(total: np.ndarray, n: np.ndarray) -> np.ndarray:
    """total / n, correctly rounded."""
    if total.dtype != object and (not len(total) or np.abs(total).max() < 2**53):
        return total / n
    return np.array([int(t) / int(m) for t, m in zip(total, n)], np.float64)
