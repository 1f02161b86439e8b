"""Objects at the border."""

from __future__ import annotations

from typing import Any

import numpy as np

from bigbia.errors import ParameterError
from bigbia.graph.conditions import Border
from bigbia.graph.footprints import brief, whole_number
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image
from bigbia.graph.objects import Objects, check_connectivity, remaining, space_of
from bigbia.hyperstack import spatial_axes


def clear_border(labels: Image, buffer_size: int = 0, bgval: int = 0, mask: Image | None = None) -> Any:
    """Clear objects connected to the border.

    Parameters
    ----------
    labels : array of bool or integers, 1 to 5 axes of space
        An object is a connected component (of one label), with all neighbours.
    buffer_size : int, default 0
        The border is this many voxels thicker than one.
    bgval : int, default 0
        Cleared voxels and the background get this value.
    mask : bool array, optional
        Of the shape of the image, or of its space, for all times and channels. All that lies outside it is the border,
        in place of the image's own; `buffer_size` is then not used.

    Returns
    -------
    Array of the same kind, shape and dtype; labels keep their numbers.

    Raises
    ------
    InputError : floating-point or complex voxels, an empty axis, a mask that is not bool
    ParameterError : a `buffer_size` or `bgval` out of range, a mask of another shape

    Notes
    -----
    Equal to ``skimage.segmentation.clear_border`` for every chunking. As there, of a label in several pieces those that
    touch the border are cleared. `measure.label` of the result, with all neighbours, needs no second labelling. Times
    and channels of a DataArray each by itself.

    Examples
    --------
    >>> import numpy as np
    >>> clear_border(np.array([1, 0, 2, 2, 0, 3, 3]))
    array([0, 0, 2, 2, 0, 0, 0])
    """
    what = "segmentation.clear_border"
    check_image(labels, what, "biu")
    connectivity = check_connectivity(None, space_of(labels), what)
    buffer_size = whole_number(buffer_size, "buffer_size", what)
    shape = tuple(labels.shape[i] for i in spatial_axes(labels))
    if mask is None and any(buffer_size >= n for n in shape):
        raise ParameterError(
            f"{what}: buffer_size={buffer_size} leaves nothing of an image of {shape}: it must be below {min(shape)}"
        )
    low, high = (0, 1) if labels.dtype == bool else (np.iinfo(labels.dtype).min, np.iinfo(labels.dtype).max)
    if not isinstance(bgval, (int, np.integer)) or not low <= bgval <= high:
        raise ParameterError(f"{what}: bgval={brief(bgval)} is no value of {labels.dtype} voxels ({low} to {high})")
    if mask is not None:
        check_image(mask, f"{what}: mask", "b")
        if tuple(mask.shape) not in (tuple(labels.shape), shape):
            raise ParameterError(f"{what}: the mask is {tuple(mask.shape)}, the image {tuple(labels.shape)}")
    objects = Objects(connectivity, 0, (Border(touching=False),), 0 if mask is not None else int(buffer_size))
    return remaining(labels, what, objects, int(bgval), mask)
