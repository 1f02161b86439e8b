"""Objects removed and holes filled, whatever the number of blocks they cross."""

from __future__ import annotations

from typing import Any

from bigbia.graph.conditions import Border, Largest, Size
from bigbia.graph.footprints import whole_number
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image
from bigbia.graph.objects import Objects, check_connectivity, remaining, space_of
from bigbia.graph.values import selected


def remove_small_objects(image: Image, max_size: int = 64, connectivity: int = 1) -> Any:
    """Remove objects of at most a number of voxels.

    Parameters
    ----------
    image : array of bool or integers, 1 to 5 axes of space
        bool: objects are connected components. Integers: a label image, an object is all voxels of one label.
    max_size : int, default 64
        Objects of this many voxels and fewer are removed. 0 removes nothing.
    connectivity : int, default 1
        Of a mask: voxels are neighbours if they differ by at most this many steps along axes.

    Returns
    -------
    Array of the same kind, shape and dtype; labels keep their numbers.

    Raises
    ------
    InputError : floating-point or complex voxels, an empty axis
    ParameterError : a size or connectivity out of range
    BlockError : negative labels; when it is computed

    Notes
    -----
    Equal to ``skimage.morphology.remove_small_objects`` (0.26) for every chunking. Sizes travel up the merge tree, and
    an object is dropped where it is complete. `measure.label` of the result, with the same connectivity, needs no
    second labelling; nor does another condition on the same objects (`remove_large_objects`, `segmentation.clear_border`
    with that connectivity). Times and channels of a DataArray each by itself.

    Examples
    --------
    >>> import numpy as np
    >>> remove_small_objects(np.array([1, 0, 1, 1, 0, 1, 1, 1], bool), max_size=2).astype(int)
    array([0, 0, 0, 0, 0, 1, 1, 1])
    """
    what = "morphology.remove_small_objects"
    return _without(image, what, connectivity, (Size(least=whole_number(max_size, "max_size", what) + 1),))


def remove_large_objects(image: Image, min_size: int, connectivity: int = 1) -> Any:
    """Remove objects of at least a number of voxels.

    Parameters
    ----------
    image, connectivity : as in `remove_small_objects`
    min_size : int
        Objects of this many voxels and more are removed.

    Returns
    -------
    Array of the same kind, shape and dtype; labels keep their numbers.

    Raises
    ------
    As `remove_small_objects`.

    Notes
    -----
    After `remove_small_objects` with the same connectivity, both are one merge: objects of a range of sizes stay.

    Examples
    --------
    >>> import numpy as np
    >>> remove_large_objects(np.array([1, 0, 1, 1, 0, 1, 1, 1], bool), 3).astype(int)
    array([1, 0, 1, 1, 0, 0, 0, 0])
    """
    what = "morphology.remove_large_objects"
    return _without(image, what, connectivity, (Size(most=whole_number(min_size, "min_size", what, 1) - 1),))


def keep_largest(image: Image, n: int = 1, connectivity: int | None = None) -> Any:
    """Keep the largest objects.

    Parameters
    ----------
    image : as in `remove_small_objects`
    n : int, default 1
        How many to keep. Of equal ones the first stays: the one whose first voxel comes first in raster order, or the
        smallest label.
    connectivity : int, default the number of axes of space
        Of a mask.

    Returns
    -------
    Array of the same kind, shape and dtype; labels keep their numbers.

    Raises
    ------
    As `remove_small_objects`.

    Examples
    --------
    >>> import numpy as np
    >>> keep_largest(np.array([1, 0, 1, 1, 0, 1, 1], bool)).astype(int)
    array([0, 0, 1, 1, 0, 0, 0])
    """
    what = "morphology.keep_largest"
    return _without(image, what, connectivity, (Largest(whole_number(n, "n", what, 1)),))


def remove_small_holes(image: Image, max_size: int = 64, connectivity: int = 1) -> Any:
    """Fill holes of at most a number of voxels.

    Parameters
    ----------
    image : bool array, 1 to 5 axes of space
    max_size : int, default 64
        Connected parts of the background of this many voxels and fewer are filled, those at the border too.
    connectivity : int, default 1
        Of the background.

    Returns
    -------
    bool array of the same kind and shape.

    Raises
    ------
    InputError : voxels that are not bool, an empty axis
    ParameterError : a size or connectivity out of range

    Notes
    -----
    Equal to ``skimage.morphology.remove_small_holes`` (0.26) for every chunking. Times and channels of a DataArray each
    by itself.

    Examples
    --------
    >>> import numpy as np
    >>> remove_small_holes(np.array([1, 0, 1, 0, 0, 0, 1], bool), max_size=2).astype(int)
    array([1, 1, 1, 0, 0, 0, 1])
    """
    what = "morphology.remove_small_holes"
    size = whole_number(max_size, "max_size", what)
    return _filled(image, what, connectivity, Size(least=size + 1))


def fill_holes(image: Image, connectivity: int = 1) -> Any:
    """Fill the holes of a mask: background that is not connected to the border of the image.

    Parameters
    ----------
    image : bool array, 1 to 5 axes of space
    connectivity : int, default 1
        Of the background: 1, and a hole is closed if its walls touch by their faces, edges or corners.

    Returns
    -------
    bool array of the same kind and shape.

    Raises
    ------
    InputError : voxels that are not bool, an empty axis
    ParameterError : connectivity out of range

    Notes
    -----
    Equal to ``scipy.ndimage.binary_fill_holes`` with ``structure=generate_binary_structure(ndim, connectivity)``, for
    every chunking and holes across any number of blocks: the background is labelled, and whether a part of it touches
    the border travels up the merge tree. Times and channels of a DataArray each by itself.

    Examples
    --------
    >>> import numpy as np
    >>> fill_holes(np.array([[0, 1, 1, 1], [0, 1, 0, 1], [0, 1, 1, 1]], bool)).astype(int)
    array([[0, 1, 1, 1],
           [0, 1, 1, 1],
           [0, 1, 1, 1]])
    """
    return _filled(image, "morphology.fill_holes", connectivity, Border(touching=True))


def _without(image: Any, what: str, connectivity: Any, conditions: tuple) -> Any:
    check_image(image, what, "biu")
    connectivity = check_connectivity(connectivity, space_of(image), what)
    if image.dtype != bool:
        return selected(image, what, conditions)
    return remaining(image, what, Objects(connectivity, 0, conditions))


def _filled(image: Any, what: str, connectivity: Any, condition: Any) -> Any:
    check_image(image, what, "b")
    connectivity = check_connectivity(connectivity, space_of(image), what)
    return remaining(image, what, Objects(connectivity, 1, (condition,)), fill=1)
