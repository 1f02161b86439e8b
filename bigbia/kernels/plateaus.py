"""Where a watershed's water comes from: how far each voxel lies inside its plateau, and from which neighbour it is fed.

A voxel's key is its flood level, then its distance to the lower border of its plateau: 0 at a marker, 1 beside a lower
voxel or a marker of the same level, else one more than the least of its plateau's neighbours. Its entry is the key of
the last voxel before the plateau: beside the lower border the least key around it, farther in the least entry of the
neighbours that are one nearer. Water comes from the neighbour with the least key; of several the one with the least
entry, then the first in raster order.

All is worked out on a block with a margin, from what is known there. Levels are codes (`coded`): whole numbers in the
order of the levels, so that one compiled kernel serves all dtypes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numba as nb
import numpy as np

from bigbia.kernels.padded import first_voxels, inner, shell, starts, steps

FAR = 0xFFFFFFFF  # a distance that is not known, or of a voxel that no water reaches
OUTSIDE = 0xFFFFFFFE  # outside the mask or the image

_njit = nb.njit(nogil=True, cache=True)


class Plateaus(NamedTuple):
    """A block with its margin. Entries stand where they have been asked for; elsewhere their distance is FAR."""

    level: np.ndarray
    distance: np.ndarray
    entry_level: np.ndarray
    entry_distance: np.ndarray

    @property
    def flat(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        level, distance, entry_level, entry_distance = (array.reshape(-1) for array in self)
        return level, distance, entry_level, entry_distance


def codes(turned: np.ndarray, pad: Sequence[tuple[int, int]]) -> np.ndarray:
    """Levels that were turned over (negated, of integers inverted) as whole numbers in the levels' own order.

    int32 if they fit, else int64; with a margin of the highest. Of zeros there is one kind, and no NaN.
    """
    kind, size = turned.dtype.kind, turned.dtype.itemsize
    whole = np.int32 if size <= 4 else np.int64
    flip = whole(-1)  # the order is turned back
    if kind == "f":
        values = turned.view(whole)
    elif kind == "u" and size >= 4:
        values, flip = turned.view(whole), whole(np.iinfo(whole).max)
    else:
        values = turned.astype(whole, copy=False)
    out = np.empty([n + a + b for n, (a, b) in zip(turned.shape, pad)], whole)
    core = _margin_set(out, pad, np.iinfo(whole).max)
    _code(_rows(values), starts(out.shape, core), flip, kind == "f", out.reshape(-1))
    return out


def coded(values: np.ndarray) -> np.ndarray:
    """Any values as whole numbers in the same order, without a margin."""
    return ~codes(values, [(0, 0)] * values.ndim)


def looked_up(table: np.ndarray, values: np.ndarray, pad: Sequence[tuple[int, int]], outside: int) -> np.ndarray:
    """table[values] with a margin."""
    out = np.empty([n + a + b for n, (a, b) in zip(values.shape, pad)], table.dtype)
    core = _margin_set(out, pad, outside)
    _look_up(_rows(values), starts(out.shape, core), table, out.reshape(-1))
    return out


def _rows(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).reshape(-1, values.shape[-1])


def _margin_set(out: np.ndarray, pad: Sequence[tuple[int, int]], value: int) -> tuple[slice, ...]:
    """Fill the margin; where the rest is."""
    for axis, (before, after) in enumerate(pad):
        for edge in (slice(0, before), slice(out.shape[axis] - after, None)):
            out[(slice(None),) * axis + (edge,)] = value
    return tuple(slice(before, n - after) for n, (before, after) in zip(out.shape, pad))


def plateaus(level: np.ndarray, distance: np.ndarray) -> Plateaus:
    """Levels and distances, of one shape: 0 at markers, FAR where it is to be worked out, elsewhere OUTSIDE.

    The outermost voxels are the margin, which is never worked out: what is not known there is OUTSIDE.
    """
    return Plateaus(level, distance, np.empty(level.shape, level.dtype), np.full(level.shape, FAR, np.uint32))


def settle(block: Plateaus, connectivity: int) -> np.ndarray:
    """Work distances out, and entries within wide plateaus.

    And where each voxel's water comes from: ~neighbour; 0 at markers, where no water comes, and where several neighbours
    are lowest (`catchments` settles these).
    """
    shape = block.level.shape
    lines, near = first_voxels(shape), steps(shape, connectivity)
    source = np.zeros(block.level.size, np.int32 if block.level.size < 2**31 else np.int64)
    left = _beside_lower(*block.flat[:2], lines, shape[-1] - 2, near, source)
    if left:
        rim = shell(shape, 0)
        known = block.flat[1][rim]
        rim = rim[(known >= 2) & (known < OUTSIDE)]
        rim = rim[np.argsort(block.flat[1][rim], kind="stable")]
        queue = np.empty(left, source.dtype)
        count = _farther_in(*block.flat[:2], lines, shape[-1] - 2, near, rim, queue)
        _entries(*block.flat, near, queue[:count], source)
    return source.reshape(shape)


def have_entries(block: Plateaus, layer: int, connectivity: int) -> None:
    """Have the entries of a layer of voxels, 0 the outermost; where there is none, 0."""
    _layer_entries(*block.flat, steps(block.level.shape, connectivity), shell(block.level.shape, layer))


def catchments(
    block: Plateaus, source: np.ndarray, markers: np.ndarray, margin: int, connectivity: int
) -> tuple[np.ndarray, np.ndarray]:
    """Follow every voxel's water, after `settle`. `markers` has no margin: numbers from 1, 0 elsewhere.

    The numbers of the block's own voxels: a marker's, or, past the markers' numbers, one for each voxel of the margin
    that water comes from; 0 where none comes. And those voxels of the margin. `source` is used up.
    """
    shape = block.level.shape
    own = inner(len(shape), margin)
    for axis in range(len(shape)):  # what comes from the margin is followed no farther
        for edge in (slice(0, margin), slice(-margin, None)):
            source[(slice(None),) * axis + (edge,)] = np.iinfo(source.dtype).max
    lines, length, flat = first_voxels(shape, margin), shape[-1] - 2 * margin, source.reshape(-1)
    _settle_ties(*block.flat, steps(shape, connectivity), lines, length, flat)
    np.copyto(source[own], markers, where=markers > 0, casting="same_kind")
    rim = np.empty(len(shell(shape, margin - 1)), np.int64)
    found = _resolve(flat, lines, length, int(markers.max(initial=0)) + 1, rim)
    return source[own], rim[:found]


@_njit
def _code(rows, starts, flip, floats, out):
    bits = 8 * rows.itemsize - 1
    for i in range(starts.size):
        p = starts[i]
        for x in range(rows.shape[1]):
            v = rows[i, x]
            if floats:
                v ^= (v >> bits) & ~(flip << bits)
            out[p + x] = v ^ flip


@_njit
def _look_up(rows, starts, table, out):
    for i in range(starts.size):
        p = starts[i]
        for x in range(rows.shape[1]):
            out[p + x] = table[rows[i, x]]


@_njit
def _lowest(level, p, length, near, best, which, alike):
    """The lowest neighbour of each voxel of a line, the first in raster order, and whether there are several."""
    o = p + near[0]
    for x in range(length):
        best[x] = level[o + x]
        which[x] = 0
        alike[x] = 0
    for k in range(1, near.size):
        o = p + near[k]
        for x in range(length):
            v, b = level[o + x], best[x]
            alike[x] = 0 if v < b else (1 if v == b else alike[x])
            which[x] = k if v < b else which[x]
            best[x] = min(v, b)


@_njit
def _beside_lower(level, distance, lines, length, near, source):
    """Distance 1 where a neighbour is lower or a marker of the same level; how many of the others there are."""
    left = 0
    best = np.empty(length, level.dtype)
    which = np.empty(length, np.int32)
    alike = np.empty(length, np.int32)
    for i in range(lines.size):
        p, end = lines[i], length
        while end > 0 and distance[p + end - 1] != FAR:
            end -= 1
        start = 0
        while start < end and distance[p + start] != FAR:
            start += 1
        p += start
        _lowest(level, p, end - start, near, best, which, alike)
        for x in range(end - start):
            if distance[p + x] != FAR:
                continue
            here = level[p + x]
            if best[x] < here:
                distance[p + x] = 1
                if not alike[x]:
                    source[p + x] = ~(p + x + near[which[x]])
                continue
            found = False
            if best[x] == here:
                for k in range(near.size):
                    q = p + x + near[k]
                    if distance[q] == 0 and level[q] == here:
                        found = True
                        source[p + x] = ~q  # markers have no entry: the first
                        break
            if found:
                distance[p + x] = 1
            else:
                left += 1
    return left


@_njit
def _farther_in(level, distance, lines, length, near, rim, queue):
    """Distances from 2 on, nearest first, into wide plateaus. The voxels in that order, and how many."""
    count = 0
    for i in range(lines.size):
        for p in range(lines[i], lines[i] + length):
            if distance[p] != FAR:
                continue
            for k in range(near.size):
                q = p + near[k]
                if distance[q] == 1 and level[q] == level[p]:
                    distance[p] = 2
                    queue[count] = p
                    count += 1
                    break
    head, outer = 0, 0
    while head < count or outer < rim.size:
        if outer < rim.size and (head == count or distance[rim[outer]] <= distance[queue[head]]):
            p = rim[outer]
            outer += 1
        else:
            p = queue[head]
            head += 1
        here, farther = level[p], distance[p] + 1
        for k in range(near.size):
            q = p + near[k]
            # a step from the margin that leaves its line lands on the margin, which is never FAR
            if 0 <= q < distance.size and distance[q] == FAR and level[q] == here:
                distance[q] = farther
                queue[count] = q
                count += 1
    return count


@_njit
def _entries(level, distance, entry_level, entry_distance, near, queue, source):
    """Entries of voxels with a distance of 2 or more, nearest first, and where their water comes from."""
    for i in range(queue.size):
        p = queue[i]
        here, nearer = level[p], distance[p] - 1
        best, steps, whence = level[p], FAR, p
        for k in range(near.size):
            q = p + near[k]
            if distance[q] != nearer or level[q] != here:
                continue
            if nearer == 1:
                _before(level, distance, entry_level, entry_distance, near, q)
            g, d = entry_level[q], entry_distance[q]
            if whence == p or g < best or (g == best and d < steps):
                best, steps, whence = g, d, q
        entry_level[p], entry_distance[p] = best, steps
        source[p] = ~whence


@_njit
def _before(level, distance, entry_level, entry_distance, near, p):
    """Have the entry of a voxel that water reaches, and is not a marker."""
    if entry_distance[p] != FAR:
        return
    best = p + near[0]
    for k in range(1, near.size):
        q = p + near[k]
        if level[q] < level[best] or (level[q] == level[best] and distance[q] < distance[best]):
            best = q
    entry_level[p], entry_distance[p] = level[best], distance[best]


@_njit
def _layer_entries(level, distance, entry_level, entry_distance, near, layer):
    for i in range(layer.size):
        p = layer[i]
        if distance[p] == 1:
            _before(level, distance, entry_level, entry_distance, near, p)
        elif distance[p] == 0 or distance[p] >= OUTSIDE:
            entry_level[p], entry_distance[p] = 0, 0


@_njit
def _settle_ties(level, distance, entry_level, entry_distance, near, lines, length, source):
    """Where several neighbours are lowest: the nearest to its plateau's border, the least entry, the first."""
    for i in range(lines.size):
        for p in range(lines[i], lines[i] + length):
            if source[p] != 0 or distance[p] != 1:
                continue
            best = p + near[0]
            several = False
            for k in range(1, near.size):
                q = p + near[k]
                if level[q] < level[best] or (level[q] == level[best] and distance[q] < distance[best]):
                    best, several = q, False
                elif level[q] == level[best] and distance[q] == distance[best]:
                    several = True
            if several and distance[best] > 0:
                _before(level, distance, entry_level, entry_distance, near, best)
                g, d = entry_level[best], entry_distance[best]
                for k in range(near.size):
                    q = p + near[k]
                    if q > best and level[q] == level[best] and distance[q] == distance[best]:
                        _before(level, distance, entry_level, entry_distance, near, q)
                        if entry_level[q] < g or (entry_level[q] == g and entry_distance[q] < d):
                            best, g, d = q, entry_level[q], entry_distance[q]
            source[p] = ~best


@_njit
def _resolve(source, lines, length, first, rim):
    """Follow sources to a marker's number, or to a voxel of the margin, which gets one. How many of these."""
    found, outside = 0, np.iinfo(source.dtype).max  # 0 is a voxel of the block that no water has come to yet
    for i in range(lines.size):
        for p in range(lines[i], lines[i] + length):
            if source[p] >= 0:
                continue
            root = p
            while source[root] < 0:
                root = ~source[root]
            if source[root] == outside:
                source[root] = first + found
                rim[found] = root
                found += 1
            number = source[root]
            q = p
            while source[q] < 0:
                source[q], q = number, ~source[q]
    return found
