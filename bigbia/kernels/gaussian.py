"""Separable Gaussian of one block, bit for bit that of `scipy.ndimage.gaussian_filter`, at two to three times its speed.

SciPy filters axis by axis, rounds to the output type after each, and adds the taps of a line from the outermost pair
inwards in float64. The same additions in the same order give the same bits; the gain is in working on many lines at
once (the additions vectorise), four pairs of taps a pass over the accumulator, and in filtering only the lines that
the core of the block still needs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba as nb
import numpy as np

_TILE, _ROWS = (
    384,
    64,
)  # lines filtered together at most, and voxels of them: their window of float64 stays in the cache
_MODES = {"nearest": 0, "reflect": 1, "mirror": 2, "constant": 3, "wrap": 4}
_njit = nb.njit(nogil=True, cache=True, error_model="numpy")


def weights(sigma: float, truncate: float) -> np.ndarray:
    """Half of SciPy's kernel, from the centre outwards."""
    radius = int(truncate * float(sigma) + 0.5)
    x = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 / (sigma * sigma) * x**2)
    return (kernel / kernel.sum())[radius:]


def gaussian(
    block: np.ndarray,
    *,
    sigma: Sequence[float],
    truncate: float = 4.0,
    mode: str = "nearest",
    cval: float = 0.0,
    output: np.dtype | type = np.float32,
    core: Sequence[slice] | None = None,
) -> np.ndarray:
    """Smooth a block; with `core`, return only that part of it.

    Where the block ends the image is continued by `mode`.
    """
    dtype = np.dtype(output)
    core = [slice(0, n) for n in block.shape] if core is None else list(core)
    taps = [weights(s, truncate) if s > 1e-15 else None for s in sigma]  # SciPy's own limit
    code = _MODES[mode]
    out = block
    for axis, (w, part) in enumerate(zip(taps, core)):
        if w is None:
            out = out[(slice(None),) * axis + (part,)]
        elif axis == block.ndim - 2 and taps[-1] is not None:
            return _last_two(_plain(out), w, part, taps[-1], core[-1], code, cval, dtype)
        else:
            out = _along(_plain(out), axis, w, part, code, cval, dtype)
    return np.ascontiguousarray(out, dtype=dtype)


def _plain(x: np.ndarray) -> np.ndarray:
    """Contiguous, of a type the kernels know, and not writeable: one compiled version for data that may and may not be written."""
    if x.dtype == bool:
        x = x.view(np.uint8)
    elif x.dtype == np.float16 or not x.dtype.isnative:
        x = x.astype(np.float32)
    x = np.ascontiguousarray(x).view()
    x.flags.writeable = False
    return x


def _last_two(
    x: np.ndarray, w: np.ndarray, rows: slice, v: np.ndarray, part: slice, mode: int, cval: float, dtype: np.dtype
) -> np.ndarray:
    out = np.empty((*x.shape[:-2], rows.stop - rows.start, part.stop - part.start), dtype)
    planes = out.reshape(-1, *out.shape[-2:])
    _planes_and_lines(x.reshape(-1, *x.shape[-2:]), w, rows.start, v, part.start, mode, cval, planes)
    return out


def _along(x: np.ndarray, axis: int, w: np.ndarray, part: slice, mode: int, cval: float, dtype: np.dtype) -> np.ndarray:
    n, m = x.shape[axis], part.stop - part.start
    out = np.empty((*x.shape[:axis], m, *x.shape[axis + 1 :]), dtype)
    outer = int(np.prod(x.shape[:axis], dtype=np.int64))
    inner = int(np.prod(x.shape[axis + 1 :], dtype=np.int64))
    if inner == 1:
        _lines(x.reshape(outer, n), w, part.start, mode, cval, out.reshape(outer, m))
    else:
        _planes(x.reshape(outer, n, inner), w, part.start, mode, cval, out.reshape(outer, m, inner))
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
def _copy(out, x):
    for b in range(out.size):
        out[b] = x[b]


@_njit
def _fill(out, value):
    for b in range(out.size):
        out[b] = value


@_njit
def _weighted(acc, window, c, t, w):
    """The weighted sum of a window's rows around row c, in SciPy's order: the centre, then pairs from the outermost inwards."""
    k = w.size - 1
    _centre(acc, window[c, :t], w[0])
    while k >= 4:
        _four_pairs(
            acc,
            window[c - k, :t],
            window[c + k, :t],
            window[c - k + 1, :t],
            window[c + k - 1, :t],
            window[c - k + 2, :t],
            window[c + k - 2, :t],
            window[c - k + 3, :t],
            window[c + k - 3, :t],
            w[k],
            w[k - 1],
            w[k - 2],
            w[k - 3],
        )
        k -= 4
    while k > 0:
        _pair(acc, window[c - k, :t], window[c + k, :t], w[k])
        k -= 1


@_njit
def _planes(x, w, start, mode, cval, out):
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
                    _weighted(acc, window, i + r, t, w)
                    _copy(out[o, i0 + i, b0:b1], acc)


@_njit
def _planes_and_lines(x, w, start, v, begin, mode, cval, out):
    """Filter along the middle axis of (outer, n, inner), then along the last, plane by plane: the first result stays in the cache."""
    middle = np.empty((1, out.shape[1], x.shape[2]), out.dtype)
    for o in range(x.shape[0]):
        _planes(x[o : o + 1], w, start, mode, cval, middle)
        _lines(middle[0], v, begin, mode, cval, out[o])


@_njit
def _lines(x, w, start, mode, cval, out):
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
            _four_pairs(
                acc,
                line[r - k : r - k + m],
                line[r + k : r + k + m],
                line[r - k + 1 : r - k + 1 + m],
                line[r + k - 1 : r + k - 1 + m],
                line[r - k + 2 : r - k + 2 + m],
                line[r + k - 2 : r + k - 2 + m],
                line[r - k + 3 : r - k + 3 + m],
                line[r + k - 3 : r + k - 3 + m],
                w[k],
                w[k - 1],
                w[k - 2],
                w[k - 3],
            )
            k -= 4
        while k > 0:
            _pair(acc, line[r - k : r - k + m], line[r + k : r + k + m], w[k])
            k -= 1
        _copy(out[q], acc)
