"""The nearest label: distances as in `distance.py`, with the place of the voxel they are measured to."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import numba as nb
import numpy as np

from bigbia.kernels.distance import TILE, fixed, load, store, top_of

_njit = nb.njit(nogil=True, cache=True, error_model="numpy")


def nearest(
    labels: np.ndarray, weights: Sequence[int], dtype: np.dtype, far: int, core: Sequence[slice] | None = None
) -> np.ndarray:
    """The labels that are nearest, along the last axes of an array, at squared distances below `far`; else 0.

    Of several at one distance that of the voxel that comes first by its last axis, then the one before it, ...: SciPy's
    choice nearly always. With `core` of a part.
    """
    first = labels.ndim - len(weights)
    core = [slice(0, n) for n in labels.shape] if core is None else list(core)
    labels = np.ascontiguousarray(labels[tuple(core[:first])])
    shape = labels.shape
    wide = np.dtype(np.uint32 if dtype == np.uint32 and labels.size < 1 << 32 else np.int64)
    square, place = np.empty(shape, wide), np.empty(shape, wide)
    reach = isqrt((far - 1) // weights[-1])
    lines = np.arange(labels.size // shape[-1]).reshape(shape[-2::-1]).T.reshape(-1)
    _nearest_on_lines(
        fixed(np.ascontiguousarray(labels != 0).view(np.uint8).reshape(-1, shape[-1])),
        fixed(lines),
        np.array([weights[-1], reach, far]),
        square.reshape(-1, shape[-1]),
        place.reshape(-1, shape[-1]),
    )
    square, place = square[..., core[-1]], place[..., core[-1]]
    for axis in range(labels.ndim - 2, first - 1, -1):
        square, place = np.ascontiguousarray(square), np.ascontiguousarray(place)
        cut = (slice(None),) * axis + (core[axis],)
        nearer, of = square[cut].copy(), place[cut].copy()
        outer = int(np.prod(square.shape[:axis], dtype=np.int64))
        inner = int(np.prod(square.shape[axis + 1 :], dtype=np.int64))
        weight = weights[axis - first]
        sizes = [outer, inner, square.shape[axis], nearer.shape[axis], -core[axis].start]
        _nearer(
            fixed(square.reshape(-1)),
            fixed(place.reshape(-1)),
            nearer.reshape(-1),
            of.reshape(-1),
            np.array([*sizes, weight, isqrt((far - 1) // weight)]),
        )
        square, place = nearer, of
    return np.where(square < far, labels.T.reshape(-1)[place], labels.dtype.type(0))


@_njit
def _nearest_on_lines(mask, number, sizes, square, place):
    """Squared distance along a line to the nearest voxel where a mask is not 0, and that voxel's index.

    The index counts along the first axis first; `number` is that of the lines.
    """
    weight, reach, far = sizes
    kind = square.dtype.type
    lines, n = mask.shape
    for line in range(lines):
        seen = np.int64(-1) << 40
        for x in range(n):
            if mask[line, x]:
                seen = np.int64(x)
            d = x - seen
            square[line, x] = kind(weight * d * d) if d <= reach else kind(far)
            place[line, x] = kind(seen * lines + number[line]) if d <= reach else kind(0)
        seen = np.int64(1) << 40
        for x in range(n - 1, -1, -1):
            if mask[line, x]:
                seen = np.int64(x)
            d = seen - x
            if d <= reach and kind(weight * d * d) < square[line, x]:
                square[line, x] = kind(weight * d * d)
                place[line, x] = kind(seen * lines + number[line])


@_njit
def _nearer(square, place, out, of, sizes):
    """As `_lower` of `distance.py`, with the place of the nearest voxel; of several the least."""
    outer, inner, n, m, first, weight, reach = sizes
    kind = out.dtype.type
    a, x = np.empty((n, TILE), out.dtype), np.empty((n, TILE), out.dtype)
    b, y = np.empty((m, TILE), out.dtype), np.empty((m, TILE), out.dtype)
    lines = outer * inner
    for line in range(0, lines, TILE):
        load(square, line, lines, n, inner, a)
        load(place, line, lines, n, inner, x)
        load(out, line, lines, m, inner, b)
        load(of, line, lines, m, inner, y)
        for i in range(m):
            row, found = b[i], y[i]
            last = min(reach, max(first + n - 1 - i, i - first))
            # at equal distance too: another voxel may come first
            for k in range(1, last + 1):
                if weight * k * k > top_of(row):
                    break
                step = kind(weight * k * k)
                for j in (i - k - first, i + k - first):
                    if 0 <= j < n:
                        other, its = a[j], x[j]
                        for t in range(TILE):
                            value = kind(other[t] + step)
                            better = (value < row[t]) | ((value == row[t]) & (its[t] < found[t]))
                            row[t] = value if better else row[t]
                            found[t] = its[t] if better else found[t]
        store(b, line, lines, m, inner, out)
        store(y, line, lines, m, inner, of)
