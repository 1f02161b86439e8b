"""Where labels meet."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from bigbia import hyperstack
from bigbia.errors import ParameterError
from bigbia.graph.footprints import brief, one_of
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image
from bigbia.graph.window import window

_MODES = ("thick", "inner", "outer")


def find_boundaries(
    label_img: Image, connectivity: int = 1, mode: Literal["thick", "inner", "outer"] = "thick", background: int = 0
) -> Any:
    """Mark the voxels at the borders of objects.

    Parameters
    ----------
    label_img : array of bool or integers, any number of axes
    connectivity : int
        Voxels are neighbours if they differ by at most this many steps along axes: in 3D 1, 2, 3 for 6, 18, 26
        neighbours.
    mode : {"thick", "inner", "outer"}
        ``"thick"``: every voxel with a neighbour of another value. ``"inner"``: of those, the objects'. ``"outer"``: of
        those, the background's, and the objects' where two objects touch.
    background : int
        The value that is no object, for ``"inner"`` and ``"outer"``.

    Returns
    -------
    bool array of the same shape.

    Raises
    ------
    ParameterError : unknown mode, connectivity out of range, a background that the image cannot have
    InputError : floating-point or complex voxels, an empty axis

    Notes
    -----
    Halo: 1 voxel. Equal to the bit to ``skimage.segmentation.find_boundaries`` for every chunking; for 64-bit images to
    that of the same labels in 32 bits (SciPy compares them as float64). Its ``mode="subpixel"`` is refused: the result
    has another shape.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.segmentation.find_boundaries(np.array([0, 0, 5, 5, 5, 7, 7]), mode="inner").astype(int)
    array([0, 0, 1, 0, 1, 1, 0])
    """
    what = "segmentation.find_boundaries"
    check_image(label_img, what, "biu")
    if isinstance(mode, str) and mode == "subpixel":
        raise ParameterError(
            f'{what}: mode="subpixel" gives an image of another shape, 2 n - 1 voxels along each axis, and is not made '
            'here: use "thick", "inner" or "outer"'
        )
    one_of(mode, "mode", what, _MODES)
    axes = hyperstack.spatial_axes(label_img)
    whole = isinstance(connectivity, (int, np.integer)) and not isinstance(connectivity, bool)
    if not whole or not 1 <= connectivity <= len(axes):
        raise ParameterError(
            f"{what}: connectivity={brief(connectivity)}: 1 to {len(axes)} for an image of {len(axes)} axes of space"
        )
    info = np.iinfo(np.uint8 if label_img.dtype == bool else label_img.dtype)
    if not isinstance(background, (int, np.integer)) or not info.min <= background <= info.max:
        raise ParameterError(
            f"{what}: background={brief(background)} is no value of {label_img.dtype} voxels ({info.min} to {info.max})"
        )
    return window(
        _find_boundaries,
        label_img,
        halo=1,
        dtype=bool,
        cost={"thick": 1.0, "inner": 1.0, "outer": 10.0}[mode] * 3 ** (connectivity - 1),
        workspace=2.0,
        axes=axes,
        connectivity=int(connectivity),
        mode=mode,
        background=int(background),
    )


def _find_boundaries(
    block: np.ndarray, axes: tuple[int, ...], connectivity: int, mode: str, background: int
) -> np.ndarray:
    from bigbia.kernels.values import boundaries

    over = [a for a in range(block.ndim) if a not in axes]
    if not over:
        return boundaries(block, connectivity, mode, background)
    out = np.empty(block.shape, bool)
    for index in np.ndindex(*(block.shape[a] for a in over)):
        place: list[Any] = [slice(None)] * block.ndim
        for axis, i in zip(over, index):
            place[axis] = i
        out[tuple(place)] = boundaries(block[tuple(place)], connectivity, mode, background)
    return out
