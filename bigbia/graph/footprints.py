"""Footprints: the neighbourhoods of rank filters and morphology, given along the spatial axes of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bigbia import hyperstack
from bigbia.errors import ParameterError, nearest


def check_mode(mode: str, what: str, known: Sequence[str]) -> None:
    if mode not in known:
        raise ParameterError(f"{what}: mode={mode!r} is not known; {nearest(mode, known)}")


def footprint_of(footprint: Any, image: Any, what: str, *, full: bool) -> np.ndarray:
    """A mask with one axis for every axis of the image, of length 1 along t and c.

    None: all neighbours, or those that share a face. A number, one number a spatial axis, or a length with a unit: a
    full box of these sides. A flat list of an image of one axis is a mask.
    """
    from scipy import ndimage as ndi

    space = hyperstack.spatial_axes(image)
    ndim = len(space)
    if footprint is None:
        footprint = ndi.generate_binary_structure(ndim, ndim if full else 1)
    elif isinstance(footprint, str) or (ndim > 1 and _are_sides(footprint)):
        return np.ones(sides(footprint, image, what, "footprint"), bool)
    elif np.ndim(_array(footprint, what)) == 0:
        if isinstance(footprint, bool) or not isinstance(footprint, (int, np.integer)) or footprint < 1:
            raise ParameterError(f"{what}: footprint={footprint!r} must be a mask or the length of its side, 1 or more")
        footprint = np.ones((int(footprint),) * ndim, bool)
    footprint = _array(footprint, what).astype(bool)
    if footprint.ndim != ndim:
        raise ParameterError(
            f"{what}: the footprint has {footprint.ndim} axes {footprint.shape}, the image {ndim} of space: give one an axis"
        )
    if not footprint.any():
        raise ParameterError(f"{what}: the footprint {footprint.shape} is empty: it needs at least one voxel")
    return over_space(footprint, image)


def over_space(array: np.ndarray, image: Any) -> np.ndarray:
    """An array with one axis for each spatial axis of the image, of length 1 along the others."""
    shape = [1] * image.ndim
    for axis, n in zip(hyperstack.spatial_axes(image), array.shape):
        shape[axis] = n
    return array.reshape(shape)


def whole_number(value: Any, name: str, what: str, least: int = 0) -> int:
    """An argument that must be a whole number."""
    is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_whole or value < least:
        raise ParameterError(f"{what}: {name}={value!r} must be a whole number, {least} or more")
    return int(value)


def parts_of(footprint: Any, image: Any, what: str, *, full: bool) -> list[np.ndarray]:
    """The masks that are applied one after another: one, or those of scikit-image's ((mask, times), ...)."""
    if not _is_sequence(footprint):
        return [footprint_of(footprint, image, what, full=full)]
    out = []
    for mask, times in footprint:
        if times < 1:
            raise ParameterError(f"{what}: a part of the footprint is to be applied {times} times: give 1 or more")
        out += [footprint_of(np.asarray(mask), image, what, full=full)] * int(times)
    return out


def _is_sequence(footprint: Any) -> bool:
    """Whether it is scikit-image's ((mask, times), ...)."""
    if isinstance(footprint, (str, np.ndarray)) or not isinstance(footprint, Sequence) or not footprint:
        return False
    return all(
        isinstance(part, Sequence)
        and len(part) == 2
        and isinstance(part[1], (int, np.integer))
        and isinstance(part[0], (list, tuple, np.ndarray))
        for part in footprint
    )


def _are_sides(footprint: Any) -> bool:
    return isinstance(footprint, (list, tuple)) and all(
        isinstance(n, (int, np.integer)) and not isinstance(n, (bool, np.bool_)) for n in footprint
    )


def _array(footprint: Any, what: str) -> np.ndarray:
    try:
        array = np.asarray(footprint)
        array.astype(bool)
    except ValueError:
        array = np.zeros(0, object)
    if array.dtype.kind not in "biuf":
        raise ParameterError(
            f"{what}: the footprint is a list of parts, not one mask: combine them, for instance skimage.morphology.ball(3)"
        )
    return array


def sides(size: Any, image: Any, what: str, name: str = "size") -> list[int]:
    """The side of a box along each axis of the image in voxels, 1 along t and c.

    One number for all spatial axes or one each, 1 or more; or a length with a unit, which becomes the nearest odd
    number of voxels.
    """
    space = hyperstack.spatial_axes(image)
    out = [1] * image.ndim
    if isinstance(size, str):
        for axis, length in enumerate(hyperstack.lengths(size, image, name)):
            if axis in space:
                out[axis] = 2 * max(0, math.floor((length - 1) / 2 + 0.5)) + 1
        return out
    given = [size] * len(space) if np.ndim(size) == 0 else list(size)
    if len(given) != len(space):
        raise ParameterError(
            f"{what}: {name}={size!r}: {len(given)} sides for {len(space)} spatial axes: give 1 or {len(space)}"
        )
    for axis, n in zip(space, given):
        if isinstance(n, (bool, np.bool_)) or not isinstance(n, (int, np.integer)) or n < 1:
            raise ParameterError(f"{what}: {name}={size!r} must be whole numbers of voxels, 1 or more")
        out[axis] = int(n)
    return out


def radius(footprint: np.ndarray, image: Any, times: int = 1) -> list[int]:
    """Halo along each spatial axis of as many passes with the footprint.

    Even sides reach further to one side, which is covered.
    """
    return [times * (footprint.shape[a] // 2) for a in hyperstack.spatial_axes(image)]


def check_constant(cval: Any, image: Any, what: str) -> float:
    """The voxels beyond the image: a number that its dtype can hold, to the nearest."""
    if isinstance(cval, (bool, np.bool_)) or not isinstance(cval, (int, float, np.number)) or np.iscomplexobj(cval):
        raise ParameterError(f"{what}: cval={cval!r} must be a number")
    if cval != cval and image.dtype.kind != "f":
        raise ParameterError(f"{what}: cval={cval!r}: {image.dtype} voxels hold no NaN: give a number")
    return int(cval) if isinstance(cval, (int, np.integer)) else float(cval)
