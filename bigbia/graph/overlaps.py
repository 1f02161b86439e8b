"""Blobs: the peaks of a scale space, the largest first; one stays if it overlaps by too much with none that stays.

A scale space has the sigmas along its first axis, then the axes of the image. Blocks of images find the peaks in it; they
are points of `graph/greedy.py`, which decides them in rounds between blocks. Here is what it asks: which points there are,
how far they see each other, and which goes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bigbia.errors import BlockError
from bigbia.graph.boxes import Box, Grid, Index, grown, shape_of, slices
from bigbia.graph.dask import Chunks
from bigbia.graph.greedy import Greedy, Points, Spacing, of, steps_of
from bigbia.graph.reading import read_together
from bigbia.graph.reduce import Pass, Reduce, Summary, extremes, join_extremes
from bigbia.graph.regions import Blocks, Node
from bigbia.graph.windows import Windows


@dataclass(frozen=True)
class Overlaps(Spacing):
    """Of two blobs that share more than `overlap` of the smaller one's ball the smaller one goes.

    Of equal size the one with the lower response, of equal response the later one in raster order. A ball has the radius
    sigma * sqrt(axes) along each axis; which is smaller, and by how much, goes by the last axis. Above 3 axes none overlap.
    """

    sigmas: tuple[tuple[float, ...], ...] = ()  # of each level, from small to large, along each axis
    overlap: float = 0.5

    @cached_property
    def reach(self) -> tuple[int, ...]:
        ndim = len(self.sigmas[-1])
        if ndim > 3 or self.overlap >= 1:
            return (0,) * (1 + ndim)
        far = self.farthest.max(axis=0, keepdims=True).T
        return len(self.sigmas) - 1, *map(int, np.floor((self.radii * far).max(axis=0)))

    @cached_property
    def radii(self) -> np.ndarray:
        return np.array(self.sigmas) * math.sqrt(len(self.sigmas[-1]))

    @cached_property
    def farthest(self) -> np.ndarray:
        from bigbia.kernels.blobs import farthest

        return farthest(self.radii, self.overlap)

    def decide(self, points: Points, shape: Sequence[int], state: np.ndarray, whose: np.ndarray) -> np.ndarray:
        """The states of points as far as these points settle them."""
        from bigbia.kernels.blobs import decided

        at = steps_of(points["place"], shape)
        order = np.lexsort((points["place"], points["order"], -at[:, 0]))
        out = np.empty(len(order), np.int8)
        at = at[order]
        out[order] = decided(at[:, 1:], at[:, 0], state[order], whose[order], self.radii, self.farthest, self.overlap)
        return out


class InScales(Greedy):
    """Blobs found in images, from each block with a margin of one voxel: find(blocks, box, values) as in `Found`.

    The grid is that of the scale space, the box that of the block in the images.
    """

    def __init__(
        self,
        kind: str,
        images: Sequence[Node],
        values: Sequence[Node],
        grid: Grid,
        overlaps: Overlaps,
        find: Callable[[Sequence[np.ndarray], Box, Sequence[np.ndarray]], tuple[Points, Any, bool]],
        never_all: bool,
    ) -> None:
        self.images, self.finder = len(images), find
        super().__init__(kind, find, [*images, *values], grid, overlaps, never_all)
        self.workspace = 5.0 * images[0].dtype.itemsize  # three scales with their rim, the difference of two

    def reads(self, step: str, index: Index) -> tuple[Sequence[Node], Sequence[Box]]:
        if step != "start":
            return (), ()
        box = self.grid.box(index)[1:]
        wide = grown(box, [(1, 1)] * len(box), self.grid.shape[1:])
        return self.inputs, [wide] * self.images + [()] * (len(self.inputs) - self.images)

    def find(self, index: Index, blocks: Blocks | None) -> tuple[Points, Any, bool]:
        data = read_together(*self.reads("start", index), blocks)
        return self.finder(data[: self.images], self.grid.box(index)[1:], data[self.images :])


# ---- the peaks of a scale space ---------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Scales:
    """What makes responses of filtered images.

    factors   the response of a scale is that many times its image; with `differences` its image less the next one
    border    this near to the image's border there are no blobs
    """

    what: str
    shape: tuple[int, ...]
    sigmas: tuple[tuple[float, ...], ...]
    factors: tuple[float, ...]
    differences: bool
    border: tuple[int, ...]
    kind: str

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.kind)

    @property
    def images(self) -> int:
        return len(self.sigmas) + self.differences

    def response(self, filtered: Sequence[np.ndarray], k: int, out: np.ndarray) -> None:
        factor = self.dtype.type(self.factors[k])
        with np.errstate(invalid="ignore", over="ignore"):  # the block that has what is no number refuses it
            if self.differences:
                np.subtract(filtered[k], filtered[k + 1], out)
                out *= factor
            else:
                np.multiply(filtered[k], factor, out)

    def rimmed(self, filtered: Sequence[np.ndarray], box: Box) -> Iterator[np.ndarray]:
        """The responses, one after the other, with a rim of one voxel; beyond the image it is lower than anything."""
        wide = grown(box, [(1, 1)] * len(box), self.shape)
        inner = tuple(slice(c - a + 1, d - a + 1) for (a, _), (c, d) in zip(box, wide))
        for k in range(len(self.sigmas)):
            out = np.full([n + 2 for n in shape_of(box)], -np.inf, self.dtype)
            self.response(filtered, k, out[inner])
            yield out

    def check(self, image: np.ndarray, box: Box) -> None:
        """Refuse voxels that are no numbers: they spread, and nothing is higher or lower than they are."""
        good = np.isfinite(image)
        if not good.all():
            at = np.argwhere(~good)[0]
            place = tuple(int(p) + a for p, (a, _) in zip(at, box))
            raise BlockError(
                f"{self.what}: {image[tuple(at)]} at voxel {place}: replace it first, for instance np.nan_to_num(image)"
            )


def find(
    blocks: Sequence[np.ndarray], box: Box, values: Sequence[np.ndarray], *, scales: Scales
) -> tuple[Points, Any, bool]:
    """The blobs of a block before any is dropped: points in the scale space, better the higher they respond.

    The blocks have a margin of one voxel; the last one is the image itself, if it can hold what is no number. The values
    are what blobs respond at least, and whether anything does.
    """
    from bigbia.kernels.blobs import highest
    from bigbia.kernels.peaks import keys

    if len(blocks) > scales.images:
        scales.check(blocks[-1][slices(box, grown(box, [(1, 1)] * len(box), scales.shape))], box)
    least = float(values[0]) if values[1] else math.nan  # nothing is as high
    inside = [(w, n - w) for w, n in zip(scales.border, scales.shape)]
    size, everywhere = math.prod(scales.shape), True
    places, orders = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]

    def look(k: int, before: Any, here: np.ndarray, after: Any) -> None:
        nonlocal everywhere
        flat, response, everywhere = highest(before, here, after, least, everywhere)
        at = np.stack(np.unravel_index(flat, shape_of(box)), axis=1) + [a for a, _ in box]
        keep = ((at >= [a for a, _ in inside]) & (at < [b for _, b in inside])).all(axis=1)
        places.append(k * size + np.ravel_multi_index(tuple(at[keep].T), scales.shape).astype(np.int64))
        orders.append(~keys(response[keep]))

    before = here = None
    for k, after in enumerate(scales.rimmed(blocks, box)):
        if here is not None:
            look(k - 1, before, here, after)
        before, here = here, after
    assert here is not None
    look(len(scales.sigmas) - 1, before, here, None)
    place, order = np.concatenate(places), np.concatenate(orders)
    return {"place": place, "order": order, "group": np.zeros(len(place), np.uint64)}, False, everywhere


# ---- their range -----------------------------------------------------------------------------------------------------
def range_of(images: Sequence[Node], scales: Scales, chunks: Chunks, finalise: Callable[..., Summary]) -> Reduce:
    """The lowest and the highest response of all: finalise(them) is left."""
    node = Windows(
        ends_of,
        tuple(images),
        ((0, 0),) * len(scales.shape),
        scales.dtype,
        {"scales": scales},
        2.0 * len(scales.sigmas),
        2.0 * scales.dtype.itemsize,
        2,
    )
    # not to be kept: it is read once, and the responses would be as many images as there are sigmas
    return Reduce("range of responses", node, Grid(((2,), *chunks[1:])), [Pass(extremes, join_extremes)], finalise)


def ends_of(blocks: Sequence[np.ndarray], box: Box, core: tuple[slice, ...], *, scales: Scales) -> np.ndarray:
    """The lowest and the highest response of every voxel."""
    if len(blocks) > scales.images:
        scales.check(blocks[-1], box)
    out = np.empty((2, *blocks[0].shape), scales.dtype)
    one = np.empty(blocks[0].shape, scales.dtype)
    for k in range(len(scales.sigmas)):
        scales.response(blocks, k, one)
        out[0] = one if k == 0 else np.minimum(out[0], one)
        out[1] = one if k == 0 else np.maximum(out[1], one)
    return out[(slice(None), *core)]


# ---- in order ---------------------------------------------------------------------------------------------------------
def raster(place: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Where points of a scale space come in raster order of the image, those of one voxel by sigma."""
    size = math.prod(shape[1:])
    return place % size * shape[0] + place // size


def by_response(points: Points, shape: Sequence[int]) -> dict[str, np.ndarray]:
    """Rows, the highest response first, in raster order. The key is both numbers as bytes, which compare as they do."""
    both = np.empty((len(points["place"]), 2), ">u8")
    both[:, 0], both[:, 1] = points["order"], raster(points["place"], shape)
    order = np.lexsort((both[:, 1], both[:, 0]))
    rows = {k: points[k] for k in ("place", "order")}
    return {"label": both.view("S16").reshape(-1)[order], **of(rows, order)}
