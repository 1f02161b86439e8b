"""Which components touch across the border of two blocks, and what hangs together then."""

from __future__ import annotations

from itertools import product

import numba as nb
import numpy as np

from bigbia.kernels.components import lowest, ones
from bigbia.kernels.runs import step

_njit = nb.njit(nogil=True, cache=True)
BITS = 12
SEEN = 1 << BITS  # pairs remembered


def contacts(a: np.ndarray, b: np.ndarray, budget: int) -> np.ndarray:
    """Pairs of labels, as a << 32 | b, of two facing layers whose voxels touch; 0 is background.

    The layers lie opposite each other; voxels touch if they differ by at most `budget` diagonal steps within the layer.
    """
    if not a.any() or not b.any():
        return np.empty(0, np.int64)
    if a.ndim == 0:
        a, b = a.reshape(1), b.reshape(1)
    lead = a.shape[:-1]
    shifts = [s for s in product((-1, 0, 1), repeat=len(lead)) if sum(map(abs, s)) <= budget]
    shift = np.array(shifts, np.int64).reshape(len(shifts), len(lead))
    reach = np.array([sum(map(abs, s)) < budget for s in shifts], np.int64)
    mine, other = (np.ascontiguousarray(x).reshape(-1, x.shape[-1]) for x in (a, b))
    most = 3 * len(shifts) * a.shape[-1]  # that a row can find
    out = np.empty(4 * most, np.int64)
    seen = np.zeros(SEEN, np.int64)
    place = np.zeros(len(lead), np.int64)
    row = count = 0
    while True:
        row, count = _codes(mine, other, np.array(lead, np.int64), shift, reach, row, place, seen, out, count, most)
        if row == len(mine):
            found = np.sort(out[:count])
            return found[np.diff(found, prepend=0) != 0]
        out = np.concatenate([out, np.empty_like(out)])


@_njit
def _codes(a, b, lead, shift, reach, row, place, seen, out, count, most):
    """The pairs from a row on, as far as there is room for them.

    Few are found twice: `seen` remembers the latest. A word of voxels at a time: most find nothing but the last pair.
    """
    n, m = a.shape
    flat_a, flat_b = a.reshape(-1), b.reshape(-1)
    last_a, last_b = flat_a.dtype.type(0), flat_b.dtype.type(0)
    for i in range(row, n):
        if count + most > out.size:
            return i, count
        for k in range(shift.shape[0]):
            other = 0
            beside = True
            for axis in range(lead.size):
                p = place[axis] + shift[k, axis]
                beside &= (p >= 0) & (p < lead[axis])
                other = other * lead[axis] + p
            if not beside:
                continue
            for d in range(-reach[k], reach[k] + 1):
                stop = min(m, m - d)
                for start in range(max(0, -d), stop, 64):
                    x, y = np.uint64(i * m + start), np.uint64(other * m + start + d)  # unsigned: see components
                    size = min(64, stop - start)
                    new = np.uint64(0)
                    if size == 64:  # a loop of known length becomes vector instructions
                        for t in range(64):
                            new |= _new(flat_a, flat_b, x, y, t, last_a, last_b)
                    else:
                        for t in range(size):
                            new |= _new(flat_a, flat_b, x, y, t, last_a, last_b)
                    while new:
                        low = lowest(new)
                        new ^= low
                        at = np.uint64(ones(low - np.uint64(1)))
                        last_a, last_b = flat_a[x + at], flat_b[y + at]
                        code = np.int64(last_a) << 32 | np.int64(last_b)
                        slot = (np.uint64(code) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - BITS)
                        if seen[slot] != code:
                            seen[slot] = code
                            out[count] = code
                            count += 1
        step(place, lead)
    return n, count


@_njit
def _new(a, b, x, y, t, last_a, last_b):
    u, v = a[x + np.uint64(t)], b[y + np.uint64(t)]
    return np.uint64((u != 0) & (v != 0) & ((u != last_a) | (v != last_b))) << np.uint64(t)


@_njit
def united(pairs, count):
    """For each of `count` elements, the smallest of those it hangs together with through the pairs (n, 2)."""
    parent = np.arange(count)
    for k in range(pairs.shape[0]):
        a, b = pairs[k, 0], pairs[k, 1]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        if a < b:
            parent[b] = a
        elif b < a:
            parent[a] = b
    for i in range(count):  # parents come before their children
        parent[i] = parent[parent[i]]
    return parent
