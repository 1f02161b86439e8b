"""Morphological reconstruction by dilation of a block: the hybrid of scans and a queue of Vincent 1993.

The queue holds a voxel once, so it is never longer than the block; voxels on the halo are sources and do not change.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from bigbia.kernels.padded import first_voxels, inner, steps

MANY = 80  # one voxel in so many that still rise is worth another scan
SCANS = 8  # at most
FEW = 8  # the share of a block's voxels, one in so many, that the queue alone may look at

_njit = nb.njit(nogil=True, cache=True)


def reconstructed(seed: np.ndarray, mask: np.ndarray, connectivity: int) -> np.ndarray:
    """Raise a seed under a mask: the highest value that comes along a path from a seed, never above the mask.

    `seed` has a halo of one voxel on every side, whose values are sources; `mask` has none. The result has none.
    `seed` is used up.
    """
    own = inner(mask.ndim)
    np.minimum(seed[own], mask, out=seed[own])
    limit = np.empty_like(seed)
    limit[own] = mask
    for axis in range(mask.ndim):  # on the halo nothing can rise
        for side in (slice(0, 1), slice(-1, None)):
            edge = (slice(None),) * axis + (side,)
            limit[edge] = seed[edge]
    _scan_and_spread(seed, limit, connectivity)
    return np.ascontiguousarray(seed[own])


def raised(state: np.ndarray, limit: np.ndarray, at: np.ndarray, values: np.ndarray, connectivity: int) -> np.ndarray:
    """The same of a block that was done, after voxels `at` (n, axes) were offered values.

    No scans, so the time goes with the voxels that change, unless these are many: then scans are faster than the queue.
    """
    own = inner(state.ndim)
    shape = tuple(n + 2 for n in state.shape)
    low = lowest(state.dtype)
    new, most = np.full(shape, low, state.dtype), np.full(shape, low, state.dtype)  # nothing rises on the halo
    new[own], most[own] = state, limit
    order = np.argsort(values)[::-1]  # high ones first, so that fewer voxels rise twice
    places = np.ravel_multi_index(tuple(at[order].T + 1), shape)
    queue = np.empty(state.size + 1, np.int64)
    waiting = np.zeros(new.size, bool)
    flat = new.reshape(-1), most.reshape(-1)
    count = _offer(*flat, places, values[order].astype(state.dtype), queue, waiting)
    if _spread(*flat, _before(shape, connectivity), queue, waiting, count, state.size // FEW):
        _scan_and_spread(new, most, connectivity)
    return np.ascontiguousarray(new[own])


def _scan_and_spread(state: np.ndarray, limit: np.ndarray, connectivity: int) -> None:
    lines, length = first_voxels(state.shape), state.shape[-1] - 2
    queue = np.empty(len(lines) * length + 1, np.int64)
    waiting = np.zeros(state.size, bool)
    flat = state.reshape(-1), limit.reshape(-1), _before(state.shape, connectivity)
    _spread(*flat, queue, waiting, _scan(*flat, lines, length, queue, waiting), -1)


def _before(shape: tuple[int, ...], connectivity: int) -> np.ndarray:
    """Half of a voxel's neighbours; the others are as far the other way."""
    every = steps(shape, connectivity)
    return every[: len(every) // 2]


def lowest(dtype: np.dtype) -> Any:
    """The lowest value there is."""
    if dtype.kind == "f":
        return -np.inf
    return False if dtype.kind == "b" else np.iinfo(dtype).min


@_njit
def _scan(state, limit, before, lines, length, queue, waiting):
    """Scans there and back, while many voxels still have something to hand on; then those are queued, and counted."""
    best = np.empty(length, state.dtype)
    rose = np.empty(length, np.uint8)
    count = 0
    for _ in range(SCANS):
        _there(state, limit, before, lines, length, best)
        count = _back(state, limit, before, lines, length, best, rose, queue)
        if count * MANY < lines.size * length:
            break
    for i in range(count):
        waiting[queue[i]] = True
    return count


@_njit
def _best(state, p, before, length, sign, best):
    """The highest of a line's voxels and their neighbours before them, those on the line itself left out."""
    for x in range(length):
        best[x] = state[p + x]
    for k in range(before.size - 1):  # the last is on the line
        q = p + sign * before[k]
        for x in range(length):
            v, b = state[q + x], best[x]
            best[x] = v if v > b else b


@_njit
def _there(state, limit, before, lines, length, best):
    for i in range(lines.size):
        p = lines[i]
        _best(state, p, before, length, 1, best)
        v = state[p - 1]
        for x in range(length):
            b, top = best[x], limit[p + x]
            v = b if b > v else v
            v = top if top < v else v
            state[p + x] = v


@_njit
def _back(state, limit, before, lines, length, best, rose, queue):
    """The scan against raster order, and the voxels that rose in it and from which one already passed could rise."""
    count = 0
    for i in range(lines.size - 1, -1, -1):
        p = lines[i]
        _best(state, p, before, length, -1, best)
        v = state[p + length]
        some = 0
        for x in range(length - 1, -1, -1):
            b, top, old = best[x], limit[p + x], state[p + x]
            v = b if b > v else v
            v = top if top < v else v
            rose[x] = v > old
            some |= v > old
            state[p + x] = v
        if not some:
            continue
        for x in range(length - 1, -1, -1):
            if rose[x]:
                v = state[p + x]
                for k in range(before.size):
                    q = p + x - before[k]
                    if state[q] < v and state[q] < limit[q]:
                        queue[count] = p + x
                        count += 1
                        break
    return count


@_njit
def _offer(state, limit, places, values, queue, waiting):
    count = 0
    for i in range(places.size):
        p = places[i]
        v = min(values[i], limit[p])
        if state[p] < v:
            state[p] = v
            if not waiting[p]:
                waiting[p] = True
                queue[count] = p
                count += 1
    return count


@_njit
def _spread(state, limit, before, queue, waiting, count, most):
    """Empty the queue; or leave it after so many voxels, and say so."""
    near, size, head = before.size, queue.size, 0
    while count:
        if most == 0:
            return True
        most -= 1
        p = queue[head]
        head = head + 1 if head + 1 < size else 0
        count -= 1
        waiting[p] = False
        v = state[p]
        for k in range(2 * near):
            q = p + before[k] if k < near else p - before[k - near]
            if state[q] < v and state[q] < limit[q]:
                state[q] = min(v, limit[q])
                if not waiting[q]:
                    waiting[q] = True
                    tail = head + count
                    queue[tail if tail < size else tail - size] = q
                    count += 1
    return False
