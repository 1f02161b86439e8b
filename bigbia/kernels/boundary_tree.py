"""How high one can stay on the way between voxels of a block's surface, as a tree; and what trees joined to others are.

The voxels of a block that may still rise are taken by decreasing limit. Those that touch hang together; the first voxel
of the surface in a group is its *terminal*, and where two groups with terminals meet, an edge between them has the level
at which they do. Between terminals the lowest level on the way along edges is that of the best way through
the block (a maximum spanning tree; Gazagnes & Wilkinson 2021), and a voxel of the surface is reached from its terminal at
its own limit. Ties may be broken in any way: edges differ then, what comes along them does not.

Most voxels join the hill they are on and nothing else; only those by which hills meet, and the surface, are sorted.
"""

from __future__ import annotations

import functools
import math
from itertools import product
from typing import NamedTuple

import numba as nb
import numpy as np

from bigbia.kernels.padded import steps
from bigbia.kernels.plateaus import coded

_njit = nb.njit(nogil=True, cache=True)


class Edges(NamedTuple):
    """Edges of a graph: both ends, and the level at which one can go along."""

    a: np.ndarray
    b: np.ndarray
    level: np.ndarray


class Tree(NamedTuple):
    """Of a block: which terminal (n,) each voxel of it is reached from, -1 for those that have none; seeds (n,); edges."""

    terminal: np.ndarray
    seed: np.ndarray
    edges: Edges


def boundary_tree(state: np.ndarray, limit: np.ndarray, surface: np.ndarray, connectivity: int) -> Tree:
    """The tree between the voxels of the surface, of a block in which no voxel can rise by what the others have.

    Voxels at their limit are left out: they do not rise, and what they could hand on their neighbours have.
    """
    inner = tuple(slice(1, -1) for _ in range(state.ndim))
    shape = tuple(n + 2 for n in state.shape)
    rising, face = np.zeros((2, *shape), bool)
    np.less(state, limit, out=rising[inner])
    face[inner] = surface
    codes = coded(limit)
    level = np.full(shape, np.iinfo(codes.dtype).min, codes.dtype)  # lower than any that may rise
    np.copyto(level[inner], codes, where=rising[inner])
    small = np.int32 if rising.size < 2**31 else np.int64
    hill = np.full(rising.size, -1, small)
    flat = level.reshape(-1), face.reshape(-1), steps(shape, connectivity), _around(shape, connectivity), hill
    hills, events = _hills(*flat, np.flatnonzero(rising).astype(small))
    order = events[_descending(flat[0][events])]
    count = int(np.count_nonzero(face & rising))
    terminal = np.full(rising.size, -1, np.int32)
    places, where = (np.empty(count, np.int64) for _ in range(2))
    a, b = (np.empty(count, np.int32) for _ in range(2))
    n, m = _grow(*flat, order, hills, terminal, places, a, b, where)
    seed = state[_inside(places[:n], shape)]
    edges = Edges(a[:m].copy(), b[:m].copy(), limit[_inside(where[:m], shape)])
    return Tree(terminal.reshape(shape)[inner], seed, edges)


@functools.lru_cache(32)
def _around(shape: tuple[int, ...], connectivity: int) -> np.ndarray:
    """From a voxel to one by which two of its neighbours touch: one of them if they touch, else 0 or the one across."""
    offsets = [o for o in product((-1, 0, 1), repeat=len(shape)) if 0 < sum(map(abs, o)) <= connectivity]
    way = dict(zip(offsets, steps(shape, connectivity).tolist()))
    strides = [math.prod(shape[a + 1 :]) for a in range(len(shape))]
    table = np.zeros((len(offsets), len(offsets)), np.int64)
    for (i, one), (j, two) in product(enumerate(offsets), repeat=2):
        apart = tuple(b - a for a, b in zip(one, two))
        total = tuple(a + b for a, b in zip(one, two))
        if apart in way or i == j:
            table[i, j] = way[two]
        elif max(map(abs, total)) == 1:
            table[i, j] = sum(t * s for t, s in zip(total, strides))
    return table


def _descending(levels: np.ndarray) -> np.ndarray:
    if levels.dtype == np.int32:
        return _radix(levels.view(np.uint32) ^ np.uint32(1 << 31))[::-1]
    return np.argsort(levels)[::-1]


@_njit
def _radix(keys):
    """What sorts whole numbers of 32 bits."""
    n = keys.size
    order, other = np.arange(n), np.empty(n, np.int64)
    for shift in (0, 11, 22):
        start = np.zeros(2049, np.int64)
        for i in range(n):
            start[((keys[i] >> shift) & 2047) + 1] += 1
        if start.max() == n:  # all have the same
            continue
        start = np.cumsum(start)
        for i in range(n):
            digit = (keys[order[i]] >> shift) & 2047
            other[start[digit]] = order[i]
            start[digit] += 1
        order, other = other, order
    return order


