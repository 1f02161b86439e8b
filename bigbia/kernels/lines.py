"""Filtering lines of a block with one-dimensional weights, axis after axis: bit for bit `scipy.ndimage.correlate1d`.

SciPy filters axis by axis, rounds to the output type after each, and adds the taps of a line from the outermost pair
inwards in float64. The same additions in the same order give the same bits; the gain is in working on many lines at
once (the additions vectorise), four pairs of taps a pass over the accumulator, and in filtering only the lines that
the core of the block still needs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba as nb
import numpy as np

from bigbia.kernels.rows import plain

_TILE, _ROWS = (
    384,
    64,
)  # lines filtered together at most, and voxels of them: their window of float64 stays in the cache
_MODES = {"nearest": 0, "reflect": 1, "mirror": 2, "constant": 3, "wrap": 4}
_njit = nb.njit(nogil=True, cache=True, error_model="numpy")


def separable(
    block: np.ndarray,
    taps: Sequence[np.ndarray | None],
    *,
    mode: str,
    cval: float,
    output: np.dtype | type,
    core: Sequence[slice] | None = None,
) -> np.ndarray:
    """Weight the lines of every axis that has taps; with `core`, return only that part of the block.

    Taps are as many before as after the voxel, the same on both sides or of opposite sign (derivatives). Where the
    block ends the image is continued by `mode`.
    """
    dtype = np.dtype(output)
    core = [slice(0, n) for n in block.shape] if core is None else list(core)
    code = _MODES[mode]
    halves = [None if w is None else _half(np.asarray(w, np.float64)) for w in taps]
    out = block
    for axis, (half, part) in enumerate(zip(halves, core)):
        if half is None:
            out = out[(slice(None),) * axis + (part,)]
        elif axis == block.ndim - 2 and halves[-1] is not None:
            return _last_two(plain(out), half, part, halves[-1], core[-1], code, cval, dtype)
        else:
            out = _along(plain(out), axis, half, part, code, cval, dtype)
    return np.ascontiguousarray(out, dtype=dtype)


def _half(w: np.ndarray) -> tuple[np.ndarray, bool]:
    """The taps from the centre back to the first, and whether those after the centre have the opposite sign."""
    r = len(w) // 2
    back = np.ascontiguousarray(w[r::-1])
    if len(w) % 2 and np.abs(w[r:] - back).max() <= np.finfo(float).eps:  # SciPy's own limit
        return back, False
    if len(w) % 2 and np.abs(w[r:] + back).max() <= np.finfo(float).eps:
        return back, True
    raise ValueError("the taps are neither even nor odd")


def _last_two(
    x: np.ndarray, w: tuple, rows: slice, v: tuple, part: slice, mode: int, cval: float, dtype: np.dtype
) -> np.ndarray:
    out = np.empty((*x.shape[:-2], rows.stop - rows.start, part.stop - part.start), dtype)
    planes = out.reshape(-1, *out.shape[-2:])
    _planes_and_lines(x.reshape(-1, *x.shape[-2:]), w[0], w[1], rows.start, v[0], v[1], part.start, mode, cval, planes)
    return out


def _along(x: np.ndarray, axis: int, w: tuple, part: slice, mode: int, cval: float, dtype: np.dtype) -> np.ndarray:
    n, m = x.shape[axis], part.stop - part.start
    out = np.empty((*x.shape[:axis], m, *x.shape[axis + 1 :]), dtype)
    outer = int(np.prod(x.shape[:axis], dtype=np.int64))
    inner = int(np.prod(x.shape[axis + 1 :], dtype=np.int64))
    if inner == 1:
        _lines(x.reshape(outer, n), w[0], w[1], part.start, mode, cval, out.reshape(outer, m))
    else:
        _planes(x.reshape(outer, n, inner), w[0], w[1], part.start, mode, cval, out.reshape(outer, m, inner))
    return out


@_njit
def _outside(i, n, mode):
    """Which voxel of a line of n continues it at i; -1: the constant."""
    if n == 1 and mode != 3:
        return 0
    if mode == 0:
        return 0 if i < 0 else n - 1
    if mode == 1:
        i = i % (2 * n)
        return i if i < n else 2 * n - 1 - i
    if mode == 2:
        i = i % (2 * n - 2)
        return i if i < n else 2 * n - 2 - i
    if mode == 4:
        return i % n
    return -1


@_njit
def _centre(acc, x, c):
    for b in range(acc.size):
        acc[b] = x[b] * c


@_njit
def _pair(acc, x, y, c):
    for b in range(acc.size):
        acc[b] += (x[b] + y[b]) * c


@_njit
def _four_pairs(acc, x0, y0, x1, y1, x2, y2, x3, y3, c0, c1, c2, c3):
    for b in range(acc.size):
        a = acc[b] + (x0[b] + y0[b]) * c0
        a = a + (x1[b] + y1[b]) * c1
        a = a + (x2[b] + y2[b]) * c2
        acc[b] = a + (x3[b] + y3[b]) * c3


@_njit
def _difference(acc, x, y, c):
    for b in range(acc.size):
        acc[b] += (x[b] - y[b]) * c


@_njit
def _four_differences(acc, x0, y0, x1, y1, x2, y2, x3, y3, c0, c1, c2, c3):
    for b in range(acc.size):
        a = acc[b] + (x0[b] - y0[b]) * c0
        a = a + (x1[b] - y1[b]) * c1
        a = a + (x2[b] - y2[b]) * c2
        acc[b] = a + (x3[b] - y3[b]) * c3


@_njit
def _copy(out, x):
    for b in range(out.size):
        out[b] = x[b]


@_njit
def _fill(out, value):
    for b in range(out.size):
        out[b] = value


@_njit
def _weighted(acc, window, c, t, w, odd):
    """The weighted sum of a window's rows around row c, in SciPy's order: the centre, then pairs from the outermost inwards."""
    k = w.size - 1
    _centre(acc, window[c, :t], w[0])
    while k >= 4:
        x0, y0 = window[c - k, :t], window[c + k, :t]
        x1, y1 = window[c - k + 1, :t], window[c + k - 1, :t]
        x2, y2 = window[c - k + 2, :t], window[c + k - 2, :t]
        x3, y3 = window[c - k + 3, :t], window[c + k - 3, :t]
        if odd:
            _four_differences(acc, x0, y0, x1, y1, x2, y2, x3, y3, w[k], w[k - 1], w[k - 2], w[k - 3])
        else:
            _four_pairs(acc, x0, y0, x1, y1, x2, y2, x3, y3, w[k], w[k - 1], w[k - 2], w[k - 3])
        k -= 4
    while k > 0:
        if odd:
            _difference(acc, window[c - k, :t], window[c + k, :t], w[k])
        else:
            _pair(acc, window[c - k, :t], window[c + k, :t], w[k])
        k -= 1


@_njit
def _planes(x, w, odd, start, mode, cval, out):
    """Filter along the middle axis of (outer, n, inner)."""
    outer, n, inner = x.shape
    m = out.shape[1]
    r = w.size - 1
    tile = -(-inner // (-(-inner // _TILE)))  # tiles of one width: a narrow last one would cost as much as a wide one
    window = np.empty((_ROWS + 2 * r, tile + 8), np.float64)  # row j holds line position start + i0 - r + j
    sums = np.empty(tile, np.float64)
    for o in range(outer):
        for b0 in range(0, inner, tile):
            b1 = min(inner, b0 + tile)
            t = b1 - b0
            acc = sums[:t]
            for i0 in range(0, m, _ROWS):
                rows = min(_ROWS, m - i0)
                for j in range(rows + 2 * r):
                    i = start + i0 - r + j
                    if i < 0 or i >= n:
                        i = _outside(i, n, mode)
                    if i < 0:
                        _fill(window[j, :t], cval)
                    else:
                        _copy(window[j, :t], x[o, i, b0:b1])
                for i in range(rows):
                    _weighted(acc, window, i + r, t, w, odd)
                    _copy(out[o, i0 + i, b0:b1], acc)


@_njit
def _planes_and_lines(x, w, odd, start, v, odd_line, begin, mode, cval, out):
    """Filter along the middle axis of (outer, n, inner), then along the last, plane by plane: the first result stays in the cache."""
    middle = np.empty((1, out.shape[1], x.shape[2]), out.dtype)
    for o in range(x.shape[0]):
        _planes(x[o : o + 1], w, odd, start, mode, cval, middle)
        _lines(middle[0], v, odd_line, begin, mode, cval, out[o])


@_njit
def _lines(x, w, odd, start, mode, cval, out):
    """Filter along the last axis of (lines, n)."""
    lines, n = x.shape
    m = out.shape[1]
    r = w.size - 1
    line = np.empty(m + 2 * r, np.float64)
    acc = np.empty(m, np.float64)
    for q in range(lines):
        inside0 = min(m + 2 * r, max(0, r - start))
        inside1 = max(inside0, min(m + 2 * r, n - start + r))
        for j in range(inside0):
            i = _outside(start - r + j, n, mode)
            line[j] = cval if i < 0 else x[q, i]
        first = start - r + inside0
        _copy(line[inside0:inside1], x[q, first : first + inside1 - inside0])
        for j in range(inside1, m + 2 * r):
            i = _outside(start - r + j, n, mode)
            line[j] = cval if i < 0 else x[q, i]
        _centre(acc, line[r : r + m], w[0])
        k = r
        while k >= 4:
            x0, y0 = line[r - k : r - k + m], line[r + k : r + k + m]
            x1, y1 = line[r - k + 1 : r - k + 1 + m], line[r + k - 1 : r + k - 1 + m]
            x2, y2 = line[r - k + 2 : r - k + 2 + m], line[r + k - 2 : r + k - 2 + m]
            x3, y3 = line[r - k + 3 : r - k + 3 + m], line[r + k - 3 : r + k - 3 + m]
            if odd:
                _four_differences(acc, x0, y0, x1, y1, x2, y2, x3, y3, w[k], w[k - 1], w[k - 2], w[k - 3])
            else:
                _four_pairs(acc, x0, y0, x1, y1, x2, y2, x3, y3, w[k], w[k - 1], w[k - 2], w[k - 3])
            k -= 4
        while k > 0:
            if odd:
                _difference(acc, line[r - k : r - k + m], line[r + k : r + k + m], w[k])
            else:
                _pair(acc, line[r - k : r - k + m], line[r + k : r + k + m], w[k])
            k -= 1
        _copy(out[q], acc)
