"""Erosion, dilation, opening, closing, top-hats and gradient; grey and binary."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from bigbia import hyperstack
from bigbia.graph.footprints import check_constant, parts_of
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image
from bigbia.graph.window import neighbourhood

Mode = Literal["reflect", "constant", "nearest", "mirror", "wrap", "max", "min", "ignore"]
_MODES = ("reflect", "constant", "nearest", "mirror", "wrap", "max", "min", "ignore")
_LEAST, _GREATEST = True, False


def erosion(image: Image, footprint: Any = None, *, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """The least voxel of each neighbourhood.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
        A bool image is eroded as a mask.
    footprint : array, int, sequence or length with a unit, default the voxels that share a face
        The neighbourhood: a mask with one axis for each spatial axis; or the sides of a box, one for all or one each;
        or their length, ``"2 um"``, the nearest odd number of voxels. Or scikit-image's ``((mask, times), ...)``, masks
        that are applied one after another.
    mode : {"reflect", "constant", "nearest", "mirror", "wrap", "max", "min", "ignore"}
        What lies beyond the image. ``"ignore"`` leaves it out, as do ``"max"`` for erosion and ``"min"`` for dilation.
    cval : float
        The voxels beyond it for ``mode="constant"``: of integers the nearest that the dtype holds.

    Returns
    -------
    Array of the same shape and dtype.

    Raises
    ------
    ParameterError : sides below 1, a footprint of other axes or without voxels, unknown mode
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Halo: half the footprint; of a sequence the sum. Equal to the bit to ``skimage.morphology.erosion`` for every
    chunking. An even side gets an empty voxel in front, as there. NaN counts as the greatest value, as in
    ``numpy.sort``. A box costs the same for every size; any other footprint is made of runs along the last axis, and a
    voxel costs one comparison a run.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.morphology.erosion(np.array([3, 1, 4, 1, 5, 9]))
    array([1, 1, 1, 1, 1, 5])
    """
    return _apply("erosion", image, footprint, mode, cval, (_LEAST,))


def dilation(image: Image, footprint: Any = None, *, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """The greatest voxel of each neighbourhood. Arguments and exactness as in `erosion`.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.morphology.dilation(np.array([3, 1, 4, 1, 5, 9]))
    array([3, 4, 4, 5, 9, 9])
    """
    return _apply("dilation", image, footprint, mode, cval, (_GREATEST,))


def opening(image: Image, footprint: Any = None, *, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """Erosion, then dilation: removes what is brighter and smaller than the footprint. Arguments as in `erosion`.

    Halo: twice half the footprint. The dilation is by the mirrored footprint.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.morphology.opening(np.array([3, 1, 4, 1, 5, 9, 9, 9]), 3)
    array([1, 1, 1, 1, 5, 9, 9, 9])
    """
    return _apply("opening", image, footprint, mode, cval, (_LEAST, _GREATEST))


def closing(image: Image, footprint: Any = None, *, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """Dilation, then erosion: fills what is darker and smaller than the footprint. Arguments as in `erosion`.

    Halo: twice half the footprint. The erosion is by the mirrored footprint.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.morphology.closing(np.array([3, 1, 4, 4, 4, 9]), 3)
    array([3, 3, 4, 4, 4, 9])
    """
    return _apply("closing", image, footprint, mode, cval, (_GREATEST, _LEAST))


def white_tophat(image: Image, footprint: Any = None, *, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """The image less its opening: what is brighter and smaller than the footprint. Arguments as in `erosion`.

    Halo: twice half the footprint. Integers never wrap round: a difference that the dtype does not hold is its last
    value. Of a mask, the voxels that the opening changes.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.morphology.white_tophat(np.array([1, 1, 7, 1, 5, 5, 5]), 3)
    array([0, 0, 6, 0, 0, 0, 0])
    """
    return _apply("white_tophat", image, footprint, mode, cval, (_LEAST, _GREATEST), "above")


def black_tophat(image: Image, footprint: Any = None, *, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """The closing less the image: what is darker and smaller than the footprint. Arguments as in `erosion`.

    Halo: twice half the footprint. Integers never wrap round, as in `white_tophat`.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.morphology.black_tophat(np.array([5, 5, 1, 5, 5, 2, 2, 2]), 3)
    array([0, 0, 4, 0, 0, 0, 0, 0])
    """
    return _apply("black_tophat", image, footprint, mode, cval, (_GREATEST, _LEAST), "below")


def gradient(image: Image, footprint: Any = None, *, mode: Mode = "reflect", cval: float = 0.0) -> Any:
    """The dilation less the erosion: how steep the image is, and the edges of a mask. Arguments as in `erosion`.

    Halo: half the footprint. Integers never wrap round, as in `white_tophat`.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.morphology.gradient(np.array([1, 1, 7, 7, 5, 5, 5]))
    array([0, 6, 6, 2, 2, 0, 0])
    """
    return _apply("gradient", image, footprint, mode, cval, (_LEAST,), "between")


def _apply(
    name: str, image: Any, footprint: Any, mode: str, cval: float, kinds: tuple[bool, ...], finish: str = ""
) -> Any:
    from bigbia.kernels.extremes import extreme, price

    what = f"morphology.{name}"
    check_image(image, what)
    masks = [_odd(mask) for mask in parts_of(footprint, image, what, full=False)]
    mirrored = [mask[(slice(None, None, -1),) * mask.ndim] for mask in masks]
    steps = tuple((mask, low) for parts, low in zip((masks, mirrored), kinds) for mask in parts)
    cost, workspace = price(steps, image.dtype)
    twice = 2 if finish == "between" else 1
    return neighbourhood(
        extreme,
        image,
        what,
        mode=mode,
        modes=_MODES,
        cval=check_constant(cval, image, what),
        halo=[sum(mask.shape[axis] // 2 for mask, _ in steps) for axis in hyperstack.spatial_axes(image)],
        cost=twice * cost + (0.3 * image.dtype.itemsize if finish else 0),
        workspace=workspace + twice * image.dtype.itemsize,
        steps=steps,
        finish=finish,
    )


def _odd(mask: np.ndarray) -> np.ndarray:
    """With an empty voxel in front of even sides, as scikit-image has it."""
    return np.pad(mask, [(1 - n % 2, 0) for n in mask.shape])
