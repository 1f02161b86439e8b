"""Smoothing: gaussian."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bigbia import hyperstack
from bigbia.errors import ParameterError
from bigbia.graph.footprints import LONGEST, brief, check_mode, check_reach, lengths, real_number, truth
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image, is_lazy
from bigbia.graph.window import MODES, Mode, neighbourhood


def linear_dtype(dtype: np.dtype) -> np.dtype:
    """The result dtype of linear filters: float32; float64 for 32-bit and wider integers and for float64."""
    wide = dtype.kind in "iuf" and dtype.itemsize >= (8 if dtype.kind == "f" else 4)
    return np.dtype(np.float64 if wide else np.float32)


def linear(kernel: Callable[..., np.ndarray], image: Image, what: str, *, cval: float, **given: Any) -> Any:
    """`neighbourhood` of a linear filter: its result has `linear_dtype`, which the kernel is told as `output`."""
    dtype = linear_dtype(image.dtype)
    return neighbourhood(
        kernel,
        image,
        what,
        cval=real_number(cval, "cval", what, finite=False),
        dtype=dtype,
        output=dtype,
        **given,
    )


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
    Halo: ``int(truncate * sigma + 0.5)`` voxels an axis. Where that is 48 or more and would more than double the work of
    the image's blocks, the axes are filtered one by one, with the result between them in scratch: three tasks a block
    instead of one, the same bits. Equal to the bit to ``scipy.ndimage.gaussian_filter(image,
    sigma, output=dtype)`` for every chunking. NaN spreads as in SciPy.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((5, 5)); image[2, 2] = 1
    >>> bigbia.filters.gaussian(image, 1)[2].round(3)
    array([0.022, 0.097, 0.159, 0.097, 0.022])
    """
    from bigbia.filters.wide import axis_by_axis, is_wide
    from bigbia.kernels.gaussian import gaussian as kernel
    from bigbia.kernels.gaussian import radius

    what = "filters.gaussian"
    check_image(image, what)
    check_mode(mode, what, MODES)
    if not truth(preserve_range, "preserve_range", what):
        full = np.iinfo(image.dtype).max if image.dtype.kind in "iu" else 1
        raise ParameterError(
            f"{what}: preserve_range={brief(preserve_range)} would rescale the values; bigbia never does: "
            f"divide by {full} yourself if you want 0 to 1"
        )
    truncate = real_number(truncate, "truncate", what, least=0, below=LONGEST)
    sigmas = lengths(sigma, image, what, "sigma")
    dtype = linear_dtype(image.dtype)
    halo = [radius(s, truncate) for s in sigmas]
    check_reach(halo, what, f"sigma={brief(sigma)}, truncate={brief(truncate)}")
    border: dict[str, Any] = {
        "truncate": truncate,
        "cval": real_number(cval, "cval", what, finite=False),
        "mode": mode,
    }
    if is_lazy(image) and mode != "wrap" and is_wide(image, halo, what):
        return axis_by_axis(kernel, image, what, halo=halo, sigma=sigmas, dtype=dtype, **border)
    return linear(
        kernel,
        image,
        what,
        halo=[halo[a] for a in hyperstack.spatial_axes(image)],
        cost=sum(0.8 + 0.2 * h for h in halo if h),
        workspace=2.0 * dtype.itemsize,
        sigma=sigmas,
        **border,
    )
