"""Global thresholds: one value for an image, from its histogram."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from bigbia.exposure.counting import counted, value_dtype
from bigbia.exposure.values import check_over
from bigbia.graph.footprints import whole_number
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image


def threshold_otsu(image: Image, nbins: int = 256, *, over: Literal["each", "all"] = "each") -> Any:
    """Otsu's threshold: the value that best parts the histogram in two classes.

    Parameters
    ----------
    image : array of integers or floats, any number of axes
    nbins : int
        Bins of the histogram of a floating-point image; integers have one bin a value.
    over : {"each", "all"}
        One threshold for each time and channel of a DataArray, or one for all. A plain array has one.

    Returns
    -------
    NumPy: a number. Dask: a 0-d Dask array. DataArray: a lazy DataArray over t and c, so that ``image >
    threshold_otsu(image)`` compares each with its own. It is of the image's dtype for floats and int64 for integers.

    Raises
    ------
    InputError : complex or object voxels, an empty axis
    BlockError : NaN or infinity, naming the block; when it is computed
    ParameterError : 32-bit or wider integers with more than 2**20 values between the smallest and the largest

    Notes
    -----
    Equal to the bit to ``skimage.filters.threshold_otsu`` for every chunking: the histogram is, and scikit-image's
    own code then finds the threshold. 8- and 16-bit images are read once. Others are read twice, for their extrema
    and for the histogram between them; what must be computed for that is kept in scratch, where a comparison with the
    threshold reads it again.

    Source: Otsu, IEEE Trans. Sys. Man. Cyber. 9:62 (1979).

    Examples
    --------
    >>> import numpy as np
    >>> int(bigbia.filters.threshold_otsu(np.array([1, 2, 2, 9, 9, 8])))
    2
    """
    what = "filters.threshold_otsu"
    check_image(image, what, "iuf")
    nbins = whole_number(nbins, "nbins", what, 1)
    check_over(over, what)
    return counted(image, "threshold_otsu", nbins, over, _otsu, ("threshold",), value_dtype(image.dtype))


def _otsu(counts: np.ndarray, centers: np.ndarray) -> Mapping[str, np.ndarray]:
    """scikit-image's own search, given the histogram it would have made."""
    from skimage.filters import threshold_otsu as search

    value = centers[0] if len(centers) == 1 else search(hist=(counts, centers))
    return {"threshold": np.asarray(value, centers.dtype)}
