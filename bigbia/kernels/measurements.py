"""What one block knows of each of its objects: exact integers that add up over blocks.

Sums are kept as two integers, value = high * 2**shift + low, in units of `unit`: integer images exactly, floats as
fixed-point numbers with 2 x 38 bits below the image's largest magnitude (pre-rounding, Demmel & Nguyen 2013), so that
no sum depends on the order of the blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba as nb
import numpy as np

SHIFT_INTEGER = 32
SHIFT_FLOAT = 38
_njit = nb.njit(nogil=True, cache=True, error_model="numpy")


def geometry(labels: np.ndarray, origin: tuple[int, ...]) -> dict[str, np.ndarray]:
    """label, n, sum (n objects, ndim), low and high (inclusive) of each object of a block, in voxels of the whole
    image."""
    flat = _lines(labels)
    d = max(2, labels.ndim)
    lead = np.array(labels.shape[:-1] or (1,), np.int64)
    start = np.array((0,) * (d - labels.ndim) + origin, np.int64)
    found, rows = _collect(_geometry_lines, flat, (1 + 3 * d, np.int64), lead, start)
    total, low, high = (part[:, d - labels.ndim :] for part in np.split(rows[:, 1:], 3, axis=1))
    return {"label": found.astype(labels.dtype), "n": rows[:, 0], "sum": total, "low": low, "high": high}


def intensity(labels: np.ndarray, image: np.ndarray, unit: float = 0.0) -> dict[str, np.ndarray]:
    """label, sum and sum of squares (high, low), min, max and number of NaNs of each object of a block.

    `unit` is 0 for integer images; for floats the power of two above the largest magnitude of the whole image.
    """
    flat = _lines(labels)
    data = np.ascontiguousarray(image).reshape(flat.shape)
    if data.dtype == bool:
        data = data.view(np.uint8)
    if data.dtype.kind in "iu" and data.dtype.itemsize < 8:
        found, rows = _collect(_integer_lines, flat, (6, np.int64), _readonly(data))
        sums, ends, nans = rows[:, :4], rows[:, 4:6], np.zeros(len(found), np.int64)
    else:
        found, rows, ends = _collect(
            _float_lines, flat, (5, np.int64), _readonly(data.astype(np.float64, copy=False)), float(unit), ends=True
        )
        sums, nans = rows[:, :4], rows[:, 4]
    return {"label": found.astype(labels.dtype), "sums": sums, "min": ends[:, 0], "max": ends[:, 1], "nans": nans}


def _collect(
    kernel: Callable, labels: np.ndarray, table: tuple[int, Any], *args: Any, ends: bool = False
) -> list[np.ndarray]:
    """Run a kernel over the lines of a block.

    Its hash table of objects grows between lines. Rows in order of the labels.
    """
    n, m = labels.shape
    size = 1 << max(8, (2 * m + 2).bit_length())
    slots = np.full(size, -1, np.int64)
    found = np.empty(size // 2, np.int64)
    rows = [np.zeros((size // 2, table[0]), table[1])] + ([np.zeros((size // 2, 2))] if ends else [])
    line = count = 0
    while n and m:
        line, count = kernel(labels, line, count, slots, found, *rows, *args)
        if line == n:
            break
        size *= 4
        slots = np.full(size, -1, np.int64)
        found = np.concatenate([found, np.empty(size // 2 - len(found), np.int64)])
        rows = [np.concatenate([r, np.zeros((size // 2 - len(r), r.shape[1]), r.dtype)]) for r in rows]
        _rehash(slots, found, count)
    order = np.argsort(found[:count].astype(labels.dtype))  # uint64 labels are held as int64
    return [found[:count][order], *(r[:count][order] for r in rows)]


def _readonly(array: np.ndarray) -> np.ndarray:
    array = array.view()
    array.flags.writeable = False
    return array


def _lines(labels: np.ndarray) -> np.ndarray:
    if labels.dtype == bool:
        labels = labels.view(np.uint8)
    return _readonly(np.ascontiguousarray(labels).reshape(-1, labels.shape[-1] if labels.ndim else 1))


@_njit
def _slot(slots, found, count, key):
    """Where an object's row is, or `count`, its new row. Open addressing, hashed by a multiplication."""
    mask = slots.size - 1
    i = np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
    while True:
        s = slots[i]
        if s < 0:
            slots[i] = count
            found[count] = key
            return count
        if found[s] == key:
            return s
        i = (i + 1) & mask


