"""Objects of two label images matched by how much of their voxels they share.

    pairs      the voxels of every pair of labels: one look at the images
    sizes      of the objects of each image: the pairs, grouped again by one label of each
    matched    a range of pairs: those above the threshold, and the sum of their overlaps; the sizes of labels are asked
               of the ranges they lie in, one range after the other
    sums       of all ranges: whole numbers, so their order does not matter

Above one half an object can only be matched once, so no assignment is searched for, and nothing of the size of all
labels is ever held.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from bigbia.errors import ParameterError
from bigbia.graph.boxes import Box, Index, whole
from bigbia.graph.footprints import brief, plain_number
from bigbia.graph.group import Group
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import Lazy, is_lazy
from bigbia.graph.regions import Blocks, Node
from bigbia.graph.stages import Left, Stage, block_name
from bigbia.graph.values import add_counts
from bigbia.metrics.overlap import PAIRS, Rows, check_pair, count_pairs, lazy_table, split

_WHAT = "metrics.matching"
_UNIT = 53  # an overlap above one half is a whole number of 2^-53, as every float64 from 0.5 to 1
_LIMB = 26


def matching(im_true: Image, im_test: Image, threshold: float = 0.5) -> Any:
    """Compare objects with ground truth: how many are found, at what overlap.

    Parameters
    ----------
    im_true, im_test : label images of the same shape, integers or bool, any number of axes; 0 is background
        All voxels of one label are one object, connected or not. Lazy ones may be cut into blocks differently.
    threshold : float, 0.5 or more and less than 1
        Two objects match if the voxels they share are more than this fraction of the voxels they cover together
        (intersection over union).

    Returns
    -------
    Table of one row, or one row a time and channel with columns ``t``, ``c``: a pandas DataFrame for NumPy images,
    otherwise a lazy dask.dataframe.

    ``n_true, n_test`` objects of each image; ``true_positives`` matched; ``false_positives`` objects of `im_test` and
    ``false_negatives`` of `im_true` without a match; ``precision`` true_positives / n_test; ``recall`` true_positives /
    n_true; ``f1`` 2 true_positives / (n_true + n_test); ``mean_matched_iou`` the mean overlap of matched objects. int64
    and float64. Where there is nothing to divide by they are 0, as in StarDist.

    Raises
    ------
    InputError : floating-point or complex voxels, an empty axis
    ParameterError : images of different shapes or axes, a threshold below 0.5, or 1 and more
    BlockError : negative labels, or labels of 2^32 and more; when it is computed

    Notes
    -----
    Exact for every chunking: each overlap is rounded to float64 once, their sum is exact, and its mean is rounded once.
    The evaluation of the 2018 Data Science Bowl (Caicedo et al. 2019, Nature Methods 16, 1247) and of
    ``stardist.matching.matching``, where an overlap equal to the threshold is a match too; here it must be above it, so
    that an object has one match at most and any number of objects can be matched in ranges. Below 0.5 objects would
    have to be assigned to each other, all at once: refused.

    Examples
    --------
    >>> import numpy as np
    >>> table = matching(np.array([0, 1, 1, 1, 2, 2]), np.array([7, 7, 7, 7, 0, 3]))
    >>> table.T[0].round(3).to_dict()  # doctest: +NORMALIZE_WHITESPACE
    {'n_true': 2.0, 'n_test': 2.0, 'true_positives': 1.0, 'false_positives': 1.0, 'false_negatives': 1.0,
     'precision': 0.5, 'recall': 0.5, 'f1': 0.5, 'mean_matched_iou': 0.75}
    """
    check_pair(im_true, im_test, _WHAT)
    limit = _checked(threshold)
    count = functools.partial(count_pairs, what=_WHAT)
    if not is_lazy(im_true) and not is_lazy(im_test):
        return scores(_at_once(count([im_true, im_test], whole(im_true.shape), ()), limit))

    def stage(a: Lazy, b: Lazy) -> Matched:
        return Matched(
            Group("count pairs of labels", [a.node, b.node], [], a.grid, count, add_counts, workspace=PAIRS), limit
        )

    return lazy_table(im_true, im_test, _WHAT, stage, scores)


def _checked(threshold: Any) -> float:
    limit = plain_number(threshold)
    if limit is None:
        raise ParameterError(f"{_WHAT}: threshold={brief(threshold)}: must be a number, 0.5 or more and less than 1")
    if limit < 0.5:
        raise ParameterError(
            f"{_WHAT}: threshold={brief(threshold)}: below 0.5 an object can overlap several so much, and all objects would have "
            "to be assigned to each other at once: give 0.5 or more, or look at metrics.contingency_table"
        )
    if not limit < 1:
        raise ParameterError(
            f"{_WHAT}: threshold={brief(threshold)}: no overlap is above 1: give 0.5 or more and less than 1"
        )
    return limit


# ---- what is the same at once and in ranges --------------------------------------------------------------------------
Sizes = Callable[[np.ndarray], np.ndarray]  # labels, ascending -> how many voxels each has


def matched(rows: Rows, threshold: float, sizes: Sequence[Sizes]) -> dict[str, np.ndarray]:
    """Of some pairs, in order: how many match, and the sum of their overlaps in units of 2^-53, as two whole numbers."""
    true, test = split(rows["label"])
    keep = (true > 0) & (test > 0)
    true, test, n = true[keep], test[keep], rows["n"][keep]
    of_true = sizes[0](true)
    keep = n > of_true // 2  # no pair that has less of an object can match: few are left, one an object at most
    test, n, of_true = test[keep], n[keep], of_true[keep]
    labels, inverse = np.unique(test, return_inverse=True)
    overlap = n / (of_true + sizes[1](labels)[inverse] - n)
    units = np.ldexp(overlap[overlap > threshold], _UNIT).astype(np.int64)
    limbs = [(units >> _LIMB).sum(), (units & ((1 << _LIMB) - 1)).sum()]
    return {"matches": np.array(len(units), np.int64), "overlap": np.array(limbs, np.int64)}


def by_label(rows: Rows, side: int) -> Rows:
    """The objects of one of the two images, ascending, and their voxels, from pairs."""
    label = split(rows["label"])[side]
    order = np.argsort(label, kind="stable")
    order = order[np.searchsorted(label, 0, side="right", sorter=order) :]
    label, n = label[order], rows["n"][order]
    starts = np.flatnonzero(np.append(True, label[1:] != label[:-1])) if len(label) else np.zeros(0, np.int64)
    return add_counts({"label": label, "n": n}, starts) if len(label) else {"label": label, "n": n}


def found(rows: Rows, labels: np.ndarray) -> np.ndarray:
    """The voxels of labels that the rows have."""
    return rows["n"][np.searchsorted(rows["label"], labels)]


def _at_once(rows: Rows, threshold: float) -> dict[str, np.ndarray]:
    sides = [by_label(rows, side) for side in (0, 1)]
    objects = np.array([len(s["label"]) for s in sides], np.int64)
    return {**matched(rows, threshold, [functools.partial(found, s) for s in sides]), "objects": objects}


def scores(rows: Rows | None) -> Any:
    """The frame of one row; None: an empty one."""
    import pandas as pd

    if rows is None:
        return scores({"matches": np.array(0), "overlap": np.zeros(2, np.int64), "objects": np.zeros(2, np.int64)})[:0]
    n_true, n_test = map(int, rows["objects"])
    matches = int(rows["matches"])
    high, low = map(int, rows["overlap"])
    total = (high << _LIMB) + low
    row = {
        "n_true": n_true,
        "n_test": n_test,
        "true_positives": matches,
        "false_positives": n_test - matches,
        "false_negatives": n_true - matches,
        "precision": matches / n_test if n_test else 0.0,
        "recall": matches / n_true if n_true else 0.0,
        "f1": 2 * matches / (n_true + n_test) if n_true + n_test else 0.0,
        "mean_matched_iou": total / (matches << _UNIT) if matches else 0.0,
    }
    return pd.DataFrame({name: np.array([value]) for name, value in row.items()})


# ---- in ranges -------------------------------------------------------------------------------------------------------
class Sized(Group):
    """The objects of one of two images and their voxels, in ranges of labels, from the pairs that blocks counted."""

    block_steps = frozenset()
    rides = False
    steps = ("gather", "bounds", "rows", "done")

    def __init__(self, pairs: Group, side: int) -> None:
        self.pairs = pairs
        summarise = functools.partial(by_label, side=side)
        super().__init__("sizes of objects", [_left(pairs)], [], pairs.grid, summarise, add_counts)

    def needs(self, step: str, index: Index) -> Iterable[tuple[str, Index]]:
        return [] if step == "gather" else super().needs(step, index)

    def reads(self, step: str, index: Index) -> tuple[Sequence[Node], list[Box]]:
        return (), []

    def run(self, step: str, index: Index, blocks: Blocks | None = None) -> None:
        if step == "gather":
            self.folder.write(block_name(step, index), self.summarise(self.pairs.folder.read(block_name(step, index))))
        else:
            super().run(step, index, blocks)

    def of(self, labels: np.ndarray) -> np.ndarray:
        """The voxels of labels, ascending: each range that has some of them is looked into by itself."""
        out = np.zeros(len(labels), np.int64)
        bounds = [0, *np.searchsorted(labels, self.edges()).tolist(), len(labels)]
        for i, (a, b) in enumerate(pairwise(bounds)):
            if a < b:
                out[a:b] = found(self.partition(i), labels[a:b])
        return out

    def count(self, i: int) -> int:
        """How many objects a range has."""
        return len(self.folder.read(block_name("rows", (i,)), "label")["label"])


class Matched(Stage):
    """The objects of two images that match, counted. A table of one partition."""

    kind = "match objects"
    steps = ("matched", "sums")
    partitions = 1

    def __init__(self, pairs: Group, threshold: float) -> None:
        self.pairs, self.threshold = pairs, threshold
        self.sides = [Sized(pairs, side) for side in (0, 1)]
        super().__init__(
            f"matching-{pairs.identity}-{threshold!r}", [_left(s) for s in (pairs, *self.sides)], pairs.grid
        )

    def indices(self, step: str) -> Iterable[Index]:
        return [(i,) for i in range(self.pairs.partitions)] if step == "matched" else [()]

    def needs(self, step: str, index: Index) -> Iterable[tuple[str, Index]]:
        return [] if step == "matched" else [("matched", i) for i in self.indices("matched")]

    def run(self, step: str, index: Index, blocks: Blocks | None = None) -> None:
        if step == "matched":
            rows = matched(self.pairs.partition(index[0]), self.threshold, [s.of for s in self.sides])
            objects = np.array([s.count(index[0]) for s in self.sides], np.int64)
            self.folder.write(block_name(step, index), {**rows, "objects": objects})
            return
        parts = [self.folder.read(block_name("matched", i)) for i in self.indices("matched")]
        self.folder.write("sums", {k: np.sum([p[k] for p in parts], axis=0) for k in parts[0]})
        self.folder.finish()

    def partition(self, i: int) -> Rows:
        return self.folder.read("sums")


def _left(stage: Stage) -> Left:
    return Left(stage, "rows", (), np.dtype(bool), f"rows-{stage.token}")
