"""Backgrounds: a ball that rolls under the image, and the image less its blur."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bigbia import hyperstack
from bigbia.errors import ParameterError
from bigbia.filters.smooth import linear_dtype
from bigbia.graph.footprints import LONGEST, MOST, array_of, brief, check_reach, lengths, over_space, real_number, truth
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image
from bigbia.graph.window import Mode, neighbourhood, window


def rolling_ball(
    image: Image,
    radius: float | str | Sequence[float] = 100,
    *,
    kernel: Any = None,
    nansafe: bool = False,
) -> Any:
    """Estimate the background as the surface that a ball reaches which rolls under the image.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
        Bright objects on a dark background.
    radius : number, sequence, or length with a unit
        Of the ball in voxels, one for all spatial axes or one each; or as text, ``"5 um"``, by the voxel size. Where
        the radii differ it is an ellipsoid. Its radius along the last axis is also its height in grey values.
    kernel : array, optional
        Instead of the ball: how high it is over each voxel, infinite beside it, with one axis for each spatial axis
        and its centre at ``n // 2``; for instance ``skimage.restoration.ellipsoid_kernel``.
    nansafe : bool
        True: a voxel is NaN where the box of the kernel around it holds a NaN. False: NaN is passed over.

    Returns
    -------
    Array of the same shape and dtype; of integers the whole part. Subtract it from the image.

    Raises
    ------
    ParameterError : a negative radius, a unit where the image has no voxel size, a kernel of other axes, or one that
        is not finite at its centre
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Halo: the radius. Equal to the bit to ``skimage.restoration.rolling_ball`` for every chunking (Sternberg 1983,
    Computer 16, 22). The work grows with the number of voxels under the ball, 30,000 for a radius of 100 in 2D and
    four million in 3D: roll a small ball over a smaller image instead.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.restoration.rolling_ball(np.array([1, 2, 9, 9, 2, 3, 3, 4]), 3)
    array([1, 1, 1, 2, 2, 2, 2, 3])
    """
    from bigbia.kernels.rolling import ball, rolled

    what = "restoration.rolling_ball"
    check_image(image, what)
    nansafe = truth(nansafe, "nansafe", what)
    space = hyperstack.spatial_axes(image)
    if kernel is None:
        along = lengths(radius, image, what, "radius")
        under = math.prod(2 * math.ceil(along[a]) + 1 for a in space)
        if under > MOST:
            raise ParameterError(
                f"{what}: radius={brief(radius)}: a ball over {under:.3g} voxels: give one over {MOST} at most, and roll it over a "
                "smaller image, transform.downscale_local_mean"
            )
        height = ball([along[a] for a in space], along[space[-1]] if space else 0.0)
    else:
        height = _height(kernel, len(space), what)
    width = 4 if image.dtype in (np.uint8, np.uint16, np.float16, np.float32) else 8
    return window(
        rolled,
        image,
        halo=[n // 2 for n in height.shape],
        cost=3 + 0.01 * width * float(np.isfinite(height).sum()),
        workspace=3.0 * width,
        cropping=True,
        kernel=over_space(height, image),
        nansafe=bool(nansafe),
    )


def _height(kernel: Any, ndim: int, what: str) -> np.ndarray:
    given = array_of(kernel)
    if given is None:
        raise ParameterError(
            f"{what}: kernel={brief(kernel)} is no array of heights: give numbers, inf beside the ball"
        )
    height = given.astype(np.float64)
    if height.ndim != ndim:
        raise ParameterError(
            f"{what}: kernel={brief(kernel)}: the kernel has {height.ndim} axes {height.shape}, the image {ndim} of space: give one an axis"
        )
    if not height.size or not np.isfinite(height[tuple(n // 2 for n in height.shape)]):
        raise ParameterError(
            f"{what}: kernel={brief(kernel)}: the kernel {height.shape} must be finite at its centre, n // 2 along each axis"
        )
    if np.isnan(height).any() or (height == -np.inf).any():
        raise ParameterError(
            f"{what}: kernel={brief(kernel)}: the kernel has NaN or -inf: its voxels must be finite, or inf beside the ball"
        )
    return height


def subtract_background(
    image: Image,
    sigma: float | str | Sequence[float] | Sequence[str],
    *,
    mode: Mode = "nearest",
    cval: float = 0.0,
    truncate: float = 4.0,
) -> Any:
    """The image less its Gaussian blur: what is smaller than `sigma` stays, slow changes go.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    sigma : number, sequence, or length with a unit
        Standard deviation in voxels, one for all spatial axes or one each; or as text, ``"5 um"``, by the voxel size.
        Some times the size of the objects.
    mode : {"nearest", "reflect", "mirror", "constant", "wrap"}
        What lies beyond the image, as in SciPy.
    cval : float
        The voxels beyond it for ``mode="constant"``.
    truncate : float
        The blur ends after this many standard deviations.

    Returns
    -------
    float32 array of the same shape; float64 for 32-bit and wider integers and for float64. Negative where a voxel is
    darker than its surroundings: nothing is clipped.

    Raises
    ------
    ParameterError : negative sigma or truncate, a unit where the image has no voxel size, unknown mode
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Halo: ``int(truncate * sigma + 0.5)`` voxels an axis. Equal to the bit to ``image.astype(dtype) - gaussian(image,
    sigma)`` for every chunking.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.restoration.subtract_background(np.array([1, 1, 1, 5, 1, 1, 1.0]), 1).round(2)
    array([-0.02, -0.22, -0.97,  2.4 , -0.97, -0.22, -0.02])
    """
    what = "restoration.subtract_background"
    check_image(image, what)
    truncate = real_number(truncate, "truncate", what, least=0, below=LONGEST)
    sigmas = lengths(sigma, image, what, "sigma")
    halo = [int(truncate * sigmas[a] + 0.5) for a in hyperstack.spatial_axes(image)]
    check_reach(halo, what, f"sigma={brief(sigma)}, truncate={brief(truncate)}")
    dtype = linear_dtype(image.dtype)
    return neighbourhood(
        _less_blur,
        image,
        what,
        mode=mode,
        cval=real_number(cval, "cval", what, finite=False),
        halo=halo,
        dtype=dtype,
        cost=1 + 3.0 * sum(s > 0 for s in sigmas),
        workspace=3.0 * dtype.itemsize,
        sigma=sigmas,
        truncate=truncate,
        output=dtype,
    )


def _less_blur(block: np.ndarray, *, core: Sequence[slice] | None = None, output: np.dtype, **given: Any) -> np.ndarray:
    from bigbia.kernels.gaussian import gaussian

    blurred = gaussian(block, core=core, output=output, **given)
    return np.subtract(block[tuple(core or ())].astype(output, copy=False), blurred, out=blurred)
