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

    None: all neighbours, or those that share a face. A number: a full box of that side.
    """
    from scipy import ndimage as ndi

    space = hyperstack.spatial_axes(image)
    ndim = len(space)
    if footprint is None:
        footprint = ndi.generate_binary_structure(ndim, ndim if full else 1)
    elif np.ndim(footprint) == 0:
        if isinstance(footprint, bool) or not isinstance(footprint, (int, np.integer)) or footprint < 1:
            raise ParameterError(f"{what}: footprint={footprint!r} must be a mask or the length of its side, 1 or more")
        footprint = np.ones((int(footprint),) * ndim, bool)
    try:
        footprint = np.asarray(footprint).astype(bool)
    except ValueError:
        raise ParameterError(
            f"{what}: the footprint is a list of parts, not one mask: combine them, for instance skimage.morphology.ball(3)"
        ) from None
    if footprint.ndim != ndim:
        raise ParameterError(
            f"{what}: the footprint has {footprint.ndim} axes {footprint.shape}, the image {ndim} of space: give one an axis"
        )
    if not footprint.any():
        raise ParameterError(f"{what}: the footprint {footprint.shape} is empty: it needs at least one voxel")
    shape = [1] * image.ndim
    for axis, n in zip(space, footprint.shape):
        shape[axis] = n
    return footprint.reshape(shape)


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


def pad(block: np.ndarray, margins: Sequence[tuple[int, int]], mode: str, cval: float) -> np.ndarray:
    """The block continued by one of SciPy's modes."""
    if mode == "constant":
        return np.pad(block, margins, mode="constant", constant_values=np.array(cval).astype(block.dtype))
    return np.pad(
        block, margins, mode={"nearest": "edge", "reflect": "symmetric", "mirror": "reflect", "wrap": "wrap"}[mode]
    )  # type: ignore[call-overload]
