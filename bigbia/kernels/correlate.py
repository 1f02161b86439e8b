"""Weighted sums over a neighbourhood of any shape, bit for bit `scipy.ndimage.correlate`, and edge strengths from them.

SciPy adds the taps in raster order in float64 and leaves out those of no weight. So does this, for a row of voxels at
once and six taps a pass over the sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba as nb
import numpy as np

from bigbia.kernels.rows import Rows, plain, rows_of

_ROW = 512  # voxels of a row whose sums stay in the nearest cache
_njit = nb.njit(nogil=True, cache=True, error_model="numpy")


def correlate(
    block: np.ndarray,
    *,
    weights: np.ndarray,
    origin: Sequence[int] | None = None,
    mode: str,
    cval: float = 0.0,
    output: np.dtype | type,
    core: Sequence[slice] | None = None,
) -> np.ndarray:
    """The weights laid over every voxel, their element `origin` on it (the middle, `n // 2`)."""
    origin = [n // 2 for n in weights.shape] if origin is None else origin
    rows = _rows(block, core, [(o, n - 1 - o) for o, n in zip(origin, weights.shape)], mode, cval)
    places, taps = _taps(rows, weights, origin)
    out = rows.empty(output)
    _sums(rows.flat, rows.starts, places, taps, out)
    return out.reshape(rows.shape)


def edges(
    block: np.ndarray,
    *,
    weights: Sequence[np.ndarray],
    share: float | None,
    mode: str,
    cval: float = 0.0,
    output: np.dtype | type,
    core: Sequence[slice] | None = None,
) -> np.ndarray:
    """The correlation with one mask of 3 voxels a side; or, of several, the root of their squares' sum over `share`."""
    rows = _rows(block, core, [(n // 2, n // 2) for n in weights[0].shape], mode, cval)
    several = [_taps(rows, w, [n // 2 for n in w.shape]) for w in weights]
    out = rows.empty(output)
    if share is None:
        _sums(rows.flat, rows.starts, *several[0], out)
    else:
        ends = np.cumsum([len(p) for p, _ in several])
        places, taps = (np.concatenate(part) for part in zip(*several))
        _lengths(rows.flat, rows.starts, ends, places, taps, np.sqrt(share, dtype=out.dtype), out)
    return out.reshape(rows.shape)


def _rows(block: np.ndarray, core: Sequence[slice] | None, reach: Sequence, mode: str, cval: float) -> Rows:
    block = plain(block)
    if mode == "constant" and np.asarray(cval).astype(block.dtype) != cval:
        block = block.astype(np.float64)  # what lies beyond is not rounded to the image's dtype
    return rows_of(block, core, reach, mode, cval)


def _taps(rows: Rows, weights: np.ndarray, origin: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    weights = np.asarray(weights, np.float64)
    used = np.abs(weights) > np.finfo(float).eps  # SciPy's own limit
    return rows.places(used, origin), weights[used]


@_njit
def _one(acc, x, w):
    for b in range(acc.size):
        acc[b] += x[b] * w


@_njit
def _six(acc, x0, x1, x2, x3, x4, x5, w0, w1, w2, w3, w4, w5):
    for b in range(acc.size):
        a = acc[b] + x0[b] * w0
        a = a + x1[b] * w1
        a = a + x2[b] * w2
        a = a + x3[b] * w3
        a = a + x4[b] * w4
        acc[b] = a + x5[b] * w5


@_njit
def _add(acc, flat, at, t, places, taps):
    """All taps of a stretch of t voxels, in their order."""
    for b in range(t):
        acc[b] = 0.0
    k = 0
    while k + 6 <= places.size:
        p0, p1, p2 = at + places[k], at + places[k + 1], at + places[k + 2]
        p3, p4, p5 = at + places[k + 3], at + places[k + 4], at + places[k + 5]
        _six(
            acc[:t],
            flat[p0 : p0 + t],
            flat[p1 : p1 + t],
            flat[p2 : p2 + t],
            flat[p3 : p3 + t],
            flat[p4 : p4 + t],
            flat[p5 : p5 + t],
            taps[k],
            taps[k + 1],
            taps[k + 2],
            taps[k + 3],
            taps[k + 4],
            taps[k + 5],
        )
        k += 6
    while k < places.size:
        p0 = at + places[k]
        _one(acc[:t], flat[p0 : p0 + t], taps[k])
        k += 1


@_njit
def _sums(flat, starts, places, taps, out):
    m = out.shape[1]
    acc = np.empty(min(m, _ROW), np.float64)
    for r in range(starts.size):
        for b0 in range(0, m, _ROW):
            t = min(_ROW, m - b0)
            _add(acc, flat, starts[r] + b0, t, places, taps)
            for b in range(t):
                out[r, b0 + b] = acc[b]


@_njit
def _lengths(flat, starts, ends, places, taps, root, out):
    """Root of the sum of the squares of several sums, each rounded to the type of `out` at every step."""
    m = out.shape[1]
    acc = np.empty(min(m, _ROW), np.float64)
    one = np.empty(acc.size, out.dtype)
    for r in range(starts.size):
        for b0 in range(0, m, _ROW):
            t = min(_ROW, m - b0)
            begin = 0
            for e in range(ends.size):
                _add(acc, flat, starts[r] + b0, t, places[begin : ends[e]], taps[begin : ends[e]])
                begin = ends[e]
                for b in range(t):
                    one[b] = acc[b]
                if e == 0:
                    for b in range(t):
                        out[r, b0 + b] = one[b] * one[b]
                else:
                    for b in range(t):
                        out[r, b0 + b] += one[b] * one[b]
            for b in range(t):
                out[r, b0 + b] = np.sqrt(out[r, b0 + b]) / root
