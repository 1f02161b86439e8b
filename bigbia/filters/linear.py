"""Any weights: correlate, convolve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bigbia import hyperstack
from bigbia.errors import ParameterError
from bigbia.filters.edges import padding_bytes
from bigbia.filters.smooth import linear
from bigbia.graph.footprints import array_of, brief, check_mode, over_space, what_it_is
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image
from bigbia.graph.window import MODES, Mode


def correlate(image: Image, weights: Sequence, *, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """Weighted sum of each voxel's neighbourhood.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    weights : array of numbers
        One axis for each spatial axis of the image. Its element ``n // 2`` along each axis lies on the voxel.
    mode, cval : as in `gaussian`

    Returns
    -------
    float32 array of the same shape; float64 for 32-bit and wider integers and for float64.

    Raises
    ------
    ParameterError : weights with other axes than the image, without elements, complex, NaN or infinite; unknown mode
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Halo: half the weights. Equal to the bit to ``scipy.ndimage.correlate(image, weights, output=dtype)`` for every
    chunking: the sum is taken directly, tap by tap, so that its cost grows with the number of weights. NaN spreads to
    the voxels that weigh it.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.correlate(np.array([0, 0, 1, 0, 0], np.uint8), [1, 2, 3])
    array([0., 3., 2., 1., 0.], dtype=float32)
    """
    taps = _weights(image, weights, "filters.correlate")
    return _correlated(image, "filters.correlate", taps, [n // 2 for n in taps.shape], mode, cval)


def convolve(image: Image, weights: Sequence, *, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """Convolution: `correlate` with the weights turned about. Arguments as in `correlate`.

    Equal to the bit to ``scipy.ndimage.convolve``.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.convolve(np.array([0, 0, 1, 0, 0], np.uint8), [1, 2, 3])
    array([0., 1., 2., 3., 0.], dtype=float32)
    """
    taps = _weights(image, weights, "filters.convolve")
    turned = np.ascontiguousarray(taps[(slice(None, None, -1),) * taps.ndim])
    return _correlated(image, "filters.convolve", turned, [(n - 1) // 2 for n in taps.shape], mode, cval)


def _weights(image: Any, weights: Any, what: str) -> np.ndarray:
    check_image(image, what)
    space = hyperstack.spatial_axes(image)
    taps = array_of(weights)
    if taps is None:
        raise ParameterError(
            f"{what}: weights={brief(weights)}: {what_it_is(weights)}: give real numbers, as many in each list"
        )
    if taps.ndim != len(space):
        raise ParameterError(
            f"{what}: the weights have {taps.ndim} axes {taps.shape}, the image {len(space)} of space: weights={brief(weights)}: "
            "give one an axis"
        )
    if not taps.size:
        raise ParameterError(f"{what}: weights={brief(weights)} are empty {taps.shape}: give at least one")
    taps = taps.astype(np.float64)
    if not np.isfinite(taps).all():
        raise ParameterError(
            f"{what}: weights={brief(weights)} hold {taps[~np.isfinite(taps)][0]}: give finite numbers"
        )
    return over_space(taps, image)


def _correlated(image: Any, what: str, taps: np.ndarray, origin: Sequence[int], mode: str, cval: float) -> Any:
    from bigbia.kernels.correlate import correlate as kernel

    check_mode(mode, what, MODES)
    space = hyperstack.spatial_axes(image)
    return linear(
        kernel,
        image,
        what,
        mode=mode,
        cval=cval,
        halo=[(origin[a], taps.shape[a] - 1 - origin[a]) for a in space],
        cost=1.0 + 0.25 * float(np.count_nonzero(taps)),
        workspace=padding_bytes(image.dtype, mode),
        weights=taps,
        origin=tuple(origin),
    )
