"""Blobs: the highest voxels of a scale space, and which of the blobs there overlap.

A scale space is a list of images of one shape, each with its neighbours in the list; a blob is a place in it, as large as
its sigma. Blobs are taken one after the other, the largest first: one stays if it overlaps by too much with none that
stays. Those that stay are found by cells, of a size for each scale, that share a table of lists. A list may hold blobs of
several cells; how much they overlap is asked anyway.
"""

from __future__ import annotations

import math
from itertools import product

import numba as nb
import numpy as np

from bigbia.kernels.greedy import GOES, MINE, OPEN, OTHERS, STAYS

SAME = 1e-12  # shares that differ by less are equal: balls that touch share nothing, however that is rounded

_njit = nb.njit(nogil=True, cache=True, error_model="numpy")


# ---- the highest voxels ----------------------------------------------------------------------------------------------
def highest(
    before: np.ndarray | None, here: np.ndarray, after: np.ndarray | None, least: float, everywhere: bool
) -> tuple[np.ndarray, np.ndarray, bool]:
    """The voxels of an image that are at least `least` and the highest of the 3 x 3 x ... box around them.

    Also the box in the images before and after it counts. All have a rim of one voxel, which is looked at only. They
    come as raster indices in the image without its rim, with their values; `everywhere`: it was so before, and all
    voxels of this image are the highest, be they ever so low.
    """
    shape = here.shape
    core = tuple(n - 2 for n in shape)
    strides = [math.prod(shape[a + 1 :]) for a in range(len(shape))]
    around = sorted(product((-1, 0, 1), repeat=len(shape)), key=lambda o: sum(map(abs, o)))  # the nearest first
    steps = np.array([sum(o * s for o, s in zip(offset, strides)) for offset in around], np.int64)
    lines = np.ones(1, np.int64)
    for n, stride in zip(core[:-1], strides[:-1]):
        lines = (lines[:, None] + stride * np.arange(1, n + 1)).reshape(-1)
    flat = here.reshape(-1)
    sides = [flat if other is None else other.reshape(-1) for other in (before, after)]
    found, values, everywhere = _highest(
        sides[0], flat, sides[1], before is not None, after is not None, steps, lines, core[-1], least, everywhere
    )
    return found, values, bool(everywhere)


