"""Images seen through an affine map: each voxel of the result finds its place in the image.

Places are computed from the voxel's index in the whole result, in float64 and in SciPy's order: the offset, then axis
after axis. So are the sums: the corners in raster order, each value times its weight along axis 0, 1 and 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba as nb
import numpy as np

from bigbia.kernels.resampling import interpolated_type
from bigbia.kernels.rows import plain

_njit = nb.njit(nogil=True, cache=True, error_model="numpy")
MODES = {"constant": 0, "grid-constant": 1, "nearest": 2}


def affine(
    data: np.ndarray,
    low: Sequence[int],
    size: Sequence[int],
    matrix: np.ndarray,
    offset: np.ndarray,
    box: Sequence[tuple[int, int]],
    order: int,
    mode: str,
    cval: float,
    dtype: np.dtype,
) -> np.ndarray:
    """A box of the result of each image of (images, 1 to 3 axes).

    low : where the data begin in the image
    size : shape of the whole image
    """
    d = matrix.shape[0]
    lead = 3 - d
    wide = np.eye(3)
    wide[lead:, lead:] = matrix
    shift = np.concatenate([np.zeros(lead), offset])
    if (
        order == 0
    ):  # voxels are only copied: as whole numbers of their width, for which there are four compiled versions
        x, beyond = np.ascontiguousarray(data), np.asarray(cval).astype(data.dtype)
        bits = np.dtype(f"u{data.dtype.itemsize}")
        x, beyond = x.view(bits), beyond.view(bits)
        x.flags.writeable = False
    else:
        x, beyond = interpolated_type(plain(data)), np.zeros((), np.uint8)
    x = x.reshape(len(data), *(1,) * lead, *data.shape[1:])
    starts = np.array([0] * lead + [a for a, _ in box], np.int64)
    shape = tuple(b - a for a, b in box)
    out = np.empty((len(data), *(1,) * lead, *shape), x.dtype if order == 0 else dtype)
    _affine(
        x,
        np.array([0] * lead + list(low), np.int64),
        np.array([1] * lead + list(size), np.int64),
        *(wide, shift, starts, lead, order, MODES[mode], float(cval)),
        beyond[()],
        out,
    )
    out = out.reshape(len(data), *shape)
    return out.view(data.dtype) if order == 0 else out


@_njit
def _affine(x, low, size, matrix, shift, starts, lead, order, mode, cval, beyond, out):
    s0, s1 = x.shape[2] * x.shape[3], x.shape[3]
    m0, m1, m2 = matrix[0, 2], matrix[1, 2], matrix[2, 2]
    # places from 0 to these have all their corners in the image; an axis that is none has one corner alone
    top = np.array([0.0 if a < lead else size[a] - 1.0 - order * 1e-9 for a in range(3)])
    t0, t1, t2 = top
    both0, both1 = (1 if lead > 0 else 2), (1 if lead > 1 else 2)
    first = np.empty(3, np.float64)
    at = np.empty((3, 2), np.int64)
    weight = np.empty((3, 2), np.float64)
    for i in range(out.shape[0]):
        flat = x[i].reshape(-1)
        for z in range(out.shape[1]):
            for y in range(out.shape[2]):
                for a in range(3):
                    first[a] = shift[a] + (starts[0] + z) * matrix[a, 0] + (starts[1] + y) * matrix[a, 1]
                f0, f1, f2 = first
                row = out[i, z, y]
                for k in range(row.size):
                    o = starts[2] + k
                    c0, c1, c2 = f0 + o * m0, f1 + o * m1, f2 + o * m2
                    if not (0 <= c0 <= t0 and 0 <= c1 <= t1 and 0 <= c2 <= t2):
                        if order == 0:
                            row[k] = _nearest(x[i], c0, c1, c2, low, size, mode, beyond)
                        else:
                            row[k] = _border(x[i], c0, c1, c2, low, size, lead, mode, cval, at, weight)
                        continue
                    if order == 0:
                        i0, i1, i2 = np.int64(c0 + 0.5), np.int64(c1 + 0.5), np.int64(c2 + 0.5)
                        row[k] = flat[(i0 - low[0]) * s0 + (i1 - low[1]) * s1 + i2 - low[2]]
                        continue
                    i0, i1, i2 = np.int64(c0), np.int64(c1), np.int64(c2)
                    u0, u1, u2 = 1.0 - (c0 - i0), 1.0 - (c1 - i1), 1.0 - (c2 - i2)
                    v2 = 1.0 - u2
                    base = (i0 - low[0]) * s0 + (i1 - low[1]) * s1 + i2 - low[2]
                    total = 0.0
                    w0 = u0
                    for _ in range(both0):
                        w1 = u1
                        here = base
                        for _ in range(both1):
                            total += np.float64(flat[here]) * w0 * w1 * u2
                            total += np.float64(flat[here + 1]) * w0 * w1 * v2
                            here += s1
                            w1 = 1.0 - u1
                        base += s0
                        w0 = 1.0 - u0
                    row[k] = total


@_njit
def _nearest(x, c0, c1, c2, low, size, mode, beyond):
    """The nearest voxel of a place that may lie beyond the image."""
    if mode == 0 and not (0 <= c0 <= size[0] - 1 and 0 <= c1 <= size[1] - 1 and 0 <= c2 <= size[2] - 1):
        return beyond
    place = (_floor(c0 + 0.5, size[0]), _floor(c1 + 0.5, size[1]), _floor(c2 + 0.5, size[2]))
    if mode == 1:
        for a in range(3):
            if place[a] < 0 or place[a] >= size[a]:
                return beyond
    i0, i1, i2 = (
        min(max(place[0], 0), size[0] - 1),
        min(max(place[1], 0), size[1] - 1),
        min(max(place[2], 0), size[2] - 1),
    )
    return x[i0 - low[0], i1 - low[1], i2 - low[2]]


@_njit
def _floor(c, n):
    """As a whole number; places far away are as those near the image."""
    return np.int64(min(max(np.floor(c), -2.0), n + 1.0))


@_njit
def _border(x, c0, c1, c2, low, size, lead, mode, cval, at, weight):
    """Interpolation at a place whose corners may lie beyond the image."""
    if mode == 0 and not (0 <= c0 <= size[0] - 1 and 0 <= c1 <= size[1] - 1 and 0 <= c2 <= size[2] - 1):
        return cval
    place = (c0, c1, c2)
    for a in range(3):
        w = 1.0 - (place[a] - np.floor(place[a]))
        weight[a, 0] = w
        weight[a, 1] = 1.0 - w
        for e in range(2):
            v = _floor(place[a], size[a]) + e
            if mode == 1 and (v < 0 or v >= size[a]):
                at[a, e] = -1
            else:
                at[a, e] = min(max(v, 0), size[a] - 1) - low[a]
    total = 0.0
    for p in range(1 if lead > 0 else 2):
        for q in range(1 if lead > 1 else 2):
            for r in range(2):
                if at[0, p] < 0 or at[1, q] < 0 or at[2, r] < 0:
                    value = cval
                else:
                    value = np.float64(x[at[0, p], at[1, q], at[2, r]])
                total += value * weight[0, p] * weight[1, q] * weight[2, r]
    return total
