"""Which labels of two images lie on each other, and in how many voxels.

A pair of labels is one number, the first label in its upper 32 bits, so that a grouping (`graph/group.py`) of the two
images by it has pairs in their order, and the pairs of one label in a row.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bigbia import hyperstack
from bigbia.errors import BlockError, ParameterError
from bigbia.graph.boxes import Box, Index, describe, whole
from bigbia.graph.footprints import brief, several, truth
from bigbia.graph.group import Group
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import Lazy, check_image, is_lazy
from bigbia.graph.pairs import alike, paired
from bigbia.graph.regions import Blocks
from bigbia.graph.stages import Left, Stage, block_name
from bigbia.graph.values import add_counts, negative
from bigbia.kernels.values import counts
from bigbia.measure.properties import channel_name

Rows = Mapping[str, np.ndarray]
_HALF = np.uint64(32)
_LOWER = np.uint64((1 << 32) - 1)

PAIRS = 16.0  # bytes a voxel of a block that counting its pairs takes


def contingency_table(
    im_true: Image, im_test: Image, *, ignore_labels: int | Sequence[int] | None = None, normalize: bool = False
) -> Any:
    """Count the voxels of every pair of labels of two label images.

    Parameters
    ----------
    im_true, im_test : arrays of integers or bool, of the same shape, any number of axes
        0 is a label as others are. Lazy ones may be cut into blocks differently.
    ignore_labels : int or sequence of int, optional
        Voxels with these labels in `im_true` are left out.
    normalize : bool
        Fractions of all voxels that are counted, in place of their numbers.

    Returns
    -------
    Table with the columns ``true``, ``test`` and ``n``, one row a pair of labels that has voxels, in order of (true,
    test): a pandas DataFrame for NumPy images, otherwise a lazy dask.dataframe. int64; with `normalize` ``n`` is float64.
    With ``t`` and ``c`` for images that have them, each of them normalized by itself.

    Raises
    ------
    InputError : floating-point or complex voxels, an empty axis
    ParameterError : images of different shapes or axes, `ignore_labels` that are no labels
    BlockError : negative labels, or labels of 2^32 and more; when it is computed

    Notes
    -----
    The entries of ``skimage.metrics.contingency_table``, there a sparse matrix, exact for every chunking. Every block
    is read once and counts the pairs it has; a partition of the table holds a range of pairs. With `normalize` every
    fraction is rounded once (scikit-image adds one fraction a voxel).

    Examples
    --------
    >>> import numpy as np
    >>> contingency_table(np.array([0, 1, 1, 1, 2]), np.array([0, 0, 4, 4, 5]))
       true  test  n
    0     0     0  1
    1     1     0  1
    2     1     4  2
    3     2     5  1
    """
    what = "metrics.contingency_table"
    check_pair(im_true, im_test, what)
    normalize = truth(normalize, "normalize", what)
    count = functools.partial(count_pairs, what=what, ignored=_ignored(ignore_labels, what))
    table = Overlaps(bool(normalize))
    if not is_lazy(im_true) and not is_lazy(im_test):
        rows = count([im_true, im_test], whole(im_true.shape), ())
        return table({**rows, "total": rows["n"].sum()})

    def stage(a: Lazy, b: Lazy) -> Group | Shares:
        group = Group("count pairs of labels", [a.node, b.node], [], a.grid, count, add_counts, workspace=PAIRS)
        return Shares(group) if normalize else group

    return lazy_table(im_true, im_test, what, stage, table)


# ---- two label images ------------------------------------------------------------------------------------------------
def check_pair(im_true: Any, im_test: Any, what: str) -> None:
    """Refuse what are not two label images of the same voxels."""
    check_image(im_true, f"{what}: im_true", "biu")
    check_image(im_test, f"{what}: im_test", "biu")
    shape = tuple(im_test.shape)
    if hyperstack.is_hyperstack(im_true) and hyperstack.is_hyperstack(im_test):
        if set(im_true.dims) != set(im_test.dims):
            raise ParameterError(
                f"{what}: im_true has axes {im_true.dims}, im_test {im_test.dims}: they must be of the same image"
            )
        shape = tuple(im_test.sizes[d] for d in im_true.dims)
    if tuple(im_true.shape) != shape:
        raise ParameterError(
            f"{what}: im_true is {tuple(im_true.shape)}, im_test is {shape}: they must be of the same image"
        )


def lazy_table(im_true: Any, im_test: Any, what: str, stage: Callable[[Lazy, Lazy], Any], frame: Any) -> Any:
    """The table that a stage leaves of two lazy label images, for each time and channel."""
    from bigbia.graph.table import Part, TableGraph

    if hyperstack.is_hyperstack(im_true) and hyperstack.is_hyperstack(im_test):
        im_test = im_test.transpose(*im_true.dims)
    one, two = alike(im_true, im_test, what)
    parts = []
    for (where, a), (_, b) in zip(one.each(), two.each()):
        said = {k: channel_name(one.template, i) if k == "c" else i for k, i in where.items()}
        parts.append(Part(stage(a, b), frame, said, where))
    return TableGraph(parts, one.live, {}).as_dataframe()


def _ignored(labels: Any, what: str) -> tuple[int, ...]:
    if labels is None:
        return ()
    listed = several(labels)
    given = [labels] if listed is None else listed
    for label in given:
        if isinstance(label, (bool, np.bool_)) or not isinstance(label, (int, np.integer)) or label < 0:
            raise ParameterError(
                f"{what}: ignore_labels={brief(labels)}: {brief(label)} is no label: give whole numbers, 0 or more"
            )
    return tuple(sorted({int(label) for label in given}))


# ---- counting --------------------------------------------------------------------------------------------------------
def count_pairs(
    blocks: Sequence[np.ndarray], box: Box, values: Sequence[np.ndarray], *, what: str, ignored: tuple[int, ...] = ()
) -> dict[str, np.ndarray]:
    """One row a pair of labels of the block: label, n. The pair of two backgrounds is 0 and comes first."""
    for name, block in zip(("im_true", "im_test"), blocks):
        if block.dtype.kind == "i" and block.min() < 0:
            raise BlockError(f"{what}: {name}: {negative(block.min(), box)}")
        if block.dtype.itemsize == 8 and int(block.max()) >> 32:
            raise BlockError(
                f"{what}: {name}: label {block.max()} in the block {describe(box)} is 2^32 or more: number it first, "
                f"segmentation.relabel_sequential({name})"
            )
    label, n = counts(paired(*blocks))
    empty = blocks[0].size - int(n.sum())
    if empty:
        label = np.concatenate([np.zeros(1, np.uint64), label])
        n = np.concatenate([np.array([empty], np.int64), n])
    if ignored:
        keep = ~np.isin(label >> _HALF, np.array([i for i in ignored if i < 1 << 32], np.uint64))
        label, n = label[keep], n[keep]
    return {"label": label, "n": n}


def split(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two labels of each pair."""
    return pairs >> _HALF, pairs & _LOWER


