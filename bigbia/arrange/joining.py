"""Several images as one: along a new axis, or one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from bigbia import hyperstack
from bigbia.arrange.places import names_of
from bigbia.errors import ParameterError
from bigbia.graph.footprints import brief, one_of, several
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import Lazy, check_image, is_lazy, lazy

_SLACK = 1e-6
"""Of a step, by which coordinates that say the same may differ."""


def stack(images: Sequence[Image], axis: Literal["t", "c", "z"] = "c", names: Sequence[str] | None = None) -> Any:
    """Put images of one shape together along a new axis: channels, times, or slices.

    Parameters
    ----------
    images : list of arrays
        Of one shape, with the same axes, coordinates and voxel sizes.
    axis : {"c", "t", "z"}
        The new axis. It takes its place in the order t, c, z, y, x.
    names : list of str, optional
        Of channels, one an image. Without them those of images that were taken out of channels, if each has one.

    Returns
    -------
    Array of the same kind with one axis more, of the smallest dtype that holds all values unchanged. Plain arrays are
    put together along a new first axis.

    Raises
    ------
    ParameterError : no image; shapes, axes, voxel sizes or places that differ; an axis that is there already; names
        that do not fit
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    A view: one task a block, which reads the one image that the block lies in.

    Examples
    --------
    >>> import numpy as np
    >>> image = bigbia.hyperstack.hyperstack(np.zeros((3, 4)), "yx")
    >>> both = bigbia.stack([image, image + 1], axis="c", names=["DAPI", "GFP"])
    >>> both.dims, bigbia.hyperstack.channels(both)
    (('c', 'y', 'x'), ('DAPI', 'GFP'))
    """
    from bigbia.graph.arranged import stacked

    what = "stack"
    given = _checked(images, what)
    one_of(axis, "axis", what, ("t", "c", "z"))
    _same_axes(given, what)
    first = given[0]
    for number, image in enumerate(given[1:], 1):
        if image.shape != first.shape:
            raise ParameterError(
                f"{what}: images[{number}] is {tuple(image.shape)}, images[0] is {tuple(first.shape)}: "
                "images of one shape can be stacked; cut them with select"
            )
    named = hyperstack.is_hyperstack(first)
    if named and axis in first.dims:
        raise ParameterError(f"{what}: axis={axis!r}: the images have an axis {axis}: use concat, or another axis")
    channels = _names_of_stack(given, axis, names, what)
    _same_places(given, what, skip=axis)
    given = _one_dtype(given, what)
    if not is_lazy(first):
        return np.stack(given)
    at = sum("tczyx".index(str(d)) < "tczyx".index(axis) for d in first.dims) if named else 0
    sources = [lazy(image, what) for image in given]
    node, chunks = stacked([s.node for s in sources], _finest(sources), at)
    array = _array(node, chunks, sources)
    if not named:
        return array
    import xarray as xr

    coords = {k: v for k, v in given[0].coords.items() if k != axis}
    if channels is not None:
        coords["c"] = ("c", np.array(channels, dtype=object).astype(str))
    elif axis != "c" and (place := _places_of_stack(given, axis)) is not None:
        coords[axis] = place
    dims = [*given[0].dims[:at], axis, *given[0].dims[at:]]
    return xr.DataArray(array, dims=dims, coords=coords, name=given[0].name)


def concat(images: Sequence[Image], axis: Literal["t", "c", "z", "y", "x"]) -> Any:
    """Join images one after the other along an axis that they have: parts of a time series, tiles, more channels.

    Parameters
    ----------
    images : list of arrays
        With the same axes, of one size along all others, with the same voxel sizes.
    axis : {"t", "c", "z", "y", "x"}
        Along which they are joined.

    Returns
    -------
    Array of the same kind, of the smallest dtype that holds all values unchanged. Channels keep their names; along the
    other axes the coordinates go on, which must be at even steps.

    Raises
    ------
    ParameterError : no image; sizes, axes or voxel sizes that differ; coordinates that do not go on from one image to
        the next; a channel that is there twice
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    A view: one task a block, which reads the image or the images that the block lies in.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.concat([np.array([[1, 2]]), np.array([[3, 4], [5, 6]])], axis="y")
    array([[1, 2],
           [3, 4],
           [5, 6]])
    """
    from bigbia.graph.arranged import concatenated

    what = "concat"
    given = _checked(images, what)
    one_of(axis, "axis", what, tuple("tczyx"))
    _same_axes(given, what)
    first = given[0]
    names = names_of(first)
    if axis not in names:
        there = f"they have {', '.join(names)}" if names else "their axes have no names"
        raise ParameterError(f"{what}: axis={axis!r}: the images have no axis {axis}: {there}")
    at = names.index(axis)
    for number, image in enumerate(given[1:], 1):
        for k, (n, m) in enumerate(zip(first.shape, image.shape)):
            if k != at and n != m:
                raise ParameterError(
                    f"{what}: images[{number}] has {m} voxels along {names[k]}, images[0] has {n}: "
                    f"only along {axis} may they differ; cut them with select"
                )
    _same_places(given, what, skip=axis)
    place = _joined_places(given, axis, what) if hyperstack.is_hyperstack(first) else None
    given = _one_dtype(given, what)
    if not is_lazy(first):
        return np.concatenate(given, axis=at)
    sources = [lazy(image, what) for image in given]
    finest = _finest(sources, skip=at)
    cut = [tuple(s.chunks[k] if k == at else c for k, c in enumerate(finest)) for s in sources]
    node, chunks = concatenated([s.node for s in sources], cut, at)
    array = _array(node, chunks, sources)
    if not hyperstack.is_hyperstack(first):
        return array
    import xarray as xr

    coords = {k: v for k, v in first.coords.items() if axis not in v.dims}
    if place is not None:
        coords[axis] = place
    return xr.DataArray(array, dims=first.dims, coords=coords, name=first.name)


# ---- checking --------------------------------------------------------------------------------------------------------
def _checked(images: Any, what: str) -> list[Any]:
    given = several(images) if not isinstance(images, np.ndarray) else None
    if given is None:
        raise ParameterError(f"{what}: images={brief(images)}: must be a list of images: [a, b]")
    if not given:
        raise ParameterError(f"{what}: images=[]: is empty: give one image or more")
    for image in given:
        check_image(image, what)
    return given


def _same_axes(images: Sequence[Any], what: str) -> None:
    def kind(image: Any) -> str:
        if hyperstack.is_hyperstack(image):
            return "axes " + ", ".join(map(str, image.dims))
        return f"{image.ndim} axes without names, {'lazy' if is_lazy(image) else 'a NumPy array'}"

    for number, image in enumerate(images[1:], 1):
        if kind(image) != kind(images[0]):
            raise ParameterError(
                f"{what}: images[{number}] has {kind(image)}, images[0] has {kind(images[0])}: "
                "all must be of one kind with the same axes"
            )


def _same_places(images: Sequence[Any], what: str, skip: str) -> None:
    """Refuse images that lie elsewhere or have other voxels: they would be put on each other all the same."""
    if not hyperstack.is_hyperstack(images[0]):
        return
    for axis in (str(d) for d in images[0].dims if d != skip):
        for number, image in enumerate(images[1:], 1):
            if problem := _unlike(images[0], image, axis):
                raise ParameterError(
                    f"{what}: along {axis} images[{number}] {problem}: bring them to the same voxels first, or take "
                    f"the coordinates off with image.drop_vars({axis!r})"
                )
    if skip in images[0].dims:
        sizes = [hyperstack.step_of(i, skip, _units(skip)) if skip != "c" else None for i in images]
        for number, size in enumerate(sizes[1:], 1):
            if size != sizes[0]:
                raise ParameterError(
                    f"{what}: along {skip} a voxel of images[{number}] is {_told(size)}, of images[0] {_told(sizes[0])}: "
                    "bring them to one voxel size first"
                )


def _told(size: Any) -> str:
    return "without a size" if size is None or size[0] is None else f"{size[0]:g} {size[1] or 'without a unit'}"


def _units(axis: str) -> Any:
    from bigbia.units import LENGTHS, TIMES

    return TIMES if axis == "t" else LENGTHS


def _unlike(first: Any, other: Any, axis: str) -> str | None:
    """How the coordinates of two images differ along an axis."""
    if (axis in first.coords) != (axis in other.coords):
        return "has no coordinates, images[0] has" if axis in first.coords else "has coordinates, images[0] has none"
    if axis not in first.coords:
        return None
    a, b = first.coords[axis], other.coords[axis]
    if axis == "c":
        mine, theirs = (", ".join(map(str, v.values)) for v in (b, a))
        return None if mine == theirs else f"has the channels {mine}, images[0] has {theirs}"
    sizes = [hyperstack.step_of(i, axis, _units(axis)) for i in (first, other)]
    if sizes[0] != sizes[1]:
        return f"has voxels of {_told(sizes[1])}, images[0] of {_told(sizes[0])}"
    slack = _SLACK * (sizes[0][0] or 1.0)
    if np.abs(a.values - b.values).max(initial=0) > slack:
        return f"begins at {b.values[0]:g}, images[0] at {a.values[0]:g}"
    return None


def _one_dtype(images: Sequence[Any], what: str) -> list[Any]:
    """All of the dtype that holds the values of each unchanged."""
    dtypes = sorted({image.dtype.newbyteorder("=") for image in images}, key=str)
    common = np.result_type(*dtypes)
    if common.kind == "f" and any(d.kind in "iu" and d.itemsize == 8 for d in dtypes):
        raise ParameterError(
            f"{what}: images of {' and '.join(map(str, dtypes))} have no dtype that holds the values of both: "
            "convert one of them first, for instance 1.0 * image"
        )
    return [image if image.dtype == common else image.astype(common) for image in images]


# ---- coordinates and chunks ------------------------------------------------------------------------------------------
def _names_of_stack(images: Sequence[Any], axis: str, names: Any, what: str) -> list[str] | None:
    named = hyperstack.is_hyperstack(images[0])
    if names is None:
        if axis != "c" or not named or not all("c" in i.coords and not i.coords["c"].ndim for i in images):
            return None
        found = [str(i.coords["c"].values) for i in images]
        return found if len(set(found)) == len(found) else None
    given = several(names)
    shown = f"{what}: names={brief(names)}"
    if given is None or not all(isinstance(n, str) and n for n in given):
        raise ParameterError(f'{shown}: must be a list of names, one an image: ["DAPI", "GFP"]')
    if axis != "c":
        raise ParameterError(f'{shown}: only channels have names, the axis is {axis}: leave it out, or axis="c"')
    if not named:
        raise ParameterError(f"{shown}: a plain array holds no names: make images with bigbia.hyperstack.hyperstack")
    if len(given) != len(images):
        raise ParameterError(f"{shown}: {len(given)} names for {len(images)} images: give one an image")
    if len(set(given)) != len(given):
        twice = next(n for n in given if given.count(n) > 1)
        raise ParameterError(f"{shown}: {twice!r} is there twice: every channel needs its own name")
    return given


def _places_of_stack(images: Sequence[Any], axis: str) -> Any:
    """The new axis's coordinate, of images that were each taken out of it at even steps."""
    found = [image.coords.get(axis) for image in images]
    if any(c is None or c.ndim or c.dtype.kind not in "iuf" for c in found):
        return None
    values = np.array([float(c.values) for c in found])
    steps = np.diff(values)
    if len(values) > 1 and not (steps[0] and np.abs(steps - steps[0]).max() <= _SLACK * abs(steps[0])):
        return None
    attrs = dict(found[0].attrs)
    if len(values) > 1:
        attrs["voxel_size"] = abs(float(steps.mean()))
    return axis, values, attrs


