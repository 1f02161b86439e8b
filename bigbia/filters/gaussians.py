"""What Gaussians make: differences of them, their derivatives, sharpening."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bigbia import hyperstack
from bigbia.errors import ParameterError
from bigbia.filters.smooth import gaussian, linear, linear_dtype
from bigbia.graph.footprints import LONGEST, brief, check_mode, check_reach, lengths, real_number
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image
from bigbia.graph.window import MODES, Mode


def gaussian_laplace(
    image: Image,
    sigma: float | str | Sequence[float] | Sequence[str] = 1.0,
    *,
    mode: Mode = "reflect",
    cval: float = 0.0,
    truncate: float = 4.0,
) -> Any:
    """Laplacian of a Gaussian: second derivatives of the smoothed image, summed over the spatial axes.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    sigma, mode, cval, truncate : as in `gaussian`
        sigma must be above 0 along every axis.

    Returns
    -------
    float32 array of the same shape; float64 for 32-bit and wider integers and for float64. Bright spots are negative.
    Derivatives are by voxels, also where `sigma` has a unit.

    Raises
    ------
    ParameterError : sigma that is not above 0, a unit where the image has no voxel size, unknown mode
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Halo: ``int(truncate * sigma + 0.5)`` voxels an axis. Equal to the bit to
    ``scipy.ndimage.gaussian_laplace(image, sigma, output=dtype)`` for every chunking.

    Source: Marr, Hildreth, Proc. R. Soc. Lond. B 207:187 (1980).

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.gaussian_laplace(np.array([0., 0, 0, 8, 0, 0, 0]), 1).round(2)
    array([ 0.3 ,  1.3 ,  0.  , -3.19,  0.  ,  1.3 ,  0.3 ])
    """
    return _derivatives(image, "filters.gaussian_laplace", sigma, 2, mode, cval, truncate)


def gaussian_gradient_magnitude(
    image: Image,
    sigma: float | str | Sequence[float] | Sequence[str] = 1.0,
    *,
    mode: Mode = "reflect",
    cval: float = 0.0,
    truncate: float = 4.0,
) -> Any:
    """How steep the smoothed image is: the length of its gradient by voxels. Arguments as in `gaussian_laplace`.

    Equal to the bit to ``scipy.ndimage.gaussian_gradient_magnitude``.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.gaussian_gradient_magnitude(np.array([0., 0, 0, 8, 8, 8]), 1).round(2)
    array([0.11, 0.97, 2.91, 2.91, 0.97, 0.11])
    """
    return _derivatives(image, "filters.gaussian_gradient_magnitude", sigma, 1, mode, cval, truncate)


def _derivatives(image: Any, what: str, sigma: Any, order: int, mode: str, cval: float, truncate: float) -> Any:
    from bigbia.kernels.gaussian import SMALLEST, derivatives, radius

    check_image(image, what)
    truncate = real_number(truncate, "truncate", what, least=0, below=LONGEST)
    sigmas = lengths(sigma, image, what, "sigma")
    space = hyperstack.spatial_axes(image)
    if any(sigmas[a] <= SMALLEST for a in space):
        raise ParameterError(
            f"{what}: sigma={brief(sigma)} must be above 0 along every axis: there is no derivative else"
        )
    dtype = linear_dtype(image.dtype)
    halo = [radius(sigmas[a], truncate) for a in space]
    check_reach(halo, what, f"sigma={brief(sigma)}, truncate={brief(truncate)}")
    return linear(
        derivatives,
        image,
        what,
        mode=mode,
        cval=cval,
        halo=halo,
        cost=3.0 * len(space) ** 2,
        workspace=3.0 * dtype.itemsize,
        sigma=sigmas,
        axes=space,
        order=order,
        truncate=truncate,
    )


def difference_of_gaussians(
    image: Image,
    low_sigma: float | str | Sequence[float] | Sequence[str],
    high_sigma: float | str | Sequence[float] | Sequence[str] | None = None,
    *,
    mode: Mode = "nearest",
    cval: float = 0.0,
    truncate: float = 4.0,
) -> Any:
    """Band-pass filter: a weakly less a strongly smoothed image.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    low_sigma, high_sigma : as sigma in `gaussian`
        Standard deviations of the weaker and of the stronger Gaussian, which is 1.6 times the weaker one by default.
    mode, cval, truncate : as in `gaussian`

    Returns
    -------
    float32 array of the same shape; float64 for 32-bit and wider integers and for float64.

    Raises
    ------
    ParameterError : high_sigma below low_sigma along an axis, and what `gaussian` refuses
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Halo: that of the stronger Gaussian. Equal to the bit to ``skimage.filters.difference_of_gaussians(image.astype(dtype),
    low_sigma, high_sigma)`` for every chunking; integers are not rescaled to 0..1 first.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.difference_of_gaussians(np.array([0., 0, 8, 0, 0]), 1).round(2)
    array([-0.48,  0.29,  1.2 ,  0.29, -0.48])
    """
    what = "filters.difference_of_gaussians"
    check_image(image, what)
    space = hyperstack.spatial_axes(image)
    low = lengths(low_sigma, image, what, "low_sigma")
    high = tuple(1.6 * s for s in low) if high_sigma is None else lengths(high_sigma, image, what, "high_sigma")
    if any(high[a] < low[a] for a in space):
        raise ParameterError(
            f"{what}: high_sigma={brief(high_sigma)} is below low_sigma={brief(low_sigma)}: exchange them"
        )
    check_mode(mode, what, MODES)
    cval = real_number(cval, "cval", what, finite=False)
    truncate = real_number(truncate, "truncate", what, least=0, below=LONGEST)
    weak, strong = (
        gaussian(image, [s[a] for a in space], mode=mode, cval=cval, truncate=truncate) for s in (low, high)
    )
    return weak - strong


def unsharp_mask(image: Image, radius: float | str | Sequence[float] | Sequence[str] = 1.0, amount: float = 1.0) -> Any:
    """Sharpen: add to the image what a Gaussian takes away from it.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    radius : as sigma in `gaussian`
        Standard deviation of the Gaussian.
    amount : float
        How much of the difference is added; below 0 the image is blurred.

    Returns
    -------
    float32 array of the same shape; float64 for 32-bit and wider integers and for float64. Values are neither rescaled
    nor cut off: they may go beyond those of the image.

    Raises
    ------
    ParameterError : what `gaussian` refuses
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Halo: ``int(4 * radius + 0.5)`` voxels an axis. Equal to the bit to ``skimage.filters.unsharp_mask(image.astype(dtype),
    radius, amount, preserve_range=True)`` for every chunking.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.unsharp_mask(np.array([0., 0, 8, 8, 8]), 0.5).round(2)
    array([-0.  , -0.85,  8.85,  8.  ,  8.  ])
    """
    what = "filters.unsharp_mask"
    check_image(image, what)
    along = lengths(radius, image, what, "radius")
    share = real_number(amount, "amount", what)
    blurred = gaussian(image, [along[a] for a in hyperstack.spatial_axes(image)], mode="reflect")
    plain = image.astype(linear_dtype(image.dtype))
    return plain + (plain - blurred) * share
