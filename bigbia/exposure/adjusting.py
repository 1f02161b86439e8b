"""Values changed one by one along a curve: gamma, logarithm, sigmoid."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from bigbia.errors import BlockError, ParameterError
from bigbia.exposure.values import all_values, in_pieces, narrow, saturated
from bigbia.graph.footprints import brief, plain_number, real_number, truth
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image
from bigbia.graph.window import window


def adjust_gamma(image: Image, gamma: float = 1, gain: float = 1) -> Any:
    """Raise the values, as shares of the dtype's range, to a power.

    Parameters
    ----------
    image : array of integers or floats, any number of axes, nowhere negative
    gamma : float, 0 or more
        Above 1 the image becomes darker.
    gain : float
        The result is multiplied by it.

    Returns
    -------
    Array of the same kind, shape and dtype: ``gain * range * (image / range) ** gamma``, where the range is 1 for floats.

    Raises
    ------
    ParameterError : a negative gamma, a gain that is not a number
    InputError : bool, complex or object voxels, an empty axis
    BlockError : negative voxels; when it is computed

    Notes
    -----
    Equal to the bit to ``skimage.exposure.adjust_gamma``, but that values beyond the dtype's range are its largest (or
    smallest) value, where scikit-image's wrap. As there, uint8 is rounded, other integers are cut off. 8- and 16-bit
    values are worked out once, in a table.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.exposure.adjust_gamma(np.array([0, 64, 128, 255], np.uint8), 2)
    array([  0,  16,  64, 255], dtype=uint8)
    """
    what = "exposure.adjust_gamma"
    power = plain_number(gamma)
    if power is None or not 0 <= power < np.inf:
        raise ParameterError(f"{what}: gamma={brief(gamma)} must be a number of 0 or more")
    return _adjusted(image, what, "gamma", gamma=power, gain=real_number(gain, "gain", what))


def adjust_log(image: Image, gain: float = 1, inv: bool = False) -> Any:
    """Replace the values, as shares of the dtype's range, by a logarithm.

    Parameters
    ----------
    image : array of integers or floats, any number of axes, nowhere negative
    gain : float
        The result is multiplied by it.
    inv : bool
        The curve back: powers of 2.

    Returns
    -------
    Array of the same kind, shape and dtype: ``gain * range * log2(1 + image / range)``, or ``gain * range * (2 ** (image
    / range) - 1)``, where the range is 1 for floats.

    Raises
    ------
    As `adjust_gamma`.

    Notes
    -----
    Equal to the bit to ``skimage.exposure.adjust_log``, but that values beyond the dtype's range do not wrap.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.exposure.adjust_log(np.array([0, 64, 128, 255], np.uint8))
    array([  0,  82, 149, 255], dtype=uint8)
    """
    what = "exposure.adjust_log"
    return _adjusted(image, what, "log", gain=real_number(gain, "gain", what), inv=truth(inv, "inv", what))


def adjust_sigmoid(image: Image, cutoff: float = 0.5, gain: float = 10, inv: bool = False) -> Any:
    """Replace the values, as shares of the dtype's range, by a sigmoid curve: more contrast around a cutoff.

    Parameters
    ----------
    image : array of integers or floats, any number of axes, nowhere negative
    cutoff : float
        The share of the range that becomes half the range.
    gain : float
        How steep the curve is.
    inv : bool
        The curve falls instead.

    Returns
    -------
    Array of the same kind, shape and dtype: ``range / (1 + exp(gain * (cutoff - image / range)))``, where the range is 1
    for floats.

    Raises
    ------
    As `adjust_gamma`.

    Notes
    -----
    Equal to the bit to ``skimage.exposure.adjust_sigmoid``.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.exposure.adjust_sigmoid(np.array([0, 64, 128, 255], np.uint8))
    array([  1,  19, 128, 253], dtype=uint8)
    """
    what = "exposure.adjust_sigmoid"
    shape = {"cutoff": real_number(cutoff, "cutoff", what), "gain": real_number(gain, "gain", what)}
    return _adjusted(image, what, "sigmoid", **shape, inv=truth(inv, "inv", what))


def _adjusted(image: Any, what: str, curve: str, **params: Any) -> Any:
    check_image(image, what, "iuf")
    cost = 1.0 if narrow(image.dtype) else 15.0
    given = tuple(params.items())
    return window(_block, image, dtype=image.dtype, cost=cost, workspace=8.0, what=what, curve=curve, given=given)


def _block(block: np.ndarray, what: str, curve: str, given: tuple) -> np.ndarray:
    from bigbia.kernels.histograms import looked_up

    if block.dtype.kind != "u" and (block < 0).any():
        raise BlockError(
            f"{what}: {int((block < 0).sum())} of {block.size} voxels of a block are negative, down to {block.min()}: shift "
            "them first, or exposure.rescale_intensity(image, out_range=(0, 1))"
        )
    dtype = block.dtype.newbyteorder("=")
    if narrow(dtype):
        return looked_up(block, np.iinfo(dtype).min, _table(str(dtype), curve, given)).astype(block.dtype, copy=False)
    scale = 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)
    function = _CURVES[curve]
    return in_pieces(lambda x: saturated(function(x, scale, **dict(given)), dtype), block, block.dtype)


@functools.lru_cache(maxsize=16)
def _table(name: str, curve: str, given: tuple) -> np.ndarray:
    """The curve of all values of a dtype; the ones below 0 are never looked up."""
    dtype = np.dtype(name)
    values = np.maximum(all_values(dtype), 0)
    scale = float(np.iinfo(dtype).max)
    if curve == "gamma" and dtype == np.uint8:  # scikit-image's own table
        made = np.rint(255 * dict(given)["gain"] * np.linspace(0, 1, 256) ** dict(given)["gamma"])
    else:
        made = _CURVES[curve](values, scale, **dict(given))
    return saturated(made, dtype)


# The steps of scikit-image's formulas, in their order.
def _gamma(x: np.ndarray, scale: float, gamma: float, gain: float) -> np.ndarray:
    return ((x / scale) ** gamma) * scale * gain


def _log(x: np.ndarray, scale: float, gain: float, inv: bool) -> np.ndarray:
    return (2 ** (x / scale) - 1) * scale * gain if inv else np.log2(1 + x / scale) * scale * gain


def _sigmoid(x: np.ndarray, scale: float, cutoff: float, gain: float, inv: bool) -> np.ndarray:
    with np.errstate(over="ignore"):
        share = 1 / (1 + np.exp(gain * (cutoff - x / scale)))
    return (1 - share if inv else share) * scale


_CURVES: dict[str, Callable[..., np.ndarray]] = {"gamma": _gamma, "log": _log, "sigmoid": _sigmoid}
