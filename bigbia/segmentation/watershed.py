"""The watershed: an image flooded from markers, cut where the waters meet."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, Literal

import numpy as np

from bigbia.errors import BlockError, InputError, ParameterError
from bigbia.graph.basins import Basins
from bigbia.graph.boxes import Box, describe, whole
from bigbia.graph.catchments import INSIDE, MARKER, Catchments, check_markers, unsettled
from bigbia.graph.footprints import brief, plain_number, truth
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import Lazy, check_image, is_lazy, lazy
from bigbia.graph.objects import check_connectivity, nodes_over, space_of
from bigbia.graph.regions import Node
from bigbia.graph.relax import Relax, Relaxation
from bigbia.graph.window import over_others, window
from bigbia.hyperstack import is_hyperstack, spatial_axes
from bigbia.kernels.plateaus import catchments, settle
from bigbia.kernels.reconstruction import lowest, reconstructed
from bigbia.measure.components import label
from bigbia.morphology.extrema import local_minima
from bigbia.morphology.reconstruction import turned
from bigbia.segmentation.markers import seeds, spread, spread_over

DEFINITION = "watershed 1"
_WHAT = "segmentation.watershed"


def watershed(
    image: Image,
    markers: Image | int | None = None,
    connectivity: int = 1,
    mask: Image | None = None,
    *,
    compactness: float = 0,
    watershed_line: bool = False,
    marker_level: Literal["value", "lowest"] = "value",
) -> Any:
    """Flood an image from markers: every voxel gets the label of the marker whose water reaches it.

    Parameters
    ----------
    image : array of bool, integers or floats, 1 to 5 axes of space
        Low voxels are flooded first. For bright objects on a dark ground pass ``-image``, of a mask ``-distance``.
    markers : integer array of the same shape, int, or None
        Voxels other than 0 are flooded from, with their labels. An int: about so many voxels, evenly spread. None: the
        local minima of the image, numbered.
    connectivity : int, or a footprint of 3 voxels an axis that stands for one
        Water flows to voxels that differ by at most this many steps along axes: in 3D 1, 2, 3 for 6, 18, 26 neighbours.
    mask : array of the same shape
        Only where it is not 0 is flooded. Of a DataArray with t or c one for all may have the axes of space alone.
    compactness : 0
        scikit-image's other values are refused: what they give depends on the order of its queue.
    watershed_line : bool
        Give 0 to the voxels that have a neighbour with a smaller label: a line one voxel wide.
    marker_level : {"value", "lowest"}
        A marker's water stands at its voxel's own value, as in scikit-image 0.26, or below all others.

    Returns
    -------
    Array of the markers' dtype, uint32 without; 0 outside the mask and where no water comes. Lazy if one of them is.

    Raises
    ------
    InputError : complex or float16 image, markers that are not integers, an empty axis
    ParameterError : arrays of different shapes, connectivity out of range, a number of markers below 1
    BlockError : NaN, a marker outside the mask, a mask without any marker, markers too large to be told apart (2**62 over
    the number of blocks), with the voxel or block; when it is computed

    Notes
    -----
    The result is defined without blocks, and the same for every chunking. The flood level of a voxel is the least height
    that a path from a marker must climb; its distance, within the plateau of one level, is the number of steps to the
    plateau's lower border. Water comes to a voxel from the neighbour with the least (level, distance); of several from
    the one whose plateau was entered from the least, then from the first in raster order (lower-complete watershed:
    Meyer 1994, Signal Processing 38; image foresting transform: Falcão, Stolfi & Lotufo 2004, IEEE Trans. PAMI 26, 19).

    Equal to ``skimage.segmentation.watershed`` where no two voxels have the same value. Where values are equal scikit-image
    looks back over all plateaus, and then at the order of its queue, which anything elsewhere in the image can change;
    this looks back over one. The two differ in up to 1 % of the voxels of distances and smooth 8-bit images, in 2 to 6 %
    where there are hardly any values. A line is where labels meet, and not scikit-image's, which depends on that order
    too. Steps count alike along all axes, whatever the voxel size.

    In rounds: the level spreads from block to block until nothing changes (a value that winds through many blocks is
    found by trees instead), then distances where a plateau is wider than a block's margin. About 5 tasks a block and
    those of the rounds. In scratch: the level, and of each block the runs of what drains together. Times and channels
    of a DataArray each by itself.

    Examples
    --------
    >>> import numpy as np
    >>> watershed(np.array([0, 1, 3, 2, 0, 0, 5]), np.array([1, 0, 0, 0, 0, 2, 0]))
    array([1, 1, 1, 2, 2, 2, 2])
    """
    check_image(image, _WHAT)
    if image.dtype == np.float16:
        raise InputError(f'{_WHAT}: float16 voxels: convert first, image.astype("float32")')
    connectivity = _checked_connectivity(connectivity, space_of(image))
    if not isinstance(marker_level, str) or marker_level not in ("value", "lowest"):
        raise ParameterError(f'{_WHAT}: marker_level={brief(marker_level)}: "value" or "lowest"')
    watershed_line = truth(watershed_line, "watershed_line", _WHAT)
    if plain_number(compactness) != 0:
        raise ParameterError(
            f"{_WHAT}: compactness={brief(compactness)}: its result depends on the order in which voxels are visited, so it would "
            "depend on the blocks: leave it out; for rounder objects smooth the image first, filters.gaussian"
        )
    if mask is not None:
        check_image(mask, f"{_WHAT}: mask")
    if image.dtype == bool:
        image = image.astype(np.uint8)
    given = markers is not None and not isinstance(markers, Integral)
    markers = _checked_markers(image, markers, connectivity, mask)
    dtype = np.dtype(np.uint32) if isinstance(markers, int) else markers.dtype.newbyteorder("=")
    rule = _rule(image.dtype, connectivity, given, marker_level == "lowest")
    if not any(is_lazy(a) for a in (image, markers, mask)):
        result = _at_once(image, markers, mask, rule, dtype)
    else:
        source, parts = _parts(image, markers, mask)
        nodes = []
        for part, inputs in parts:
            trees = Catchments(Relax("watershed", inputs, part.grid, rule))
            nodes.append(Basins(trees, dtype, "watershed", f"{DEFINITION}, marker_level {marker_level}").labels())
        result = source.like(source.joined(nodes), source.joined_chunks() if source.over else None)
    if not watershed_line:
        return result
    return window(
        _with_lines, result, halo=1, dtype=dtype, cost=5.0, axes=spatial_axes(result), connectivity=connectivity
    )


# ---- what is flooded from where --------------------------------------------------------------------------------------
def _checked_connectivity(connectivity: Any, ndim: int) -> int:
    """A number, or scikit-image's other way to say it: a footprint, of those that a number stands for."""
    if isinstance(connectivity, np.ndarray):
        from scipy.ndimage import generate_binary_structure

        for number in range(1, ndim + 1):
            if np.array_equal(connectivity != 0, generate_binary_structure(ndim, number)):
                return number
        raise ParameterError(
            f"{_WHAT}: connectivity={connectivity.tolist()}: of footprints only those that a number stands for: give 1 to {ndim}"
        )
    return check_connectivity(connectivity, ndim, _WHAT)


