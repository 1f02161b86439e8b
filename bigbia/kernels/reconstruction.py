"""Morphological reconstruction by dilation of a block: the hybrid of scans and a queue of Vincent 1993.

The queue holds a voxel once, so it is never longer than the block; voxels on the halo are sources and do not change.
"""

from __future__ import annotations

from itertools import product

import numba as nb
import numpy as np

_njit = nb.njit(nogil=True, cache=True)


def reconstructed(seed: np.ndarray, mask: np.ndarray, connectivity: int) -> np.ndarray:
    """Raise a seed under a mask: the highest value that comes along a path from a seed, never above the mask.

    `seed` has a halo of one voxel on every side, whose values are sources; `mask` has none. The result has none.
    """
    inner = tuple(slice(1, -1) for _ in range(mask.ndim))
    state = seed.copy()
    state[inner] = np.minimum(state[inner], mask)
    limit = state.copy()  # on the halo nothing can rise
    limit[inner] = mask
    strides = np.array([int(np.prod(state.shape[a + 1 :])) for a in range(state.ndim)], np.int64)
    offsets = [o for o in product((-1, 0, 1), repeat=mask.ndim) if 0 < sum(map(abs, o)) <= connectivity]
    before = np.array([int(np.dot(strides, o)) for o in offsets if o < (0,) * mask.ndim], np.int64)
    lines = _first_voxels(mask.shape, strides)
    queue = np.empty(mask.size + 1, np.int64)
    waiting = np.zeros(state.size, bool)
    _reconstruct(state.reshape(-1), limit.reshape(-1), before, lines, mask.shape[-1], queue, waiting)
    return np.ascontiguousarray(state[inner])


def _first_voxels(shape: tuple[int, ...], strides: np.ndarray) -> np.ndarray:
    """Where each line of the block begins in the block with its halo."""
    at = np.ones(1, np.int64) * strides[-1]
    for n, stride in zip(shape[:-1], strides[:-1]):
        at = (at[:, None] + stride * np.arange(1, n + 1)).reshape(-1)
    return at


@_njit
def _reconstruct(state, limit, before, lines, length, queue, waiting):
    near = before.size
    for i in range(lines.size):
        for p in range(lines[i], lines[i] + length):
            v = state[p]
            for k in range(near):
                v = max(v, state[p + before[k]])
            state[p] = min(v, limit[p])
    head, count, size = 0, 0, queue.size
    for i in range(lines.size - 1, -1, -1):
        for p in range(lines[i] + length - 1, lines[i] - 1, -1):
            v = state[p]
            for k in range(near):
                v = max(v, state[p - before[k]])
            v = min(v, limit[p])
            state[p] = v
            for k in range(near):
                q = p - before[k]
                if state[q] < v and state[q] < limit[q]:
                    queue[count] = p
                    count += 1
                    waiting[p] = True
                    break
    while count:
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
