"""Smoothing: gaussian, median."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from bigbia import hyperstack
from bigbia.errors import ParameterError
from bigbia.graph.footprints import check_mode, footprint_of, pad, radius
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image
from bigbia.graph.window import window

Mode = Literal["nearest", "reflect", "mirror", "constant", "wrap"]


def linear_dtype(dtype: np.dtype) -> np.dtype:
    """The result dtype of linear filters: float32; float64 for 32-bit and wider integers and for float64."""
    wide = (dtype.kind in "iu" and dtype.itemsize >= 4) or dtype == np.float64
    return np.dtype(np.float64 if wide else np.float32)


def gaussian(
    image: Image,
    sigma: float | str | Sequence[float] | Sequence[str] = 1.0,
    *,
    mode: Mode = "nearest",
    cval: float = 0.0,
    preserve_range: bool = True,
    truncate: float = 4.0,
) -> Any:
    """Smooth with a Gaussian.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    sigma : number, sequence, or length with a unit
        Standard deviation in voxels, one for all spatial axes or one each; or as text, ``"0.5 um"``, ``"1, 0.5, 0.5
        um"``, by the voxel size. 0 leaves an axis as it is.
    mode : {"nearest", "reflect", "mirror", "constant", "wrap"}
        What lies beyond the image, as in SciPy.
    cval : float
        The voxels beyond it for ``mode="constant"``.
    preserve_range : bool
        Always True: values are never rescaled (scikit-image's default is False).
    truncate : float
        The kernel ends after this many standard deviations.

    Returns
    -------
    float32 array of the same shape; float64 for 32-bit and wider integers and for float64.

    Raises
    ------
    ParameterError : negative sigma, a unit where the image has no voxel size, unknown mode
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Halo: ``int(truncate * sigma + 0.5)`` voxels an axis. Equal to the bit to ``scipy.ndimage.gaussian_filter(image,
    sigma, output=dtype)`` for every chunking. NaN spreads as in SciPy.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((5, 5)); image[2, 2] = 1
    >>> bigbia.filters.gaussian(image, 1)[2].round(3)
    array([0.022, 0.097, 0.159, 0.097, 0.022])
    """
    from bigbia.kernels.gaussian import gaussian as kernel

    check_image(image, "filters.gaussian")
    check_mode(mode, "filters.gaussian", ("nearest", "reflect", "mirror", "constant", "wrap"))
    if not preserve_range:
        full = np.iinfo(image.dtype).max if image.dtype.kind in "iu" else 1
        raise ParameterError(
            f"filters.gaussian: preserve_range=False would rescale the values; bigbia never does: divide by {full} yourself if you want 0 to 1"
        )
    if not truncate >= 0:
        raise ParameterError(f"filters.gaussian: truncate={truncate!r} must be 0 or more")
    sigmas = hyperstack.lengths(sigma, image, "sigma")
    dtype = linear_dtype(image.dtype)
    return window(
        kernel,
        image,
        halo=[int(truncate * sigmas[a] + 0.5) for a in hyperstack.spatial_axes(image)],
        dtype=dtype,
        boundary="wrap" if mode == "wrap" else "function",
        cost=3.0 * sum(s > 0 for s in sigmas),
        workspace=2.0 * dtype.itemsize,
        cropping=True,
        sigma=sigmas,
        truncate=float(truncate),
        mode="nearest" if mode == "wrap" else mode,
        cval=float(cval),
        output=dtype,
    )


def median(image: Image, footprint: Any = None, *, mode: Mode = "nearest", cval: float = 0.0) -> Any:
    """Replace each voxel by the median of its neighbourhood.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    footprint : array or int, default all neighbours (3 voxels along each spatial axis)
        The neighbourhood: a mask with one axis for each spatial axis, or the length of its side.
    mode, cval : as in `gaussian`

    Returns
    -------
    Array of the same shape and dtype.

    Notes
    -----
    Halo: half the footprint. Equal to the bit to ``skimage.filters.median`` (``scipy.ndimage.median_filter``) for
    every chunking.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.median(np.array([1, 9, 2, 3, 8, 4]))
    array([1, 2, 3, 3, 4, 4])
    """
    check_image(image, "filters.median")
    check_mode(mode, "filters.median", ("nearest", "reflect", "mirror", "constant", "wrap"))
    footprint = footprint_of(footprint, image, "filters.median", full=True)
    return window(
        _median,
        image,
        halo=radius(footprint, image),
        boundary="wrap" if mode == "wrap" else "function",
        cost=15.0 * footprint.sum(),
        workspace=16.0,
        footprint=footprint,
        mode="nearest" if mode == "wrap" else mode,
        cval=cval,
    )


def _median(block: np.ndarray, footprint: np.ndarray, mode: str, cval: float) -> np.ndarray:
    from scipy import ndimage as ndi

    # SciPy's filter of a line that is shorter than the footprint reads beyond it (1.17); there the image is continued
    # by hand.
    margins = [(k, k) if n < k and k > 1 else (0, 0) for n, k in zip(block.shape, footprint.shape)]
    if not any(m for m, _ in margins):
        return ndi.median_filter(block, footprint=footprint, mode=mode, cval=cval)
    padded = pad(block, margins, mode, cval)
    core = tuple(slice(m, m + n) for (m, _), n in zip(margins, block.shape))
    return ndi.median_filter(padded, footprint=footprint, mode=mode, cval=cval)[core]
