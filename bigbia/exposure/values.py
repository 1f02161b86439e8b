"""Values voxel by voxel: chains of NumPy operations on pieces of a block, and what a dtype holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bigbia.errors import ParameterError
from bigbia.graph.footprints import brief

PIECE = 1 << 15  # voxels worked on together: a chain of NumPy operations on them stays in the cache


def check_over(over: str, what: str) -> None:
    if not isinstance(over, str) or over not in ("each", "all"):
        raise ParameterError(f'{what}: over={brief(over)}: "each" (time and channel by itself) or "all"')


def in_pieces(function: Callable[[np.ndarray], np.ndarray], block: np.ndarray, dtype: Any) -> np.ndarray:
    """A chain of NumPy's elementwise operations on a block, piece by piece."""
    flat = np.ascontiguousarray(block).reshape(-1)
    out = np.empty(flat.size, dtype)
    for a in range(0, flat.size, PIECE):
        out[a : a + PIECE] = function(flat[a : a + PIECE])
    return out.reshape(block.shape)


def saturated(values: np.ndarray, dtype: Any) -> np.ndarray:
    """Floats as a dtype: cut off to whole numbers for integers, and at the ends of their range."""
    dtype = np.dtype(dtype)
    if dtype.kind not in "iu":
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        out = values.astype(dtype)
    out[values >= float(limits.max)] = limits.max
    out[values <= float(limits.min)] = limits.min
    return out


def all_values(dtype: np.dtype) -> np.ndarray:
    """Every value of an integer dtype of 8 or 16 bits, ascending."""
    limits = np.iinfo(dtype)
    return np.arange(limits.min, limits.max + 1).astype(dtype)


def narrow(dtype: np.dtype) -> bool:
    """Whether a dtype has few enough values for a table of all of them."""
    return dtype.kind in "iu" and dtype.itemsize <= 2
