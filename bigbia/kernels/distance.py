"""Exact squared Euclidean distances in whole numbers, axis by axis.

The squared distance to the nearest background voxel is, for axes a, b, c with weights (squared voxel sizes) A, B, C,

    min over z of  C z^2 +  min over y of  B y^2 +  min over x of  A x^2

so it is found one axis at a time: along runs on the first, then as the least of parabolas on every other. Integers make
the order of all minima irrelevant: equal for any block, any tile, any order of axes.

The least of parabolas is found in one of two ways, which give the same numbers. Most distances are short: 64 lines side
by side look outwards one voxel at a time and stop where nothing farther can be nearer, 1 instruction for 8 lines.
Lines that are still open then get the lower envelope, O(n) for any distance (Felzenszwalb & Huttenlocher, Theory of
Computing 8, 2012, in the integers of Meijster et al. 2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import numba as nb
import numpy as np

TILE = 64  # lines side by side
STEPS = 24  # voxels they look to each side before the envelope takes over
_njit = nb.njit(nogil=True, cache=True, error_model="numpy")


def far_of(dtype: np.dtype) -> int:
    """What stands for "no background": greater than any distance, and no overflow where another one is added."""
    return 1 << 31 if np.dtype(dtype) == np.uint32 else 1 << 62


def along_runs(
    mask: np.ndarray,
    weight: int,
    dtype: np.dtype,
    far: int,
    around: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Squared distances along the last axis to where a mask is False, `far` where they are not below it.

    `around`: for each line how many voxels before its first and after its last one the next background voxel
    outside the block is; 0 for none.
    """
    lines = np.ascontiguousarray(mask, bool).view(np.uint8).reshape(-1, mask.shape[-1])
    if around is None:
        around = (np.zeros(len(lines), np.int64),) * 2
    before, after = (np.ascontiguousarray(a, np.int64).reshape(-1) for a in around)
    out = np.empty(lines.shape, dtype)
    _runs(fixed(lines), fixed(before), fixed(after), weight, isqrt((far - 1) // weight), far, out)
    return out.reshape(mask.shape)


def ends(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a mask is first and last False on each line along the last axis, as seen from outside; int64.

    Voxels from the one before the line to the first, and from the one after it to the last; 0 where there is none.
    """
    lines = np.ascontiguousarray(mask, bool).view(np.uint8).reshape(-1, mask.shape[-1])
    first, last = np.zeros(len(lines), np.int64), np.zeros(len(lines), np.int64)
    _ends(fixed(lines), first, last)
    return first.reshape(mask.shape[:-1]), last.reshape(mask.shape[:-1])


def lower(out: np.ndarray, start: int, source: np.ndarray, first: int, axis: int, weight: int, far: int) -> None:
    """Where `source`, and what lies `k` voxels from it along an axis plus ``weight * k**2``, is less than `out`: that.

    `out` begins at voxel `start` of the axis, `source` at voxel `first`; all their other axes are the same. At equal
    places `out` must not be greater than `source` already.
    """
    outer = int(np.prod(out.shape[:axis], dtype=np.int64))
    inner = int(np.prod(out.shape[axis + 1 :], dtype=np.int64))
    source = np.ascontiguousarray(source)
    reach = isqrt((far - 1) // weight)
    n, m = source.shape[axis], out.shape[axis]
    _lower(
        fixed(source.reshape(-1)), out.reshape(-1), np.array([outer, inner, n, m, first - start, weight, reach, far])
    )


def squared(
    mask: np.ndarray, weights: Sequence[int], dtype: np.dtype, far: int, core: Sequence[slice] | None = None
) -> np.ndarray:
    """Squared distances, along the last axes of an array, to where a mask is False; of a part, with `core`.

    One weight for each of these axes; `far` where they are not below it.
    """
    first = mask.ndim - len(weights)
    core = [slice(0, n) for n in mask.shape] if core is None else list(core)
    mask = mask[tuple(core[:first])]
    now = along_runs(mask, weights[-1], dtype, far)[..., core[-1]]
    for axis in range(mask.ndim - 2, first - 1, -1):
        now = np.ascontiguousarray(now)
        part = core[axis]
        out = now[(slice(None),) * axis + (part,)].copy()
        lower(out, part.start, now, 0, axis, weights[axis - first], far)
        now = out
    return np.ascontiguousarray(now)


def roots(square: np.ndarray, far: int, numerator: float, denominator: float) -> np.ndarray:
    """Distances of squared ones, in units of which numerator / denominator is the square; inf for `far`."""
    out = np.empty(square.shape, np.float64)
    _roots(fixed(np.ascontiguousarray(square).reshape(-1)), far, numerator, denominator, out.reshape(-1))
    return out


def fixed(x: np.ndarray) -> np.ndarray:
    """Not writeable: one compiled version for data that may and may not be written."""
    x = x.view()
    x.flags.writeable = False
    return x


@_njit
def _ends(mask, first, last):
    lines, n = mask.shape
    for line in range(lines):
        for x in range(n):
            if not mask[line, x]:
                first[line] = x + 1
                break
        if first[line]:
            x = n - 1
            while mask[line, x]:
                x -= 1
            last[line] = n - x


@_njit
def _runs(mask, before, after, weight, reach, far, out):
    lines, n = mask.shape
    never = np.int64(1) << 40
    kind = out.dtype.type
    step = np.empty(n, np.int64)
    for line in range(lines):
        k = before[line] - 1 if before[line] else never
        for x in range(n):
            k = k + 1 if mask[line, x] else 0
            step[x] = k
        k = after[line] - 1 if after[line] else never
        for x in range(n - 1, -1, -1):
            k = k + 1 if mask[line, x] else 0
            d = min(k, step[x])
            out[line, x] = kind(weight * d * d) if d <= reach else kind(far)


@_njit
def _roots(square, far, numerator, denominator, out):
    limit = square.dtype.type(far)
    if denominator == 1.0:
        for i in range(square.size):
            out[i] = np.sqrt(np.float64(square[i]) * numerator)
    else:
        for i in range(square.size):
            out[i] = np.sqrt(np.float64(square[i]) * numerator / denominator)
    for i in range(square.size):
        if square[i] >= limit:
            out[i] = np.inf


@_njit
def load(flat, line, lines, n, inner, tile):
    """TILE lines from `line` on, side by side; 0 where there are no more."""
    width = min(TILE, lines - line)
    at = (line // inner) * n * inner + line % inner
    if line % inner + width <= inner:
        for r in range(n):
            row = at + r * inner
            for t in range(width):
                tile[r, t] = flat[row + t]
    else:
        for t in range(width):
            at = ((line + t) // inner) * n * inner + (line + t) % inner
            for r in range(n):
                tile[r, t] = flat[at + r * inner]
    if width < TILE:
        tile[:, width:] = 0


@_njit
def store(tile, line, lines, n, inner, flat):
    width = min(TILE, lines - line)
    at = (line // inner) * n * inner + line % inner
    if line % inner + width <= inner:
        for r in range(n):
            row = at + r * inner
            for t in range(width):
                flat[row + t] = tile[r, t]
    else:
        for t in range(width):
            at = ((line + t) // inner) * n * inner + (line + t) % inner
            for r in range(n):
                flat[at + r * inner] = tile[r, t]


@_njit
def top_of(row):
    top = row[0]
    for t in range(TILE):
        top = max(top, row[t])
    return top


@_njit
def _lower(source, out, sizes):
    """`sizes`: outer, inner, n (of source), m (of out), place of source's first voxel in out, weight, reach, far."""
    outer, inner, n, m, first, weight, reach, far = sizes
    kind = out.dtype.type
    a = np.empty((n, TILE), source.dtype)
    b = np.empty((m, TILE), out.dtype)
    top, least = np.empty(TILE, out.dtype), np.empty(TILE, out.dtype)
    vertex, begin = np.empty(n, np.int64), np.empty(n, np.int64)
    lines = outer * inner
    gap = max(0, first - (m - 1), -(first + n - 1))
    if gap > reach:
        return
    # the envelope looks at all pairs of a line, also those farther apart than `reach`
    span = np.float64(n + m + abs(first))
    steps = STEPS if weight * span * span < 2.0**60 else reach
    for line in range(0, lines, TILE):
        load(out, line, lines, m, inner, b)
        top[:] = b[0]
        for i in range(1, m):
            for t in range(TILE):
                top[t] = max(top[t], b[i, t])
        if weight * gap * gap >= np.int64(top_of(top)):
            continue
        load(source, line, lines, n, inner, a)
        least[:] = a[0]
        for i in range(1, n):
            for t in range(TILE):
                least[t] = min(least[t], a[i, t])
        useful = False
        for t in range(TILE):
            useful |= np.int64(least[t]) + weight * gap * gap < np.int64(top[t])
        if not useful:
            continue
        still = 0
        for i in range(m):
            k = max(1, first - i, i - (first + n - 1))
            last = min(reach, max(first + n - 1 - i, i - first))
            row = b[i]
            row_top = np.int64(top_of(row))
            begun = k
            while k <= last and weight * k * k < row_top:
                if k - begun >= steps:
                    still += 1
                    break
                stop = min(k + 4, last + 1)
                for j in range(k, stop):
                    step = kind(weight * j * j)
                    low, high = i - j - first, i + j - first
                    if 0 <= low < n:
                        left = a[low]
                        if 0 <= high < n:
                            right = a[high]
                            for t in range(TILE):
                                row[t] = min(row[t], kind(min(left[t], right[t]) + step))
                        else:
                            for t in range(TILE):
                                row[t] = min(row[t], kind(left[t] + step))
                    elif 0 <= high < n:
                        right = a[high]
                        for t in range(TILE):
                            row[t] = min(row[t], kind(right[t] + step))
                k = stop
                row_top = np.int64(top_of(row))
            if 4 * still > m:
                break
        if still:
            for t in range(min(TILE, lines - line)):
                _envelope(a, b, t, first, weight, far, vertex, begin)
        store(b, line, lines, m, inner, out)


@_njit
def _envelope(a, b, t, first, weight, far, vertex, begin):
    """One line of a tile by the lower envelope of its parabolas."""
    n, m = a.shape[0], b.shape[0]
    kind = b.dtype.type
    top = np.int64(0)
    for i in range(m):
        top = max(top, np.int64(b[i, t]))
    last = -1
    for j in range(n):
        f = np.int64(a[j, t])
        if f >= far or f >= top:
            continue
        p = first + j
        start = np.int64(-(1 << 60))
        while last >= 0:
            v = vertex[last]
            q = first + v
            above = weight * (p - q) * (p + q) + f - np.int64(a[v, t])
            below = 2 * weight * (p - q)
            # the first voxel at which this parabola is the lower one
            start = above // below + 1
            if start > begin[last]:
                break
            last -= 1
            start = np.int64(-(1 << 60))
        if start < m:
            last += 1
            vertex[last] = j
            begin[last] = start
    if last < 0:
        return
    s = 0
    for i in range(m):
        while s < last and begin[s + 1] <= i:
            s += 1
        d = i - first - vertex[s]
        value = np.int64(a[vertex[s], t]) + weight * d * d
        if value < b[i, t]:
            b[i, t] = kind(value)
