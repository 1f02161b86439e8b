"""Edges: sobel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from bigbia import hyperstack
from bigbia.errors import ParameterError
from bigbia.filters.smooth import linear_dtype
from bigbia.graph.footprints import check_mode
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image
from bigbia.graph.window import window

Mode = Literal["nearest", "reflect", "mirror", "constant", "wrap"]


def sobel(image: Image, *, axis: int | Sequence[int] | None = None, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """Edge strength by the Sobel operator.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    axis : int or sequence of int, default all spatial axes
        The derivative along this axis; the root mean square of those along several. Counted among the spatial axes.
    mode, cval : as in `gaussian`

    Returns
    -------
    float32 array of the same shape; float64 for 32-bit and wider integers and for float64. Integers are not rescaled
    to 0..1 first (scikit-image does so).

    Notes
    -----
    Halo: 1 voxel. Equal to the bit to ``skimage.filters.sobel(image.astype(dtype), axis=axis)`` for every chunking.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.sobel(np.array([[0, 0, 4, 4]] * 3, np.uint8))[1]
    array([0.      , 2.828427, 2.828427, 0.      ], dtype=float32)
    """
    check_image(image, "filters.sobel")
    check_mode(mode, "filters.sobel", ("nearest", "reflect", "mirror", "constant", "wrap"))
    space = hyperstack.spatial_axes(image)
    axes: list[int] = list(range(len(space))) if axis is None else [int(a) for a in np.atleast_1d(axis)]
    for a in axes:
        if not -len(space) <= a < len(space):
            raise ParameterError(
                f"filters.sobel: axis={axis!r}: the image has {len(space)} axes of space, 0 to {len(space) - 1}"
            )
    dtype = linear_dtype(image.dtype)
    return window(
        _sobel,
        image,
        halo=1,
        dtype=dtype,
        boundary="wrap" if mode == "wrap" else "function",
        cost=5.0 * len(space),
        workspace=3.0 * dtype.itemsize,
        space=space,
        axes=tuple(a % len(space) for a in axes),
        mode="reflect" if mode == "wrap" else mode,
        cval=cval,
        output=dtype,
    )


def _sobel(
    block: np.ndarray, space: Sequence[int], axes: Sequence[int], mode: str, cval: float, output: np.dtype
) -> np.ndarray:
    from skimage.filters import sobel as reference

    def one(image: np.ndarray) -> np.ndarray:
        return reference(image.astype(output), axis=axes if len(axes) > 1 else axes[0], mode=mode, cval=cval)

    return over_others(one, block, space, output)


def over_others(function: Any, block: np.ndarray, space: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """A function of images of space, applied at every time and channel of a block."""
    others = [a for a in range(block.ndim) if a not in space]
    if not others:
        return function(block)
    out = np.empty(block.shape, dtype)
    for place in np.ndindex(*(block.shape[a] for a in others)):
        index: list[Any] = [slice(None)] * block.ndim
        for a, i in zip(others, place):
            index[a] = i
        out[tuple(index)] = function(block[tuple(index)])
    return out