@dataclass(frozen=True)
class Overlaps:
    """Rows -> the frame of pairs."""

    normalize: bool

    def __call__(self, rows: Rows | None) -> Any:
        import pandas as pd

        rows = rows or {"label": np.zeros(0, np.uint64), "n": np.zeros(0, np.int64), "total": np.array(0)}
        true, test = split(rows["label"])
        n = rows["n"] / rows["total"] if self.normalize else rows["n"]
        return pd.DataFrame({"true": true.astype(np.int64), "test": test.astype(np.int64), "n": n})


class Shares(Stage):
    """The rows of a grouping, and how many voxels all of them have: sums of its partitions, then their sum."""

    kind = "count voxels"
    steps = ("sum", "total")

    def __init__(self, counted: Group) -> None:
        self.counted = counted
        self.partitions = counted.partitions
        before = Left(counted, "rows", (), np.dtype(bool), f"rows-{counted.token}")
        super().__init__(f"shares-{counted.identity}", [before], counted.grid)

    def indices(self, step: str) -> Iterable[Index]:
        return [(i,) for i in range(self.partitions)] if step == "sum" else [()]

    def needs(self, step: str, index: Index) -> Iterable[tuple[str, Index]]:
        return [] if step == "sum" else [("sum", (i,)) for i in range(self.partitions)]

    def run(self, step: str, index: Index, blocks: Blocks | None = None) -> None:
        if step == "sum":
            self.folder.write(block_name(step, index), {"n": self.counted.partition(index[0])["n"].sum()})
            return
        sums = [int(self.folder.read(block_name("sum", (i,)))["n"]) for i in range(self.partitions)]
        self.folder.write("total", {"total": np.array(sum(sums), np.int64)})
        self.folder.finish()

    def partition(self, i: int) -> Rows:
        return {**self.counted.partition(i), **self.folder.read("total")}
