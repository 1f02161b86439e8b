"""What operators are given and what they give back: NumPy at once, Dask lazily, a DataArray lazily with its coordinates.

`Lazy` is any of the lazy kinds as a node with the chunks it is cut into; `like` turns a node back into the kind it
came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import dask.array as da
import numpy as np

from bigbia import hyperstack
from bigbia.errors import InputError
from bigbia.graph.boxes import Grid
from bigbia.graph.dask import Chunks, as_array, block_shape, node_of
from bigbia.graph.regions import Axis, Concat, Literal, Node, full_axes, view


def is_lazy(image: Any) -> bool:
    return isinstance(image, da.Array) or hyperstack.is_hyperstack(image)


def native(image: Any) -> Any:
    """The image with its bytes in this machine's order, the only one that the kernels know."""
    return image if image.dtype.isnative else image.astype(image.dtype.newbyteorder("="))


def check_image(image: Any, what: str, kinds: str = "biuf", *, empty: bool = False) -> None:
    """Refuse what is not an image with voxels of a known kind, before anything is read; without any, unless `empty`."""
    if not (isinstance(image, np.ndarray) or is_lazy(image)):
        raise InputError(f"{what}: needs a NumPy or Dask array or a DataArray, got {type(image).__name__}")
    if image.ndim == 0:
        raise InputError(f"{what}: the image has no axes, it is a single value: give an array")
    hyperstack.check_axes(image)
    names = {
        "O": "object",
        "c": "complex",
        "U": "text",
        "S": "bytes",
        "M": "date",
        "m": "time",
        "V": "record",
        "f": "floating-point",
    }
    kind = image.dtype.kind
    if kind not in kinds:
        way = {
            "c": "take its real part or magnitude first: abs(image)",
            "f": f"compare or convert it first, for instance {what.rsplit('.', 1)[-1]}(image > threshold)",
        }
        raise InputError(
            f"{what}: {names.get(kind, kind)} voxels ({image.dtype}) are not an image for it; {way.get(kind, 'convert it first')}"
        )
    if image.dtype.itemsize > 8:
        raise InputError(f"{what}: {image.dtype} voxels are wider than 64 bits: convert with image.astype('float64')")
    for name, n in zip(hyperstack.axis_names(image), image.shape):
        if n == 0 and not empty:
            raise InputError(
                f"{what}: {name if name.startswith('axis') else 'axis ' + name} is empty (shape {tuple(image.shape)}): nothing to do"
            )


@dataclass(frozen=True)
class Lazy:
    """A lazy image: its node, how it is cut, the live Dask arrays it needs, and the DataArray it came from, if it
    did."""

    node: Node
    chunks: Chunks
    live: Mapping[str, da.Array] = field(default_factory=dict)
    template: Any = None
    cut: str = ""  # why a Dask array could not be looked through

    @property
    def shape(self) -> tuple[int, ...]:
        return self.node.shape

    @property
    def grid(self) -> Grid:
        return Grid(tuple(tuple(n for n in c if n) or (0,) for c in self.chunks))

    @property
    def space(self) -> tuple[int, ...]:
        return tuple(range(self.node.ndim)) if self.template is None else hyperstack.spatial_axes(self.template)

    @property
    def over(self) -> tuple[int, ...]:
        """The axes that are not space: time and channels of a DataArray."""
        return tuple(i for i in range(self.node.ndim) if i not in self.space)

    def like(self, node: Node, chunks: Chunks | None = None) -> Any:
        """A node of the same shape as what the user gave: a Dask array, or a DataArray with the same coordinates."""
        array = as_array(node, self.chunks if chunks is None else chunks, self.live)
        if self.template is None:
            return array
        import xarray as xr

        return xr.DataArray(array, dims=self.template.dims, coords=self.template.coords, name=self.template.name)

    def like_over(self, node: Node) -> Any:
        """A node with one value for each time and channel: a 0-d Dask array, or a DataArray over t and c."""
        array = as_array(node, tuple((1,) * n for n in node.shape), self.live)
        if self.template is None:
            return array
        import xarray as xr

        dims = [self.template.dims[i] for i in self.over] if node.ndim else []
        coords = {k: v for k, v in self.template.coords.items() if set(v.dims) <= set(dims)}
        return xr.DataArray(array, dims=dims, coords=coords)

    def each(self) -> Iterator[tuple[dict[str, int], Lazy]]:
        """The images of space within it, one for each time and channel."""
        if not self.over:
            yield {}, self
            return
        axes = full_axes(self.node)
        for index in np.ndindex(*(self.shape[i] for i in self.over)):
            fixed = [(axis, int(i)) for axis, i in zip(self.over, index)]
            node = view(self.node, [axes[i] for i in self.space], fixed)
            where = {str(self.template.dims[axis]): i for axis, i in fixed}
            yield (
                where,
                replace(
                    self,
                    node=node,
                    chunks=tuple(self.chunks[i] for i in self.space),
                    template=self.template.isel(where),
                ),
            )

    def joined(self, nodes: Sequence[Node]) -> Node:
        """The nodes of `each`, of one shape, put together again with the axes in their places."""
        if not self.over:
            return nodes[0]
        counts = [self.shape[i] for i in self.over]
        inner = nodes[0].ndim
        parts = []
        for n in nodes:
            parts.append(view(n, [*(Axis(None, 0, 0, 1) for _ in counts), *full_axes(n)]))
        for depth in range(len(counts) - 1, -1, -1):
            group = counts[depth]
            parts = [
                Concat(tuple(parts[k : k + group]), depth) if group > 1 else parts[k]
                for k in range(0, len(parts), group)
            ]
        (node,) = parts
        axes = full_axes(node)
        if not inner:
            return node
        order = [
            self.over.index(i) if i in self.over else len(counts) + self.space.index(i) for i in range(len(self.shape))
        ]
        return view(node, [axes[i] for i in order])

    def joined_chunks(self) -> Chunks:
        """The chunks of `joined`: single times and channels."""
        return tuple((1,) * self.shape[i] if i in self.over else c for i, c in enumerate(self.chunks))


def lazy(image: Any, what: str = "image", chunks: Chunks | None = None) -> Lazy:
    """A Dask array, DataArray or NumPy array as a lazy image."""
    template = image if hyperstack.is_hyperstack(image) else None
    data = image.data if template is not None else image
    if isinstance(data, da.Array):
        node, live, cut = node_of(data)
        return Lazy(node, data.chunks, live, template, cut)
    if isinstance(data, np.ndarray):
        node = Literal(data)
        block = chunks or Grid.regular(data.shape, block_shape(data.shape, data.dtype, (1,) * data.ndim)).chunks
        return Lazy(node, block, {}, template)
    raise InputError(f"{what}: needs a NumPy or Dask array or a DataArray, got {type(image).__name__}")