@_njit
def _rehash(slots, found, count):
    for q in range(count):
        _slot(slots, found, q, found[q])


@_njit
def _geometry_lines(labels, line, count, slots, found, rows, lead, origin):
    """Row: n, sums, lows, highs."""
    d = lead.size + 1
    m = labels.shape[1]
    place = np.empty(lead.size, np.int64)
    for i in range(line, labels.shape[0]):
        if count + m > found.size:
            return i, count
        rest = i
        for a in range(lead.size - 1, -1, -1):
            place[a] = origin[a] + rest % lead[a]
            rest //= lead[a]
        j = 0
        while j < m:
            v = labels[i, j]
            if v == 0:
                j += 1
                continue
            k = j + 1
            while k < m and labels[i, k] == v:
                k += 1
            s = _slot(slots, found, count, np.int64(v))
            row = rows[s]
            if s == count:
                count += 1
                for a in range(d):
                    row[1 + d + a] = 1 << 62
                    row[1 + 2 * d + a] = -1
            length = k - j
            row[0] += length
            for a in range(d - 1):
                p = place[a]
                row[1 + a] += p * length
                row[1 + d + a] = min(row[1 + d + a], p)
                row[1 + 2 * d + a] = max(row[1 + 2 * d + a], p)
            x0, x1 = origin[d - 1] + j, origin[d - 1] + k - 1
            row[d] += (x0 + x1) * length // 2
            row[2 * d] = min(row[2 * d], x0)
            row[3 * d] = max(row[3 * d], x1)
            j = k
    return labels.shape[0], count


@_njit
def _integer_lines(labels, line, count, slots, found, rows, image):
    """Row: sum (0, low), sum of squares (high, low), min, max."""
    m = labels.shape[1]
    for i in range(line, labels.shape[0]):
        if count + m > found.size:
            return i, count
        j = 0
        while j < m:
            v = labels[i, j]
            if v == 0:
                j += 1
                continue
            s = _slot(slots, found, count, np.int64(v))
            row = rows[s]
            if s == count:
                count += 1
                row[4] = image[i, j]
                row[5] = image[i, j]
            total = np.int64(0)
            high = np.int64(0)
            low = np.int64(0)
            least = row[4]
            most = row[5]
            k = j
            while k < m and labels[i, k] == v:
                x = np.int64(image[i, k])
                total += x
                square = x * x  # below 2**64: as unsigned
                high += np.int64(np.uint64(square) >> np.uint64(32))
                low += square & 0xFFFFFFFF
                least = min(least, x)
                most = max(most, x)
                k += 1
            row[1] += total
            row[2] += high
            row[3] += low
            row[4] = least
            row[5] = most
            j = k
    return labels.shape[0], count


@_njit
def _float_lines(labels, line, count, slots, found, rows, ends, image, unit):
    """Row: sum (high, low), sum of squares (high, low), NaNs and infinities.

    X is at most unit: high counts steps of unit * 2**-38.
    """
    m = labels.shape[1]
    step = unit * 2.0**-38 if unit > 0 else 1.0
    step2 = unit * unit * 2.0**-38 if unit > 0 else 1.0
    fine = 2.0**38
    for i in range(line, labels.shape[0]):
        if count + m > found.size:
            return i, count
        for j in range(m):
            v = labels[i, j]
            if v == 0:
                continue
            x = image[i, j]
            s = _slot(slots, found, count, np.int64(v))
            row = rows[s]
            if s == count:
                count += 1
                ends[s, 0] = np.inf
                ends[s, 1] = -np.inf
            if x - x != 0:
                row[4] += 1
                continue
            q = np.rint(x / step)
            row[0] += np.int64(q)
            row[1] += np.int64(np.rint((x - q * step) / step * fine))
            square = x * x
            q = np.rint(square / step2)
            row[2] += np.int64(q)
            row[3] += np.int64(np.rint((square - q * step2) / step2 * fine))
            ends[s, 0] = min(ends[s, 0], x)
            ends[s, 1] = max(ends[s, 1], x)
    return labels.shape[0], count
