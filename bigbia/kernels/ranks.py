"""Values as keys that sort the same: four compiled types instead of twelve, and a place for NaN. And ranks of keys.

    bool, uint8, int8      -> uint8          uint16, int16   -> uint16
    int32, uint32, float32 -> int32          int64, uint64, float64 -> int64

Signed to unsigned (and back) is a flipped sign bit. A float's bits sort as a signed integer once those of negative
numbers are flipped. NaN, of either sign, is the greatest key, as it sorts last in NumPy; -0.0 comes before 0.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numba as nb
import numpy as np

from bigbia.kernels.rows import Rows, continued, rows_of

_njit = nb.njit(nogil=True, cache=True, error_model="numpy")

KEYS: dict[int, np.dtype] = {
    1: np.dtype(np.uint8),
    2: np.dtype(np.uint16),
    4: np.dtype(np.int32),
    8: np.dtype(np.int64),
}


def key_dtype(dtype: np.dtype) -> np.dtype:
    return KEYS[4] if dtype == np.float16 else KEYS[dtype.itemsize]


def keys(x: np.ndarray) -> np.ndarray:
    """Contiguous, native, not writeable; the array itself where it is that already."""
    if x.dtype == np.float16:
        x = x.astype(np.float32)
    x = np.ascontiguousarray(x, x.dtype.newbyteorder("="))
    key = key_dtype(x.dtype)
    if x.dtype.kind == "f":
        out = np.empty(x.shape, key)
        (_keys32 if key.itemsize == 4 else _keys64)(_fixed(x.view(key)).reshape(-1), out.reshape(-1))
        return _fixed(out)
    if x.dtype.kind == "b" or x.dtype == key:
        return _fixed(x.view(key))
    return _fixed(_flipped(x.view(key)))


def values(key: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The values again; `key` is used up."""
    kind = dtype.newbyteorder("=")
    if kind.kind == "b" or kind == key.dtype:
        out = key.view(kind)
    elif kind.kind == "f":
        flat = key.reshape(-1)
        (_floats32 if key.itemsize == 4 else _floats64)(flat)
        out = flat.view(f"f{key.itemsize}").reshape(key.shape)
    else:
        out = _flipped(key).view(kind)
    return out.astype(dtype, copy=False)


def key_of(value: float, dtype: np.dtype) -> int:
    """The key of one number; beyond the range of a type of integers it is the nearest."""
    kind = dtype.newbyteorder("=")
    if kind.kind != "f":
        low, high = least_and_most(kind)
        number: Any = value if isinstance(value, (int, np.integer)) else min(max(float(value), low), high)
        value = min(max(int(number), low), high)
    with np.errstate(over="ignore"):
        return int(keys(np.array([value]).astype(kind))[0])


def least_and_most(dtype: np.dtype) -> tuple[int, int]:
    """The ends of a type of integers, or of bool."""
    if dtype.kind == "b":
        return 0, 1
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def _flipped(x: np.ndarray) -> np.ndarray:
    """The sign bit flipped: unsigned keys of signed values, or the other way round."""
    unsigned = x.view(f"u{x.itemsize}")
    return (unsigned ^ unsigned.dtype.type(1 << (8 * x.itemsize - 1))).view(x.dtype)


def _fixed(x: np.ndarray) -> np.ndarray:
    """Not writeable: one compiled version for data that may and may not be written."""
    x = x.view()
    x.flags.writeable = False
    return x


@_njit
def together(starts, row, length, tile):
    """How many short rows from one on are worked on as one stretch of memory, with what lies between them."""
    some = 1
    while row + some < starts.size:
        span = starts[row + some] - starts[row] + length
        if span > tile or span > 8 * (some + 1) * length:
            break
        some += 1
    return some


@_njit
def _keys32(bits, out):
    mask, infinite, nan = np.int32(0x7FFFFFFF), np.int32(0x7F800000), np.int32(0x7FC00000)
    for i in range(out.size):
        b = bits[i]
        k = np.int32(b ^ ((b >> 31) & mask))
        out[i] = nan if np.int32(b & mask) > infinite else k


@_njit
def _keys64(bits, out):
    mask, infinite, nan = np.int64(0x7FFFFFFFFFFFFFFF), np.int64(0x7FF0000000000000), np.int64(0x7FF8000000000000)
    for i in range(out.size):
        b = bits[i]
        k = b ^ ((b >> 63) & mask)
        out[i] = nan if (b & mask) > infinite else k


@_njit
def _floats32(x):
    for i in range(x.size):
        x[i] = np.int32(x[i] ^ ((x[i] >> 31) & np.int32(0x7FFFFFFF)))


@_njit
def _floats64(x):
    for i in range(x.size):
        x[i] = x[i] ^ ((x[i] >> 63) & np.int64(0x7FFFFFFFFFFFFFFF))


# ---- large windows: a histogram that moves along the row ---------------------------------------------------------------
_STEP = 64  # bins that are skipped at once where they lie on one side of the rank
_TOGETHER = 1 << 16  # voxels whose values are numbered at a time


