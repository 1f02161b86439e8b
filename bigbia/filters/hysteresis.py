"""Hysteresis: what is above a low threshold and connected to what is above a high one."""

from __future__ import annotations

from typing import Any

import numpy as np

from bigbia.errors import ParameterError
from bigbia.graph.conditions import Border
from bigbia.graph.footprints import brief
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image
from bigbia.graph.objects import Objects, check_connectivity, remaining, space_of


def apply_hysteresis_threshold(image: Image, low: Image | float, high: Image | float) -> Any:
    """Mark what is above a low threshold, as far as it is connected to something above a high one.

    Parameters
    ----------
    image : array of bool, integers or floats, 1 to 5 axes of space
    low, high : number or array
        Two thresholds, or lazy ones such as `threshold_otsu` returns, one for each time and channel. Where `low` is
        above `high`, both are `high`. Arrays of the image's shape are thresholds voxel by voxel.

    Returns
    -------
    bool array of the same kind and shape.

    Raises
    ------
    ParameterError : a threshold that is no number and does not fit the image's shape
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Equal to ``skimage.filters.apply_hysteresis_threshold`` for every chunking and objects across any number of blocks.
    Voxels are connected by their faces. The components above `low` are merged, and whether one has a voxel above `high`
    travels up the merge tree. NaN is above nothing. Times and channels of a DataArray each by itself.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.apply_hysteresis_threshold(np.array([1, 2, 3, 2, 1, 2, 1, 3, 2]), 1.5, 2.5).astype(int)
    array([0, 1, 1, 1, 0, 0, 0, 1, 1])
    """
    what = "filters.apply_hysteresis_threshold"
    check_image(image, what)
    check_connectivity(1, space_of(image), what)
    for name, value in (("low", low), ("high", high)):
        _check(image, value, name, what)
    if not hasattr(image, "dims"):
        low, high = (getattr(v, "data", v) if hasattr(v, "dims") else v for v in (low, high))
    least = np.minimum(low, high)  # a NumPy number: compared in float64, as scikit-image does
    above, sure = image > least, image > high
    # An object that leaves the mask of what is not above `high` has a voxel above it.
    return remaining(above, what, Objects(1, 0, (Border(touching=True),)), inside=~sure)


def _check(image: Any, value: Any, name: str, what: str) -> None:
    kind = getattr(getattr(value, "dtype", np.asarray(value).dtype if np.isscalar(value) else None), "kind", "O")
    if isinstance(value, str) or kind not in "biuf":
        raise ParameterError(f"{what}: {name}={brief(value)} must be a number, or an array of them")
    dims, shape = getattr(value, "dims", None), tuple(getattr(value, "shape", ()))
    if hasattr(image, "dims") and dims is not None:
        fits = all(d in image.dims and value.sizes[d] == image.sizes[d] for d in dims)
    else:
        fits = not shape or (shape == tuple(image.shape) and dims is None)
    if not fits:
        raise ParameterError(
            f"{what}: {name} is {shape}, the image {tuple(image.shape)}: give a number, one for each time and channel, or "
            "an array of the same shape"
        )
