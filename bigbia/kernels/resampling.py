"""Images of another size: means of boxes of voxels, and interpolation between voxels.

Where a voxel of the result looks is computed from its place in the whole image, in float64, so the bits are the same
for every cut. The order of the sums is that of SciPy's interpolation: the corners of a cell in raster order, each
value times the weight along axis 0, then 1, and so on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numba as nb
import numpy as np

from bigbia.kernels.rows import plain

_njit = nb.njit(nogil=True, cache=True, error_model="numpy")


# ---- means of boxes --------------------------------------------------------------------------------------------------
def local_mean(block: np.ndarray, factors: Sequence[int], cval: float, dtype: np.dtype) -> np.ndarray:
    """The mean of every box of `factors` voxels; a box that the block's end cuts off is filled up with `cval`."""
    shape = tuple(-(-n // f) for n, f in zip(block.shape, factors))
    x = plain(block)
    lead = int(np.prod(factors[:-1], dtype=np.int64))
    if x.dtype.kind == "f" or x.dtype.itemsize == 8:
        sums = np.zeros(x.shape[-1], np.float64)
    else:  # integers exactly; those of 16 bits in 32, which are added twice as fast
        sums = np.zeros(x.shape[-1], np.int32 if x.dtype.itemsize <= 2 and lead < 2**15 else np.int64)
    rows = _rows_of_boxes(x.shape[:-1], factors[:-1], shape[:-1])
    out = np.empty((len(rows), shape[-1]), dtype)
    _local_mean(x.reshape(-1, x.shape[-1]), rows, int(factors[-1]), float(cval), sums, out)
    return out.reshape(shape)


def _rows_of_boxes(shape: Sequence[int], factors: Sequence[int], count: Sequence[int]) -> np.ndarray:
    """For each row of the result the rows of the block in its boxes, in raster order; -1 beyond the end."""
    rows = np.zeros((1, 1), np.int64)
    for n, f, m in zip(shape, factors, count):
        at = np.arange(m * f, dtype=np.int64).reshape(m, f)
        inside = (at < n)[None, :, None, :] & (rows >= 0)[:, None, :, None]
        rows = np.where(inside, rows[:, None, :, None] * n + at[None, :, None, :], -1)
        rows = rows.reshape(rows.shape[0] * m, -1)
    return rows


@_njit
def _add(sums, row):
    for j in range(sums.size):
        sums[j] += row[j]


@_njit
def _local_mean(x, rows, f, cval, sums, out):
    n = x.shape[1]
    full = rows.shape[1] * f
    for r in range(rows.shape[0]):
        sums[:] = 0
        there = 0
        for k in range(rows.shape[1]):
            if rows[r, k] >= 0:
                there += 1
                _add(sums, x[rows[r, k]])
        for i in range(out.shape[1]):
            stop = min(n, i * f + f)
            total = sums[i * f]
            for j in range(i * f + 1, stop):
                total += sums[j]
            missing = full - there * (stop - i * f)
            value = np.float64(total)
            if missing:
                value += missing * cval
            out[r, i] = value / full


# ---- interpolation ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Taps:
    """For each place along an axis of the result: the two voxels it lies between, and their weights.

    A voxel of -1 is the constant beyond the image. Nearest neighbours have the first voxel alone.
    """

    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray  # of low
    rest: np.ndarray  # of high
    same: bool = False  # no place of the whole axis lies between voxels; a block must not decide, as 0 * inf is NaN


def taps(first: int, last: int, n: int, m: int, order: int, mode: str) -> Taps:
    """The taps of the places first to last of an axis of n voxels that becomes m voxels long.

    The places and weights are those of `scipy.ndimage.zoom(..., grid_mode=True)` to the bit.
    """
    at = (np.arange(first, last, dtype=np.float64) + 0.5) * (n / m) - 0.5
    at = mapped(at, n, mode)
    if order == 0:
        low = _voxel(np.floor(at + 0.5).astype(np.int64), n, mode)
        return Taps(low, low, np.ones(len(at)), np.zeros(len(at)), True)
    start = np.floor(at)
    weight = 1.0 - (at - start)
    start = start.astype(np.int64)
    return Taps(_voxel(start, n, mode), _voxel(start + 1, n, mode), weight, 1.0 - weight, _on_voxels(n, m, mode))


@lru_cache(maxsize=64)
def _on_voxels(n: int, m: int, mode: str) -> bool:
    at = mapped((np.arange(m, dtype=np.float64) + 0.5) * (n / m) - 0.5, n, mode)
    return not (1.0 - (1.0 - (at - np.floor(at)))).any()


def mapped(at: np.ndarray, n: int, mode: str) -> np.ndarray:
    """Places beyond the image mapped into it; the image is at most 1 voxel away from them."""
    if mode in ("nearest", "constant"):
        return at
    if n == 1:
        return np.where((at < 0) | (at > 0), 0.0, at)
    before = at < 0
    if mode == "mirror":
        return np.where(before, -at, np.where(at >= n, 2 * n - 2 - at, at))
    if mode == "reflect":
        return np.where(before, np.where(at > -1e-15, 1e-15, -at) - 1, np.where(at >= n, 2 * n - at - 1, at))
    if mode == "wrap":
        return np.where(before, at + n, np.where(at >= n, at - n, at))
    raise ValueError(f"mode {mode!r}")


def _voxel(i: np.ndarray, n: int, mode: str) -> np.ndarray:
    """The voxel that stands at a place at most two voxels beyond the image; -1 for the constant."""
    if mode == "constant":
        return np.where((i < 0) | (i >= n), -1, i)
    if mode == "nearest" or n == 1:
        return np.clip(i, 0, n - 1)
    if mode == "mirror":
        i = i % (2 * n - 2)
        return np.where(i < n, i, 2 * n - 2 - i)
    if mode == "reflect":
        i = i % (2 * n)
        return np.where(i < n, i, 2 * n - 1 - i)
    return i % n


def nearest(block: np.ndarray, axes: Sequence[Taps], cval: float) -> np.ndarray:
    """The voxels at the taps along each axis."""
    out = block
    for axis, t in enumerate(axes):
        if not np.array_equal(t.low, np.arange(out.shape[axis])):
            beyond = t.low < 0
            out = np.take(out, np.maximum(t.low, 0), axis)
            if beyond.any():
                out[(slice(None),) * axis + (beyond,)] = np.asarray(cval).astype(block.dtype)
    return out if out is not block else block.copy()


def linear(block: np.ndarray, axes: Sequence[Taps], cval: float, dtype: np.dtype) -> np.ndarray:
    """Linear interpolation of a block along all its axes: for each axis its taps, voxels counted within the block."""
    x = interpolated_type(plain(block))
    shape = tuple(len(t.low) for t in axes)
    *outer, last = axes
    rows, weights = _corners(outer, x.shape[:-1])
    out = np.empty((rows.shape[0], shape[-1]), dtype)
    _linear(
        x.reshape(-1, x.shape[-1]),
        rows,
        weights,
        *(last.low, last.high, last.weight, last.rest),
        bool(last.same),
        float(cval),
        out,
    )
    return out.reshape(shape)


def interpolated_type(x: np.ndarray) -> np.ndarray:
    """Of a type that interpolation is compiled for; the others as float64, which they become anyway."""
    if x.dtype in (np.uint8, np.uint16, np.float32, np.float64):
        return x
    x = x.astype(np.float64)
    x.flags.writeable = False
    return x


def _corners(outer: Sequence[Taps], shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(rows of the result, corners): which row of the block, and (rows, corners, axes) its weights, axis by axis.

    Axes without a place between voxels have one corner and no weight.
    """
    rows: np.ndarray = np.zeros((1, 1), np.int64)
    weights: np.ndarray = np.ones((1, 1, 0))
    for t, n in zip(outer, shape):
        at = t.low[:, None] if t.same else np.stack([t.low, t.high], 1)
        inside = (at >= 0)[None, :, None, :] & (rows >= 0)[:, None, :, None]
        rows = np.where(inside, rows[:, None, :, None] * n + at[None, :, None, :], -1)
        corners = rows.shape[2] * rows.shape[3]
        before: np.ndarray = np.broadcast_to(weights[:, None, :, None], (*rows.shape, weights.shape[-1]))
        if not t.same:
            own = np.broadcast_to(np.stack([t.weight, t.rest], 1)[None, :, None, :, None], (*rows.shape, 1))
            before = np.concatenate([before, own], -1)
        rows = rows.reshape(-1, corners)
        weights = before.reshape(rows.shape[0], corners, -1)
    return rows, np.ascontiguousarray(weights)


@_njit
def _take(row, at, cval, out):
    for j in range(at.size):
        out[j] = row[at[j]] if at[j] >= 0 else cval


@_njit
def _take_inside(row, at, out):
    for j in range(at.size):
        out[j] = row[at[j]]


@_njit
def _weigh(values, w, v, total):
    for j in range(total.size):
        total[j] += values[j] * w * v[j]


@_njit
def _weigh_two(values, w0, w1, v, total):
    for j in range(total.size):
        total[j] += values[j] * w0 * w1 * v[j]


@_njit
def _times(values, w):
    for j in range(values.size):
        values[j] *= w


@_njit
def _linear(x, rows, weights, low, high, weight, rest, same, cval, out):
    m = out.shape[1]
    values = np.empty(m, np.float64)
    total = np.empty(m, np.float64)
    axes = weights.shape[2]
    beyond = False
    for j in range(m):
        beyond = beyond or low[j] < 0 or high[j] < 0
    for r in range(out.shape[0]):
        total[:] = 0.0
        for k in range(rows.shape[1]):
            row = x[max(rows[r, k], 0)]
            for end in range(1 if same else 2):
                at = high if end else low
                v = rest if end else weight
                if rows[r, k] < 0:
                    values[:] = cval
                elif beyond:
                    _take(row, at, cval, values)
                else:
                    _take_inside(row, at, values)
                a = 0
                while axes - a > 2:
                    _times(values, weights[r, k, a])
                    a += 1
                if axes - a == 2:
                    _weigh_two(values, weights[r, k, a], weights[r, k, a + 1], v, total)
                elif axes - a == 1:
                    _weigh(values, weights[r, k, a], v, total)
                else:
                    _weigh(values, 1.0, v, total)
        for j in range(m):
            out[r, j] = total[j]


def spread(at: np.ndarray, longest: int) -> list[tuple[int, int]]:
    """The runs (start, stop) of an axis that hold the voxels `at`: one, or two where the ends of the image meet."""
    at = np.unique(at[at >= 0])
    if not len(at):
        return [(0, 1)]
    cuts = np.flatnonzero(np.diff(at) > longest)
    begins = [0, *(cuts + 1).tolist()]
    ends = [*cuts.tolist(), len(at) - 1]
    return [(int(at[a]), int(at[b]) + 1) for a, b in zip(begins, ends)]


def within(t: Taps, runs: Sequence[tuple[int, int]]) -> Taps:
    """The taps, counted in the runs put one after the other."""
    starts = np.array([a for a, _ in runs], np.int64)
    shift = np.cumsum([0, *(b - a for a, b in runs[:-1])]) - starts

    def moved(i: np.ndarray) -> np.ndarray:
        which = np.maximum(np.searchsorted(starts, i, "right") - 1, 0)
        return np.where(i < 0, -1, i + shift[which])

    return Taps(moved(t.low), moved(t.high), t.weight, t.rest, t.same)


def reach_of_taps(n: int, m: int) -> int:
    """No gap between voxels that neighbouring places use is longer."""
    return math.ceil(n / m) + 2