@_njit
def _highest(before, here, after, has_before, has_after, steps, lines, length, least, everywhere):
    found = np.empty(1024, np.int64)
    count = 0
    for i in range(lines.size):
        for j in range(length):
            p = lines[i] + j
            v = here[p]
            if not (v >= least or everywhere):
                continue
            top = True
            for s in steps:
                if here[p + s] > v:
                    top = False
                    break
            if top and has_before:
                for s in steps:
                    if before[p + s] > v:
                        top = False
                        break
            if top and has_after:
                for s in steps:
                    if after[p + s] > v:
                        top = False
                        break
            if not top:
                everywhere = False
            elif v >= least:
                if count == found.size:
                    more = np.empty(2 * count, np.int64)
                    more[:count] = found
                    found = more
                found[count] = i * length + j
                count += 1
    found = found[:count].copy()
    values = np.empty(count, here.dtype)
    for k in range(count):
        values[k] = here[lines[found[k] // length] + found[k] % length]
    return found, values, everywhere


# ---- overlaps --------------------------------------------------------------------------------------------------------
def decided(
    place: np.ndarray,
    level: np.ndarray,
    state: np.ndarray,
    whose: np.ndarray,
    radii: np.ndarray,
    far: np.ndarray,
    overlap: float,
) -> np.ndarray:
    """What becomes of the blobs, the first to be taken first, as far as it can be told: the states with fewer open.

    place   (n, axes), whole numbers
    level   which of the `radii` (levels, axes) they have; never more than that of a blob before
    whose   others' open blobs stay open, and what overlaps with them too, unless it goes
    far     `farthest` of the radii and the overlap
    """
    n = len(place)
    size = 1 << max(4, int(2 * n - 1).bit_length())
    out = state.astype(np.int8)
    if n:
        # what overlaps with a blob of a level lies in a cell of that level beside its own, if not in it
        cells = np.floor(radii * far.max(axis=0, keepdims=True).T).astype(np.int64) + 1
        first = np.full((2, size), -1, np.int64)  # of those that are open, of those that stay
        held = np.zeros((2, len(radii)), np.bool_)
        at = np.ascontiguousarray(place - place.min(axis=0))
        _decide(at, level.astype(np.int64), out, whose, radii, far, cells, overlap + SAME, first, held)
    return out


def farthest(radii: np.ndarray, overlap: float) -> np.ndarray:
    """How far from a ball, of radius 1, a smaller one can be that shares too much with it: [small, large] levels."""
    out = np.zeros((len(radii), len(radii)))
    _farthest(np.ascontiguousarray(radii[:, -1]), radii.shape[1], overlap, out)
    return out


@_njit
def _farthest(radii, ndim, overlap, out):
    for large in range(radii.size):
        for small in range(large + 1):
            r = radii[small] / radii[large]
            low, high = 1 - r, 1 + r
            for _ in range(40):  # the share falls with the distance
                middle = (low + high) / 2
                if shared(middle, r, ndim) > overlap:
                    low = middle
                else:
                    high = middle
            out[small, large] = high * (1 + 1e-6)


@_njit
def _slot(cell, level, mask):
    h = np.uint64(level)
    for a in range(cell.size):
        h = (h ^ np.uint64(cell[a])) * np.uint64(0x9E3779B97F4A7C15)
        h ^= h >> np.uint64(29)
    return np.int64(h & np.uint64(mask))


@_njit
def _decide(place, level, state, whose, radii, far, cells, overlap, first, held):
    n, ndim = place.shape
    mask = first.shape[1] - 1
    after = np.empty(n, np.int64)
    cell = np.empty((3, ndim), np.int64)
    for turn in range(2):  # those that stay are known before any is looked at
        for i in range(n):
            now = state[i]
            if (turn == 0 and now != STAYS) or (turn == 1 and now != OPEN):
                continue
            if turn == 1 and whose[i] != OTHERS:
                if _overlaps(i, place, level, radii, far, cells, overlap, first[STAYS], held[STAYS], after, cell):
                    state[i] = GOES
                    continue
                if whose[i] == MINE and not _overlaps(
                    i, place, level, radii, far, cells, overlap, first[OPEN], held[OPEN], after, cell
                ):
                    state[i] = STAYS
                now = state[i]
            for a in range(ndim):
                cell[0, a] = place[i, a] // cells[level[i], a]
            s = _slot(cell[0], level[i], mask)
            after[i] = first[now, s]
            first[now, s] = i
            held[now, level[i]] = True


@_njit
def _overlaps(i, place, level, radii, far, cells, overlap, first, held, after, cell):
    """Whether blob i overlaps by too much with one of those in a table that are as large or larger."""
    ndim = place.shape[1]
    mask = first.size - 1
    at, low, high = cell[0], cell[1], cell[2]
    for large in range(level[i], radii.shape[0]):
        if not held[large]:
            continue
        most = far[level[i], large]
        ratio = radii[level[i], ndim - 1] / radii[large, ndim - 1]
        for a in range(ndim):
            reach = np.int64(most * radii[large, a])
            low[a] = max(place[i, a] - reach, 0) // cells[large, a]
            high[a] = (place[i, a] + reach) // cells[large, a]
            at[a] = low[a]
        while True:
            j = first[_slot(at, large, mask)]
            while j >= 0:
                if level[j] == large:
                    square = 0.0
                    for a in range(ndim):
                        d = (place[i, a] - place[j, a]) / radii[large, a]
                        square += d * d
                    if square <= most * most and shared(math.sqrt(square), ratio, ndim) > overlap:
                        return True
                j = after[j]
            a = ndim - 1
            while a >= 0 and at[a] == high[a]:
                at[a] = low[a]
                a -= 1
            if a < 0:
                break
            at[a] += 1
    return False


@_njit
def shared(d, r, ndim):
    """How much of the smaller ball a larger one covers: of radius r, 1 or less, and of radius 1, their centres d apart.

    In 1 axis these are intervals, in 2 disks, in 3 balls.
    """
    if d >= 1 + r:
        return 0.0
    if d <= 1 - r:
        return 1.0
    if ndim == 1:
        return (1 + r - d) / (2 * r)
    if ndim == 2:
        # two sectors less the kite between the centres and where the circles meet
        one = math.acos(min(max((d * d + 1 - r * r) / (2 * d), -1.0), 1.0))
        other = math.acos(min(max((d * d + r * r - 1) / (2 * d * r), -1.0), 1.0))
        kite = 0.5 * math.sqrt(max((r + 1 - d) * (d + 1 - r) * (d + r - 1) * (d + r + 1), 0.0))
        return min((one + r * r * other - kite) / (math.pi * r * r), 1.0)
    # two caps with a common base
    deep = (1 + r - d) * (1 + r - d)
    return min(deep * (d * d + 2 * d * (1 + r) - 3 * (1 - r) * (1 - r)) / (16 * d * r * r * r), 1.0)
