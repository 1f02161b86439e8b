"""Gaussians so wide that the margins of all axes together would be most of what a block reads and computes.

Then they are taken axis by axis: the result along one axis is kept in scratch, in cells that are long along it, and the
next axis reads it from there. The passes are those of the kernel, in its order and rounded alike, so the bits are too.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from bigbia.graph.cells import in_cells
from bigbia.graph.lazy import lazy
from bigbia.graph.window import neighbourhood

VOXELS = 2**21  # of a cell with its margin
SHORTEST = 48  # voxels: a smaller margin is not worth a pass through scratch
MORE = 2.5  # times the work without margins, from which on a pass through scratch is less


def is_wide(image: Any, halo: Sequence[int], what: str) -> bool:
    """Whether the margins would make so much work in the image's own blocks."""
    if max(halo) < SHORTEST:
        return False
    source = lazy(image, what)
    block = [max(c) for c in source.chunks]
    wide = [min(n, b + 2 * h) for n, b, h in zip(source.shape, block, halo)]
    passes = [a for a, h in enumerate(halo) if h]
    work = sum(prod(block[: a + 1]) * prod(wide[a + 1 :]) for a in passes) / (len(passes) * prod(block))
    return len(passes) > 1 and work > MORE


def axis_by_axis(
    kernel: Any, image: Any, what: str, *, halo: Sequence[int], sigma: Sequence[float], dtype: np.dtype, **how: Any
) -> Any:
    axes = [a for a, h in enumerate(halo) if h]
    for axis in axes:
        only = [h if a == axis else 0 for a, h in enumerate(halo)]
        alone = tuple(s if a == axis else 0.0 for a, s in enumerate(sigma))
        given: dict[str, Any] = {
            "dtype": dtype,
            "workspace": 2.0 * dtype.itemsize,
            "sigma": alone,
            "output": dtype,
        } | how
        if axis != axes[-1]:
            image = in_cells(kernel, image, what, cell=_long_cell(image.shape, axis, only[axis]), halo=only, **given)
        else:
            image = neighbourhood(
                kernel, image, what, halo=[only[a] for a in lazy(image, what).space], cost=3.0, **given
            )
    return image


def _long_cell(shape: Sequence[int], axis: int, halo: int) -> tuple[int, ...]:
    """A cell twice as long along the axis as its margins are together, or as long as the image."""
    cell = [1] * len(shape)
    cell[axis] = min(shape[axis], 4 * halo)
    room = VOXELS // min(shape[axis], 6 * halo)
    for a in reversed(range(len(shape))):
        if a != axis:
            cell[a] = min(shape[a], max(1, min(128, room)))
            room //= cell[a]
    return tuple(cell)
