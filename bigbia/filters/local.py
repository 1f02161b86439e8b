"""Means and spreads over a box: uniform, variance, std."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bigbia import hyperstack
from bigbia.filters.smooth import linear, linear_dtype
from bigbia.graph.footprints import check_mode, sides
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image
from bigbia.graph.window import MODES, Mode

Size = int | str | Sequence[int]


def uniform(image: Image, size: Size = 3, *, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """Replace each voxel by the mean of a box around it.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    size : int, sequence, or length with a unit
        Side of the box in voxels, one for all spatial axes or one each; or as text, ``"2 um"``, which becomes the
        nearest odd number of voxels. An even box reaches one voxel further back than ahead.
    mode : {"nearest", "reflect", "mirror", "constant", "wrap"}
        What lies beyond the image, as in SciPy.
    cval : float
        The voxels beyond it for ``mode="constant"``.

    Returns
    -------
    float32 array of the same shape; float64 for 32-bit and wider integers and for float64.

    Raises
    ------
    ParameterError : a side that is not a whole number of 1 or more, a wrong count of them, a unit where the image has no
        voxel size, unknown mode
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Halo: half the box. The same to the bit for every chunking: SciPy's running sums are not, as their rounding depends on
    where a line begins. Equal to the bit to ``scipy.ndimage.uniform_filter(image, size, output=dtype)`` where the sums of
    a line are exact in float64: bool, 8- and 16-bit integers (these in boxes of up to about 15 a side, beyond that but
    for the rarest last bit), float32 whose values differ by less than a factor of about 10**7. Others are within 1e-14 of
    the largest value. A NaN spreads over its box, in SciPy to the end of the line.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.uniform(np.array([0, 0, 3, 0, 6], np.uint8))
    array([0., 1., 1., 3., 4.], dtype=float32)
    """
    from bigbia.kernels.boxes import uniform as kernel

    what = "filters.uniform"
    check_image(image, what)
    check_mode(mode, what, MODES)
    box = sides(size, image, what)
    dtype = linear_dtype(image.dtype)
    return linear(
        kernel,
        image,
        what,
        mode=mode,
        cval=cval,
        halo=reach(box, image),
        cost=2.0 * sum(n > 1 for n in box),
        workspace=3.0 * dtype.itemsize,
        size=box,
    )


def variance(image: Image, size: Size = 3, *, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """Variance of the voxels in a box around each.

    Parameters
    ----------
    image, size, mode, cval : as in `uniform`

    Returns
    -------
    float32 array of the same shape, nowhere negative; float64 for 32-bit and wider integers and for float64. It is the
    population's: the mean squared distance from the mean.

    Raises
    ------
    As `uniform`.

    Notes
    -----
    Halo: half the box. The same to the bit for every chunking: from the sums of the voxels and of their squares in
    float64, not rounded between axes. With n voxels in the box: exact but for the last rounding for integers whose
    largest magnitude times n is below 9e7 (8 bits: always in practice; 16 bits: n up to 1448), within n * 1e-16 of the
    mean square for larger boxes. Floats: within about 1e-15 of the mean square, so where values lie far from 0 compared
    with how they vary, subtract a typical value first. NaN spreads over its box.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.variance(np.array([0, 0, 3, 0, 6], np.uint8))
    array([0., 2., 2., 6., 8.], dtype=float32)
    """
    return _moments(image, "variance", size, mode, cval)


def std(image: Image, size: Size = 3, *, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """Standard deviation of the voxels in a box around each.

    Parameters
    ----------
    image, size, mode, cval : as in `uniform`

    Returns
    -------
    float32 array of the same shape; float64 for 32-bit and wider integers and for float64. The root of `variance`.

    Raises
    ------
    As `uniform`.

    Notes
    -----
    As `variance`; the root is taken in float64.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.std(np.array([0, 0, 3, 0, 6], np.uint8), 3).round(3)
    array([0.   , 1.414, 1.414, 2.449, 2.828], dtype=float32)
    """
    return _moments(image, "std", size, mode, cval)


def _moments(image: Any, name: str, size: Any, mode: str, cval: float) -> Any:
    what = f"filters.{name}"
    check_image(image, what)
    check_mode(mode, what, MODES)
    return moments(image, what, sides(size, image, what), mode, cval, name)


def moments(image: Any, what: str, box: Sequence[int], mode: str, cval: float, result: str, **given: Any) -> Any:
    """What follows from the sums of voxels and of their squares over a box."""
    from bigbia.kernels.boxes import moments as kernel

    return linear(
        kernel,
        image,
        what,
        mode=mode,
        cval=cval,
        halo=reach(box, image),
        cost=5.0 * sum(n > 1 for n in box),
        workspace=17.0 * max(1, min(2, image.ndim - 2)),
        size=list(box),
        result=result,
        **given,
    )


def reach(box: Sequence[int], image: Any) -> list[tuple[int, int]]:
    """How far boxes look along each spatial axis, before and after."""
    return [(box[a] // 2, box[a] - 1 - box[a] // 2) for a in hyperstack.spatial_axes(image)]
