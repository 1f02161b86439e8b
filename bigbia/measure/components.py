"""Connected components."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from bigbia.errors import ParameterError, RunError
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import Lazy, check_image, is_lazy, lazy
from bigbia.graph.merge import Components
from bigbia.hyperstack import spatial_axes


def label(
    label_image: Image,
    background: int | None = None,
    return_num: bool = False,
    connectivity: int | None = None,
    *,
    over: Literal["each", "all"] = "each",
    dtype: Literal["uint32", "uint64"] = "uint32",
) -> Any:
    """Number the connected components of an image.

    Parameters
    ----------
    label_image : array of bool or integers, 1 to 5 axes
        Neighbouring voxels of one value are connected; bool: those that are True.
    background : int, default 0
        Voxels of this value belong to no object.
    return_num : bool
        Also return how many there are.
    connectivity : int, default the number of axes
        Voxels are neighbours if they differ by at most this many steps along axes: in 3D 1, 2, 3 for 6, 18, 26
        neighbours.
    over : {"each", "all"}
        Each time and channel of a DataArray by itself, numbered from 1; or all together, connected through them.
    dtype : {"uint32", "uint64"}
        Of the result.

    Returns
    -------
    labels : integer array of the same shape, 0 where there is no object
    num : int, only with `return_num`; lazy for a lazy image

    Raises
    ------
    InputError : floating-point or complex voxels, an empty axis
    ParameterError : connectivity out of range
    RunError : more objects than `dtype` has numbers; when it is computed, before any label is written

    Notes
    -----
    Objects are numbered by their first voxel in the array's own raster order. That is ``skimage.measure.label``,
    number for number, for every chunking (scikit-image swaps axes of integer images with an axis of length 1 and
    numbers those differently).

    Reading any part labels the whole image once, in about 2.5 tasks a block; later reads find it done. No task holds
    more than a block and the components that reach the surface of its box.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.measure.label(np.array([0, 1, 1, 0, 1]))
    array([0, 1, 1, 0, 2], dtype=uint32)
    """
    check_image(label_image, "measure.label", "biu")
    ndim = label_image.ndim if over == "all" or not is_lazy(label_image) else len(spatial_axes(label_image))
    if over not in ("each", "all"):
        raise ParameterError(f'measure.label: over={over!r}: "each" (time and channel by itself) or "all"')
    if not 1 <= ndim <= 5:
        raise ParameterError(f"measure.label: an image of {ndim} axes: 1 to 5 can be labelled")
    if connectivity is None:
        connectivity = ndim
    if (
        isinstance(connectivity, bool)
        or not isinstance(connectivity, (int, np.integer))
        or not 1 <= connectivity <= ndim
    ):
        raise ParameterError(
            f"measure.label: connectivity={connectivity!r}: 1 to {ndim} for an image of {ndim} axes of space"
        )
    try:
        kind: np.dtype = np.dtype(dtype)
    except TypeError:
        kind = np.dtype(object)
    if kind not in (np.uint32, np.uint64):
        raise ParameterError(f'measure.label: dtype={dtype!r}: labels are "uint32" or "uint64"')
    if background is None:
        background = 0
    info = np.iinfo(np.uint8 if label_image.dtype == bool else label_image.dtype)
    if not info.min <= background <= info.max:
        raise ParameterError(
            f"measure.label: background={background!r} is no value of {label_image.dtype} voxels ({info.min} to {info.max})"
        )
    if not is_lazy(label_image):
        return _at_once(label_image, int(connectivity), background, kind, return_num)
    source = lazy(label_image, "measure.label")
    if over == "all" or not source.over:
        stage = Components(source.node, source.grid, int(connectivity), background, kind)
        labels = source.like(stage.labels())
        count = Lazy(source.node, source.chunks, source.live).like_over(stage.count())
    else:
        stages = [Components(p.node, p.grid, int(connectivity), background, kind) for _, p in source.each()]
        labels = source.like(source.joined([s.labels() for s in stages]), source.joined_chunks())
        count = source.like_over(source.joined([s.count() for s in stages])) if return_num else None
    return (labels, count) if return_num else labels


def _at_once(image: np.ndarray, connectivity: int, background: int, dtype: np.dtype, return_num: bool) -> Any:
    from bigbia.kernels.components import components, paint

    runs = components(image, connectivity, background)
    if runs.count > np.iinfo(dtype).max:
        raise RunError(f'measure.label: {runs.count} objects do not fit {dtype}: pass dtype="uint64"')
    labels = paint(runs, np.arange(runs.count + 1, dtype=dtype))
    return (labels, runs.count) if return_num else labels