def _checked_markers(image: Any, markers: Any, connectivity: int, mask: Any) -> Any:
    """A marker image or a number of markers."""
    if isinstance(markers, Integral) and not isinstance(markers, bool):
        if not 1 <= int(markers) < 2**32:
            raise ParameterError(f"{_WHAT}: markers={brief(markers)}: a number of markers is 1 or more, and below 2^32")
        return int(markers)
    if markers is None:
        minima = local_minima(image, connectivity)
        if mask is not None:
            _check_shape(mask, image, "mask")
            inside = mask.data if is_hyperstack(mask) else mask
            if is_hyperstack(minima):  # by place: xarray would match coordinates
                minima = minima.copy(data=minima.data & (_spread_over(inside, minima) != 0))
            else:
                minima = minima & (inside != 0)
        return label(minima, connectivity=connectivity)
    if not hasattr(markers, "dtype") or not hasattr(markers, "ndim"):
        raise InputError(
            f"{_WHAT}: markers={brief(markers)} is a {type(markers).__name__}: give an array of labels, a whole "
            "number of 1 or more, or None for the minima"
        )
    if getattr(getattr(markers, "dtype", None), "kind", "") == "b":
        raise InputError(f"{_WHAT}: markers are bool: number them first, measure.label(markers)")
    check_image(markers, f"{_WHAT}: markers", "iu")
    return markers


def _spread_over(inside: Any, image: Any) -> Any:
    """A mask of the axes of space alone, for every time and channel."""
    if inside.ndim == image.ndim:
        return inside
    return inside[tuple(slice(None) if a in spatial_axes(image) else None for a in range(image.ndim))]


def _check_shape(other: Any, image: Any, name: str) -> None:
    """An image goes with another voxel by voxel; or, with the axes of space alone, with each time and channel."""
    shape = tuple(image.shape)
    space = tuple(shape[a] for a in spatial_axes(image))
    if tuple(other.shape) not in (shape, space):
        verb = "is" if name == "mask" else "are"
        raise ParameterError(f"{_WHAT}: the {name} {verb} {tuple(other.shape)}, the image {shape}: they must be alike")
    if is_hyperstack(other) and is_hyperstack(image):
        dims = [d for d in image.dims if d in other.dims]
        if list(other.dims) != dims:
            raise ParameterError(
                f"{_WHAT}: the {name} has the axes {tuple(map(str, other.dims))}, the image {tuple(map(str, image.dims))}: "
                f"transpose one, {name}.transpose{tuple(map(str, dims))}"
            )