def _joined_places(images: Sequence[Any], axis: str, what: str) -> Any:
    there = [axis in image.coords for image in images]
    if not any(there):
        return None
    if not all(there):
        number = there.index(not there[0])
        has = "none" if there[0] else "some"
        raise ParameterError(
            f"{what}: along {axis} images[{number}] has {has} of the coordinates that images[0] "
            f"{'has' if there[0] else 'has not'}: take them off with image.drop_vars({axis!r})"
        )
    coords = [image.coords[axis] for image in images]
    if axis == "c":
        names = [str(n) for c in coords for n in c.values]
        if len(set(names)) != len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise ParameterError(f"{what}: channel {twice!r} is there twice: leave one out with select")
        return axis, np.array(names, dtype=object).astype(str)
    step, _ = hyperstack.step_of(images[0], axis, _units(axis))
    if step is None:
        raise ParameterError(
            f"{what}: along {axis} the coordinates have no even step: take them off with image.drop_vars({axis!r})"
        )
    for number, (before, after) in enumerate(pairwise(coords), 1):
        down = any(c.size > 1 and c.values[-1] < c.values[0] for c in coords)
        expected = float(before.values[-1]) + (-step if down else step)
        if abs(float(after.values[0]) - expected) > 1e-3 * step:
            raise ParameterError(
                f"{what}: along {axis} images[{number}] begins at {float(after.values[0]):g}, where images[{number - 1}] "
                f"goes on at {expected:g}: put them in order, or take the coordinates off with image.drop_vars({axis!r})"
            )
    return axis, np.concatenate([c.values for c in coords]), dict(coords[0].attrs)


def _finest(sources: Sequence[Lazy], skip: int | None = None) -> tuple[tuple[int, ...], ...]:
    """Along each axis the chunks of the image that is cut into most: no block is larger than asked for."""
    ndim = sources[0].node.ndim
    best = [max((s.chunks[axis] for s in sources), key=len) for axis in range(ndim)]
    return tuple(sources[0].chunks[a] if a == skip else c for a, c in enumerate(best))


def _array(node: Any, chunks: Any, sources: Sequence[Lazy]) -> Any:
    from bigbia.graph.dask import as_array

    live = {name: array for source in sources for name, array in source.live.items()}
    return as_array(node, chunks, live)
