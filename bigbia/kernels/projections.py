"""An axis of a block folded into one plane.

The order of a sum is that of the voxels along the axis, one after the other, so a block can go on where the one before
it ended, to the same bits. An extreme is the same in any order, once its zeros have one sign.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from bigbia.kernels.rows import plain

_njit = nb.njit(nogil=True, cache=True, error_model="numpy")
_STRETCH = 16384  # voxels of a plane that are summed together: they stay in the cache


def total_dtype(method: str, dtype: np.dtype) -> np.dtype:
    """What a fold keeps for each voxel of the plane."""
    if method in ("max", "min"):
        return np.dtype(dtype)
    if dtype.kind == "f" or (method == "mean" and dtype.itemsize == 8):
        return np.dtype(np.float64)
    return np.dtype(np.uint64 if dtype.kind == "u" else np.int64)


def fold(block: np.ndarray, axis: int, method: str, before: np.ndarray | None = None) -> np.ndarray:
    """The plane that an axis of a block becomes, of `total_dtype`; going on from the plane before the block.

    method : "max", "min"; "sum", "mean": the sum
    """
    if method in ("max", "min"):
        return _extreme(block, axis, np.maximum if method == "max" else np.minimum, before)
    kind = total_dtype(method, block.dtype)
    x = plain(block)
    n = x.shape[axis]
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    outer = int(np.prod(x.shape[:axis], dtype=np.int64))
    x = x.reshape(outer, n, -1)
    plane = np.zeros((outer, x.shape[2]), kind)
    if before is not None:
        plane[:] = before.reshape(plane.shape)
    if x.shape[2] == 1:
        _lines(x.reshape(outer, n), plane.reshape(-1))
    else:
        _planes(x, plane)
    return plane.reshape(shape)


def _extreme(block: np.ndarray, axis: int, of: np.ufunc, before: np.ndarray | None) -> np.ndarray:
    plane = np.asarray(of.reduce(block, axis))
    if before is not None:
        plane = np.asarray(of(before, plane))
    if plane.dtype.kind == "f":
        plane = plane + plane.dtype.type(0)  # 0 for -0: which of them is met first depends on the cuts
    return plane


@_njit
def _plus(plane, x):
    for j in range(plane.size):
        plane[j] += x[j]


@_njit
def _planes(x, plane):
    for o in range(x.shape[0]):
        for a in range(0, x.shape[2], _STRETCH):
            part = plane[o, a : a + _STRETCH]
            for k in range(x.shape[1]):
                _plus(part, x[o, k, a : a + _STRETCH])


@_njit
def _lines(x, plane):
    """Along the last axis, four lines at a time: none of them waits for its own last addition."""
    rows = x.shape[0]
    whole = rows - rows % 4
    for o in range(0, whole, 4):
        a, b, c, d = plane[o], plane[o + 1], plane[o + 2], plane[o + 3]
        for k in range(x.shape[1]):
            a += x[o, k]
            b += x[o + 1, k]
            c += x[o + 2, k]
            d += x[o + 3, k]
        plane[o], plane[o + 1], plane[o + 2], plane[o + 3] = a, b, c, d
    for o in range(whole, rows):
        for k in range(x.shape[1]):
            plane[o] += x[o, k]
