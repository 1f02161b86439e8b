"""What one block knows of each of its objects: exact integers that add up over blocks.

Sums are kept as two integers, value = high * 2**shift + low, in units of `unit`: integer images exactly, floats as fixed-point numbers with
2 x 38 bits below the image's largest magnitude (pre-rounding, Demmel & Nguyen 2013), so that no sum depends on the order of the blocks.
"""

from __future__ import annotations

import numba as nb
import numpy as np

SHIFT_INTEGER = 32
SHIFT_FLOAT = 38
_njit = nb.njit(nogil=True, cache=True, error_model="numpy")


def geometry(labels: np.ndarray, origin: tuple[int, ...]) -> dict[str, np.ndarray]:
    """label, n, sum (n objects, ndim), low and high (inclusive) of each object of a block, in voxels of the whole image."""
    flat, runs = _prepared(labels)
    lead = np.array(labels.shape[:-1] or (1,), np.int64)
    start = np.array(origin or (0,), np.int64)
    if labels.ndim == 1:
        start = np.array([0, *origin], np.int64)
    found, rows = _geometry(flat, lead, start, runs)
    n = rows[:, 0]
    total, low, high = np.split(rows[:, 1:], 3, axis=1)
    if labels.ndim == 1:
        total, low, high = total[:, 1:], low[:, 1:], high[:, 1:]
    order = np.argsort(found)
    return {"label": found[order].astype(labels.dtype), "n": n[order], "sum": total[order], "low": low[order], "high": high[order]}


def intensity(labels: np.ndarray, image: np.ndarray, unit: float = 0.0) -> dict[str, np.ndarray]:
    """label, sum and sum of squares (high, low), min, max and number of NaNs of each object of a block.

    `unit` is 0 for integer images; for floats the power of two above the largest magnitude of the whole image.
    """
    flat, runs = _prepared(labels)
    data = np.ascontiguousarray(image).reshape(flat.shape)
    if data.dtype == bool:
        data = data.view(np.uint8)
    if data.dtype.kind in "iu" and data.dtype.itemsize < 8:
        found, sums, low, high = _integer_intensity(flat, _readonly(data), runs)
        nans = np.zeros(len(found), np.int64)
    else:
        found, sums, low, high, nans = _float_intensity(flat, _readonly(data.astype(np.float64, copy=False)), float(unit), runs)
    order = np.argsort(found)
    return {
        "label": found[order].astype(labels.dtype),
        "sums": sums[order],
        "min": low[order],
        "max": high[order],
        "nans": nans[order],
    }


def _readonly(array: np.ndarray) -> np.ndarray:
    array = array.view()
    array.flags.writeable = False
    return array


