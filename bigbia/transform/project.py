"""Projections: one axis less."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from bigbia import hyperstack
from bigbia.errors import ParameterError
from bigbia.filters.smooth import linear_dtype
from bigbia.graph.footprints import brief, one_of
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image, native

METHODS = ("max", "min", "mean", "sum")


def project(image: Image, method: Literal["max", "min", "mean", "sum"] = "max", axis: int | str = 0) -> Any:
    """Project an image along an axis: the greatest, least or mean value, or the sum, of each line of voxels.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    method : {"max", "min", "mean", "sum"}
    axis : int or str
        The axis that vanishes: by its name, ``"z"`` or also ``"t"`` or ``"c"``, or by its number among the axes of
        space, so that 0 is z of a stack; negative numbers count from the end.

    Returns
    -------
    Array without the axis. max and min keep the dtype. mean is float32; float64 for 32-bit and wider integers and for
    float64. sum is int64 for bool and signed integers, uint64 for unsigned ones, float64 for floats.

    Raises
    ------
    ParameterError : an unknown method, an axis that the image does not have
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    What Fiji calls Z Project. In memory are a block and a plane of it, however long the axis is; each run of blocks along the axis
    leaves its plane in scratch, so the result is there only once all of the image has been read. Integers are summed
    exactly (64-bit ones modulo 2**64 as in NumPy, their mean in float64). Floats are summed as float64, one voxel
    after the other from the first, and one run of blocks after the other: the same bits for every chunking, those of
    ``np.add.accumulate(image, axis, dtype=float)``; only lines of blocks beside each other are then worked on at the
    same time. NaN makes its line NaN.

    Examples
    --------
    >>> import numpy as np
    >>> stack = np.array([[[1, 8], [3, 4]], [[5, 6], [7, 2]]], np.uint8)
    >>> bigbia.transform.project(stack)
    array([[5, 8],
           [7, 4]], dtype=uint8)
    >>> bigbia.transform.project(stack, "mean", axis=-1)
    array([[4.5, 3.5],
           [5.5, 4.5]], dtype=float32)
    """
    from bigbia.graph.projected import projected

    what = "transform.project"
    check_image(image, what)
    one_of(method, "method", what, METHODS)
    at = _axis(axis, image, what)
    image = native(image)
    if method in ("max", "min"):
        result = image.dtype
    elif method == "mean":
        result = linear_dtype(image.dtype)
    else:
        result = np.dtype({"f": np.float64, "u": np.uint64}.get(image.dtype.kind, np.int64))
    return projected(image, at, method, result)


def _axis(axis: Any, image: Any, what: str) -> int:
    names = hyperstack.axis_names(image)
    space = hyperstack.spatial_axes(image)
    if isinstance(axis, str):
        if axis in names:
            return names.index(axis)
        known = ", ".join(names)
        raise ParameterError(f"{what}: axis={brief(axis)}: the image has {known}: name one of them, or give its number")
    if isinstance(axis, (bool, np.bool_)) or not isinstance(axis, (int, np.integer)):
        raise ParameterError(f'{what}: axis={brief(axis)} must be one axis: its name, as "z", or its number')
    if not -len(space) <= axis < len(space):
        raise ParameterError(
            f"{what}: axis={axis}: the image has {len(space)} axes of space: give {-len(space)} to {len(space) - 1}, or a name"
        )
    return space[int(axis)]
