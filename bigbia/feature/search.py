"""What a peak is, block by block: the highest voxels of their neighbourhood, and which of them are high enough."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bigbia.errors import BlockError
from bigbia.graph.boxes import Box
from bigbia.graph.greedy import steps_of
from bigbia.graph.reduce import extremes
from bigbia.graph.values import negative
from bigbia.kernels.peaks import highest_in_box, highest_of_label, isolated, keys, mark_ties, values_of
from bigbia.kernels.values import counts

Rows = Mapping[str, np.ndarray]
HIGHEST, ISOLATED, TIED = 1, 2, 4  # bits of a candidate


@dataclass(frozen=True)
class Search:
    """The neighbourhood of a peak, and where peaks may be.

    footprint       None: all of the box that reaches `before` and `after` a voxel
    border          this near to the image's border there is nothing
    labelled        each label by itself
    ties            points too near to each other are equal, as they lie in each other's box: who has no equal is safe
    """

    shape: tuple[int, ...]
    footprint: np.ndarray | None
    before: tuple[int, ...]
    after: tuple[int, ...]
    border: tuple[int, ...]
    labelled: bool
    ties: bool

    @property
    def anything(self) -> bool:
        """Whether any voxel is the highest of its neighbourhood, as it is alone."""
        return math.prod(self.shape) == 1 or not any((*self.before, *self.after))

    @property
    def halo(self) -> tuple[tuple[int, int], ...]:
        least = 2 if self.labelled else 0
        return tuple((max(b, least), max(a, least)) for b, a in zip(self.before, self.after))

    def inside(self, box: Box) -> tuple[slice, ...]:
        """The part of a box that is not too near to the border."""
        return tuple(
            slice(min(b, max(a, w)) - a, max(a, min(b, n - w)) - a)
            for (a, b), w, n in zip(box, self.border, self.shape)
        )


def candidates(blocks: Sequence[np.ndarray], box: Box, core: tuple[slice, ...], search: Search) -> np.ndarray:
    """Which voxels are the highest of their neighbourhood, tied with others, and with labels isolated; uint8."""
    image = blocks[0]
    half = image.dtype.kind == "f" and image.dtype.itemsize == 2  # of which SciPy knows nothing
    image = image.astype(np.float32 if half else image.dtype.newbyteorder("="), copy=False)
    if search.labelled:
        labels = np.zeros(blocks[1].shape, blocks[1].dtype)
        labels[search.inside(box)] = blocks[1][search.inside(box)]
        if search.anything:
            return (labels[core] != 0).astype(np.uint8)
        footprint, surely = search.footprint, np.zeros(labels[core].shape, bool)
        if footprint is None:
            footprint = np.ones([b + 1 + a for b, a in zip(search.before, search.after)], bool)
            surely = highest_in_box(image, search.before, search.after, core)
        highest = highest_of_label(image, labels, footprint, surely, core)
        out = highest * np.uint8(HIGHEST) + isolated(labels)[core] * np.uint8(ISOLATED)
        if search.ties:
            mark_ties(image, labels, search.before, search.after, core, out, HIGHEST, TIED)
        return out
    if search.anything:
        return np.ones(image[core].shape, np.uint8)
    if search.footprint is None:
        highest = highest_in_box(image, search.before, search.after, core)
        out = highest.view(np.uint8)
        if search.ties:
            mark_ties(image, None, search.before, search.after, core, out, HIGHEST, TIED)
        return out
    from scipy import ndimage as ndi

    around = ndi.maximum_filter(image, footprint=search.footprint, mode="nearest")
    return (image[core] == around[core]).astype(np.uint8)


def find(
    blocks: Sequence[np.ndarray], box: Box, values: Sequence[np.ndarray], *, search: Search
) -> tuple[dict[str, np.ndarray], Any, bool]:
    """The candidates of a block that are high enough and may be peaks; which are safe; whether all its voxels are some.

    The blocks: the image, its candidates, and with labels these, and of them only the dull ones: all candidates.
    """
    image, state = blocks[:2]
    least, some = values
    refuse_nan(image, box)
    keep = np.zeros(image.shape, bool)
    inside = search.inside(box)
    if some:
        np.logical_and(state[inside] & HIGHEST, image[inside] >= least, out=keep[inside])
    if search.labelled and not search.anything:
        keep &= (blocks[3] == 0) | (state & ISOLATED != 0)
    flat = np.flatnonzero(keep)
    at = np.unravel_index(flat, keep.shape)  # of an image faster than np.nonzero
    safe = state.reshape(-1)[flat] & TIED == 0 if search.ties else False
    place = np.zeros(len(at[0]), np.int64)
    for p, (a, _), n in zip(at, box, search.shape):
        place = place * n + p + a
    group = blocks[2][at].astype(np.uint64) if search.labelled else np.zeros(len(place), np.uint64)
    return {"place": place, "order": ~keys(image[at]), "group": group}, safe, bool((state & HIGHEST).all())


def refuse_nan(block: np.ndarray, box: Box) -> None:
    if block.dtype.kind == "f" and np.isnan(block.min()):
        place = tuple(int(p) + a for p, (a, _) in zip(np.argwhere(np.isnan(block))[0], box))
        raise BlockError(
            f"feature.peak_local_max: NaN at voxel {place}, which is neither higher nor lower than its neighbours: replace it "
            "first, np.where(np.isnan(image), -np.inf, image)"
        )


# ---- how high --------------------------------------------------------------------------------------------------------
def range_of(block: np.ndarray, box: Box) -> dict[str, np.ndarray]:
    refuse_nan(block, box)
    return extremes(block, box)


@dataclass(frozen=True)
class Threshold:
    """Peaks are above `absolute`, or the lowest voxel, and above `relative` times the highest."""

    absolute: Any
    relative: Any

    @property
    def needs_range(self) -> bool:
        return self.absolute is None or self.relative is not None

    def of_range(self, ends: Rows) -> dict[str, np.ndarray]:
        least, some = self(ends["low"].dtype, ends["low"][()], ends["high"][()])
        return {"least": np.asarray(least), "some": np.asarray(some)}

    def __call__(self, dtype: np.dtype, low: Any, high: Any) -> tuple[Any, bool]:
        """The lowest value of the dtype that is above the threshold; whether there is one."""
        dtype = np.dtype(dtype).newbyteorder("=")
        if dtype.kind == "f":
            high = dtype.type(high)
        else:
            low, high = int(low), int(high)
        threshold = low if self.absolute is None else self.absolute
        if self.relative is not None:
            threshold = max(threshold, self.relative * high)
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                least = dtype.type(threshold)
            if not least > threshold:  # as voxels are compared: a plain number as one of their dtype
                least = np.nextafter(least, dtype.type(np.inf))
            return least, threshold != math.inf
        ends = np.iinfo(dtype)
        above = math.floor(threshold) + 1 if math.isfinite(threshold) else threshold
        return dtype.type(min(max(above, ends.min), ends.max)), bool(above <= ends.max)


# ---- labels ----------------------------------------------------------------------------------------------------------
def count_by_label(
    blocks: Sequence[np.ndarray], box: Box, values: Sequence[np.ndarray], *, search: Search
) -> dict[str, np.ndarray]:
    """One row a label of the block: label, n voxels where peaks may be, and how many of them are no candidates."""
    labels, state = blocks
    label, _ = counts(labels)
    if len(label) and label[0] < 0:
        raise BlockError(f"feature.peak_local_max: {negative(label[0], box)}")
    inside = search.inside(box)
    lower = np.zeros(len(label), np.int64)
    names, n = counts(np.where(state[inside] & HIGHEST, labels.dtype.type(0), labels[inside]))
    lower[np.searchsorted(label, names)] = n
    return {"label": label, "lower": lower}


def sums(rows: Rows, starts: np.ndarray) -> dict[str, np.ndarray]:
    return {"label": rows["label"][starts], "lower": np.add.reduceat(rows["lower"], starts)}


def dull(rows: Rows) -> np.ndarray:
    """Which labels have nothing but candidates."""
    return rows["lower"] == 0


# ---- the table -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Frame:
    """Rows -> the frame of peaks."""

    shape: tuple[int, ...]
    dtype: str

    def __call__(self, rows: Rows | None) -> Any:
        import pandas as pd

        if rows is None:
            rows = {"place": np.zeros(0, np.int64), "order": np.zeros(0, np.uint64), "number": np.zeros(0, np.uint32)}
        columns = {"label": rows["number"].astype(np.int64)}
        columns |= {f"axis-{a}": at for a, at in enumerate(steps_of(rows["place"], self.shape).T)}
        columns["intensity"] = values_of(~rows["order"], np.dtype(self.dtype))
        return pd.DataFrame(columns)
