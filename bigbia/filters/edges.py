"""Edges: sobel, prewitt, scharr, laplace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bigbia import hyperstack
from bigbia.errors import ParameterError
from bigbia.filters.smooth import linear
from bigbia.graph.footprints import brief, check_mode, several
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image
from bigbia.graph.window import MODES, Mode

EDGE = (1.0, 0.0, -1.0)


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

    Raises
    ------
    ParameterError : an axis that the image does not have, unknown mode
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Halo: 1 voxel. Equal to the bit to ``skimage.filters.sobel(image.astype(dtype), axis=axis)`` for every chunking. NaN
    spreads to the neighbours that weigh it.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.sobel(np.array([[0, 0, 4, 4]] * 3, np.uint8))[1]
    array([0.      , 2.828427, 2.828427, 0.      ], dtype=float32)
    """
    return _edges(image, "filters.sobel", np.array([1, 2, 1]) / 4, axis, mode, cval)


def prewitt(image: Image, *, axis: int | Sequence[int] | None = None, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """Edge strength by the Prewitt operator: differences of means over 3 voxels. Arguments as in `sobel`.

    Equal to the bit to ``skimage.filters.prewitt``.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.prewitt(np.array([[0, 0, 4, 4]] * 3, np.uint8), axis=1)[1]
    array([0., 4., 4., 0.], dtype=float32)
    """
    return _edges(image, "filters.prewitt", np.full(3, 1 / 3), axis, mode, cval)


def scharr(image: Image, *, axis: int | Sequence[int] | None = None, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """Edge strength by the Scharr operator, which depends on the edge's direction least. Arguments as in `sobel`.

    Equal to the bit to ``skimage.filters.scharr``.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.scharr(np.array([[0, 0, 4, 4]] * 3, np.uint8), axis=1)[1]
    array([0., 4., 4., 0.], dtype=float32)
    """
    return _edges(image, "filters.scharr", np.array([3, 10, 3]) / 16, axis, mode, cval)


def laplace(image: Image, *, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """Laplacian: how far a voxel lies above the mean of its neighbours that share a face, times their number.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    mode, cval : as in `gaussian`

    Returns
    -------
    float32 array of the same shape; float64 for 32-bit and wider integers and for float64.

    Raises
    ------
    ParameterError : unknown mode
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Halo: 1 voxel. Equal to the bit to ``skimage.filters.laplace(image.astype(dtype))`` for every chunking. The sign is
    scikit-image's: bright spots are positive (``scipy.ndimage.laplace`` has the other one).

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.filters.laplace(np.array([0, 0, 1, 0, 0], np.uint8))
    array([ 0., -1.,  2., -1.,  0.], dtype=float32)
    """
    from bigbia.kernels.correlate import correlate

    check_image(image, "filters.laplace")
    check_mode(mode, "filters.laplace", MODES)
    space = hyperstack.spatial_axes(image)
    weights = np.zeros([3 if a in space else 1 for a in range(image.ndim)])
    centre = [n // 2 for n in weights.shape]
    for a in space:
        for place in (0, 2):
            weights[tuple(place if b == a else c for b, c in enumerate(centre))] = -1
    weights[tuple(centre)] = 2 * len(space)
    return linear(
        correlate,
        image,
        "filters.laplace",
        mode=mode,
        cval=cval,
        halo=1,
        cost=1.0 + len(space),
        workspace=padding_bytes(image.dtype, mode),
        weights=weights,
    )


def padding_bytes(dtype: np.dtype, mode: str) -> float:
    """Bytes a voxel of the copy that a row kernel makes at the image's border."""
    return 1.2 * (8.0 if mode == "constant" else dtype.itemsize)


def _edges(image: Any, what: str, smooth: np.ndarray, axis: Any, mode: str, cval: float) -> Any:
    from bigbia.kernels.correlate import edges

    check_image(image, what)
    check_mode(mode, what, MODES)
    space = hyperstack.spatial_axes(image)
    given = [axis] if several(axis) is None else several(axis) or [None]
    axes: list[Any] = list(range(len(space))) if axis is None else given
    for a in axes:
        whole = isinstance(a, (int, np.integer)) and not isinstance(a, bool)
        if not whole or not -len(space) <= a < len(space):
            raise ParameterError(
                f"{what}: axis={brief(axis)}: the image has {len(space)} axes of space, 0 to {len(space) - 1}: name one or some"
            )
    return linear(
        edges,
        image,
        what,
        mode=mode,
        cval=cval,
        halo=1,
        cost=0.25 * len(axes) * 2 * 3 ** (len(space) - 1),
        workspace=padding_bytes(image.dtype, mode),
        weights=tuple(_mask(image.ndim, space, space[a], smooth) for a in axes),
        share=len(space) if len(axes) > 1 else None,
    )


def _mask(ndim: int, space: Sequence[int], edge: int, smooth: np.ndarray) -> np.ndarray:
    """The mask of a derivative along one axis, as it is laid over the image."""
    lines = [(edge, np.array(EDGE)), *((a, smooth) for a in space if a != edge)]
    mask: Any = 1.0
    for a, line in lines:
        mask = mask * line.reshape([-1 if b == a else 1 for b in range(ndim)])
    return np.ascontiguousarray(mask[(slice(None, None, -1),) * ndim])
