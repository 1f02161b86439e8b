"""Plateaus of a block: which voxels have no higher neighbour, and which of those have an equal one that has.

The highest of a voxel's neighbours is the highest of a few lines of voxels, each first widened by one voxel along
itself where the connectivity reaches around the corner: 8 comparisons in 3D for 26 neighbours, each of whole lines.
"""

from __future__ import annotations

from itertools import product

import numba as nb
import numpy as np

from bigbia.kernels.values import neighbour, readonly, unravel

_njit = nb.njit(nogil=True, cache=True, error_model="numpy")


def plateaus(block: np.ndarray, connectivity: int, minima: bool = False, borders: bool = True) -> np.ndarray:
    """Of each voxel 0: it has a higher neighbour; 1: it has none; 2: none, but an equal one that has; uint8.

    minima   lower neighbours in place of higher ones
    borders  otherwise a voxel of the block's own border that would be 1 is 2

    Of bool, integers and floats without NaN, 1 axis or more; of a voxel it says what is right for the whole image where
    the block reaches 2 voxels beyond it. Adjacent voxels other than 0 are equal.
    """
    keys = ascending(block, minima)
    if not keys.size:
        return np.zeros(block.shape, np.uint8)
    lines = readonly(keys.reshape(-1, keys.shape[-1]))
    lead = np.array(block.shape[:-1], np.int64)
    near = _near(block.ndim, connectivity)
    wide, hidden = np.empty(lines.shape, lines.dtype), np.empty(lines.shape, lines.dtype)
    wide_rest, rest, out = (np.empty(lines.shape, np.uint8) for _ in range(3))
    lowest = lines.dtype.type(-np.inf if lines.dtype.kind == "f" else 0)
    _widen(lines, wide)
    _highest(lines, readonly(wide), lead, near, lowest, out, rest, hidden)
    _widen(readonly(hidden), wide)
    _widen(readonly(rest), wide_rest)
    _leaky(lines, readonly(hidden), readonly(wide), readonly(rest), readonly(wide_rest), lead, near, out)
    out = out.reshape(block.shape)
    if not borders:
        for axis in range(out.ndim):
            for end in (slice(0, 1), slice(-1, None)):
                face = out[(slice(None),) * axis + (end,)]
                face[face == 1] = 2
    return out


def ascending(block: np.ndarray, minima: bool = False) -> np.ndarray:
    """Unsigned numbers or floats in the order of the voxels, or in the opposite one; contiguous, in native bytes."""
    if block.dtype.kind == "f":
        kind = np.float32 if block.dtype.itemsize == 2 else block.dtype.newbyteorder("=")
        data = np.ascontiguousarray(block, kind)
        return -data if minima else data
    if block.dtype == bool:
        data = np.ascontiguousarray(block).view(np.uint8)
        return data ^ np.uint8(1) if minima else data
    data = np.ascontiguousarray(block, block.dtype.newbyteorder("=")).view(f"u{block.dtype.itemsize}")
    ones = int(np.iinfo(data.dtype).max)
    flip = (ones // 2 + 1 if block.dtype.kind == "i" else 0) ^ (ones if minima else 0)
    return data ^ data.dtype.type(flip) if flip else data


def _near(ndim: int, connectivity: int) -> np.ndarray:
    """Steps to the lines around a line; the last column says whether they are meant widened."""
    steps = [o for o in product((-1, 0, 1), repeat=ndim - 1) if 0 < np.abs(o).sum() <= connectivity]
    rows = [(*o, int(np.abs(o).sum() < connectivity)) for o in steps]
    return np.array(rows, np.int64).reshape(-1, ndim)


@_njit
def _widen(lines, out):
    """The highest of each voxel and its two neighbours on its line."""
    n, m = lines.shape
    for i in range(n):
        a, b = lines[i], out[i]
        for j in range(m):
            b[j] = a[j]
        before, after = a[: m - 1], a[1:]
        first, last = b[: m - 1], b[1:]
        # one line a loop: two stores that may alias are not vectorised
        for j in range(m - 1):
            first[j] = after[j] if after[j] > first[j] else first[j]
        for j in range(m - 1):
            last[j] = before[j] if before[j] > last[j] else last[j]


@_njit
def _around(lines, wide, i, place, lead, near, row):
    """The highest of each voxel of line i and its neighbours."""
    m = row.size
    a = wide[i]
    for j in range(m):
        row[j] = a[j]
    for q in range(near.shape[0]):
        k = neighbour(i, place, lead, near[q])
        if k >= 0:
            b = wide[k] if near[q, lead.size] else lines[k]
            for j in range(m):
                row[j] = b[j] if b[j] > row[j] else row[j]


@_njit
def _highest(lines, wide, lead, near, lowest, out, rest, hidden):
    """out: which voxels have no higher neighbour;  rest: the others;  hidden: the image without the first.

    They are as low as can be in `hidden`. Where that is a real value, `rest` tells them apart.
    """
    n, m = lines.shape
    place = np.empty(lead.size, np.int64)
    row = np.empty(m, lines.dtype)
    for i in range(n):
        unravel(i, lead, place)
        _around(lines, wide, i, place, lead, near, row)
        a, b, c, d = lines[i], out[i], rest[i], hidden[i]
        for j in range(m):
            b[j] = row[j] <= a[j]
        for j in range(m):
            c[j] = row[j] > a[j]
        for j in range(m):
            d[j] = a[j] if row[j] > a[j] else lowest


@_njit
def _leaky(lines, hidden, wide, rest, wide_rest, lead, near, out):
    """Voxels that are 1 with an equal neighbour that is 0 become 2: the highest neighbour that is 0 is as high."""
    n, m = lines.shape
    place = np.empty(lead.size, np.int64)
    row, beside = np.empty(m, lines.dtype), np.empty(m, rest.dtype)
    for i in range(n):
        a, b = lines[i], out[i]
        some = nb.uint8(0)
        for j in range(m):
            some |= b[j]
        if not some:
            continue
        unravel(i, lead, place)
        _around(rest, wide_rest, i, place, lead, near, beside)
        some = nb.uint8(0)
        for j in range(m):
            some |= beside[j] & b[j]
        if not some:  # in the midst of a plateau
            continue
        _around(hidden, wide, i, place, lead, near, row)
        for j in range(m):
            b[j] += b[j] & beside[j] & (row[j] == a[j])
