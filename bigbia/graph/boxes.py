"""Boxes: regions of an image in voxels, one (start, stop) pair an axis.

And grids, the ways to cut an image into them.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, product

Box = tuple[tuple[int, int], ...]
Index = tuple[int, ...]


def whole(shape: Sequence[int]) -> Box:
    return tuple((0, int(n)) for n in shape)


def shape_of(box: Box) -> tuple[int, ...]:
    return tuple(stop - start for start, stop in box)


def volume(box: Box) -> int:
    return math.prod(stop - start for start, stop in box)


def slices(box: Box, origin: Box | None = None) -> tuple[slice, ...]:
    """The box as slices; counted from the start of `origin` where one is given."""
    if origin is None:
        return tuple(slice(start, stop) for start, stop in box)
    return tuple(slice(start - o, stop - o) for (start, stop), (o, _) in zip(box, origin))


def contains(outer: Box, inner: Box) -> bool:
    return all(a <= c and d <= b for (a, b), (c, d) in zip(outer, inner))


def grown(box: Box, halo: Sequence[tuple[int, int]], shape: Sequence[int]) -> Box:
    """The box with a margin, cut off at the image's border."""
    return tuple((max(0, a - before), min(n, b + after)) for (a, b), (before, after), n in zip(box, halo, shape))


def united(boxes: Iterable[Box]) -> list[Box]:
    """Fewer boxes that cover the same voxels: boxes are joined where their hull is hardly larger than they are."""
    todo = list(dict.fromkeys(boxes))
    done: list[Box] = []
    while todo:
        box = todo.pop()
        for i, other in enumerate(done):
            hull = tuple((min(a, c), max(b, d)) for (a, b), (c, d) in zip(box, other))
            if volume(hull) <= 1.25 * max(volume(box), volume(other)) or volume(hull) <= volume(box) + volume(other):
                del done[i]
                todo.append(hull)
                break
        else:
            done.append(box)
    return done


def describe(box: Box, axes: Sequence[str] | None = None) -> str:
    """`z=0..63, y=128..255`, for messages."""
    names = axes or ("tczyx"[-len(box) :] if len(box) <= 5 else [f"axis{i}" for i in range(len(box))])
    return ", ".join(f"{n}={a}..{b - 1}" for n, (a, b) in zip(names, box))


@dataclass(frozen=True)
class Grid:
    """An image cut into blocks: the lengths of the blocks along each axis, as in `dask.array.Array.chunks`."""

    chunks: tuple[tuple[int, ...], ...]

    @cached_property
    def edges(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(accumulate(c, initial=0)) for c in self.chunks)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return tuple(e[-1] for e in self.edges)

    @cached_property
    def numblocks(self) -> tuple[int, ...]:
        return tuple(map(len, self.chunks))

    def __len__(self) -> int:
        return math.prod(self.numblocks)

    def box(self, index: Index) -> Box:
        return tuple((e[i], e[i + 1]) for e, i in zip(self.edges, index))

    def indices(self) -> Iterator[Index]:
        return product(*map(range, self.numblocks))

    def morton(self) -> Iterator[Index]:
        """The blocks in Morton order: those that follow each other are neighbours, so their halos meet in the cache.

        Made one by one, down the tree of blocks: of 10^6 blocks no list is held.
        """

        def below(level: int, index: Index) -> Iterator[Index]:
            if level == 0:
                yield index
            else:
                for child in self.children(level, index):
                    yield from below(level - 1, child)

        return below(self.depth, (0,) * len(self.numblocks)) if len(self) else iter(())

    def place(self, index: Index) -> int:
        """Which block, counted in raster order."""
        at = 0
        for i, n in zip(index, self.numblocks):
            at = at * n + i
        return at

    def overlapping(self, box: Box) -> Iterator[tuple[Index, Box]]:
        """The blocks that share voxels with a box, and the shared part of each."""
        ranges = []
        for edges, (a, b) in zip(self.edges, box):
            first = bisect_right(edges, a) - 1
            axis = []
            while b > a and first < len(edges) - 1 and edges[first] < b:
                if edges[first + 1] > edges[first]:
                    axis.append((first, (max(a, edges[first]), min(b, edges[first + 1]))))
                first += 1
            ranges.append(axis)
        for combination in product(*ranges):
            yield tuple(i for i, _ in combination), tuple(part for _, part in combination)

    # -- the tree of blocks: a node of a level is the 2 along each axis of the level below; level 0 is the blocks
    @cached_property
    def depth(self) -> int:
        return max(((n - 1).bit_length() for n in self.numblocks), default=0)

    def nodes(self, level: int) -> tuple[int, ...]:
        """How many nodes a level of the tree has along each axis."""
        return tuple(-(-n >> level) for n in self.numblocks)

    def below(self, level: int, index: Index) -> list[range]:
        """The blocks below a node, a range an axis."""
        return [range(i << level, min((i + 1) << level, n)) for i, n in zip(index, self.numblocks)]

    def children(self, level: int, index: Index) -> Iterator[Index]:
        return product(*(range(2 * i, min(2 * i + 2, n)) for i, n in zip(index, self.nodes(level - 1))))

    @classmethod
    def regular(cls, shape: Sequence[int], block: Sequence[int]) -> Grid:
        return cls(tuple(_cut(int(n), int(b)) for n, b in zip(shape, block)))


def meeting_level(a: Index, b: Index) -> int:
    """The level of the tree at which two blocks come together."""
    return max((i ^ j).bit_length() for i, j in zip(a, b))


def _cut(n: int, b: int) -> tuple[int, ...]:
    if n == 0:
        return (0,)
    full, rest = divmod(n, b)
    return (b,) * full + ((rest,) if rest else ())
