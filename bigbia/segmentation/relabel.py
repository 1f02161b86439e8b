"""New numbers for labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bigbia import hyperstack
from bigbia.errors import BlockError, ParameterError
from bigbia.graph.boxes import Box, describe
from bigbia.graph.footprints import brief, truth
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import Lazy, check_image, is_lazy, lazy
from bigbia.graph.pairs import HALF, alike, paired
from bigbia.graph.regions import Voxelwise
from bigbia.graph.values import Meets, Numbers, Values, count_labels, counted, judged, negative, renumbered
from bigbia.measure.components import checked_dtype
from bigbia.measure.properties import channel_name


def relabel_sequential(label_field: Image, offset: int = 1, *, return_mapping: bool = False) -> Any:
    """Number the labels of an image without gaps, in the order of their values.

    Parameters
    ----------
    label_field : integer array, any number of axes; 0 is background and stays 0
        All voxels of one value are one object, connected or not.
    offset : int
        The first number, 1 or more.
    return_mapping : bool
        Also return the table of old and new labels.

    Returns
    -------
    labels : array of the same kind, shape and dtype
    mapping : table, only with `return_mapping`
        Columns ``label``, ``new_label``, in the order of the labels: a pandas DataFrame for a NumPy image, otherwise a
        lazy dask.dataframe. With ``t`` and ``c`` for an image that has them.

    Raises
    ------
    InputError : voxels that are not integers, an empty axis
    ParameterError : an offset below 1, or beyond the image's dtype
    BlockError : negative labels; when it is computed
    RunError : the numbers do not fit the image's dtype; when it is computed, before any label is written

    Notes
    -----
    The numbers of ``skimage.segmentation.relabel_sequential``, which returns (labels, forward map, inverse map), for
    every chunking. Times and channels of a DataArray are numbered each by itself.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.segmentation.relabel_sequential(np.array([0, 9, 9, 4, 0, 7]))
    array([0, 3, 3, 1, 0, 2])
    """
    what = "segmentation.relabel_sequential"
    check_image(label_field, what, "iu")
    return_mapping = truth(return_mapping, "return_mapping", what)
    if isinstance(offset, bool) or not isinstance(offset, (int, np.integer)) or offset < 1:
        raise ParameterError(f"{what}: offset={brief(offset)}: must be a whole number, 1 or more")
    wider = f'convert it first, image.astype("{_wider(label_field.dtype)}")'
    if offset > np.iinfo(label_field.dtype).max:
        raise ParameterError(f"{what}: offset={offset} does not fit the image's {label_field.dtype}: {wider}")
    numbers = Numbers(np.dtype(label_field.dtype), int(offset), what, wider)
    if not return_mapping:
        return renumbered(label_field, what, Meets(), numbers)
    columns = Mapped(label_field.dtype.kind == "u" and label_field.dtype.itemsize == 8)
    if not is_lazy(label_field):
        labels, rows = judged(label_field, Meets(), numbers)
        return labels, columns(rows)
    source = lazy(label_field, what)
    nodes, stages = [], []
    for _, part in source.each():
        group = counted([part.node], part.grid)
        stages.append(Values(group, group, Meets(), numbers))
        nodes.append(stages[-1].renumbered(part.node))
    return source.like(source.joined(nodes), source.joined_chunks()), _mapping(source, stages, columns)


def _mapping(source: Lazy, stages: Sequence[Any], columns: Mapped | Joined) -> Any:
    """The lazy table of the old and new labels of each time and channel."""
    from bigbia.graph.table import Part, TableGraph

    parts = []
    for (where, _), stage in zip(source.each(), stages):
        said = {k: channel_name(source.template, i) if k == "c" else i for k, i in where.items()}
        parts.append(Part(stage, columns, said, where))
    return TableGraph(parts, source.live, {}).as_dataframe()


def _wider(dtype: np.dtype) -> str:
    return "uint64" if dtype.itemsize >= 4 else "uint32"


@dataclass(frozen=True)
class Mapped:
    """Rows -> the frame of old and new labels; int64, as in other tables, but for labels that do not fit it."""

    unsigned: bool

    def __call__(self, rows: Mapping[str, np.ndarray] | None) -> Any:
        import pandas as pd

        kind = np.uint64 if self.unsigned else np.int64
        rows = rows or {"label": np.zeros(0, kind), "new": np.zeros(0, kind)}
        return pd.DataFrame({"label": rows["label"].astype(kind), "new_label": rows["new"].astype(kind)})


@dataclass(frozen=True)
class Joined:
    """Rows -> the frame of new labels and the two that each comes from."""

    unsigned: bool

    def __call__(self, rows: Mapping[str, np.ndarray] | None) -> Any:
        import pandas as pd

        rows = rows or {"label": np.zeros(0, np.uint64), "new": np.zeros(0, np.uint64)}
        new = rows["new"].astype(np.uint64 if self.unsigned else np.int64)
        s1, s2 = rows["label"] >> np.uint64(HALF), rows["label"] & np.uint64((1 << HALF) - 1)
        return pd.DataFrame({"label": new, "s1": s1.astype(np.int64), "s2": s2.astype(np.int64)})


def join_segmentations(
    s1: Image,
    s2: Image,
    return_mapping: bool = False,
    *,
    dtype: Literal["uint8", "uint16", "uint32", "uint64"] = "uint32",
) -> Any:
    """Cut the objects of two label images at each other's borders.

    Parameters
    ----------
    s1, s2 : arrays of integers or bool, of the same shape, any number of axes
        0 is background. Lazy ones may be cut into blocks differently.
    return_mapping : bool
        Also return the table of labels and where they come from.
    dtype : {"uint32", "uint64", "uint16", "uint8"}
        Of the result.

    Returns
    -------
    labels : label image of the same shape
        Voxels with the same labels in both images are one object; background is what is background in both. Objects
        are numbered from 1 by their label in `s1`, then in `s2`.
    mapping : table, only with `return_mapping`
        Columns ``label``, ``s1``, ``s2``: a pandas DataFrame for NumPy images, otherwise a lazy dask.dataframe. With
        ``t`` and ``c`` for images that have them.

    Raises
    ------
    InputError : floating-point or complex voxels, an empty axis
    ParameterError : images of different shapes or axes
    BlockError : negative labels, or labels of 2^32 and more; when it is computed
    RunError : more objects than `dtype` has numbers; when it is computed, before any label is written

    Notes
    -----
    The numbers of ``skimage.segmentation.join_segmentations`` for every chunking. Times and channels of a DataArray are
    joined each by itself.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.segmentation.join_segmentations(np.array([0, 0, 1, 1, 1]), np.array([0, 4, 4, 4, 2]))
    array([0, 1, 3, 3, 2], dtype=uint32)
    """
    what = "segmentation.join_segmentations"
    return_mapping = truth(return_mapping, "return_mapping", what)
    check_image(s1, f"{what}: s1", "biu")
    check_image(s2, f"{what}: s2", "biu")
    kind = checked_dtype(dtype, what)
    if hyperstack.is_hyperstack(s1) and hyperstack.is_hyperstack(s2) and s1.dims != s2.dims:
        if set(s1.dims) != set(s2.dims):
            raise ParameterError(f"{what}: s1 has axes {s1.dims}, s2 {s2.dims}: they must be of the same image")
        s2 = s2.transpose(*s1.dims)
    if s1.shape != s2.shape:
        raise ParameterError(
            f"{what}: s1 is {tuple(s1.shape)}, s2 is {tuple(s2.shape)}: they must be of the same image"
        )
    numbers = Numbers(kind, 1, what, f'pass dtype="{_wider(kind)}"')
    columns = Joined(kind == np.uint64)
    if not is_lazy(s1) and not is_lazy(s2):
        box = tuple((0, n) for n in s1.shape)
        labels, rows = judged(_checked_pairs([s1, s2], box), Meets(), numbers)
        return (labels, columns(rows)) if return_mapping else labels
    one, two = alike(s1, s2, what)
    nodes, stages = [], []
    for (_, a), (_, b) in zip(one.each(), two.each()):
        group = counted([a.node, b.node], a.grid, count_pairs)
        pairs = Voxelwise(paired, "pairs of labels", (a.node, b.node), np.dtype(np.uint64), 8.0)
        stages.append(Values(group, group, Meets(), numbers))
        nodes.append(stages[-1].renumbered(pairs))
    joined = one.like(one.joined(nodes), one.joined_chunks())
    return (joined, _mapping(one, stages, columns)) if return_mapping else joined


def _checked_pairs(blocks: Sequence[np.ndarray], box: Box) -> np.ndarray:
    """The pairs of labels of a block, one number each; refuses labels that do not fit half of it."""
    for name, block in zip(("s1", "s2"), blocks):
        if block.dtype.kind == "i" and block.min() < 0:
            raise BlockError(f"segmentation.join_segmentations: {name}: {negative(block.min(), box)}")
        if block.dtype.itemsize == 8 and int(block.max()) >> HALF:
            raise BlockError(
                f"segmentation.join_segmentations: {name}: label {block.max()} in the block {describe(box)} is 2^32 or "
                f"more: number it first, relabel_sequential({name})"
            )
    return paired(*blocks)


def count_pairs(blocks: Sequence[np.ndarray], box: Box, values: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """One row a pair of labels of the block."""
    return count_labels([_checked_pairs(blocks, box)], box, values)
