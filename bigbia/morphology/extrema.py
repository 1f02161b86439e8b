"""Local maxima and minima: plateaus higher, or lower, than all around them."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from bigbia import hyperstack
from bigbia.errors import BigbiaWarning, BlockError
from bigbia.graph.conditions import Border, Size
from bigbia.graph.footprints import truth
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image
from bigbia.graph.objects import Objects, check_connectivity, remaining, space_of
from bigbia.graph.window import over_others, window


def local_maxima(image: Image, connectivity: int | None = None, *, allow_borders: bool = True) -> Any:
    """Mark the local maxima: connected voxels of one value whose other neighbours are all lower.

    Parameters
    ----------
    image : array of bool, integers or floats, 1 to 5 axes of space
    connectivity : int, default the number of axes of space
        Voxels are neighbours if they differ by at most this many steps along axes: in 3D 1, 2, 3 for 6, 18, 26
        neighbours.
    allow_borders : bool, default True
        Otherwise plateaus that touch the border of the image are no maxima.

    Returns
    -------
    bool array of the same kind and shape. An image of one value has no maximum.

    Raises
    ------
    InputError : complex or object voxels, an empty axis
    ParameterError : connectivity out of range, `allow_borders` neither True nor False
    BlockError : NaN, which is neither higher nor lower than its neighbours; when it is computed

    Notes
    -----
    Halo: 2 voxels. Equal to ``skimage.morphology.local_maxima`` for every chunking and plateaus across any number of
    blocks: each block finds the voxels without a higher neighbour, the components of those are merged, and one of them
    is a maximum if none of its voxels has an equal neighbour that has a higher one. Times and channels of a DataArray
    each by itself.

    scikit-image's `footprint` and `indices` do not exist; float16 is taken too; a `connectivity` out of range is
    refused. Where an axis has fewer than 3 voxels and borders are not allowed there are none, with a warning.

    Examples
    --------
    >>> import numpy as np
    >>> local_maxima(np.array([0, 2, 2, 0, 1, 1, 3, 0])).astype(int)
    array([0, 1, 1, 0, 0, 0, 1, 0])
    """
    return _extrema(image, "morphology.local_maxima", connectivity, allow_borders)


def local_minima(image: Image, connectivity: int | None = None, *, allow_borders: bool = True) -> Any:
    """Mark the local minima: connected voxels of one value whose other neighbours are all higher.

    Parameters
    ----------
    image, connectivity, allow_borders : as in `local_maxima`

    Returns
    -------
    bool array of the same kind and shape. An image of one value has no minimum.

    Raises
    ------
    As `local_maxima`.

    Notes
    -----
    Halo: 2 voxels. Equal to ``skimage.morphology.local_minima`` for every chunking, as `local_maxima`.

    Examples
    --------
    >>> import numpy as np
    >>> local_minima(np.array([3, 1, 1, 3, 2, 0])).astype(int)
    array([0, 1, 1, 0, 0, 1])
    """
    return _extrema(image, "morphology.local_minima", connectivity, allow_borders, minima=True)


def _extrema(image: Any, what: str, connectivity: Any, allow_borders: Any, minima: bool = False) -> Any:
    check_image(image, what)
    connectivity = check_connectivity(connectivity, space_of(image), what)
    allow_borders = truth(allow_borders, "allow_borders", what)
    axes = hyperstack.spatial_axes(image)
    shape = tuple(int(image.shape[a]) for a in axes)
    if not allow_borders and min(shape) < 3:
        warnings.warn(
            f"{what}: allow_borders=False in an image of {shape}: with fewer than 3 voxels along an axis every voxel "
            f"is at the border, and there are no {what.rpartition('_')[2]}",
            BigbiaWarning,
            stacklevel=3,
        )
    state = window(
        _plateaus,
        image,
        halo=2,
        dtype=np.uint8,
        cost=3.0 + 2.0 * len(axes),
        workspace=3.0 * image.dtype.itemsize + 3.0,
        axes=axes,
        connectivity=connectivity,
        minima=minima,
        borders=allow_borders,
        what=what,
    )
    # A plateau with nothing around it is the whole image, and no extremum.
    conditions = (Border(touching=False), Size(most=math.prod(shape) - 1))
    return remaining(state > 0, what, Objects(connectivity, 0, conditions), inside=state < 2)


def _plateaus(
    block: np.ndarray, axes: tuple[int, ...], connectivity: int, minima: bool, borders: bool, what: str
) -> np.ndarray:
    from bigbia.kernels.extrema import plateaus

    if block.dtype.kind == "f" and np.isnan(block.min()):
        lowest = "np.inf" if minima else "-np.inf"
        raise BlockError(
            f"{what}: {int(np.isnan(block).sum())} of {block.size} voxels of a block are NaN, which is neither higher nor "
            f"lower than its neighbours: replace it first, np.where(np.isnan(image), {lowest}, image)"
        )

    def one(image: np.ndarray) -> np.ndarray:
        return plateaus(image, connectivity, minima, borders)

    return over_others(one, block, axes, np.dtype(np.uint8))