def _inside(places: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    return tuple(axis - 1 for axis in np.unravel_index(places, shape))


@_njit
def _find(up, i):
    while up[i] != i:
        up[i] = up[up[i]]
        i = up[i]
    return i


@_njit
def _hills(level, face, near, across, hill, at):
    """Every voxel belongs to the hill on whose top it comes by the steepest way up; of equal ones the last is higher.

    Returned are how many hills there are, and the voxels by which they may meet or come to the surface.
    """
    for i in range(at.size):
        p = at[i]
        v, best = level[p], p
        for k in range(near.size):
            q = p + near[k]
            w = level[q]
            if w > v or (w == v and q > best):
                v, best = w, q
        hill[p] = best
    n = 0
    for i in range(at.size):  # tops are numbered -2, -3, ..., and then what leads to them
        p = at[i]
        q = p
        while hill[q] >= 0 and hill[q] != q:
            q = hill[q]
        if hill[q] == q:
            hill[q] = -2 - n
            n += 1
        number = hill[q]
        while hill[p] >= 0:
            hill[p], p = number, hill[p]
    for i in range(at.size):
        hill[at[i]] = -2 - hill[at[i]]
    m = 0
    higher, several = np.empty(near.size, np.int64), np.empty(near.size, np.int64)
    for i in range(at.size):
        p = at[i]
        if face[p] or _met(p, level, near, across, hill, higher, several):
            at[m] = p
            m += 1
    return n, at[:m].copy()


@_njit
def _met(p, level, near, across, hill, higher, several):
    """Higher neighbours on other hills; not those that a higher way around leads to from the steepest."""
    v, count = level[p], 0
    highest, best, steepest, others = v, p, -1, False
    for k in range(near.size):
        q = p + near[k]
        w = level[q]
        if w > v or (w == v and q > p):
            if w > highest or (w == highest and q > best):
                highest, best, steepest = w, q, k
            others |= hill[q] != hill[p]
            higher[count] = k
            count += 1
    left = 0
    if others:
        for i in range(count):
            k = higher[i]
            q = p + near[k]
            if hill[q] == hill[p]:
                continue
            r = p + across[steepest, k]
            around = r != p and (level[r] > v or (level[r] == v and r > p))
            if not around:
                for j in range(count):
                    h = higher[j]
                    if across[steepest, h] == near[h] and across[h, k] == near[k]:
                        around = True
                        break
            if not around:
                several[left] = q
                left += 1
    return left


@_njit
def _grow(level, face, near, across, hill, order, hills, terminal, places, a, b, where):
    group = np.arange(hills)
    higher, several = np.empty(near.size, np.int64), np.empty(near.size, np.int64)
    reached = np.full(hills, -1, np.int32)  # the terminal of a group, at its root
    n = m = 0
    for i in range(order.size):
        p = order[i]
        root = _find(group, hill[p])
        t = reached[root]
        for k in range(_met(p, level, near, across, hill, higher, several)):
            other = _find(group, hill[several[k]])
            if other == root:
                continue
            u = reached[other]
            if t < 0:
                t = u
            elif u >= 0:
                a[m], b[m], where[m] = t, u, p
                m += 1
            group[other] = root
        if face[p]:
            if t < 0:
                t = n
                places[n] = p
                n += 1
            terminal[p] = t
        reached[root] = t
    return n, m


# ---- trees of trees --------------------------------------------------------------------------------------------------
def forest(edges: Edges, count: int) -> Edges:
    """A maximum spanning forest of a graph, by decreasing level."""
    order = np.argsort(edges.level)[::-1]
    some = order[_forest(edges.a[order], edges.b[order], count)]
    return Edges(edges.a[some], edges.b[some], edges.level[some])


@_njit
def _forest(a, b, count):
    up = np.arange(count)
    taken = np.zeros(a.size, np.bool_)
    for i in range(a.size):
        x, y = _find(up, a[i]), _find(up, b[i])
        if x != y:
            up[x] = y
            taken[i] = True
    return taken


def settled(tree: Edges, seed: np.ndarray) -> np.ndarray:
    """The highest that each node of a forest, its edges by decreasing level, gets from any seed."""
    return _settled(tree.a, tree.b, tree.level, seed)


@_njit
def _settled(a, b, level, seed):
    n, m = seed.size, a.size
    up, above = np.arange(n + m), np.full(n + m, -1, np.int64)
    best = np.empty(n + m, seed.dtype)
    best[:n] = seed
    for i in range(m):
        x, y, both = _find(up, a[i]), _find(up, b[i]), n + i
        up[x] = up[y] = above[x] = above[y] = both
        best[both] = max(best[x], best[y])
    for i in range(n + m - 1, -1, -1):
        v = best[i] if i < n else min(level[i - n], best[i])
        best[i] = v if above[i] < 0 else max(v, best[above[i]])
    return best[:n].copy()


def contracted(tree: Edges, seed: np.ndarray, kept: np.ndarray) -> Edges:
    """Edges between the nodes that are kept, numbered anew, that stand for a forest whose seeds are settled.

    Those along which nothing can rise any more, as both ends have its level, are left out.
    """
    number = np.where(kept, np.cumsum(kept) - 1, -1)
    left, right, at = (np.empty(len(tree.a), np.int64) for _ in range(3))
    m = _contracted(tree.a, tree.b, tree.level, seed, np.where(kept, np.arange(len(kept)), -1), left, right, at)
    a, b = (number[ends[:m]].astype(np.int32) for ends in (left, right))
    return Edges(a, b, tree.level[at[:m]])


@_njit
def _contracted(a, b, level, seed, stands, left, right, at):
    up = np.arange(seed.size)
    m = 0
    for i in range(a.size):
        x, y = _find(up, a[i]), _find(up, b[i])
        s, t = stands[x], stands[y]
        up[x] = y
        if t < 0:
            stands[y] = s
        elif s >= 0 and (seed[s] < level[i] or seed[t] < level[i]):
            left[m], right[m], at[m] = s, t, i
            m += 1
    return m
