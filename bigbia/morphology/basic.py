"""Erosion, dilation, opening, closing, white top-hat; grey and binary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from bigbia.graph.footprints import check_mode, footprint_of, radius
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image
from bigbia.graph.window import window

Mode = Literal["reflect", "constant", "nearest", "mirror", "wrap", "max", "min", "ignore"]
_MODES = ("reflect", "constant", "nearest", "mirror", "wrap", "max", "min", "ignore")


def erosion(image: Image, footprint: Any = None, *, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """The least voxel of each neighbourhood.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
        A bool image is eroded as a mask.
    footprint : array or int, default the voxels that share a face
        The neighbourhood: a mask with one axis for each spatial axis, or the length of its side.
    mode : {"reflect", "constant", "nearest", "mirror", "wrap", "max", "min", "ignore"}
        What lies beyond the image. ``"ignore"`` leaves it out, as do ``"max"`` for erosion and ``"min"`` for dilation.
    cval : float
        The voxels beyond it for ``mode="constant"``.

    Returns
    -------
    Array of the same shape and dtype.

    Notes
    -----
    Halo: half the footprint. Equal to the bit to ``skimage.morphology.erosion`` for every chunking.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.morphology.erosion(np.array([3, 1, 4, 1, 5, 9]))
    array([1, 1, 1, 1, 1, 5])
    """
    return _apply("erosion", _erosion, image, footprint, mode, cval, 1)


def dilation(image: Image, footprint: Any = None, *, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """The greatest voxel of each neighbourhood. Arguments and exactness as in `erosion`.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.morphology.dilation(np.array([3, 1, 4, 1, 5, 9]))
    array([3, 4, 4, 5, 9, 9])
    """
    return _apply("dilation", _dilation, image, footprint, mode, cval, 1)


def opening(image: Image, footprint: Any = None, *, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """Erosion, then dilation: removes what is brighter and smaller than the footprint. Arguments as in `erosion`.

    Halo: twice half the footprint.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.morphology.opening(np.array([3, 1, 4, 1, 5, 9, 9, 9]), 3)
    array([1, 1, 1, 1, 5, 9, 9, 9])
    """
    return _apply("opening", _opening, image, footprint, mode, cval, 2)


def closing(image: Image, footprint: Any = None, *, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """Dilation, then erosion: fills what is darker and smaller than the footprint. Arguments as in `erosion`.

    Halo: twice half the footprint.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.morphology.closing(np.array([3, 1, 4, 4, 4, 9]), 3)
    array([3, 3, 4, 4, 4, 9])
    """
    return _apply("closing", _closing, image, footprint, mode, cval, 2)


def white_tophat(image: Image, footprint: Any = None, *, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """The image less its opening: what is brighter and smaller than the footprint. Arguments as in `erosion`.

    Halo: twice half the footprint.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.morphology.white_tophat(np.array([1, 1, 7, 1, 5, 5, 5]), 3)
    array([0, 0, 6, 0, 0, 0, 0])
    """
    return _apply("white_tophat", _white_tophat, image, footprint, mode, cval, 2)


def _apply(name: str, function: Callable, image: Any, footprint: Any, mode: str, cval: float, passes: int) -> Any:
    what = f"morphology.{name}"
    check_image(image, what)
    check_mode(mode, what, _MODES)
    footprint = footprint_of(footprint, image, what, full=False)
    return window(
        function,
        image,
        halo=radius(footprint, image, passes),
        boundary="wrap" if mode == "wrap" else "function",
        cost=passes * 1.5 * footprint.sum(),
        workspace=8.0 * passes,
        footprint=footprint,
        mode="reflect" if mode == "wrap" else mode,
        cval=cval,
    )


def _kernel(name: str) -> Callable:
    def kernel(block: np.ndarray, footprint: np.ndarray, mode: str, cval: float) -> np.ndarray:
        from skimage import morphology

        out = getattr(morphology, name)(block, footprint, mode=mode, cval=cval)
        return out if out.dtype == block.dtype else out.astype(block.dtype)

    # By this name it is found again by another process.
    kernel.__name__ = kernel.__qualname__ = f"_{name}"
    return kernel


_erosion = _kernel("erosion")
_dilation = _kernel("dilation")
_opening = _kernel("opening")
_closing = _kernel("closing")
_white_tophat = _kernel("white_tophat")
