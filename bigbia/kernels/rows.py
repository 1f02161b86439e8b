"""A neighbourhood as places in the rows of a block: what kernels with footprints have in common.

Where a voxel and its whole neighbourhood lie inside the block, a neighbour is a fixed number of elements away, in
however many axes. A kernel then goes row by row along the last axis, and for each neighbour adds (or compares) one
stretch of memory to another, which vectorises. Where the neighbourhood reaches beyond the block, the block is first
continued by the border's rule, as far as needed and no further.

    block  +  core, reach, mode   ->   Rows: flat elements, where each row of the core begins, and its length
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MODES = ("nearest", "reflect", "mirror", "constant", "wrap")


@dataclass(frozen=True)
class Rows:
    """The rows of the core in flat memory."""

    flat: np.ndarray  # every element, contiguous, not writeable
    starts: np.ndarray  # of each row, in raster order
    shape: tuple[int, ...]  # of the core
    strides: tuple[int, ...]  # in elements

    @property
    def length(self) -> int:
        return self.shape[-1]

    def places(self, footprint: np.ndarray, origin: Sequence[int] | None = None) -> np.ndarray:
        """How far away the neighbours are that a mask marks, in raster order; its centre is `n // 2`, or `origin`."""
        origin = [n // 2 for n in footprint.shape] if origin is None else origin
        at = np.argwhere(footprint) - np.asarray(origin)
        return (at @ np.asarray(self.strides, np.int64)).astype(np.int64)

    def empty(self, dtype: np.dtype | type) -> np.ndarray:
        """An array for the result, as (rows, length)."""
        return np.empty((len(self.starts), self.length), dtype)


def rows_of(
    block: np.ndarray,
    core: Sequence[slice] | None,
    reach: Sequence[tuple[int, int]],
    mode: str = "nearest",
    cval: float = 0.0,
) -> Rows:
    """The rows of a block's core, with as much around them as `reach` (before, after along each axis) says."""
    core = [slice(0, n) for n in block.shape] if core is None else list(core)
    wide = [(part.start - before, part.stop + after) for part, (before, after) in zip(core, reach)]
    if all(a >= 0 and b <= n for (a, b), n in zip(wide, block.shape)) and block.flags.c_contiguous:
        data, origin = block, [part.start for part in core]
    else:
        data, origin = continued(block, wide, mode, cval), [before for before, _ in reach]
    shape = tuple(part.stop - part.start for part in core)
    strides = tuple(s // data.itemsize for s in data.strides)
    starts = np.zeros(1, np.int64)
    for first, n, stride in zip(origin[:-1], shape[:-1], strides[:-1]):
        starts = (starts[:, None] + (first + np.arange(n, dtype=np.int64)) * stride).reshape(-1)
    flat = data.reshape(-1).view()
    flat.flags.writeable = False  # one compiled version for data that may and may not be written
    return Rows(flat, starts + origin[-1] * strides[-1], shape, strides)


def continued(block: np.ndarray, wide: Sequence[tuple[int, int]], mode: str, cval: float = 0.0) -> np.ndarray:
    """The voxels from a to b along each axis, a copy; beyond the block those that the border's rule puts there."""
    inside = [(max(a, 0), min(b, n)) for (a, b), n in zip(wide, block.shape)]
    whole = all(a < b for a, b in inside)
    put = tuple(slice(i - a, j - a) for (i, j), (a, _) in zip(inside, wide))
    shape = [b - a for a, b in wide]
    if mode == "constant":
        out = np.full(shape, np.asarray(cval).astype(block.dtype), block.dtype)
        if whole:
            out[put] = block[tuple(slice(i, j) for i, j in inside)]
        return out
    sources = [outside(np.arange(a, b), n, mode) for (a, b), n in zip(wide, block.shape)]
    if not whole or any(at.min() < i or at.max() >= j for at, (i, j) in zip(sources, inside)):
        return block[np.ix_(*sources)]  # what lies beyond is not all beside it
    out = np.empty(shape, block.dtype)
    out[put] = block[tuple(slice(i, j) for i, j in inside)]
    for axis, (at, part) in enumerate(zip(sources, put)):
        # Axes before this one are complete, of those after it only what lies inside.
        known = (slice(None),) * axis
        later = put[axis + 1 :]
        for i in (*range(part.start), *range(part.stop, len(at))):
            out[(*known, i, *later)] = out[(*known, at[i] - wide[axis][0], *later)]
    return out


def outside(i: np.ndarray, n: int, mode: str) -> np.ndarray:
    """Which voxels of a line of n stand at the places i, also beyond its ends."""
    if mode == "nearest" or n == 1:
        return np.clip(i, 0, n - 1)
    if mode == "reflect":
        i = i % (2 * n)
        return np.where(i < n, i, 2 * n - 1 - i)
    if mode == "mirror":
        i = i % (2 * n - 2)
        return np.where(i < n, i, 2 * n - 2 - i)
    if mode == "wrap":
        return i % n
    raise ValueError(f"mode {mode!r}")


def reach_of(footprint: np.ndarray) -> list[tuple[int, int]]:
    """(before, after) along each axis of a mask around its centre."""
    return [(n // 2, n - 1 - n // 2) for n in footprint.shape]


def plain(x: np.ndarray) -> np.ndarray:
    """Contiguous, of a type the kernels know (bool as uint8, half as single), native, and not writeable."""
    if x.dtype == bool:
        x = x.view(np.uint8)
    elif x.dtype.kind == "f" and x.dtype.itemsize == 2:
        x = x.astype(np.float32)
    elif not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    x = np.ascontiguousarray(x).view()
    x.flags.writeable = False
    return x
