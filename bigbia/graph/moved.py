"""Images seen through an affine map: the node, and where its voxels lie.

A block needs the box of the image that its own box is mapped to, with one voxel around it; one task a block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from dask.base import tokenize

from bigbia import hyperstack
from bigbia.graph.boxes import Box, shape_of
from bigbia.graph.dask import as_array
from bigbia.graph.lazy import is_lazy, lazy
from bigbia.graph.regions import Node, Parts
from bigbia.graph.resampled import AtHand, at_once, cut


@dataclass(frozen=True, eq=False)
class Moved(Node):
    """An image whose voxel o, along the axes of space, is the child's at ``matrix @ o + offset``."""

    child: Node
    matrix: np.ndarray
    offset: np.ndarray
    size: tuple[int, ...]
    space: tuple[int, ...]
    order: int
    mode: str
    cval: float
    kind: np.dtype

    def __post_init__(self) -> None:
        what = (self.matrix, self.offset, self.size, self.space, self.order, self.mode, self.cval, str(self.kind))
        self._set(
            shape=self.size,
            dtype=np.dtype(self.kind),
            children=(self.child,),
            token="moved-" + tokenize(what, self.child.token),
            cost=10.0 if self.order == 0 else 5.0 * 2 ** len(self.space),
            workspace=self.child.dtype.itemsize + (8.0 if self.order else 0.0),
        )

    def _reach(self, box: Box) -> list[tuple[int, int]] | None:
        """The voxels along the axes of space that a box needs; None where it lies beyond the image."""
        out = []
        for row, shift, axis in zip(self.matrix, self.offset, self.space):
            ends = [(m * box[a][0], m * (box[a][1] - 1)) for m, a in zip(row, self.space)]
            low, high = shift + sum(map(min, ends)), shift + sum(map(max, ends))
            n = self.child.shape[axis]
            first, last = max(-3.0, min(low, n + 2.0)), max(-3.0, min(high, n + 2.0))
            a, b = math.floor(first) - 1, math.floor(last) + 3
            if self.mode == "nearest":
                a, b = min(max(a, 0), n - 1), max(min(b, n), 1)
            a, b = max(a, 0), min(b, n)
            if a >= b:
                return None
            out.append((a, b))
        return out

    def needs(self, box: Box) -> tuple[list[Box], ...]:
        reach = self._reach(box)
        if reach is None:
            return ([],)
        wanted = list(box)
        for axis, part in zip(self.space, reach):
            wanted[axis] = part
        return ([tuple(wanted)],)

    def compute(self, box: Box, parts: Parts) -> np.ndarray:
        from bigbia.kernels.affine import affine

        reach = self._reach(box)
        over = [a for a in range(len(box)) if a not in self.space]
        order = [*over, *self.space]
        if reach is None:  # the constant, rounded as the sum of its parts is: nothing of this voxel is looked at
            reach = [(0, 1)] * len(self.space)
            data = np.zeros([box[a][1] - box[a][0] for a in over] + [1] * len(reach), self.child.dtype)
        else:
            data = parts[0][0].transpose(order)
        images = data.reshape(-1, *data.shape[len(over) :])
        mine = [box[a] for a in self.space]
        out = affine(
            images,
            [a for a, _ in reach],
            [self.child.shape[a] for a in self.space],
            self.matrix,
            self.offset,
            mine,
            self.order,
            self.mode,
            self.cval,
            self.dtype,
        )
        out = out.reshape(*data.shape[: len(over)], *shape_of(tuple(mine)))
        return np.ascontiguousarray(out.transpose(np.argsort(order)))

    def rebuilt(self, children: tuple[Node, ...]) -> Node:
        return replace(self, child=children[0])


def moved(image: Any, what: str, matrix: np.ndarray, offset: np.ndarray, size: Sequence[int], **given: Any) -> Any:
    """The image through the map, of the same kind; `size` is its shape along all axes."""
    space = hyperstack.spatial_axes(image)

    def make(child: Node) -> Node:
        return Moved(child, matrix, offset, tuple(size), space, **given)

    if not is_lazy(image):
        return at_once(make(AtHand(image)), image)
    source = lazy(image, what)
    node = make(source.node)
    array = as_array(node, cut(source.grid.chunks, node.shape), source.live)
    if source.template is None:
        return array
    import xarray as xr

    template = source.template
    names = [str(template.dims[a]) for a in space]
    coords = {k: v for k, v in template.coords.items() if not set(v.dims) & set(names)}
    coords |= _coordinates(template, names, matrix, offset, [size[a] for a in space])
    return xr.DataArray(array, dims=template.dims, coords=coords, name=template.name)


def _coordinates(
    template: Any, names: Sequence[str], matrix: np.ndarray, offset: np.ndarray, size: Sequence[int]
) -> dict[str, Any]:
    """A step along an axis is as long as the one it is mapped to; the middle of the result lies where it is seen."""
    steps: list[Any] = [hyperstack.step_of(template, axis)[0] for axis in names]
    if None in steps:
        return {}
    middle = (np.asarray(size) - 1) / 2
    seen = matrix @ middle + offset
    out = {}
    for k, axis in enumerate(names):
        coord = template.coords[axis]
        signed = -steps[k] if coord.size > 1 and coord.values[-1] < coord.values[0] else steps[k]
        step = float(np.sqrt(sum((float(s) * m) ** 2 for s, m in zip(steps, matrix[:, k]))))
        if matrix[k, k] and not np.delete(matrix[:, k], k).any():
            step = abs(float(signed) * matrix[k, k])  # exactly
        centre = float(coord.values[0]) + seen[k] * signed
        at = (np.arange(size[k]) - middle[k]) * math.copysign(step, signed) + centre
        out[axis] = (axis, at, coord.attrs | {"voxel_size": step})
    return out
