"""Other places: affine, rotate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from bigbia import hyperstack
from bigbia.errors import InputError, ParameterError
from bigbia.filters.smooth import linear_dtype
from bigbia.graph.footprints import (
    array_of,
    brief,
    check_mode,
    plain_number,
    real_number,
    several,
    truth,
    what_it_is,
)
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image, native
from bigbia.transform.resize import check_blocks, is_length


def affine(
    image: Image,
    matrix: Any,
    offset: float | Sequence[float] = 0.0,
    *,
    output_shape: Sequence[int] | None = None,
    order: int = 1,
    mode: Literal["constant", "grid-constant", "nearest"] = "constant",
    cval: float = 0.0,
) -> Any:
    """Shift, rotate, shear or scale an image: voxel o of the result is the image at ``matrix @ o + offset``.

    Parameters
    ----------
    image : array of bool, integers or floats, 1 to 3 spatial axes
    matrix : array
        Maps voxels of the result to places in the image, in voxels, axes in the order of the image: d x d for d axes of
        space; d numbers for a diagonal; or d x (d + 1), (d + 1) x (d + 1) with the offset as its last column.
    offset : float or sequence
        Added to what the matrix gives, one number for all spatial axes or one each.
    output_shape : sequence
        The lengths of the spatial axes of the result, by default those of the image.
    order : {0, 1}
        0 takes the nearest voxel, 1 interpolates linearly.
    mode : {"constant", "grid-constant", "nearest"}
        What lies beyond the image, as in SciPy: `cval` from the middle of the outermost voxels on, `cval` as voxels
        beside them, or the outermost voxels repeated.
    cval : float
        The voxels beyond it for a constant `mode`.

    Returns
    -------
    float32 array; float64 for 32-bit and wider integers and for float64; with ``order=0`` of the image's dtype. A step
    along an axis of a DataArray gets the physical length of the step that it is mapped to, and the middle of the result
    lies where the image is seen.

    Raises
    ------
    ParameterError : a matrix that does not fit or is not finite, another order or mode
    InputError : complex or object voxels, an empty axis, more than 3 spatial axes

    Notes
    -----
    A place follows from the voxel's index in the whole result, in float64, whatever the blocks are. Equal to the bit to
    ``scipy.ndimage.affine_transform(image, matrix, offset, output_shape, output=dtype, order=order, mode=mode)`` for a
    matrix of d x d or more, within 1e-6 for a diagonal. A block reads the box around the place it is mapped to: a
    rotation by 45 degrees reads twice the voxels in the plane. Orders 2 to 5 first solve for spline coefficients along
    whole lines of the image and are refused.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    >>> bigbia.transform.affine(image, [[1, 0], [0, 1]], (0, 0.5))
    array([[0.5, 1.5, 0. ],
           [3.5, 4.5, 0. ]], dtype=float32)
    """
    what = "transform.affine"
    check_image(image, what)
    check_mode(mode, what, ("constant", "grid-constant", "nearest"))
    space = _space(image, what)
    _check_order(order, what)
    by, shift = _map(matrix, offset, len(space), what)
    size = list(image.shape)
    if output_shape is not None:
        listed = several(output_shape)
        lengths: list[Any] = [output_shape] if listed is None else listed
        if len(lengths) != len(space) or not all(is_length(n) for n in lengths):
            raise ParameterError(
                f"{what}: output_shape={brief(output_shape)} must be {len(space)} whole numbers, 1 or more, "
                "one for each spatial axis"
            )
        check_blocks(image, lengths, what, f"output_shape={brief(output_shape)}")
        for axis, n in zip(space, lengths):
            size[axis] = int(n)
    return _moved(image, what, by, shift, size, order, mode, cval)


def rotate(
    image: Image,
    angle: float,
    resize: bool = False,
    center: Sequence[float] | None = None,
    order: int | None = None,
    mode: Literal["constant", "edge"] = "constant",
    cval: float = 0.0,
) -> Any:
    """Rotate an image in the plane of its last two spatial axes, counter-clockwise.

    Parameters
    ----------
    image : array of bool, integers or floats, 2 or 3 spatial axes
    angle : float
        In degrees.
    resize : bool
        Make the result as large as the whole rotated image needs.
    center : two numbers
        What stays in its place, as (column, row), as in scikit-image; by default the middle.
    order : {0, 1}, default 1, 0 for bool
        0 takes the nearest voxel, 1 interpolates linearly.
    mode : {"constant", "edge"}
        What lies beyond the image, by the names of `numpy.pad`, as in scikit-image.
    cval : float
        The voxels beyond it for a constant `mode`.

    Returns
    -------
    Array as of `affine`.

    Raises
    ------
    ParameterError : an angle or center that is no number, another order or mode
    InputError : complex or object voxels, an empty axis, 1 or more than 3 spatial axes

    Notes
    -----
    `affine` by the rotation; of a stack every plane alike. For ``order=1`` within 1e-5 of
    ``skimage.transform.rotate`` of each plane. Multiples of 90 degrees are exact.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.transform.rotate(np.arange(6, dtype=np.uint8).reshape(2, 3), 90, resize=True)
    array([[2., 5.],
           [1., 4.],
           [0., 3.]], dtype=float32)
    """
    what = "transform.rotate"
    check_image(image, what)
    check_mode(mode, what, ("constant", "edge"))
    space = _space(image, what)
    if len(space) < 2:
        raise InputError(f"{what}: 1 spatial axis, a rotation needs 2: give an image with y and x")
    order = (0 if image.dtype == bool else 1) if order is None else order
    _check_order(order, what)
    degrees = plain_number(angle)
    if degrees is None or not math.isfinite(degrees):
        raise ParameterError(f"{what}: angle={brief(angle)} must be a number of degrees")
    resize = truth(resize, "resize", what)
    rows, columns = (image.shape[a] for a in space[-2:])
    middle = np.array([rows, columns]) / 2 - 0.5
    if center is not None:
        given = array_of(center)
        middle = np.empty(0) if given is None or given.ndim != 1 else given.astype(float)[::-1]
        if middle.shape != (2,) or not np.isfinite(middle).all():
            raise ParameterError(f"{what}: center={brief(center)} must be two numbers, the column and the row")
    cos, sin = _cos_sin(degrees)
    turn = np.array([[cos, sin], [-sin, cos]])
    shift = middle - turn @ middle
    size = list(image.shape)
    if resize:
        corners = np.array([[0, 0, rows - 1, rows - 1], [0, columns - 1, columns - 1, 0]], float)
        seen = turn.T @ (corners - middle[:, None]) + middle[:, None]
        low, high = seen.min(1), seen.max(1)
        for axis, n in zip(space[-2:], np.round(high - low + 1)):
            size[axis] = max(1, int(n))
        shift = turn @ low + shift
    by = np.eye(len(space))
    by[-2:, -2:] = turn
    whole = np.zeros(len(space))
    whole[-2:] = shift
    return _moved(image, what, by, whole, size, order, {"constant": "grid-constant", "edge": "nearest"}[mode], cval)


def _cos_sin(degrees: float) -> tuple[float, float]:
    """Cosine and sine; those of right angles exactly."""
    quarter = degrees / 90
    if quarter == round(quarter):
        return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[int(quarter) % 4]
    return float(np.cos(np.deg2rad(degrees))), float(np.sin(np.deg2rad(degrees)))


def _moved(
    image: Any, what: str, by: np.ndarray, shift: np.ndarray, size: Sequence[int], order: int, mode: str, cval: float
) -> Any:
    from bigbia.graph.moved import moved

    number = real_number(cval, "cval", what, finite=False)
    image = native(image)
    kind = image.dtype if order == 0 else linear_dtype(image.dtype)
    return moved(image, what, by, shift, size, order=int(order), mode=mode, cval=number, kind=kind)


def _space(image: Any, what: str) -> tuple[int, ...]:
    space = hyperstack.spatial_axes(image)
    if not 1 <= len(space) <= 3:
        raise InputError(
            f"{what}: {len(space)} spatial axes, it is for 1 to 3: name time and channels, "
            "hyperstack(image, 'tzyx') from bigbia.hyperstack"
        )
    return space


def _check_order(order: Any, what: str) -> None:
    if not isinstance(order, (int, np.integer)) or isinstance(order, bool) or order not in (0, 1):
        raise ParameterError(
            f"{what}: order={brief(order)}: only 0 (nearest) and 1 (linear) depend on the voxels around a place alone: give one of them"
        )


def _map(matrix: Any, offset: Any, d: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """A d x d matrix and d offsets from what the user gave."""
    given, moves = array_of(matrix), array_of(offset)
    for name, value, array in (("matrix", matrix, given), ("offset", offset, moves)):
        if array is None:
            raise ParameterError(f"{what}: {name}={brief(value)} is {what_it_is(value)}: it must be numbers")
        if not np.isfinite(array).all():
            raise ParameterError(
                f"{what}: {name}={brief(value)} is not finite: give a matrix of {d} x {d} numbers, and {d} offsets"
            )
    by, shift = np.asarray(given, np.float64), np.asarray(moves, np.float64)
    if by.shape == (d + 1, d + 1) and (by[d] != [0] * d + [1]).any():
        raise ParameterError(
            f"{what}: matrix={brief(matrix)}: the last row of the matrix is {by[d].tolist()}: it must be 0 ... 0 1"
        )
    if by.shape in ((d + 1, d + 1), (d, d + 1)):
        by, shift = by[:d, :d].copy(), by[:d, d].copy()
    elif by.shape == (d,):
        by = np.diag(by)
    if by.shape != (d, d):
        raise ParameterError(
            f"{what}: matrix={brief(matrix)}: a matrix of {by.shape} does not fit {d} spatial axes: give {d} x {d}, or {d} x {d + 1} with the offset"
        )
    if shift.ndim == 0:
        shift = np.full(d, float(shift))
    if shift.shape != (d,):
        raise ParameterError(f"{what}: offset={brief(offset)}: give 1 number or {d}, one for each spatial axis")
    if not np.linalg.matrix_rank(by) == d:
        raise ParameterError(
            f"{what}: matrix={brief(matrix)}: it is singular, so that all voxels come from a line or plane: give one that "
            "can be inverted, or transform.project"
        )
    return by, shift
