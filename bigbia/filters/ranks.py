"""Filters that choose a voxel of each neighbourhood by its rank: minimum, maximum, median, percentile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bigbia.errors import ParameterError
from bigbia.graph.footprints import brief, check_constant, footprint_of, full_box, plain_number, radius
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image
from bigbia.graph.window import Mode, neighbourhood

Size = int | str | Sequence[int]


def minimum(image: Image, size: Size = 3, *, footprint: Any = None, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """The least voxel of each neighbourhood.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    size : int, sequence, or length with a unit
        The sides of a full box in voxels, one for all spatial axes or one each; or as text, ``"2 um"``, the nearest odd
        number of voxels. An even side reaches one voxel further back than forward.
    footprint : array, optional
        Instead of the box: a mask with one axis for each spatial axis. Its centre is at ``n // 2``.
    mode : {"reflect", "nearest", "mirror", "constant", "wrap"}
        What lies beyond the image, as in SciPy.
    cval : float
        The voxels beyond it for ``mode="constant"``: of integers the nearest that the dtype holds.

    Returns
    -------
    Array of the same shape and dtype.

    Raises
    ------
    ParameterError : sides below 1, a footprint of other axes or without voxels, unknown mode
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Halo: half the size. Equal to the bit to ``scipy.ndimage.minimum_filter`` for every chunking. NaN counts as the
    greatest value, as in ``numpy.sort``. A box costs the same for every size; any other footprint is made of runs along
    the last axis, and a voxel costs one comparison a run.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.minimum(np.array([3, 1, 4, 1, 5, 9]))
    array([1, 1, 1, 1, 1, 5])
    """
    what = "filters.minimum"
    return _extreme(what, image, _mask(what, image, size, footprint), mode, cval, True)


def maximum(image: Image, size: Size = 3, *, footprint: Any = None, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """The greatest voxel of each neighbourhood. Arguments as in `minimum`.

    Halo: half the size. Equal to the bit to ``scipy.ndimage.maximum_filter`` for every chunking.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.maximum(np.array([3, 1, 4, 1, 5, 9]), 2)
    array([3, 3, 4, 4, 5, 9])
    """
    what = "filters.maximum"
    return _extreme(what, image, _mask(what, image, size, footprint), mode, cval, False)


def median(image: Image, footprint: Any = None, *, mode: Mode = "nearest", cval: float = 0.0) -> Any:
    """Replace each voxel by the median of its neighbourhood.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    footprint : array, int, sequence or length with a unit, default all neighbours (3 voxels along each spatial axis)
        The neighbourhood: a mask with one axis for each spatial axis; or the sides of a box, one for all or one each;
        or their length, ``"2 um"``.
    mode : {"nearest", "reflect", "mirror", "constant", "wrap"}
        What lies beyond the image, as in SciPy.
    cval : float
        The voxels beyond it for ``mode="constant"``: of integers the nearest that the dtype holds.

    Returns
    -------
    Array of the same shape and dtype. Of an even number of voxels the upper one in the middle.

    Raises
    ------
    ParameterError : a footprint of other axes or without voxels, unknown mode
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Halo: half the footprint. Equal to the bit to ``skimage.filters.median`` (``scipy.ndimage.median_filter``) for
    every chunking. NaN counts as the greatest value, as in ``numpy.sort``. Sorted columns of the footprint are shared by
    neighbouring voxels and merged by Batcher's networks (Batcher 1968, Sorting networks and their applications);
    footprints of some 300 voxels and more by a histogram that moves along the row (Huang et al. 1979, A fast
    two-dimensional median filtering algorithm).

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.median(np.array([1, 9, 2, 3, 8, 4]))
    array([1, 2, 3, 3, 4, 4])
    """
    what = "filters.median"
    check_image(image, what)
    mask = footprint_of(footprint, image, what, full=True)
    return _ranked(what, image, mask, int(mask.sum()) // 2, mode, cval)


def percentile(
    image: Image,
    percentile: float,
    size: Size = 3,
    *,
    footprint: Any = None,
    mode: Mode = "reflect",
    cval: float = 0.0,
) -> Any:
    """The voxel of each neighbourhood below which a share of the others lies.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    percentile : float
        0, the least, to 100, the greatest; negative numbers count from 100.
    size, footprint, mode, cval : as in `minimum`

    Returns
    -------
    Array of the same shape and dtype: a voxel of the neighbourhood, never a value between two.

    Raises
    ------
    ParameterError : a percentile that is not between -100 and 100, and as in `minimum`
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Halo: half the size. Equal to the bit to ``scipy.ndimage.percentile_filter`` for every chunking. NaN counts as the
    greatest value.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.percentile(np.array([1, 9, 2, 3, 8, 4]), 20, 5)
    array([1, 1, 2, 3, 3, 4])
    """
    what = "filters.percentile"
    mask = _mask(what, image, size, footprint)
    number = plain_number(percentile)
    if number is None or not abs(number) <= 100:
        raise ParameterError(
            f"{what}: percentile={brief(percentile)} must be a number from 0 to 100, or from -100 to 0 counted from above"
        )
    share = number + 100.0 if number < 0 else number
    count = int(mask.sum())
    # SciPy's rule, rounding and all
    return _ranked(what, image, mask, count - 1 if share == 100 else int(float(count) * share / 100.0), mode, cval)


def _mask(what: str, image: Any, size: Any, footprint: Any) -> np.ndarray:
    check_image(image, what)
    if footprint is not None:
        return footprint_of(footprint, image, what, full=True)
    return full_box(size, image, what)


def _extreme(what: str, image: Any, mask: np.ndarray, mode: str, cval: float, low: bool) -> Any:
    from bigbia.kernels.extremes import extreme, price

    steps = ((mask, low),)
    cost, workspace = price(steps, image.dtype)
    return neighbourhood(
        extreme,
        image,
        what,
        mode=mode,
        cval=check_constant(cval, image, what),
        halo=radius(mask, image),
        cost=cost,
        workspace=workspace,
        steps=steps,
    )


def _ranked(what: str, image: Any, mask: np.ndarray, rank: int, mode: str, cval: float) -> Any:
    from bigbia.kernels.medians import price, ranked

    count = int(mask.sum())
    if rank in (0, count - 1):
        return _extreme(what, image, mask, mode, cval, rank == 0)
    cost, workspace = price(mask, image.dtype)
    return neighbourhood(
        ranked,
        image,
        what,
        mode=mode,
        cval=check_constant(cval, image, what),
        halo=radius(mask, image),
        cost=cost,
        workspace=workspace,
        footprint=mask,
        rank=rank,
    )