def _parts(image: Any, markers: Any, mask: Any) -> tuple[Lazy, list[tuple[Lazy, list[Node]]]]:
    """The image as a lazy one, and of each of its images of space the nodes of what is flooded."""
    others = {"markers": markers, "mask": mask}
    others = {name: a for name, a in others.items() if a is not None and not isinstance(a, int)}
    for name, other in others.items():
        _check_shape(other, image, name)
    cut = next(a for a in (image, *others.values()) if is_lazy(a) and a.shape == image.shape)
    source = lazy(image, _WHAT, lazy(cut).chunks)
    if source.template is None:
        source = replace(source, template=lazy(cut).template)
    images = {name: lazy(a, _WHAT, source.chunks if a.shape == image.shape else None) for name, a in others.items()}
    source = replace(source, live={k: v for one in (source, *images.values()) for k, v in one.live.items()})
    nodes = {name: nodes_over(one, source) for name, one in images.items()}
    parts = []
    for i, (_, part) in enumerate(source.each()):
        inputs = [part.node, *(several[i] for several in nodes.values())]
        if isinstance(markers, int):
            inputs.insert(1, spread_over(part, markers, nodes["mask"][i] if mask is not None else None))
        parts.append((part, inputs))
    return source, parts


# ---- one image -------------------------------------------------------------------------------------------------------
def _rule(dtype: np.dtype, connectivity: int, given: bool, lowest_markers: bool) -> Relaxation:
    """The flood level, turned over: it rises under the image turned over from the markers (`graph/relax.py`)."""
    dtype = np.dtype(dtype).newbyteorder("=")
    return Relaxation(
        functools.partial(
            _start, given=given, highest=turned(dtype.type(lowest(dtype)), True) if lowest_markers else None
        ),
        functools.partial(reconstructed, connectivity=connectivity),
        lowest(dtype),
        connectivity,
        dtype,
    )


def _start(
    blocks: Sequence[np.ndarray], box: Box, *, given: bool, highest: Any
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    image, markers = blocks[:2]
    image = image.astype(image.dtype.newbyteorder("="), copy=False)
    if image.dtype.kind == "f":
        if np.isnan(np.min(image)):
            place = tuple(int(p) + a for p, (a, _) in zip(np.argwhere(np.isnan(image))[0], box))
            raise BlockError(
                f"{_WHAT}: NaN at voxel {place}, in the block {describe(box)}: replace it first, np.nan_to_num(image), "
                "or leave it out of the mask and set it to 0"
            )
        limit = image.dtype.type(0) - image  # not -image: one kind of zero
    else:
        limit = ~image
    low = lowest(limit.dtype)
    seeds = markers != 0
    if len(blocks) > 2:
        outside = blocks[2] == 0
        if given and (wrong := seeds & outside).any():
            place = tuple(int(p) for p in np.argwhere(wrong)[0])
            raise BlockError(
                f"{_WHAT}: marker {markers[place]} at voxel {tuple(p + a for p, (a, _) in zip(place, box))} lies outside the "
                f"mask, with {int(wrong.sum()) - 1} more voxels of the block {describe(box)}: leave out what does, "
                "np.where(mask, markers, 0)"
            )
        if not given:
            seeds &= ~outside
        limit[outside] = low
    domain = (~seeds).view(np.uint8)  # MARKER or INSIDE
    if len(blocks) > 2:
        domain += outside.view(np.uint8)  # INSIDE to BEYOND
    if highest is not None:
        limit[seeds] = highest
    state = np.where(seeds, limit, limit.dtype.type(low))
    found = markers.reshape(-1)[np.flatnonzero(seeds)]
    return limit, state, {"domain": domain, "markers": found}


def _at_once(image: np.ndarray, markers: Any, mask: Any, rule: Relaxation, dtype: np.dtype) -> np.ndarray:
    box = whole(image.shape)
    for name, other in (("markers", markers), ("mask", mask)):
        if other is not None and not isinstance(other, int):
            _check_shape(other, image, name)
    if isinstance(markers, int):
        inside = image.size if mask is None else int(np.count_nonzero(mask))
        markers = seeds(image.shape, box, spread(image.shape, markers, inside))
    limit, state, more = rule.start([image, markers] if mask is None else [image, markers, mask], box)
    domain = more["domain"]
    check_markers("watershed", bool((domain == MARKER).any()), bool((domain == INSIDE).any()))
    level = rule.relax(np.pad(state, 1, constant_values=rule.outside), limit)
    del limit, state
    block = unsettled(level, domain, [(1, 1)] * level.ndim)
    del level
    names, number = np.unique(more["markers"], return_inverse=True)
    numbers = np.zeros(domain.shape, np.int32)
    numbers[domain == MARKER] = number.reshape(-1) + 1
    tree, _ = catchments(block, settle(block, rule.connectivity), numbers, 1, rule.connectivity)
    return np.concatenate([np.zeros(1, dtype), names.astype(dtype)])[tree]


def _with_lines(block: np.ndarray, axes: tuple[int, ...], connectivity: int) -> np.ndarray:
    def lines(block: np.ndarray) -> np.ndarray:
        from bigbia.kernels.values import beside_smaller

        return np.where(beside_smaller(block, connectivity), block.dtype.type(0), block)

    return over_others(lines, block, axes, block.dtype)
