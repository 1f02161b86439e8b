"""Names of components: the raster index, in the whole image and from 1, of the first voxel."""

from __future__ import annotations

from collections.abc import Sequence

import numba as nb
import numpy as np


def names(first: np.ndarray, local: Sequence[int], start: Sequence[int], shape: Sequence[int]) -> tuple:
    """Names and lines of components.

    `first` are raster indices in a block of shape `local` that starts at `start` of an image of `shape`, ascending. A
    line is the index, in the block, of the row along the last axis.
    """
    name = np.empty(len(first), np.int64)
    line = np.empty(len(first), np.uint32)
    sizes, place, whole = (np.array(a, np.int64) for a in (local, start, shape))
    _names(first, sizes, place, whole, name, line)
    return name, line


@nb.njit(nogil=True, cache=True)
def _names(first, local, start, shape, name, line):
    d = local.size
    m = local[d - 1]
    last = np.int64(-1)
    base = np.int64(0)
    for i in range(first.size):
        row = first[i] // m
        if row != last:  # ascending: many begin on one line
            last = row
            rest = row
            base = np.int64(0)
            stride = shape[d - 1]
            for a in range(d - 2, -1, -1):
                base += (rest % local[a] + start[a]) * stride
                rest //= local[a]
                stride *= shape[a]
            base += start[d - 1] + 1 - row * m
        name[i] = base + first[i]
        line[i] = row


@nb.njit(nogil=True, cache=True)
def ranks_on_lines(line, counts):
    """Rank of each object among those of its line so far; counts (a number a line) are brought forward."""
    rank = np.empty(line.size, np.uint32)
    for i in range(line.size):
        rank[i] = counts[line[i]]
        counts[line[i]] += 1
    return rank


@nb.njit(nogil=True, cache=True)
def numbered(own, rank, line, ahead, out):
    """Numbers of the objects of a block: those before its line, and before it on its line. out[0] is the background."""
    k = 0
    for i in range(own.size):
        if own[i]:
            out[i + 1] = ahead[line[i]] + rank[k] + 1
            k += 1
