"""Along one axis, block by block: the exact Euclidean distance transform.

The squared distance is found one axis at a time (`kernels/distance.py`). Along an axis a voxel may need any voxel of
its line, but a block reads the blocks of its line nearest first and stops where nothing farther can be nearer.

    bits      a block's mask, one bit a voxel, and where the background begins and ends on each of its lines
    ahead     a line of blocks along the last axis: how far the background beyond a block is from each of its lines.
              That is the first pass, which is kept as these bits and distances and never written out
    line<a>   a line of blocks along axis a: the least squared distance in each, by which reads are saved
    axis<a>   a block: the least over its own line of voxels, then over those of other blocks, nearest first

A block at a gap g is not read, nor any beyond it, if weight * g**2 reaches the block's greatest squared distance; and
not read if that is so with the least squared distance it holds itself added, first of the whole block, then line by
line (planes without background have none to give). All this is exact: no halo is asked for and none can be too small.
All numbers are integers: no rounding, no near-tie, the same bits for every chunking.
Felzenszwalb & Huttenlocher, Theory of Computing 8, 2012; Meijster, Roerdink & Hesselink 2000.
To the nearest voxel of another label: `graph/sweep_labels.py`.

Held by a task: its block twice and the rows it reads of one other; by `ahead` two faces of a block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, isqrt, lcm, prod, sqrt
from typing import Any

import numpy as np
from dask.base import tokenize

from bigbia.graph.boxes import Box, Grid, Index, shape_of, slices, volume
from bigbia.graph.reading import read_together
from bigbia.graph.regions import Blocks, Node
from bigbia.graph.stages import Left, Stage, block_name
from bigbia.kernels import distance as kernels

MOST = 1 << 61  # squared distances stay below it, and twice that fits int64


# ---- how far things are, in whole numbers --------------------------------------------------------------------------
@dataclass(frozen=True)
class Metric:
    """Squared distances as integers: the sum of ``weights[a] * voxels[a]**2``, numerator / denominator each.

    most   no squared distance that matters is greater
    slack  relative error of a distance that rounding the weights made; 0 where they are exact
    """

    weights: tuple[int, ...]
    numerator: float
    denominator: float
    most: int
    slack: float = 0.0

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint32 if self.most < kernels.far_of(np.dtype(np.uint32)) - 1 else np.int64)

    @property
    def far(self) -> int:
        return kernels.far_of(self.dtype)

    def length(self, square: int) -> float:
        """A distance as `roots` gives it."""
        return sqrt(float(square) * self.numerator / self.denominator)

    def within(self, limit: float) -> int:
        """The greatest squared distance whose length is at most `limit`; -1 for a negative limit."""
        low, high = -1, self.most + 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.length(middle) <= limit else (low, middle)
        return low

    def voxels(self, square: int) -> tuple[int, ...]:
        """How many voxels along each axis a squared distance reaches."""
        return tuple(isqrt(max(0, square) // w) for w in self.weights)


def metric(sampling: Sequence[float], shape: Sequence[int], limit: float | None = None) -> Metric | None:
    """The metric of voxels of a size in an image of a shape; None if distances need more than 61 bits.

    Sizes are taken as the decimal numbers they are written as, 0.29 as 29/100, and are whole multiples of their
    largest common part. Where that part is so small that squared distances do not fit, the squares of the sizes are
    rounded to what does fit, the smallest size kept. Distances beyond `limit` do not matter; the others are the same.
    """
    given = [Fraction(repr(float(s))) for s in sampling]
    # along an axis of one voxel there is no distance
    least = min([s for s, n in zip(given, shape) if n > 1], default=given[0])
    sizes = [s if n > 1 else least for s, n in zip(given, shape)]
    extent = [max(0, n - 1) ** 2 for n in shape]
    common = lcm(*(s.denominator for s in sizes))
    part = Fraction(gcd(*(int(s * common) for s in sizes)), common)
    weights = [int(s / part) ** 2 for s in sizes]

    unit, slack = part**2, 0.0
    if max(_diagonal(weights, extent), *weights) >= MOST:
        ratios = [(s / least) ** 2 for s in sizes]
        scale = int((MOST - 1) / (2 * max(_diagonal(ratios, extent), *ratios)))
        if scale < 1:
            return None
        weights = [round(r * scale) for r in ratios]
        unit = least**2 / scale
        slack = max(abs(float(w / (r * scale) - 1)) / 2 for w, r in zip(weights, ratios))
    most = _diagonal(weights, extent)
    if limit is not None:
        most = min(most, int(Fraction(limit) ** 2 / unit) + 1)
    numerator, denominator = unit.numerator, unit.denominator
    if max(numerator, denominator) >= 1 << 53:  # not exact as floats
        return Metric(tuple(weights), float(unit), 1.0, most, slack)
    return Metric(tuple(weights), float(numerator), float(denominator), most, slack)


def _diagonal(weights: Sequence[Any], extent: Sequence[int]) -> Any:
    return sum(w * e for w, e in zip(weights, extent))


# ---- the stage -------------------------------------------------------------------------------------------------------
class Sweep(Stage):
    """Distances to the nearest voxel where an image is 0. It leaves `distance` (an image, float64)."""

    kind = "distance"
    what = "distance"
    bits = 0.125  # bytes a voxel of what is kept of the image
    marks = 1.3  # and of a mask that is made of it, with its ends

    def __init__(self, node: Node, grid: Grid, metric: Metric) -> None:
        self.metric = metric
        self.ndim = len(grid.numblocks)
        self.step = np.dtype(np.int32 if max(grid.shape) < 1 << 31 else np.int64)  # voxels along a line
        later = [f"{step}{a}" for a in range(self.ndim - 2, -1, -1) for step in ("line", "axis")]
        self.steps = ("bits", "ahead", *later, "done")
        self.block_steps = frozenset({"bits", *(s for s in later if s.startswith("axis"))})
        super().__init__(tokenize(self.what, node.token, metric), [node], grid)

    # ---- who needs whom
    def title(self, step: str) -> str:
        passes = max(1, self.ndim - 1)
        return f"{self.kind}: mask" if step == "bits" else f"{self.kind} {passes - int(step[4:])}/{passes}"

    def indices(self, step: str) -> Iterable[Index]:
        if step == "done":
            return [()]
        if step in self.block_steps:
            return self.grid.indices()
        counts = list(self.grid.numblocks)
        counts[self._along(step)] = 1
        return Grid(tuple((1,) * n for n in counts)).indices()

    def needs(self, step: str, index: Index) -> Iterable[tuple[str, Index]]:
        if step == "bits":
            return []
        if step == "done":
            last = self.steps[-2]
            return [(last, i) for i in self.indices(last)]
        along = self._along(step)
        if step in self.block_steps:
            return [(f"line{along}", _at(index, along, 0))]
        if step == "ahead":
            return [("bits", _at(index, along, j)) for j in range(self.grid.numblocks[along])]
        line = [_at(index, along, j) for j in range(self.grid.numblocks[along])]
        if along < self.ndim - 2:
            return [(f"axis{along + 1}", block) for block in line]
        return [("ahead", _at(block, self.ndim - 1, 0)) for block in line]

    def _along(self, step: str) -> int:
        return self.ndim - 1 if step == "ahead" else int(step[4:])

    def reads(self, step: str, index: Index) -> tuple[Sequence[Node], Sequence[Box]]:
        if step == "bits":
            return self.inputs, [self.grid.box(index)]
        if step not in self.block_steps:
            return (), ()
        before = Left(self, step, self.grid.shape, self.metric.dtype, f"{step}-{self.identity}")
        return [before], [self.grid.box(index)]

    def task_bytes(self, step: str, index: Index) -> int:
        """Bytes that a task holds besides what it reads: of an axis, the result, another block's rows, their bits."""
        box = self.grid.box(index) if len(index) == self.ndim else ()
        if step == "bits":
            return int(self.marks * volume(box))
        if step in self.block_steps:
            return int((2.0 * self.metric.dtype.itemsize + 2 * self.marks) * volume(box))
        if step == "ahead":  # lines of a block there and back
            return 64 * volume(box[:-1])
        return 16 * sum(self.grid.numblocks) if step.startswith("line") else 0

    def left_bytes(self, output: str, box: Box) -> int:
        """Bytes that reading a box takes besides it: squares of whole rows, and a block's distances for a part of them."""
        if output != "distance":
            return 0
        parts = [(part, self.grid.box(index)) for index, part in self.grid.overlapping(box)]
        several = len(parts) > 1
        return max(
            [
                volume((part[0], *block[1:])) * self.metric.dtype.itemsize + (8 * volume(part) if several else 0)
                for part, block in parts
                if part
            ],
            default=0,
        )

    def writes(self, step: str) -> float:
        return self.bits if step == "bits" else float(self.metric.dtype.itemsize) if step.startswith("axis") else 0.0

    def run(self, step: str, index: Index, blocks: Blocks | None = None) -> None:
        if step == "bits":
            self._bits(index, blocks)
        elif step == "ahead":
            self._ahead(index)
        elif step.startswith("line"):
            self._line(self._along(step), index)
        elif step.startswith("axis"):
            self._axis(self._along(step), index)
        else:
            self.folder.finish()

    # ---- the last axis
    def _bits(self, index: Index, blocks: Blocks | None) -> None:
        (block,) = read_together(*self.reads("bits", index), blocks)
        mask = np.ascontiguousarray(block != 0)
        self.folder.write(
            block_name("bits", index),
            {"mask": np.packbits(mask.reshape(-1)), **self._ends(kernels.ends(mask), self.ndim - 1)},
        )

    def _ends(self, ends: tuple[np.ndarray, np.ndarray], axis: int) -> dict[str, np.ndarray]:
        return {f"first{axis}": ends[0].astype(self.step), f"last{axis}": ends[1].astype(self.step)}

    def _ahead(self, index: Index) -> None:
        axis = self.ndim - 1
        for block, first, before, after in self._carry(axis, index):
            near = _least(self._least_of_lines(block, first, before, after), axis - 1)
            self.folder.write(block_name("ahead", block), near)

    def _carry(self, axis: int, index: Index) -> Iterator[tuple[Index, np.ndarray, np.ndarray, np.ndarray]]:
        """From block to block along an axis, and back: how far the next background is from each of their lines.

        Of each block, on the way back: how far it is to the first in it, before it, and after it.
        """
        line = [_at(index, axis, j) for j in range(self.grid.numblocks[axis])]
        lengths = self.grid.chunks[axis]
        before: Any = 0
        for j, block in enumerate(line):
            last = self._bit(f"last{axis}", block)
            before = self._across(before, axis, line[j - 1], block) if j else np.zeros_like(last)
            self.folder.write(block_name(f"before{axis}", block), {"before": before})
            before = _carried(before, last, lengths[j])
        after: Any = 0
        for j in range(len(line) - 1, -1, -1):
            first = self._bit(f"first{axis}", line[j])
            after = self._across(after, axis, line[j], line[j + 1]) if j + 1 < len(line) else np.zeros_like(first)
            self.folder.write(block_name(f"after{axis}", line[j]), {"after": after})
            yield line[j], first, *self._around(axis, line[j])
            after = _carried(after, first, lengths[j])

    def _across(self, carried: np.ndarray, axis: int, low: Index, high: Index) -> np.ndarray:
        """What is carried between two blocks that lie side by side, in either direction."""
        return carried

    def _bit(self, name: str, index: Index) -> np.ndarray:
        return self.folder.read(block_name("bits", index), name)[name]

    def _least_of_lines(self, block: Index, first: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """The least squared distance on each line of a block, with an axis of length 1 for the line."""
        never = np.int64(1) << 40
        nearest = np.minimum(*(np.where(d > 0, d, never).astype(np.int64) for d in (before, after)))
        nearest = self._within(block, first, nearest)
        m = self.metric
        reached = nearest <= isqrt((m.far - 1) // m.weights[-1])
        return np.where(reached, m.weights[-1] * np.where(reached, nearest, 0) ** 2, m.far)[..., None]

    def _within(self, block: Index, first: np.ndarray, nearest: np.ndarray) -> np.ndarray:
        """How far a block's lines are from the nearest background, its own included."""
        return np.where(first > 0, 0, nearest)

    def _around(self, axis: int, index: Index, part: tuple[slice, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
        return (
            self.folder.read(block_name(f"before{axis}", index))["before"][part],
            self.folder.read(block_name(f"after{axis}", index))["after"][part],
        )

    def _first_pass(self, index: Index, part: tuple[slice, ...] = ()) -> np.ndarray:
        """A block after the first pass, or some of its lines."""
        shape = shape_of(self.grid.box(index))
        mask = np.unpackbits(self._bit("mask", index), count=prod(shape)).reshape(shape)
        m, axis = self.metric, self.ndim - 1
        return kernels.along_runs(mask[part], m.weights[-1], m.dtype, m.far, self._around(axis, index, part))

    # ---- the other axes
    def _line(self, axis: int, index: Index) -> None:
        """The least of each block of a line along an axis, of the pass before."""
        line = [_at(index, axis, j) for j in range(self.grid.numblocks[axis])]
        least = [self.folder.read(self._name_before(axis, block), "least")["least"] for block in line]
        self.folder.write(block_name(f"line{axis}", index), {"least": np.array(least, np.int64)})

    def _axis(self, axis: int, index: Index) -> None:
        m, here = self.metric, index[axis]
        weight = m.weights[axis]
        edges = self.grid.edges[axis]
        least = self.folder.read(block_name(f"line{axis}", _at(index, axis, 0)))["least"]
        own = self._before(axis, index)
        out = self._begun(axis, index, own)
        kernels.lower(out, 0, own, 0, axis, weight, m.far)
        del own
        top, tops = int(out.max()), out.max(axis=axis, keepdims=True).astype(np.int64)
        sides = {-1, 1}
        for step in range(1, len(least)):
            for side in sorted(sides):
                there = here + side * step
                if not 0 <= there < len(least):
                    sides.discard(side)
                    continue
                gap = 1 + (edges[here] - edges[there + 1] if side < 0 else edges[there] - edges[here + 1])
                if weight * gap**2 >= top:
                    sides.discard(side)  # nothing there, nor beyond it, is nearer
                    continue
                block = _at(index, axis, there)
                if int(least[there]) + weight * gap**2 >= top:
                    continue
                near = self.folder.read(self._name_before(axis, block), "near")["near"].astype(np.int64)
                if (near + weight * gap**2 < tops).any():
                    rows = min(self.grid.chunks[axis][there], isqrt((top - 1) // weight) - gap + 1)
                    start, source = self._rows(axis, block, rows, side)
                    kernels.lower(out, 0, source, start - edges[here], axis, weight, m.far)
                    top, tops = int(out.max()), out.max(axis=axis, keepdims=True).astype(np.int64)
            if not sides:
                break
        self.folder.write(block_name(f"axis{axis}", index), {"square": out, **_least(out, axis - 1)})

    def _begun(self, axis: int, index: Index, own: np.ndarray) -> np.ndarray:
        """A copy of a block of the pass before, lowered to what is known without looking at other lines."""
        return own.copy()

    def _name_before(self, axis: int, index: Index) -> str:
        """The record that says how little a block holds before the pass along an axis."""
        return block_name("ahead" if axis == self.ndim - 2 else f"axis{axis + 1}", index)

    def _before(self, axis: int, index: Index) -> np.ndarray:
        """A block of the pass before that along an axis."""
        if axis == self.ndim - 2:
            return self._first_pass(index)
        return self.folder.read(block_name(f"axis{axis + 1}", index), "square")["square"]

    def _rows(self, axis: int, index: Index, rows: int, side: int) -> tuple[int, np.ndarray]:
        """The rows of another block that lie nearest to this one, and where on the axis they begin."""
        a, b = self.grid.box(index)[axis]
        low, high = (b - rows, b) if side < 0 else (a, a + rows)
        if axis == 0 and self.ndim > 2:
            return low, self.folder.read_rows(block_name("axis1", index), "square", low - a, high - a)
        part = (slice(None),) * axis + (slice(low - a, high - a),)
        return low, self._first_pass(index, part) if axis == self.ndim - 2 else self._before(axis, index)[part]

    # ---- what it leaves
    def distance(self) -> Left:
        return Left(self, "distance", self.grid.shape, np.dtype(np.float64), f"distance-{self.identity}")

    def left(self, output: str, box: Box) -> np.ndarray:
        out = np.empty(shape_of(box), np.float64)
        for index, part in self.grid.overlapping(box):
            origin = self.grid.box(index)
            if self.ndim == 1:
                rows = self._first_pass(index)[slices(part, origin)]
            else:
                (a, b), (start, _) = part[0], origin[0]
                rows = self.folder.read_rows(block_name("axis0", index), "square", a - start, b - start)
                rows = rows[(slice(None), *slices(part[1:], origin[1:]))]
            square = kernels.roots(rows, self.metric.far, self.metric.numerator, self.metric.denominator)
            if part == box:
                return square
            out[slices(part, box)] = square
        return out


def _at(index: Index, axis: int, i: int) -> Index:
    return (*index[:axis], i, *index[axis + 1 :])


def _least(square: np.ndarray, axis: int) -> dict[str, np.ndarray]:
    """The least squared distance of a block, and of each of its lines along the axis that comes next."""
    near = square.min(axis=axis, keepdims=True) if axis >= 0 else square[:0]
    return {"least": np.array(int(square.min()), np.int64), "near": near}


def _carried(distance: np.ndarray, inside: np.ndarray, n: int) -> np.ndarray:
    """How far background is from the voxel after a block of n: that in it, else that before it; 0 where there is none.

    `inside` counts from the block's far face, from 1.
    """
    return np.where(inside > 0, inside, np.where(distance > 0, distance + distance.dtype.type(n), 0)).astype(
        inside.dtype
    )