def _prepared(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Labels as lines, and an upper bound of the number of objects."""
    if labels.dtype == bool:
        labels = labels.view(np.uint8)
    flat = np.ascontiguousarray(labels).reshape(-1, labels.shape[-1] if labels.ndim else 1)
    flat = _readonly(flat)
    return flat, int(_count_runs(flat))


@_njit
def _count_runs(labels):
    count = 0
    for i in range(labels.shape[0]):
        last = labels[i, 0]
        count += last != 0
        for j in range(1, labels.shape[1]):
            v = labels[i, j]
            count += (v != last) & (v != 0)
            last = v
    return count


@_njit
def _slot(keys, slots, found, count, key, mask):
    """Where an object's row is; a new row if it has none. Open addressing, hashed by a multiplication."""
    h = (np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)
    i = np.int64(h) & mask
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
def _table_size(runs):
    size = 16
    while size < 2 * runs:
        size *= 2
    return size


@_njit
def _grow(a, n):
    out = np.zeros((n, a.shape[1]), a.dtype)
    out[: a.shape[0]] = a
    return out


@_njit
def _geometry(labels, lead, origin, runs):
    d = lead.size + 1
    size = _table_size(min(runs, 1 << 16))
    slots = np.full(size, -1, np.int64)
    capacity = size // 2
    found = np.empty(capacity, np.int64)
    rows = np.zeros((capacity, 1 + 3 * d), np.int64)  # n, sums, low, high
    count = 0
    place = np.zeros(lead.size, np.int64)
    m = labels.shape[1]
    for i in range(labels.shape[0]):
        j = 0
        while j < m:
            v = labels[i, j]
            if v == 0:
                j += 1
                continue
            k = j + 1
            while k < m and labels[i, k] == v:
                k += 1
            s = _slot(found, slots, found, count, np.int64(v), size - 1)
            if s == count:
                count += 1
                for a in range(d):
                    rows[s, 1 + d + a] = 1 << 62
                    rows[s, 1 + 2 * d + a] = -1
                if count == capacity:  # double, and hash again
                    size *= 2
                    capacity = size // 2
                    slots = np.full(size, -1, np.int64)
                    grown = np.empty(capacity, np.int64)
                    for q in range(count):
                        _slot(grown, slots, grown, q, found[q], size - 1)
                    found = grown
                    rows = _grow(rows, capacity)
            length = k - j
            rows[s, 0] += length
            for a in range(d - 1):
                p = origin[a] + place[a]
                rows[s, 1 + a] += p * length
                rows[s, 1 + d + a] = min(rows[s, 1 + d + a], p)
                rows[s, 1 + 2 * d + a] = max(rows[s, 1 + 2 * d + a], p)
            x0, x1 = origin[d - 1] + j, origin[d - 1] + k - 1
            rows[s, d] += (x0 + x1) * length // 2
            rows[s, 2 * d] = min(rows[s, 2 * d], x0)
            rows[s, 3 * d] = max(rows[s, 3 * d], x1)
            j = k
        for a in range(lead.size - 1, -1, -1):
            place[a] += 1
            if place[a] < lead[a]:
                break
            place[a] = 0
    return found[:count].copy(), rows[:count].copy()


@_njit
def _integer_intensity(labels, image, runs):
    size = _table_size(min(runs, 1 << 16))
    slots = np.full(size, -1, np.int64)
    capacity = size // 2
    found = np.empty(capacity, np.int64)
    sums = np.zeros((capacity, 4), np.int64)  # sum high, low, squares high, low
    ends = np.zeros((capacity, 2), np.int64)
    count = 0
    m = labels.shape[1]
    for i in range(labels.shape[0]):
        j = 0
        while j < m:
            v = labels[i, j]
            if v == 0:
                j += 1
                continue
            s = _slot(found, slots, found, count, np.int64(v), size - 1)
            if s == count:
                count += 1
                ends[s, 0] = image[i, j]
                ends[s, 1] = image[i, j]
                if count == capacity:
                    size *= 2
                    capacity = size // 2
                    slots = np.full(size, -1, np.int64)
                    grown = np.empty(capacity, np.int64)
                    for q in range(count):
                        _slot(grown, slots, grown, q, found[q], size - 1)
                    found = grown
                    sums, ends = _grow(sums, capacity), _grow(ends, capacity)
            total = np.int64(0)
            high = np.int64(0)
            low = np.int64(0)
            least = ends[s, 0]
            most = ends[s, 1]
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
            sums[s, 1] += total
            sums[s, 2] += high
            sums[s, 3] += low
            ends[s, 0] = least
            ends[s, 1] = most
            j = k
    return found[:count].copy(), sums[:count].copy(), ends[:count, 0].copy(), ends[:count, 1].copy()


@_njit
def _float_intensity(labels, image, unit, runs):
    size = _table_size(min(runs, 1 << 16))
    slots = np.full(size, -1, np.int64)
    capacity = size // 2
    found = np.empty(capacity, np.int64)
    sums = np.zeros((capacity, 5), np.int64)  # sum high, low, squares high, low, NaNs
    ends = np.zeros((capacity, 2), np.float64)
    count = 0
    m = labels.shape[1]
    # x is at most unit: high in steps of unit * 2**-38, the rest in steps of 2**-38 of those
    step = unit * 2.0**-38 if unit > 0 else 1.0
    step2 = unit * unit * 2.0**-38 if unit > 0 else 1.0
    fine = 2.0**38
    for i in range(labels.shape[0]):
        for j in range(m):
            v = labels[i, j]
            if v == 0:
                continue
            x = image[i, j]
            s = _slot(found, slots, found, count, np.int64(v), size - 1)
            if s == count:
                count += 1
                ends[s, 0] = np.inf
                ends[s, 1] = -np.inf
                if count == capacity:
                    size *= 2
                    capacity = size // 2
                    slots = np.full(size, -1, np.int64)
                    grown = np.empty(capacity, np.int64)
                    for q in range(count):
                        _slot(grown, slots, grown, q, found[q], size - 1)
                    found = grown
                    sums, ends = _grow(sums, capacity), _grow(ends, capacity)
            if x - x != 0:  # NaN or infinity
                sums[s, 4] += 1
                continue
            q = np.rint(x / step)
            sums[s, 0] += np.int64(q)
            sums[s, 1] += np.int64(np.rint((x - q * step) / step * fine))
            square = x * x
            q = np.rint(square / step2)
            sums[s, 2] += np.int64(q)
            sums[s, 3] += np.int64(np.rint((square - q * step2) / step2 * fine))
            ends[s, 0] = min(ends[s, 0], x)
            ends[s, 1] = max(ends[s, 1], x)
    return found[:count].copy(), sums[:count, :4].copy(), ends[:count, 0].copy(), ends[:count, 1].copy(), sums[:count, 4].copy()