def slid(
    image: np.ndarray, core: Sequence[slice], footprint: np.ndarray, rank: int, mode: str, fill: int
) -> np.ndarray:
    """The keys of a rank, by Huang's histogram: a step along the row changes only the ends of the footprint's runs.

    Keys of 8 and 16 bits are counted as they are. Wider ones are numbered first, a tile and its margin at a time: the
    numbers, in their order, are counted.
    """
    reach = reach_of_mask(footprint)
    out = np.empty([c.stop - c.start for c in core], image.dtype)
    if image.itemsize <= 2:
        rows = rows_of(image.astype(np.uint16, copy=False), core, reach, mode, fill)
        result = rows.empty(np.uint16)
        _slide_rows(rows, footprint, rank, 1 << (8 * image.itemsize), result)
        out[...] = result.reshape(rows.shape)
        return out
    for part in _tiles(out.shape, [a + b for a, b in reach], max(_TOGETHER, 6 * footprint.size)):
        wide = [(c.start + p.start - a, c.start + p.stop + b) for c, p, (a, b) in zip(core, part, reach)]
        known, numbers = np.unique(continued(image, wide, mode, fill), return_inverse=True)
        region = numbers.reshape([b - a for a, b in wide]).astype(np.int32)
        inner = [slice(a, n - b) for (a, b), n in zip(reach, region.shape)]
        rows = rows_of(region, inner, reach)
        result = rows.empty(np.int32)
        _slide_rows(rows, footprint, rank, len(known), result)
        out[part] = known[result].reshape(rows.shape)
    return out


def reach_of_mask(footprint: np.ndarray) -> list[tuple[int, int]]:
    """(before, after) along each axis of what a mask marks, from its centre; never less than 0."""
    spans = ((int(at.min()) - n // 2, int(at.max()) - n // 2) for at, n in zip(np.nonzero(footprint), footprint.shape))
    return [(max(0, -low), max(0, high)) for low, high in spans]


def _slide_rows(rows: Rows, footprint: np.ndarray, rank: int, bins: int, out: np.ndarray) -> None:
    one = [(0, 0)] * (footprint.ndim - 1)
    mask = np.pad(footprint, [*one, (1, 1)]).astype(np.int8)
    origin = [n // 2 for n in footprint.shape]
    # the place before a run begins to count is the first to leave; where it ends, the next is the first to enter
    first, end = (np.diff(mask, axis=-1) == step for step in (1, -1))
    leave, enter = (rows.places(ends, origin) for ends in (first, end))
    fine, coarse = np.zeros(bins + _STEP, np.int32), np.zeros(bins // _STEP + 2, np.int32)
    _slide(rows.flat, rows.starts, rows.places(footprint), leave, enter - 1, rank, fine, coarse, out)


def _tiles(shape: Sequence[int], more: Sequence[int], most: int) -> Iterator[tuple[slice, ...]]:
    """Boxes of at most so many voxels with their margins, or the smallest that are worth while."""
    size = list(shape)
    while np.prod([n + m for n, m in zip(size, more)], dtype=float) > most and max(size) > 8:
        axis = size.index(max(size))
        size[axis] = -(-size[axis] // 2)
    counts = [-(-n // k) for n, k in zip(shape, size)]
    for index in np.ndindex(*counts):
        yield tuple(slice(i * k, min(n, (i + 1) * k)) for i, k, n in zip(index, size, shape))


@_njit
def _slide(flat, starts, places, leave, enter, rank, fine, coarse, out):
    for row in range(starts.size):
        for k in range(places.size):
            v = np.intp(flat[starts[row] + places[k]])
            fine[v] += 1
            coarse[v // _STEP] += 1
        here, below = 0, 0  # the bin of the rank, and how many are in those below
        for i in range(out.shape[1]):
            at = starts[row] + i
            if i > 0:
                for k in range(leave.size):
                    v = np.intp(flat[at - 1 + leave[k]])
                    fine[v] -= 1
                    coarse[v // _STEP] -= 1
                    if v < here:
                        below -= 1
                for k in range(enter.size):
                    v = np.intp(flat[at + enter[k]])
                    fine[v] += 1
                    coarse[v // _STEP] += 1
                    if v < here:
                        below += 1
            while below > rank:
                if here % _STEP == 0 and below - coarse[here // _STEP - 1] > rank:
                    here -= _STEP
                    below -= coarse[here // _STEP]
                else:
                    here -= 1
                    below -= fine[here]
            while below + fine[here] <= rank:
                if here % _STEP == 0 and below + coarse[here // _STEP] <= rank:
                    below += coarse[here // _STEP]
                    here += _STEP
                else:
                    below += fine[here]
                    here += 1
            out[row, i] = here
        for k in range(places.size):  # empty again: sooner done than all bins
            v = np.intp(flat[starts[row] + out.shape[1] - 1 + places[k]])
            fine[v] -= 1
            coarse[v // _STEP] -= 1
