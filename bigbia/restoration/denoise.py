"""Denoising: denoise_tv_chambolle, denoise_nl_means, denoise_bilateral."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from bigbia import hyperstack
from bigbia.errors import InputError, ParameterError
from bigbia.filters.smooth import linear, linear_dtype
from bigbia.graph.footprints import (
    LONGEST,
    MOST,
    brief,
    check_mode,
    lengths,
    plain_number,
    sides,
    whole_number,
)
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image
from bigbia.graph.window import neighbourhood, window

Mode = Literal["constant", "edge", "symmetric", "reflect", "wrap"]
MODES = {"constant": "constant", "edge": "nearest", "symmetric": "reflect", "reflect": "mirror", "wrap": "wrap"}


def denoise_tv_chambolle(image: Image, weight: float = 0.1, *, max_num_iter: int = 30) -> Any:
    """Denoise by total variation: flat regions stay flat and edges sharp.

    Parameters
    ----------
    image : array of bool, integers or floats, 1 to 3 spatial axes
    weight : float
        How much is smoothed, in the image's own values: about the standard deviation of the noise.
    max_num_iter : int
        How many iterations are made; always that many.

    Returns
    -------
    float32 array of the same shape; float64 for 32-bit and wider integers and for float64.

    Raises
    ------
    ParameterError : a weight that is not positive, no whole number of iterations
    InputError : complex or object voxels, an empty axis, more than 3 spatial axes

    Notes
    -----
    Halo: ``max_num_iter - 1`` voxels. scikit-image stops when the energy of the whole image has hardly changed, after
    at most 200 iterations; here their number is given, because no block knows that energy. Equal to the bit to
    ``skimage.restoration.denoise_tv_chambolle(image, weight, eps=0, max_num_iter=max_num_iter)`` of the image in the
    result's type, which is not divided by its largest possible value: a weight of 0.1 there is 6553.5 here for uint16.
    NaN spreads by one voxel an iteration.

    Chambolle, J. Math. Imaging Vis. 20, 2004.

    Examples
    --------
    >>> import numpy as np
    >>> step = np.array([1, 0, 1, 0, 9, 8, 9, 8])
    >>> bigbia.restoration.denoise_tv_chambolle(step, 1).round(1)
    array([0.7, 0.7, 0.8, 0.8, 8.2, 8.2, 8.3, 8.3])
    """
    from bigbia.kernels.denoising import tv_chambolle

    what = "restoration.denoise_tv_chambolle"
    check_image(image, what)
    space = _space(image, what, (1, 2, 3))
    weight = _positive(weight, what, "weight", "the standard deviation of the noise is a good start")
    steps = whole_number(max_num_iter, "max_num_iter", what, 1, LONGEST)
    dtype = linear_dtype(image.dtype)
    return window(
        tv_chambolle,
        image,
        halo=steps - 1,
        dtype=dtype,
        cost=3.0 * steps * dtype.itemsize / 4,
        workspace=5.0 * dtype.itemsize,
        cropping=True,
        weight=weight,
        num_iter=steps,
        space=space,
        output=dtype,
    )


def _space(image: Any, what: str, known: tuple[int, ...]) -> tuple[int, ...]:
    space = hyperstack.spatial_axes(image)
    if len(space) not in known:
        raise InputError(
            f"{what}: {len(space)} spatial axes, it is for {known[0]} to {known[-1]}: "
            "name time and channels, hyperstack(image, 'tzyx') from bigbia.hyperstack, or give one image at a time"
        )
    return space


def _positive(value: Any, what: str, name: str, hint: str) -> float:
    number = plain_number(value)
    if number is None or not 0 < number < math.inf:
        raise ParameterError(f"{what}: {name}={brief(value)} must be a positive number: {hint}")
    return number


def denoise_bilateral(
    image: Image,
    win_size: int | str | Sequence[int] | None = None,
    sigma_color: float | None = None,
    sigma_spatial: float | str | Sequence[float] | Sequence[str] = 1.0,
    mode: Mode = "constant",
    cval: float = 0.0,
) -> Any:
    """Denoise by averaging voxels that are near and alike: edges higher than the noise stay.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    win_size : odd int, sequence, or length with a unit
        The side of the window, one for all spatial axes or one each; by default 5 or, if more, 3 `sigma_spatial` to each
        side.
    sigma_color : float
        How different values may be, in those of the image: the standard deviation of a Gaussian. It must be given:
        scikit-image takes that of the whole image, which no block knows.
    sigma_spatial : number, sequence, or length with a unit
        How far apart they may be, as in `filters.gaussian`; 0 counts them alike.
    mode : {"constant", "edge", "symmetric", "reflect", "wrap"}
        What lies beyond the image, by the names of `numpy.pad`, as in scikit-image.
    cval : float
        The voxels beyond it for ``mode="constant"``.

    Returns
    -------
    float32 array of the same shape; float64 for 32-bit and wider integers and for float64.

    Raises
    ------
    ParameterError : no sigma_color, one that is not positive, an even window, an unknown mode
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Halo: half the window. Weights and sums are float64: the mean of the window with weights ``exp(-distance**2 / (2
    sigma_spatial**2)) * exp(-difference**2 / (2 sigma_color**2))``, to 1e-12. scikit-image, which is for 2 axes, looks
    them up in tables that follow from the image's greatest value, and lays the one of distances out on a grid one
    longer than the window (0.26), so its values differ. NaN spreads over the window.

    Tomasi & Manduchi, ICCV 1998.

    Examples
    --------
    >>> import numpy as np
    >>> step = np.array([1, 0, 1, 0, 9, 8, 9, 8])
    >>> bigbia.restoration.denoise_bilateral(step, sigma_color=1, sigma_spatial=3, mode="edge").round(1)
    array([0.8, 0.6, 0.7, 0.5, 8.5, 8.3, 8.4, 8.2])
    """
    from bigbia.kernels.averaging import bilateral

    what = "restoration.denoise_bilateral"
    check_image(image, what)
    check_mode(mode, what, tuple(MODES))
    if sigma_color is None:
        raise ParameterError(
            f"{what}: sigma_color=None would be the standard deviation of the whole image: give a number in its values, "
            "for instance twice the noise"
        )
    color = _positive(sigma_color, what, "sigma_color", "twice the standard deviation of the noise is a good start")
    sigma = lengths(sigma_spatial, image, what, "sigma_spatial")
    space = hyperstack.spatial_axes(image)
    if win_size is None:
        window_ = [max(5, 2 * math.ceil(3 * s) + 1) if a in space else 1 for a, s in enumerate(sigma)]
    else:
        window_ = sides(win_size, image, what, "win_size")
        if any(n % 2 == 0 for n in window_):
            raise ParameterError(f"{what}: win_size={brief(win_size)} must be odd, so that a voxel is in the middle")
    if math.prod(window_) > MOST:
        raise ParameterError(
            f"{what}: win_size={brief(win_size)}, sigma_spatial={brief(sigma_spatial)}: a window of {math.prod(window_):.3g} "
            f"voxels: give one of {MOST} at most"
        )
    return linear(
        bilateral,
        image,
        what,
        mode=MODES[mode],
        cval=cval,
        halo=[window_[a] // 2 for a in space],
        cost=3.0 * math.prod(window_),
        workspace=16.0,
        window=tuple(window_),
        sigma=sigma,
        sigma_color=color,
    )


def denoise_nl_means(
    image: Image,
    patch_size: int = 7,
    patch_distance: int = 11,
    h: float = 0.1,
    sigma: float = 0.0,
) -> Any:
    """Denoise by averaging voxels whose surroundings are alike: textures and repeated structures stay.

    Parameters
    ----------
    image : array of bool, integers or floats, 1 to 3 spatial axes
    patch_size : int
        The side of the surroundings that are compared; one more if it is even.
    patch_distance : int
        How far away voxels are averaged, along each spatial axis.
    h : float
        How different surroundings may be, in the image's values: about the standard deviation of the noise, less where
        `sigma` is given.
    sigma : float
        The standard deviation of the noise, which is taken off the differences.

    Returns
    -------
    float32 array of the same shape; float64 for 32-bit and wider integers and for float64.

    Raises
    ------
    ParameterError : a size or distance that is no whole number, h that is not positive, a negative sigma
    InputError : complex or object voxels, an empty axis, more than 3 spatial axes

    Notes
    -----
    Halo: `patch_distance` and half a patch. What ``skimage.restoration.denoise_nl_means(fast_mode=False,
    preserve_range=True)`` computes: surroundings weighted by a Gaussian of (patch_size - 1) / 4, mirrored beyond the
    image, where nothing is averaged. scikit-image's exponentials are approximate, so its values are only within some
    percent of what denoising changes; here they are right to 1e-12. Its fast mode weights surroundings equally, by
    running sums that depend on where an image begins; it is not offered. Work grows with ``(2 patch_distance + 1)`` to
    the number of axes: in 3 axes begin with a distance of 3.

    Buades, Coll & Morel, CVPR 2005.

    Examples
    --------
    >>> import numpy as np
    >>> step = np.array([1, 0, 1, 0, 9, 8, 9, 8])
    >>> bigbia.restoration.denoise_nl_means(step, 3, 5, h=2).round(1)
    array([0.7, 0.6, 0.7, 0.1, 8.9, 8.3, 8.4, 8.3])
    """
    from bigbia.kernels.averaging import non_local_means

    what = "restoration.denoise_nl_means"
    check_image(image, what)
    space = _space(image, what, (1, 2, 3))
    patch = whole_number(patch_size, "patch_size", what, 1, LONGEST)
    patch += 1 - patch % 2
    distance = whole_number(patch_distance, "patch_distance", what, 0, LONGEST)
    h = _positive(h, what, "h", "the standard deviation of the noise is a good start")
    noise = plain_number(sigma)
    if noise is None or not 0 <= noise < math.inf:
        raise ParameterError(f"{what}: sigma={brief(sigma)} must be 0 or more: the standard deviation of the noise")
    dtype = linear_dtype(image.dtype)
    return neighbourhood(
        non_local_means,
        image,
        what,
        mode="mirror",
        halo=distance + patch // 2,
        dtype=dtype,
        cost=10.0 * (2 * distance + 1) ** len(space),
        workspace=16.0,
        patch=patch,
        distance=distance,
        h=h,
        variance=noise * noise,
        space=space,
        output=dtype,
    )
