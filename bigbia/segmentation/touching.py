"""Objects that touch, split where they are narrow."""

from __future__ import annotations

from typing import Any

import numpy as np

from bigbia import hyperstack
from bigbia.errors import ParameterError
from bigbia.feature.peaks import peak_local_max
from bigbia.filters.smooth import gaussian
from bigbia.graph.boxes import Box, shape_of, whole
from bigbia.graph.footprints import LONGEST, brief
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import is_lazy, lazy
from bigbia.graph.placed import Placed
from bigbia.graph.regions import Literal, Voxelwise
from bigbia.measure.components import label
from bigbia.morphology.distance import check_distances, distance_transform_edt, length_in, unit_in
from bigbia.segmentation.watershed import watershed

_WHAT = "segmentation.split_touching"


def split_touching(mask: Image, min_distance: float | str, smooth: float | str = 0) -> Any:
    """Label the objects of a mask, those that touch split where they are narrow.

    Parameters
    ----------
    mask : array of bool or integers, 1 to 5 axes of space
        Voxels other than 0 are foreground.
    min_distance : number, or a length with a unit
        How far apart the middles of two objects are at least: ``"4 um"`` goes by the image's voxel size, a number counts
        voxels. About the radius of the smallest object; the larger it is, the less is split.
    smooth : number, or a length with a unit
        Standard deviation of a Gaussian with which the distances are smoothed before middles are looked for. Objects with
        rough or long outlines fall into fewer pieces.

    Returns
    -------
    uint32 array of the same kind and shape, 0 where the mask is 0. Numbered by the objects' middles, in raster order.

    Raises
    ------
    InputError : floating-point or complex voxels, an empty axis
    ParameterError : a length that is negative or not finite, a unit where the image has no voxel size

    Notes
    -----
    The distance of every voxel to the background (`morphology.distance_transform_edt`); its peaks at least `min_distance`
    apart, in each connected object by itself, so that none is lost (`feature.peak_local_max`, Euclidean distances); the
    watershed of the distance from these peaks (`segmentation.watershed`). Where the image has a voxel size, all
    distances go by it, also if it differs between axes; a number of voxels is then one of the shortest side of a voxel.
    Connected are all neighbours, over corners too. The same for every chunking. The mask is read once; what follows works
    on the labels of its connected objects. A mask without background is one object. Times and channels of a DataArray each by itself.

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.indices((20, 34))
    >>> disks = (y - 10) ** 2 + (x - 10) ** 2 < 81, (y - 10) ** 2 + (x - 24) ** 2 < 64
    >>> split_touching(disks[0] | disks[1], min_distance=5).max()
    np.uint32(2)
    """
    check_distances(mask, _WHAT)
    sizes, distance, sigma = _lengths(mask, min_distance, smooth)
    inside = mask if mask.dtype == bool else mask != 0
    objects = label(inside)
    inside = objects != 0  # what the labelling left is cheaper to read than the mask is to make
    depth = _with_a_middle(distance_transform_edt(inside, sizes))
    middles = peak_local_max(
        gaussian(depth, sigma) if any(sigma) else depth,
        distance,
        threshold_abs=0,
        exclude_border=False,
        labels=objects,
        p_norm=2,
        sampling=sizes,
        output="markers",
    )
    return watershed(-depth, middles, len(sizes), inside)


def _with_a_middle(depth: Any) -> Any:
    """Where there is no background all distances are infinite: then the first voxel is the middle of the one object."""
    if not is_lazy(depth):
        return _finite(depth, _corner(depth.shape, whole(depth.shape), np.array(1.0)))
    source = lazy(depth, _WHAT)
    nodes = []
    for _, part in source.each():
        corner = Placed(_corner, Literal(np.array(1.0)), part.shape, np.dtype(np.float64))
        nodes.append(Voxelwise(_finite, _finite, (part.node, corner), np.dtype(np.float64)))
    return source.like(source.joined(nodes), source.joined_chunks() if source.over else None)


def _corner(shape: tuple[int, ...], box: Box, value: np.ndarray) -> np.ndarray:
    out = np.zeros(shape_of(box))
    if not any(a for a, _ in box):
        out[(0,) * len(box)] = value
    return out


def _finite(depth: np.ndarray, corner: np.ndarray) -> np.ndarray:
    return np.where(np.isinf(depth), corner, depth)


def _lengths(mask: Any, min_distance: Any, smooth: Any) -> tuple[tuple[float, ...], float, tuple[float, ...]]:
    """The size of a voxel along each axis of space, the distance in the same unit, and sigma in voxels of each axis."""
    axes = hyperstack.spatial_axes(mask)
    sizes: tuple[float, ...] = (1.0,) * len(axes)
    given, unit = {"min_distance": min_distance, "smooth": smooth}, ""
    known = hyperstack.voxel_size(mask) if is_lazy(mask) else None
    text = next((name for name, value in given.items() if isinstance(value, str)), None)
    if text:
        name = hyperstack.unit(mask) if known else None
        sizes, unit = hyperstack.voxel_size_in(
            name or unit_in(given[text], text), mask, _WHAT, f"{text}={given[text]!r}"
        )
    elif known:
        sizes = tuple(known.values())
    lengths = []
    for name, value in given.items():
        length = length_in(value, unit, _WHAT, name)
        if not length <= LONGEST * max(sizes):
            raise ParameterError(
                f"{_WHAT}: {name}={brief(value)}: must be a finite length, of {LONGEST} voxels at most"
            )
        lengths.append(length if isinstance(value, str) else length * min(sizes))
    return sizes, lengths[0], tuple(lengths[1] / size for size in sizes)
