"""Connected components."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from bigbia.errors import ParameterError
from bigbia.graph import regions
from bigbia.graph.footprints import brief, dtype_of, truth
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image, is_lazy, lazy
from bigbia.graph.merge import at_once
from bigbia.graph.objects import Objects, check_connectivity, components_of, space_of
from bigbia.graph.rank import Ranks, check_count
from bigbia.kernels.components import paint


def label(
    label_image: Image,
    background: int | None = None,
    return_num: bool = False,
    connectivity: int | None = None,
    *,
    over: Literal["each", "all"] = "each",
    dtype: Literal["uint8", "uint16", "uint32", "uint64"] = "uint32",
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
    dtype : {"uint32", "uint64", "uint16", "uint8"}
        Of the result.

    Returns
    -------
    labels : integer array of the same shape, 0 where there is no object
    num : int, only with `return_num`; lazy for a lazy image

    Raises
    ------
    InputError : floating-point or complex voxels
    ParameterError : connectivity out of range
    RunError : more objects than `dtype` has numbers; when it is computed, before any label is written

    Notes
    -----
    Objects are numbered by their first voxel in the array's own raster order. That is ``skimage.measure.label``,
    number for number, for every chunking (scikit-image swaps axes of integer images with an axis of length 1 and
    numbers those differently).

    Reading any part labels the whole image once, in about 2.6 tasks a block; later reads find it done. No task holds
    more than a block and the components that touch something beyond its box.

    The labels of a mask that `morphology.remove_small_objects`, `keep_largest` or `segmentation.clear_border` left
    take no second labelling, if the connectivity is the same: the objects were dropped where they were complete, and
    those that stayed are numbered.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.measure.label(np.array([0, 1, 1, 0, 1]))
    array([0, 1, 1, 0, 2], dtype=uint32)
    """
    what = "measure.label"
    check_image(label_image, what, "biu", empty=True)
    return_num = truth(return_num, "return_num", what)
    if not isinstance(over, str) or over not in ("each", "all"):
        raise ParameterError(f'{what}: over={brief(over)}: "each" (time and channel by itself) or "all"')
    ndim = label_image.ndim if over == "all" else space_of(label_image)
    connectivity = check_connectivity(connectivity, ndim, what)
    kind = checked_dtype(dtype, what)
    background = checked_background(background, label_image.dtype, what)
    objects = Objects(connectivity, background)
    if not is_lazy(label_image):
        runs, _, _ = at_once([label_image], objects.rule(label_image.shape))
        check_count(runs.count, kind)
        labels = paint(runs, np.arange(runs.count + 1, dtype=kind))
        return (labels, runs.count) if return_num else labels
    source = lazy(label_image, what)
    whole = replace(source, template=None) if over == "all" else source
    chunks = None
    if not label_image.size:
        nodes: regions.Node = regions.Literal(np.zeros(source.shape, kind))
        counts: regions.Node = regions.Literal(np.zeros([source.shape[i] for i in whole.over], np.int64))
    elif not whole.over:
        stage = Ranks(components_of(source.node, source.grid, objects, "label"), kind)
        nodes, counts = stage.labels(), stage.count()
    else:
        stages = [Ranks(components_of(p.node, p.grid, objects, "label"), kind) for _, p in source.each()]
        nodes, counts = (source.joined([one(s) for s in stages]) for one in (Ranks.labels, Ranks.count))
        chunks = source.joined_chunks()
    labels = source.like(nodes, chunks)
    return (labels, whole.like_over(counts)) if return_num else labels


def checked_dtype(dtype: Any, what: str) -> np.dtype:
    """The dtype of labels."""
    kind = dtype_of(dtype)
    if kind is None or kind.kind != "u":
        raise ParameterError(f'{what}: dtype={brief(dtype)}: labels are "uint8", "uint16", "uint32" or "uint64"')
    return kind


def checked_background(background: Any, dtype: np.dtype, what: str) -> int:
    """A value of the image's dtype."""
    if background is None:
        return 0
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if not isinstance(background, (int, np.integer, np.bool_)) or not low <= background <= high:
        raise ParameterError(f"{what}: background={brief(background)} is no value of {dtype} voxels ({low} to {high})")
    return int(background)
