"""Where a watershed begins, if no markers are given: local minima, or a number of evenly spread voxels."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bigbia.graph.boxes import Box, shape_of
from bigbia.graph.lazy import Lazy
from bigbia.graph.placed import Placed
from bigbia.graph.reduce import Pass, Reduce
from bigbia.graph.regions import Literal, Node


def spread(shape: Sequence[int], count: int, inside: int) -> np.ndarray:
    """Start and step along each axis of about `count` voxels, if `inside` of the image's are looked at; (axes, 2).

    scikit-image's `regular_grid`.
    """
    from skimage.util import regular_grid

    most = int(count / (inside / math.prod(shape))) if inside else 0
    if not most:
        return np.array([(n, 1) for n in shape], np.int64)  # none
    places = [s.indices(n) for s, n in zip(regular_grid(tuple(shape), most), shape)]
    return np.array([(start, step) for start, _, step in places], np.int64)


def seeds(shape: Sequence[int], box: Box, places: np.ndarray) -> np.ndarray:
    """Voxels that are spread over an image of a shape, numbered in raster order, in a box of it."""
    out = np.zeros(shape_of(box), np.uint32)
    number = np.zeros((1,) * len(box), np.int64)
    where = []
    for axis, ((a, b), n, (start, step)) in enumerate(zip(box, shape, places)):
        first = max(0, -(-(a - start) // step))
        at = np.arange(start + first * step, b, step)
        along = np.arange(first, first + len(at)).reshape([-1 if k == axis else 1 for k in range(len(box))])
        number = number * len(range(start, n, step)) + along
        where.append(at - a)
    out[np.ix_(*where)] = number + 1
    return out


def spread_over(part: Lazy, count: int, mask: Node | None) -> Node:
    """The image of `seeds`. In a mask about `count`, if they were spread as evenly in it as around it."""
    if mask is None:
        places: Node = Literal(spread(part.shape, count, math.prod(part.shape)))
    else:
        finish = functools.partial(_finish, shape=part.shape, count=count)
        stage = Reduce("voxels in the mask", mask, part.grid, [Pass(_count, _sum)], finish)
        places = stage.output("places", (len(part.shape), 2), np.int64)
    return Placed(seeds, places, part.shape, np.dtype(np.uint32))


def _count(block: np.ndarray, box: Box) -> dict[str, np.ndarray]:
    return {"n": np.array(np.count_nonzero(block))}


def _sum(parts: Sequence[Any]) -> dict[str, np.ndarray]:
    return {"n": np.sum([p["n"] for p in parts])}


def _finish(found: Any, *, shape: tuple[int, ...], count: int) -> dict[str, np.ndarray]:
    return {"places": spread(shape, count, int(found["n"]))}
