"""Sums and means over a box around each voxel, the same for every crop of the image.

SciPy's uniform filter keeps a running sum along each line, whose rounding depends on where the line begins. Here a
sum of n voxels is put together from sums of 4, 16, 64, ... voxels, by the digits of n to the base 4: the order of the
additions depends on n alone.

    n = 11 = 3 + 2 * 4      sum = (x0 + x1 + x2) + (a + b),      a = (x3 + x4) + (x5 + x6),  b likewise

Axis by axis, in float64. Many lines at once, so that the additions vectorise, and only those lines that the core of
the block still needs. Where all sums are exact in float64 the result is SciPy's to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numba as nb
import numpy as np

from bigbia.kernels.rows import outside, plain

_TILE = 256  # lines added up together at most: their window of float64 stays in the cache
_KNOWN = ("u1", "u2", "f4", "f8")  # one compiled version each; other voxels become float64
RESULTS = {"variance": 0, "std": 1, "niblack": 2, "sauvola": 3}
_njit = nb.njit(nogil=True, cache=True, error_model="numpy")


def uniform(
    block: np.ndarray,
    *,
    size: Sequence[int],
    mode: str = "reflect",
    cval: float = 0.0,
    output: np.dtype | type = np.float32,
    core: Sequence[slice] | None = None,
) -> np.ndarray:
    """Mean over a box of `size`, rounded to `output` after each axis; with `core`, only of that part of the block.

    The box of a voxel begins `n // 2` before it. Where the block ends the image is continued by `mode`.
    """
    dtype = np.dtype(output)
    core = [slice(0, n) for n in block.shape] if core is None else list(core)
    out = block
    last = block.ndim - 1
    for axis, (n, part) in enumerate(zip(size, core)):
        if n == 1:
            out = out[(slice(None),) * axis + (part,)]
        elif axis == last - 1 and size[last] > 1:
            x, ends = _plain(out), core[last]
            out = np.empty((*x.shape[:-2], part.stop - part.start, ends.stop - ends.start), dtype)
            planes, means = x.reshape(-1, *x.shape[-2:]), out.reshape(-1, *out.shape[-2:])
            down, along = _places(part, n, x.shape[-2], mode), _places(ends, size[last], x.shape[-1], mode)
            _plane_means(planes, n, down, size[last], along, float(cval), means)
            return out
        else:
            out = _along(_plain(out), axis, n, part, mode, float(cval), float(n), False, dtype)
    return np.array(out, dtype, order="C") if max(size) == 1 else np.ascontiguousarray(out, dtype)


def moments(
    block: np.ndarray,
    *,
    size: Sequence[int],
    result: str,
    k: float = 0.0,
    r: float = 1.0,
    mode: str = "reflect",
    cval: float = 0.0,
    output: np.dtype | type = np.float32,
    core: Sequence[slice] | None = None,
) -> np.ndarray:
    """What follows from the sums of the voxels and of their squares over a box: `result` is one of `RESULTS`.

    k, r : of Niblack's and Sauvola's thresholds
    """
    core = [slice(0, n) for n in block.shape] if core is None else list(core)
    shape = tuple(part.stop - part.start for part in core)
    out = np.empty(shape, output)
    first = second = _plain(block)
    count, raw = 1, True
    for axis in range(block.ndim - 2):
        n, part = size[axis], core[axis]
        if n == 1:
            first = first[(slice(None),) * axis + (part,)]
            second = second[(slice(None),) * axis + (part,)]
            continue
        one, two = _plain(first), _plain(second)
        first = _along(one, axis, n, part, mode, cval * count, 1.0, False, np.dtype(np.float64))
        second = _along(two, axis, n, part, mode, cval * cval * count, 1.0, raw, np.dtype(np.float64))
        count, raw = count * n, False
    first, second = _plain(first), _plain(second)
    if block.ndim == 1:
        first, second, shape = first[None], second[None], (1, *shape)
        size, core = [1, *size], [slice(0, 1), *core]
    _plane_moments(
        first.reshape(-1, *first.shape[-2:]),
        second.reshape(-1, *second.shape[-2:]),
        raw,
        size[-2],
        _places(core[-2], size[-2], first.shape[-2], mode),
        size[-1],
        _places(core[-1], size[-1], first.shape[-1], mode),
        cval * count,
        cval * cval * count,
        RESULTS[result],
        math.prod(size),
        float(k),
        float(r),
        out.reshape(-1, *shape[-2:]),
    )
    return out


def _plain(x: np.ndarray) -> np.ndarray:
    """`plain`, of one of the few types that there is a compiled version for."""
    kind = x.dtype.str[1:]
    if kind not in (*_KNOWN, "b1", "f2"):  # the last two become known ones
        x = x.astype(np.float32 if kind in ("i1", "i2") else np.float64)
    return plain(x)


def _along(
    x: np.ndarray, axis: int, n: int, part: slice, mode: str, cval: float, by: float, square: bool, dtype: np.dtype
) -> np.ndarray:
    """Sums of n along an axis, divided."""
    m = part.stop - part.start
    out = np.empty((*x.shape[:axis], m, *x.shape[axis + 1 :]), dtype)
    outer = int(np.prod(x.shape[:axis], dtype=np.int64))
    inner = int(np.prod(x.shape[axis + 1 :], dtype=np.int64))
    at = _places(part, n, x.shape[axis], mode)
    if axis == x.ndim - 1:
        _lines(x.reshape(outer, -1), n, at, cval, by, square, out.reshape(outer, m))
    else:
        _planes(x.reshape(outer, x.shape[axis], inner), n, at, cval, by, square, out.reshape(outer, m, inner))
    return out


def _places(part: slice, n: int, length: int, mode: str) -> tuple[np.ndarray, int, int]:
    """Which voxels of a line lie in the boxes of a part of it, one after the other; -1: the constant.

    And from where to where these are its voxels as they are.
    """
    at = np.arange(part.start - n // 2, part.stop - n // 2 + n - 1)
    a, b = (int(k) for k in np.searchsorted(at, (0, length)))
    if mode == "constant":
        return np.where((at >= 0) & (at < length), at, -1), a, b
    return outside(at, length, mode), a, b


@_njit
def _copy(out, x):
    for b in range(out.size):
        out[b] = x[b]


@_njit
def _squared(out, x):
    for b in range(out.size):
        v = np.float64(x[b])
        out[b] = v * v


@_njit
def _divided(out, x, by):
    for b in range(out.size):
        out[b] = x[b] / by


@_njit
def _fill(out, value):
    for b in range(out.size):
        out[b] = value


@_njit
def _two(out, x, y):
    for b in range(out.size):
        out[b] = x[b] + y[b]


@_njit
def _three(out, x, y, z):
    for b in range(out.size):
        out[b] = (x[b] + y[b]) + z[b]


@_njit
def _four(out, x, y, z, w):
    for b in range(out.size):
        out[b] = (x[b] + y[b]) + (z[b] + w[b])


@_njit
def _add(acc, x):
    for b in range(acc.size):
        acc[b] += x[b]


@_njit
def _add_two(acc, x, y):
    for b in range(acc.size):
        acc[b] += x[b] + y[b]


@_njit
def _add_three(acc, x, y, z):
    for b in range(acc.size):
        acc[b] += (x[b] + y[b]) + z[b]


@_njit
def _digit(acc, digit, begun, x, y, z):
    if digit == 1:
        if begun:
            _add(acc, x)
        else:
            _copy(acc, x)
    elif digit == 2:
        if begun:
            _add_two(acc, x, y)
        else:
            _two(acc, x, y)
    elif begun:
        _add_three(acc, x, y, z)
    else:
        _three(acc, x, y, z)


@_njit
def _row_sums(window, rows, n, t, sums):
    """The sum of each n rows of a window, which is used up: sums[i] of the rows i to i + n - 1."""
    if 4 <= n < 8:  # few enough to be added at once
        for i in range(rows):
            acc = sums[i, :t]
            if n == 4 or n == 7:
                _four(acc, window[i, :t], window[i + 1, :t], window[i + 2, :t], window[i + 3, :t])
            else:
                _three(acc, window[i, :t], window[i + 1, :t], window[i + 2, :t])
            if n == 5:
                _add_two(acc, window[i + 3, :t], window[i + 4, :t])
            elif n > 5:
                _add_three(acc, window[i + n - 3, :t], window[i + n - 2, :t], window[i + n - 1, :t])
        return
    step, at, left, held, begun = 1, 0, n, rows + n - 1, False
    while left:
        digit, left = left % 4, left // 4
        for i in range(rows if digit else 0):
            a, b, c = i + at, i + at + min(digit - 1, 1) * step, i + at + (digit - 1) * step
            _digit(sums[i, :t], digit, begun, window[a, :t], window[b, :t], window[c, :t])
        begun = begun or digit > 0
        at += digit * step
        held -= 3 * step
        for i in range(held if left else 0):
            a, b, c = i + step, i + 2 * step, i + 3 * step
            _four(window[i, :t], window[i, :t], window[a, :t], window[b, :t], window[c, :t])
        step *= 4


@_njit
def _line_sums(x, y, m, n, acc):
    """The sum of each n values of a line x; it and y are used up."""
    step, at, left, held, begun = 1, 0, n, m + n - 1, False
    while left:
        digit, left = left % 4, left // 4
        if digit:
            b, c = at + min(digit - 1, 1) * step, at + (digit - 1) * step
            _digit(acc, digit, begun, x[at : at + m], x[b : b + m], x[c : c + m])
        begun = begun or digit > 0
        at += digit * step
        held -= 3 * step
        if left:
            a, b, c = step, 2 * step, 3 * step
            _four(y[:held], x[:held], x[a : a + held], x[b : b + held], x[c : c + held])
            x, y = y, x
        step *= 4


@_njit
def _planes(x, n, places, cval, by, square, out):
    """Sums along the middle axis of (outer, length, inner)."""
    outer, _, inner = x.shape
    at = places[0]
    m = out.shape[1]
    most = min(m, max(32, 2 * n))  # rows of a window: most of what it holds is used by all of its sums
    tile = -(-inner // (-(-inner // _TILE)))
    window = np.empty((most + n - 1, tile + 8), np.float64)  # row j holds the voxels at[i0 + j]
    sums = np.empty((most, tile + 8), np.float64)
    for o in range(outer):
        for b0 in range(0, inner, tile):
            b1 = min(inner, b0 + tile)
            t = b1 - b0
            for i0 in range(0, m, most):
                rows = min(most, m - i0)
                for j in range(rows + n - 1):
                    i = at[i0 + j]
                    if i < 0:
                        _fill(window[j, :t], cval)
                    elif square:
                        _squared(window[j, :t], x[o, i, b0:b1])
                    else:
                        _copy(window[j, :t], x[o, i, b0:b1])
                _row_sums(window, rows, n, t, sums)
                for i in range(rows):
                    if by == 1.0:
                        _copy(out[o, i0 + i, b0:b1], sums[i, :t])
                    else:
                        _divided(out[o, i0 + i, b0:b1], sums[i, :t], by)


@_njit
def _line(x, q, places, cval, square, line):
    """A row of x at some places."""
    at, a, b = places
    if a < b:
        if square:
            _squared(line[a:b], x[q, at[a] : at[a] + b - a])
        else:
            _copy(line[a:b], x[q, at[a] : at[a] + b - a])
    for j in range(at.size):
        if a <= j < b:
            continue
        i = at[j]
        v = cval if i < 0 else np.float64(x[q, i])
        line[j] = v * v if square and i >= 0 else v


@_njit
def _lines(x, n, places, cval, by, square, out):
    """Sums along the last axis of (lines, length)."""
    m = out.shape[1]
    line, other, acc = np.empty(m + n - 1), np.empty(m + n - 1), np.empty(m)
    for q in range(x.shape[0]):
        _line(x, q, places, cval, square, line)
        _line_sums(line, other, m, n, acc)
        if by == 1.0:
            _copy(out[q], acc)
        else:
            _divided(out[q], acc, by)


@_njit
def _plane_means(x, n, down, last, along, cval, out):
    """Means along the middle, then along the last axis, plane by plane: the first ones stay in the cache."""
    middle = np.empty((1, out.shape[1], x.shape[2]), out.dtype)
    for o in range(x.shape[0]):
        _planes(x[o : o + 1], n, down, cval, np.float64(n), False, middle)
        _lines(middle[0], last, along, cval, np.float64(last), False, out[o])


@_njit
def _plane_moments(x, y, raw, n, down, last, along, cval, squared, what, voxels, k, r, out):
    """The last two axes of the sums x and of the sums of squares y (which are still voxels if `raw`), and the result."""
    m = out.shape[2]
    sums = np.empty((1, out.shape[1], x.shape[2]), np.float64)
    squares = np.empty((1, out.shape[1], x.shape[2]), np.float64)
    line, other = np.empty(m + last - 1), np.empty(m + last - 1)
    one, two = np.empty(m), np.empty(m)
    count = np.float64(voxels)
    for o in range(x.shape[0]):
        _planes(x[o : o + 1], n, down, cval, 1.0, False, sums)
        _planes(y[o : o + 1], n, down, squared, 1.0, raw, squares)
        for q in range(out.shape[1]):
            _line(sums[0], q, along, cval * n, False, line)
            _line_sums(line, other, m, last, one)
            _line(squares[0], q, along, squared * n, False, line)
            _line_sums(line, other, m, last, two)
            if what < 2:
                _spread(out[o, q], one, two, count, what == 1)
            else:
                _threshold(out[o, q], one, two, count, k, r, what == 3)


@_njit
def _spread(out, one, two, count, root):
    """Variance, or its root: exact where count * squares is."""
    for b in range(out.size):
        v = (count * two[b] - one[b] * one[b]) / (count * count)
        v = 0.0 if v < 0 else v
        out[b] = math.sqrt(v) if root else v


@_njit
def _threshold(out, one, two, count, k, r, sauvola):
    """The steps of scikit-image's formulas, in their order."""
    for b in range(out.size):
        m = one[b] / count
        v = two[b] / count - m * m
        s = math.sqrt(0.0 if v < 0 else v)
        out[b] = m * (1 + k * ((s / r) - 1)) if sauvola else m - k * s
