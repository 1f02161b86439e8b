"""Points one after the other, best first: one stays if no point that stays lies too near.

Points that stay are found by cells of a grid, as large as the reach, that share a table of lists. A list may hold
points of several cells; how near they are is asked anyway.
"""

from __future__ import annotations

from itertools import product

import numba as nb
import numpy as np

_njit = nb.njit(nogil=True, cache=True)

STAYS, OPEN, GOES = 1, 0, -1  # what is known of a point
OTHERS, MINE, CUT_OFF = 0, 1, 2  # whose it is; CUT_OFF: mine, and not all that is near it is at hand


def decided(
    place: np.ndarray,
    group: np.ndarray,
    state: np.ndarray,
    whose: np.ndarray,
    reach: np.ndarray,
    costs: np.ndarray,
    limit: float,
) -> np.ndarray:
    """What becomes of the points, best first, as far as it can be told: the states with fewer that are open.

    place   (n, axes), whole numbers
    group   points of different groups do not see each other
    whose   others' open points stay open, and what is near them too, unless it goes
    reach, costs, limit
            two points are too near if they differ along no axis by more than `reach`, and the sum of
            ``costs[axis, difference]`` is below `limit`
    """
    n, ndim = place.shape
    size = 1 << max(4, int(2 * n - 1).bit_length())
    steps = sorted(product((-1, 0, 1), repeat=ndim), key=lambda o: sum(map(abs, o)))  # the point's own cell first
    around = np.array(steps, np.int64).reshape(-1, ndim)
    out = state.astype(np.int8)
    if n:
        first = np.full((2, size), -1, np.int64)  # of those that are open, of those that stay
        _decide(place - place.min(axis=0), group, out, whose, reach, costs, float(limit), around, first)
    return out


@_njit
def _slot(cell, step, mask):
    h = np.uint64(0)
    for a in range(cell.size):
        h = (h ^ np.uint64(cell[a] + step[a])) * np.uint64(0x9E3779B97F4A7C15)
        h ^= h >> np.uint64(29)
    return np.int64(h & np.uint64(mask))


@_njit
def _decide(place, group, state, whose, reach, costs, limit, around, first):
    n, ndim = place.shape
    mask = first.shape[1] - 1
    after = np.empty(n, np.int64)
    cell = np.empty(ndim, np.int64)
    here = np.zeros(ndim, np.int64)
    for i in range(n):
        if state[i] == STAYS:
            for a in range(ndim):
                cell[a] = place[i, a] // (reach[a] + 1)
            s = _slot(cell, here, mask)
            after[i] = first[STAYS, s]
            first[STAYS, s] = i
    for i in range(n):
        if state[i] != OPEN:
            continue
        for a in range(ndim):
            cell[a] = place[i, a] // (reach[a] + 1)
        if whose[i] != OTHERS:
            if _near(i, place, group, reach, costs, limit, around, first[STAYS], after, cell, mask):
                state[i] = GOES
                continue
            if whose[i] == MINE and not _near(
                i, place, group, reach, costs, limit, around, first[OPEN], after, cell, mask
            ):
                state[i] = STAYS
        s = _slot(cell, here, mask)
        after[i] = first[state[i], s]
        first[state[i], s] = i


@_njit
def _near(i, place, group, reach, costs, limit, around, first, after, cell, mask):
    """Whether one of the points in a table is too near to point i."""
    ndim = cell.size
    for k in range(around.shape[0]):
        j = first[_slot(cell, around[k], mask)]
        while j >= 0:
            if group[j] == group[i]:
                cost = 0.0
                for a in range(ndim):
                    d = abs(place[i, a] - place[j, a])
                    if d > reach[a]:
                        cost = limit
                        break
                    cost += costs[a, d]
                if cost < limit:
                    return True
            j = after[j]
    return False
