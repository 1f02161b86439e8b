"""Reconstruction, and the extrema that stand out by a height."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from bigbia.errors import BlockError, InputError, ParameterError
from bigbia.graph.boxes import Box, describe, whole
from bigbia.graph.footprints import brief, plain_number
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image, is_lazy, lazy
from bigbia.graph.objects import check_connectivity, space_of
from bigbia.graph.pairs import alike
from bigbia.graph.reduce import Pass, Reduce, extremes, join_extremes
from bigbia.graph.regions import Voxelwise, broadcast
from bigbia.graph.relax import Relax, Relaxation
from bigbia.kernels.reconstruction import lowest, reconstructed

Method = Literal["dilation", "erosion"]


def reconstruction(seed: Image, mask: Image, method: Method = "dilation", *, connectivity: int | None = None) -> Any:
    """Spread a seed image as far as a mask image lets it.

    Parameters
    ----------
    seed, mask : arrays of bool, integers or floats, of one shape and dtype, 1 to 5 axes of space
        By dilation the seed is nowhere above the mask and rises, by erosion nowhere below and falls. Lazy ones may be
        cut into blocks differently.
    method : {"dilation", "erosion"}
    connectivity : int, default the number of axes of space
        Voxels are neighbours if they differ by at most this many steps along axes.

    Returns
    -------
    Array of the same kind, shape and dtype. By dilation each voxel has the highest value that a path from some voxel
    can bring: the lowest of the seed where the path begins and of the mask along it.

    Raises
    ------
    InputError : complex or object voxels, an empty axis
    ParameterError : images of different shapes or dtypes, an unknown method, connectivity out of range
    BlockError : a seed on the wrong side of the mask, or NaN, with the voxel; when it is computed

    Notes
    -----
    The values of ``skimage.morphology.reconstruction`` with a footprint of all neighbours, to the bit for every chunking:
    each is a value of the input. scikit-image returns floats, and takes any footprint. Blocks work their voxels out by
    scans and a queue (Vincent 1993, IEEE Trans. Image Processing 2, 176) and look at their neighbours' borders until
    nothing changes; a value that winds through many blocks takes as many rounds. Times and channels of a DataArray each by
    itself.

    Examples
    --------
    >>> import numpy as np
    >>> reconstruction(np.array([0, 0, 4, 0, 0, 0]), np.array([1, 5, 6, 2, 3, 0]))
    array([1, 4, 4, 2, 2, 0])
    """
    what = "morphology.reconstruction"
    check_image(seed, f"{what}: seed")
    check_image(mask, f"{what}: mask")
    if not isinstance(method, str) or method not in ("dilation", "erosion"):
        raise ParameterError(f'{what}: method={brief(method)}: "dilation" or "erosion"')
    connectivity = check_connectivity(connectivity, space_of(mask), what)
    if tuple(seed.shape) != tuple(mask.shape):
        raise ParameterError(
            f"{what}: the seed is {tuple(seed.shape)}, the mask {tuple(mask.shape)}: they must be alike"
        )
    if seed.dtype != mask.dtype:
        raise ParameterError(
            f"{what}: the seed is {seed.dtype}, the mask {mask.dtype}: convert one, seed.astype({str(mask.dtype)!r})"
        )
    rule = _rule(mask.dtype, connectivity, method == "erosion", what)
    if not is_lazy(seed) and not is_lazy(mask):
        return _at_once(seed, mask, rule, method == "erosion")
    one, two = alike(seed, mask, what)
    nodes = [Relax(what, [a.node, b.node], a.grid, rule).state() for (_, a), (_, b) in zip(one.each(), two.each())]
    result = one.like(one.joined(nodes), one.joined_chunks() if one.over else None)
    return turned(result, method == "erosion")


def h_maxima(image: Image, h: float, *, connectivity: int | None = None) -> Any:
    """Mark the maxima that stand out by at least a height.

    Parameters
    ----------
    image : array of integers or floats, 1 to 5 axes of space
    h : number above 0
        From the maximum one must go down by this much to reach anything higher. With a fraction and an image of
        integers, the image is compared as float64.
    connectivity : int, default the number of axes of space
        Voxels are neighbours if they differ by at most this many steps along axes.

    Returns
    -------
    bool array of the same kind and shape. Where the whole image has a smaller range than `h` there are none.

    Raises
    ------
    InputError : bool, complex or object voxels, an empty axis
    ParameterError : a height that is not above 0, connectivity out of range
    BlockError : NaN, with the voxel; when it is computed

    Notes
    -----
    Equal to ``skimage.morphology.h_maxima`` with a footprint of all neighbours, for every chunking (scikit-image gives
    uint8): the image less `h`, reconstructed under the image (Soille 2003, Morphological Image Analysis). Integers are
    compared exactly. Times and channels of a DataArray each by itself.

    Examples
    --------
    >>> import numpy as np
    >>> h_maxima(np.array([0, 3, 2, 4, 0, 1, 0]), 2).astype(int)
    array([0, 0, 0, 1, 0, 0, 0])
    """
    return _standing_out(image, h, connectivity, "morphology.h_maxima")


def h_minima(image: Image, h: float, *, connectivity: int | None = None) -> Any:
    """Mark the minima that are at least a depth below what parts them from lower ones.

    Parameters
    ----------
    image, h, connectivity : as in `h_maxima`

    Returns
    -------
    bool array of the same kind and shape.

    Raises
    ------
    As `h_maxima`.

    Notes
    -----
    Equal to ``skimage.morphology.h_minima`` with a footprint of all neighbours, as `h_maxima`.

    Examples
    --------
    >>> import numpy as np
    >>> h_minima(np.array([9, 6, 7, 5, 9, 8, 9]), 2).astype(int)
    array([0, 0, 0, 1, 0, 0, 0])
    """
    return _standing_out(image, h, connectivity, "morphology.h_minima")


def _standing_out(image: Any, h: Any, connectivity: Any, what: str) -> Any:
    check_image(image, what, "iuf")
    connectivity = check_connectivity(connectivity, space_of(image), what)
    number = plain_number(h)
    if number is None or not 0 < number < np.inf:
        raise ParameterError(
            f"{what}: h={brief(h)}: must be a number above 0; for all extrema use {what.replace('h_', 'local_')}"
        )
    h = h[()] if isinstance(h, np.ndarray) else h
    if image.dtype.kind != "f":
        if math.floor(h) != h:
            image = image.astype(np.float64)
        else:
            h = math.floor(h)
    image = turned(image, what.endswith("minima"))
    rule = _rule(image.dtype, connectivity, False, what)
    lowered, standing = functools.partial(_lowered, h=h), functools.partial(_standing, h=h)
    finish = functools.partial(_in_range, h=h)
    if not is_lazy(image):
        ends = finish(extremes(image, whole(image.shape)))["enough"]
        return standing(image, _at_once(lowered(image), image, rule, False), ends)
    source = lazy(image, what)
    nodes = []
    for _, part in source.each():
        node = part.node
        seed = Voxelwise(lowered, lowered, (node,), node.dtype)
        state = Relax(what, [seed, node], part.grid, rule).state()
        enough = Reduce("range", node, part.grid, [Pass(extremes, join_extremes)], finish).output("enough", (), bool)
        nodes.append(Voxelwise(standing, standing, (node, state, broadcast(enough, node.shape)), np.dtype(bool)))
    return source.like(source.joined(nodes), source.joined_chunks() if source.over else None)


def _lowered(image: np.ndarray, h: Any) -> np.ndarray:
    if image.dtype.kind == "f":
        # scikit-image's allowance for rounding
        return image - h - 2 * np.finfo(image.dtype).resolution * np.abs(image)
    least = np.iinfo(image.dtype).min
    if h > np.iinfo(image.dtype).max - least:
        return np.full_like(image, least)
    # modulo 2^bits, as int8 holds no 200: right where the image is at least h above the least
    step = np.array(h % (1 << 8 * image.dtype.itemsize), f"u{image.dtype.itemsize}")
    down = (image.view(step.dtype) - step).view(image.dtype)
    height = image.view(step.dtype) - np.array(least, image.dtype).view(step.dtype)
    return np.where(height < step, image.dtype.type(least), down)


def _standing(image: np.ndarray, state: np.ndarray, enough: np.ndarray, h: Any) -> np.ndarray:
    """Where an image stands out of its reconstruction by h."""
    if image.dtype.kind != "f":  # never below it: exact as unsigned
        kind = f"u{image.dtype.itemsize}"
        return (image.view(kind) - state.view(kind) >= h) & enough
    return (image - state >= h) & enough


def _in_range(ends: Any, h: Any) -> dict[str, np.ndarray]:
    low, high = ends["low"][()], ends["high"][()]
    spread = high - low if isinstance(high, np.floating) else int(high) - int(low)
    return {"enough": np.array(bool(h <= spread))}


# ---- what they share -------------------------------------------------------------------------------------------------
def _rule(dtype: Any, connectivity: int, down: bool, what: str) -> Relaxation:
    dtype = np.dtype(dtype).newbyteorder("=")
    if dtype == np.float16:
        raise InputError(f'{what}: float16 voxels: convert first, image.astype("float32")')
    return Relaxation(
        functools.partial(_start, down=down, what=what),
        functools.partial(reconstructed, connectivity=connectivity),
        lowest(dtype),
        connectivity,
        dtype,
    )


def _at_once(seed: np.ndarray, mask: np.ndarray, rule: Relaxation, down: bool) -> np.ndarray:
    limit, state, _ = rule.start([seed, mask], whole(mask.shape))
    return turned(rule.relax(np.pad(state, 1, constant_values=rule.outside), limit), down)


def _start(blocks: Sequence[np.ndarray], box: Box, *, down: bool, what: str) -> tuple[np.ndarray, np.ndarray, dict]:
    seed, mask = (b.astype(b.dtype.newbyteorder("="), copy=False) for b in blocks)
    if mask.dtype.kind == "f":  # one kind of zero: 0.0 and -0.0 are equal, and which of them spread would be chance
        seed, mask = seed + seed.dtype.type(0), mask + mask.dtype.type(0)
    wrong = ~(seed >= mask if down else seed <= mask)  # NaN too
    if wrong.any():
        place = tuple(int(p) for p in np.argwhere(wrong)[0])
        if seed[place] != seed[place] or mask[place] != mask[place]:
            voxel = tuple(p + a for p, (a, _) in zip(place, box))
            raise BlockError(
                f"{what}: NaN at voxel {voxel}, in the block {describe(box)}: replace it first, np.nan_to_num"
            )
        raise BlockError(
            f"{what}: by {'erosion' if down else 'dilation'} the seed must be nowhere {'below' if down else 'above'} the "
            f"mask: it is {seed[place]} and the mask {mask[place]} at voxel "
            f"{tuple(p + a for p, (a, _) in zip(place, box))}, in the block {describe(box)}: take the "
            f"{'maximum' if down else 'minimum'} of both first"
        )
    return turned(mask, down), turned(seed, down), {}


def turned(image: Any, down: bool) -> Any:
    """High for low: an image whose dilation is this one's erosion. Twice is the image again, to the bit."""
    if not down:
        return image
    return -image if image.dtype.kind == "f" else ~image
