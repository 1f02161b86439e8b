"""Images of another size: the nodes, the blocks they are cut into, and the coordinates of their voxels.

Voxel i of an axis that n voxels become m lies at (i + 1/2) * n / m - 1/2 of the old one: both images fill the same
space. A block needs the voxels below it and one more on each side; one task a block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from dask.base import tokenize

from bigbia import hyperstack
from bigbia.graph.boxes import Box, slices, whole
from bigbia.graph.dask import Chunks, as_array
from bigbia.graph.lazy import is_lazy, lazy
from bigbia.graph.regions import Node, Parts, assembled


@dataclass(frozen=True, eq=False)
class Means(Node):
    """The mean of each box of `factors` voxels, counted from the image's first; filled up with `cval` at its end."""

    child: Node
    factors: tuple[int, ...]
    cval: float
    kind: np.dtype

    def __post_init__(self) -> None:
        self._set(
            shape=tuple(-(-n // f) for n, f in zip(self.child.shape, self.factors)),
            dtype=np.dtype(self.kind),
            children=(self.child,),
            token="means-" + tokenize(self.factors, self.cval, str(self.kind), self.child.token),
            cost=1.0 * float(np.prod(self.factors)),
            workspace=0.25 + 8.0 / self.child.shape[-1],
        )

    def needs(self, box: Box) -> tuple[list[Box], ...]:
        return ([tuple((a * f, min(b * f, n)) for (a, b), f, n in zip(box, self.factors, self.child.shape))],)

    def compute(self, box: Box, parts: Parts) -> np.ndarray:
        from bigbia.kernels.resampling import local_mean

        return local_mean(parts[0][0], self.factors, self.cval, self.dtype)

    def rebuilt(self, children: tuple[Node, ...]) -> Node:
        return replace(self, child=children[0])


@dataclass(frozen=True, eq=False)
class Resized(Node):
    """An image interpolated to another shape, by its nearest voxels (order 0) or linearly (order 1)."""

    child: Node
    size: tuple[int, ...]
    order: int
    mode: str
    cval: float
    kind: np.dtype

    def __post_init__(self) -> None:
        changed = sum(n != m for n, m in zip(self.child.shape, self.size))
        self._set(
            shape=self.size,
            dtype=np.dtype(self.kind),
            children=(self.child,),
            token="resized-" + tokenize(self.size, self.order, self.mode, self.cval, str(self.kind), self.child.token),
            cost=2.0 * 2**changed if self.order else 3.0,
            # what is enlarged along the first axes alone, or the rows and weights of the corners
            workspace=16.0 * 2**changed / max(1, self.size[-1]) if self.order else float(self.child.dtype.itemsize),
        )

    def _axes(self, box: Box) -> tuple[list[list[tuple[int, int]]], list[Any]]:
        """Along each axis the runs of voxels that a box needs, and its taps within them."""
        from bigbia.kernels import resampling as kernels

        runs, axes = [], []
        for (a, b), n, m in zip(box, self.child.shape, self.size):
            t = kernels.taps(a, b, n, m, self.order, self.mode)
            used = t.low if t.same else np.concatenate([t.low, t.high])
            runs.append(kernels.spread(used, kernels.reach_of_taps(n, m)))
            axes.append(kernels.within(t, runs[-1]))
        return runs, axes

    def needs(self, box: Box) -> tuple[list[Box], ...]:
        return ([tuple(run) for run in product(*self._axes(box)[0])],)

    def compute(self, box: Box, parts: Parts) -> np.ndarray:
        from bigbia.kernels import resampling as kernels

        runs, axes = self._axes(box)
        data = assembled(parts[0], [len(r) for r in runs])
        if self.order == 0:
            return kernels.nearest(data, axes, self.cval)
        return kernels.linear(data, axes, self.cval, self.dtype)

    def rebuilt(self, children: tuple[Node, ...]) -> Node:
        return replace(self, child=children[0])


class AtHand(Node):
    """An array of which nothing is asked but to be there: no fingerprint is made."""

    def __init__(self, value: np.ndarray) -> None:
        self._set(shape=value.shape, dtype=value.dtype, token="at-hand")


def at_once(node: Node, image: np.ndarray) -> np.ndarray:
    """All voxels of a node over an array that is at hand."""
    image = image.view()
    image.flags.writeable = False
    box = whole(node.shape)
    (boxes,) = node.needs(box)
    return node.compute(box, ([image[slices(b)] for b in boxes],))


def resampled(image: Any, what: str, make: Callable[[Node], Node]) -> Any:
    """The image that a node over it is, of the same kind; with the coordinates of its new voxels."""
    if not is_lazy(image):
        return at_once(make(AtHand(image)), image)
    source = lazy(image, what)
    node = make(source.node)
    array = as_array(node, cut(source.grid.chunks, node.shape), source.live)
    if source.template is None:
        return array
    return placed(source.template, array, [n / m for n, m in zip(source.shape, node.shape)], node)


def placed(template: Any, array: Any, factors: Sequence[float], node: Node) -> Any:
    """A DataArray whose voxels are `factors` times larger than the template's."""
    import xarray as xr

    if isinstance(node, Means):
        factors = node.factors
    changed = {str(d): f for d, f, n, m in zip(template.dims, factors, template.shape, array.shape) if f != 1 or n != m}
    coords = {k: v for k, v in template.coords.items() if not set(v.dims) & set(changed)}
    for axis, factor in changed.items():
        if axis in template.coords:
            coord = template.coords[axis]
            step, _ = hyperstack.step_of(template, axis)
            if step is None:
                continue
            signed = -step if coord.size > 1 and coord.values[-1] < coord.values[0] else step
            at = (np.arange(array.shape[template.dims.index(axis)]) + 0.5) * factor - 0.5
            coords[axis] = (axis, coord.values[0] + at * signed, coord.attrs | {"voxel_size": step * factor})
    return xr.DataArray(array, dims=template.dims, coords=coords, name=template.name)


def cut(chunks: Chunks, shape: Sequence[int]) -> Chunks:
    """Blocks of the new image where those of the old one lie; cut where they would be twice as long or more."""
    out = []
    for lengths, m in zip(chunks, shape):
        n, edge, before, axis = sum(lengths), 0, 0, []
        for length in lengths:
            edge += length
            upto = -(-edge * m // n)
            pieces = max(1, (upto - before) // length) if upto > before else 0
            ends = [before + (upto - before) * (k + 1) // pieces for k in range(pieces)]
            axis += [b - a for a, b in zip([before, *ends], ends)]
            before = upto
        out.append(tuple(n for n in axis if n))
    return tuple(out)
