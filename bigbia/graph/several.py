"""Several images in, or several values a voxel out: what `window` does for one.

    combined   images of one shape and a margin -> one image, or `lead` values a voxel along a new axis
    stacked    images of one shape -> one, along a new axis

On a DataArray the new axis is that of the channels: every channel becomes as many, named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bigbia import hyperstack
from bigbia.errors import InputError, ParameterError
from bigbia.graph.boxes import slices, whole
from bigbia.graph.lazy import Lazy, is_lazy, lazy
from bigbia.graph.regions import Concat, Node, full_axes, view
from bigbia.graph.regions import stack as stack_nodes
from bigbia.graph.window import halos
from bigbia.graph.windows import Windows


def check_same(images: Sequence[Any], what: str, name: str) -> None:
    """Refuses images that are not of one shape, kind and axes."""
    if not images:
        raise InputError(f"{what}: {name} is empty: give the images")
    first = images[0]
    for k, other in enumerate(images):
        if not (isinstance(other, np.ndarray) or is_lazy(other)):
            raise InputError(
                f"{what}: {name}[{k}] is a {type(other).__name__}: needs NumPy or Dask arrays or DataArrays"
            )
        if tuple(other.shape) != tuple(first.shape) or hyperstack.axis_names(other) != hyperstack.axis_names(first):
            raise ParameterError(
                f"{what}: {name}[0] is {tuple(first.shape)}, {name}[{k}] is {tuple(other.shape)}: they must be of the same image"
            )


def combined(
    kernel: Callable[..., np.ndarray],
    images: Sequence[Any],
    what: str,
    *,
    halo: Any = 0,
    dtype: Any,
    names: Sequence[str] = (),
    last: bool = False,
    cost: float = 10.0,
    workspace: float = 16.0,
    **params: Any,
) -> Any:
    """`kernel(blocks, box, core, **params)` of images of one shape, the core of every block cut out by it.

    With `names`, the kernel gives as many values a voxel, along its first axis; the result has them along its first
    axis too, along the `last` one, or along `c`. `workspace`: temporary bytes a voxel of the images.
    """
    dtype = np.dtype(dtype)
    if not any(is_lazy(i) for i in images):
        box = whole(images[0].shape)
        out = kernel([np.asarray(i) for i in images], box, slices(box), **params)
        return np.ascontiguousarray(np.moveaxis(out, 0, -1)) if last and names else out
    sources = [lazy(i, what) for i in images]
    source = _all_alive(sources)
    margins = halos(halo, images[0])
    node = Windows(
        kernel, tuple(s.node for s in sources), margins, dtype, params, cost, workspace / max(1, len(names)), len(names)
    )
    return _led(source, node, names, last) if names else source.like(node)


def stacked(images: Sequence[Any], names: Sequence[str], what: str, *, last: bool = False) -> Any:
    """The images along a new first axis, the `last` one, or `c`."""
    if not any(is_lazy(i) for i in images):
        return np.stack(images, -1 if last else 0)
    sources = [lazy(i, what) for i in images]
    return _led(_all_alive(sources), stack_nodes([s.node for s in sources]), names, last)


def _all_alive(sources: Sequence[Lazy]) -> Lazy:
    live: dict = {}
    for s in sources:
        live |= s.live
    return replace(sources[0], live=live)


def _led(source: Lazy, node: Node, names: Sequence[str], last: bool) -> Any:
    """A node with a new first axis as what the user gave, that axis in its place."""
    from bigbia.graph.dask import as_array

    axes = full_axes(node)
    if source.template is None:
        order = [*axes[1:], axes[0]] if last else axes
        chunks = (*source.chunks, (len(names),)) if last else ((len(names),), *source.chunks)
        return as_array(view(node, order), chunks, source.live)
    import xarray as xr

    dims = [str(d) for d in source.template.dims]
    coords = {k: v for k, v in source.template.coords.items() if "c" not in v.dims}
    if "c" in dims:
        place = dims.index("c")
        own = hyperstack.channels(source.template) or tuple(map(str, range(node.shape[1 + place])))
        parts = []
        for channel in range(len(own)):
            seen = [axes[0] if a == place else axes[1 + a] for a in range(len(dims))]
            parts.append(view(node, seen, [(1 + place, channel)]))
        made: Node = Concat(tuple(parts), place) if len(parts) > 1 else parts[0]
        chunks = tuple((len(names),) * len(own) if a == place else c for a, c in enumerate(source.chunks))
        coords["c"] = ("c", [f"{c} {n}" for c in own for n in names])
    else:
        place = 1 if dims[:1] == ["t"] else 0
        made = view(node, [*axes[1 : 1 + place], axes[0], *axes[1 + place :]])
        chunks = (*source.chunks[:place], (len(names),), *source.chunks[place:])
        dims.insert(place, "c")
        coords["c"] = ("c", list(names))
    return xr.DataArray(as_array(made, chunks, source.live), dims=dims, coords=coords, name=source.template.name)
