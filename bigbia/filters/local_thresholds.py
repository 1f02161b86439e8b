"""Thresholds that follow the image: one for each voxel, from what lies around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from bigbia import hyperstack
from bigbia.errors import ParameterError
from bigbia.filters.local import Mode, Size, moments, uniform
from bigbia.filters.ranks import median
from bigbia.filters.smooth import gaussian, linear_dtype
from bigbia.graph.footprints import brief, check_mode, lengths, real_number, sides
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image
from bigbia.graph.window import MODES


def threshold_local(
    image: Image,
    block_size: Size = 3,
    method: Literal["gaussian", "mean", "median"] = "gaussian",
    offset: float = 0,
    mode: Mode = "reflect",
    param: float | str | Sequence[float] | None = None,
    cval: float = 0,
) -> Any:
    """A threshold for each voxel: the mean or median around it, less an offset.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    block_size : odd int, sequence of them, or length with a unit
        Side of the neighbourhood in voxels, one for all spatial axes or one each; or as text, ``"2 um"``.
    method : {"gaussian", "mean", "median"}
        What is taken of the neighbourhood; scikit-image's "generic" is `bigbia.window`.
    offset : float
        Subtracted from it.
    mode : {"nearest", "reflect", "mirror", "constant", "wrap"}
        What lies beyond the image, as in SciPy.
    param : float, default ``(block_size - 1) / 6``
        Standard deviation for "gaussian", as in `gaussian`.
    cval : float
        The voxels beyond the image for ``mode="constant"``.

    Returns
    -------
    float32 array of the same shape; float64 for 32-bit and wider integers and for float64. ``image >
    threshold_local(image, 51)`` is one task a block.

    Raises
    ------
    ParameterError : an even or wrong side, unknown method or mode, a negative sigma
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Halo: half the block; 4 sigma for "gaussian". For every chunking equal to the bit to what scikit-image computes with
    an image of the result's dtype, for "mean" where `uniform` is (scikit-image returns float64 for integers).

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.threshold_local(np.array([1, 1, 7, 1, 1]), 3, "mean", offset=1)
    array([0., 2., 2., 2., 0.])
    """
    what = "filters.threshold_local"
    check_image(image, what)
    check_mode(mode, what, MODES)
    if not isinstance(method, str) or method not in ("gaussian", "mean", "median"):
        way = (
            "bigbia.window makes an operator of a function of a block"
            if isinstance(method, str) and method == "generic"
            else '"gaussian", "mean" or "median"'
        )
        raise ParameterError(f"{what}: method={brief(method)} is not known here: {way}")
    if param is not None and method != "gaussian":
        raise ParameterError(f"{what}: param={brief(param)} says something for method='gaussian' only: leave it out")
    box = _odd(block_size, image, what, "block_size")
    shift = real_number(offset, "offset", what)
    cval = real_number(cval, "cval", what, finite=False)
    space = hyperstack.spatial_axes(image)
    if method == "gaussian":
        along = None if param is None else lengths(param, image, what, "param")
        sigma = [(box[a] - 1) / 6.0 if along is None else along[a] for a in space]
        out = gaussian(image, sigma, mode=mode, cval=cval)
    elif method == "mean":
        out = uniform(image, [box[a] for a in space], mode=mode, cval=cval)
    else:
        data = image.astype(linear_dtype(image.dtype)) if mode == "constant" else image  # cval as it is
        out = median(data, np.ones([box[a] for a in space], bool), mode=mode, cval=cval)
        out = out.astype(linear_dtype(image.dtype))
    return out - shift if shift else out


def threshold_niblack(image: Image, window_size: Size = 15, k: float = 0.2) -> Any:
    """Niblack's threshold for each voxel: the mean around it, less a share of the standard deviation.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    window_size : odd int, sequence of them, or length with a unit
        Side of the neighbourhood in voxels, one for all spatial axes or one each; or as text, ``"2 um"``.
    k : float
        The threshold is ``mean - k * std``.

    Returns
    -------
    float32 array of the same shape; float64 for 32-bit and wider integers and for float64.

    Raises
    ------
    ParameterError : an even or wrong side, a `k` that is not a number
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Halo: half the window. Computed in float64. For integers up to 16 bits the float32 nearest to
    ``skimage.filters.threshold_niblack``, as long as the sum of squares of a window is below 2**53; for others as near as
    `variance` is, for floats nearer the truth than scikit-image, whose sums run over the whole image. The image is
    continued by mirroring, as there.

    Source: Niblack, An Introduction to Digital Image Processing, Prentice-Hall (1986).

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.threshold_niblack(np.array([0, 3, 0, 3, 9], np.uint8), 3, k=0.5).round(3)
    array([1.293, 0.293, 1.293, 2.129, 3.586], dtype=float32)
    """
    what = "filters.threshold_niblack"
    check_image(image, what)
    box = _odd(window_size, image, what, "window_size")
    return moments(image, what, box, "mirror", 0.0, "niblack", k=real_number(k, "k", what))


def threshold_sauvola(image: Image, window_size: Size = 15, k: float = 0.2, r: float | None = None) -> Any:
    """Sauvola's threshold for each voxel: the mean around it, lowered where the image varies little.

    Parameters
    ----------
    image, window_size : as in `threshold_niblack`
    k : float
        The threshold is ``mean * (1 + k * (std / r - 1))``.
    r : float, default half the range of the dtype
        The standard deviation that leaves the mean as it is: 127.5 for uint8, 1 for floats. Give it for 12-bit data in
        16 bits, and for floats that are not between -1 and 1.

    Returns
    -------
    float32 array of the same shape; float64 for 32-bit and wider integers and for float64.

    Raises
    ------
    ParameterError : an even or wrong side, a `k` that is not a number, an `r` of 0
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    As `threshold_niblack`, of ``skimage.filters.threshold_sauvola``.

    Source: Sauvola & Pietikainen, Pattern Recognition 33:225 (2000).

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.threshold_sauvola(np.array([0, 3, 0, 3, 9], np.uint8), 3, r=2).round(3)
    array([1.883, 0.941, 1.883, 4.697, 5.414], dtype=float32)
    """
    what = "filters.threshold_sauvola"
    check_image(image, what)
    box = _odd(window_size, image, what, "window_size")
    half = _half_range(image.dtype) if r is None else real_number(r, "r", what)
    if not half:
        raise ParameterError(f"{what}: r={brief(r)} must not be 0: leave it out for half the range of {image.dtype}")
    return moments(image, what, box, "mirror", 0.0, "sauvola", k=real_number(k, "k", what), r=half)


def _odd(size: Any, image: Any, what: str, name: str) -> list[int]:
    box = sides(size, image, what, name)
    if any(n % 2 == 0 for n in box):
        raise ParameterError(
            f"{what}: {name}={brief(size)} has even sides, and a window has a voxel in its middle: give odd ones"
        )
    return box


def _half_range(dtype: np.dtype) -> float:
    """Half of what scikit-image takes for the range of a dtype."""
    if dtype.kind == "f":
        return 1.0
    if dtype.kind == "b":
        return 0.5
    limits = np.iinfo(dtype)
    return 0.5 * (int(limits.max) - int(limits.min))
