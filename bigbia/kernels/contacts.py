"""Which components touch across the border of two blocks, and what hangs together then."""

from __future__ import annotations

from itertools import product

import numba as nb
import numpy as np


def contacts(a: np.ndarray, b: np.ndarray, budget: int) -> np.ndarray:
    """Pairs of labels, as a << 32 | b, of two facing layers whose voxels touch; 0 is background.

    The layers lie opposite each other; voxels touch if they differ by at most `budget` diagonal steps within the layer.
    """
    if not a.any() or not b.any():
        return np.empty(0, np.int64)
    found = []
    for shift in product((-1, 0, 1), repeat=a.ndim):
        if sum(map(abs, shift)) <= budget:
            mine = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(shift, a.shape))
            other = tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(shift, a.shape))
            x, y = np.ascontiguousarray(a[mine]).reshape(-1), np.ascontiguousarray(b[other]).reshape(-1)
            found.append(_codes(x, y))
    return np.unique(np.concatenate(found))


@nb.njit(nogil=True, cache=True)
def _codes(a, b):
    out = np.empty(a.size, np.int64)
    count = 0
    last = np.int64(0)
    for i in range(a.size):
        if a[i] != 0 and b[i] != 0:
            code = (np.int64(a[i]) << 32) | np.int64(b[i])
            if code != last:
                out[count] = code
                count += 1
                last = code
    return out[:count].copy()


@nb.njit(nogil=True, cache=True)
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
