"""Points that a stage leaves, block by block, as rows in order and as numbers in an image.

A source of points has `identity`, `grid`, a node to wait for (`done`) and `points(block)`. Their rows are grouped
(`graph/group.py`) by a key, which any order can be made of; 64 blocks a task, as points are few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bigbia.graph.boxes import Box, Index, shape_of
from bigbia.graph.conditions import Largest
from bigbia.graph.greedy import Points, best_first, of, steps_of
from bigbia.graph.group import Group, Rows
from bigbia.graph.regions import Blocks
from bigbia.graph.stages import Left, Stage, block_name
from bigbia.graph.values import Numbers, Values


def waits_for(stage: Stage) -> Left:
    """A node that says no more than that a stage must be done."""
    return Left(stage, "rows", (), np.dtype(bool), f"done-{stage.token}")


class Listed(Group):
    """The points of a source in rows: rows(points) -> rows with "label", the key;  combine as in a grouping."""

    block_steps = frozenset()
    rides = False
    steps = ("gather", "bounds", "rows", "done")

    def __init__(
        self,
        kind: str,
        source: Any,
        rows: Callable[[Points], Rows],
        combine: Callable[[Rows, np.ndarray], Rows],
    ) -> None:
        self.source = source
        super().__init__(kind, [], [waits_for(source.stage)], source.grid, rows, combine)

    def title(self, step: str) -> str:
        return self.kind

    def needs(self, step: str, index: Index) -> Iterable[tuple[str, Index]]:
        return [] if step == "gather" else super().needs(step, index)

    def reads(self, step: str, index: Index) -> tuple[Any, list]:
        return (), []

    def run(self, step: str, index: Index, blocks: Blocks | None = None) -> None:
        if step == "gather":
            for block in self.members(index[0]):
                self.folder.write(block_name("part", block), self.summarise(self.source.points(block)))
        super().run(step, index, blocks)


def all_rows(rows: Rows, starts: np.ndarray) -> Rows:
    return rows


# ---- in raster order -------------------------------------------------------------------------------------------------
def by_place(points: Points) -> dict[str, np.ndarray]:
    """Rows in raster order; `n` says how good a point is, more is better."""
    best = ~points["order"] ^ np.uint64(1 << 63)
    return {"label": points["place"] + 1, "n": best.view(np.int64)}


@dataclass(frozen=True)
class Best(Largest):
    """The `n` best points; of equal ones the first."""

    def best(self, names: np.ndarray, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        order = np.lexsort((names, ~rows["n"]))[: self.n]
        return names[order], rows["n"][order]


def every(rows: Rows) -> np.ndarray:
    return np.ones(len(rows["label"]), bool)


def numbered(source: Any, numbers: Numbers, most: int | None = None) -> Values:
    """The numbering of points in raster order, from 1 on; of the best only, where there are more than `most`."""
    listed = Listed("number points", source, by_place, all_rows)
    return Values(listed, listed, every, numbers, None if most is None else Best(most))


@dataclass(frozen=True, eq=False)
class Marked(Left):
    """The numbers of points at their places, 0 elsewhere."""

    def compute(self, box: Box, parts: Any) -> np.ndarray:
        out = np.zeros(shape_of(box), self.dtype)
        first = np.array([a for a, _ in box], np.int64)
        for block, part in self.stage.seen.grid.overlapping(box):
            names, numbers = self.stage.answers(block)
            at = steps_of(names.astype(np.int64) - 1, self.shape)
            inside = ((at >= [a for a, _ in part]) & (at < [b for _, b in part])).all(axis=1)
            out[tuple((at[inside] - first).T)] = numbers[inside]
        return out


def marked(numbering: Values) -> Marked:
    shape, dtype = numbering.seen.grid.shape, numbering.numbers.dtype
    return Marked(numbering, "labels", shape, dtype, f"marked-{numbering.identity}")


# ---- in order of groups, best first ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Numbered:
    """A source: the points that a numbering keeps, with their `number`."""

    source: Any
    numbering: Values

    @property
    def stage(self) -> Stage:
        return self.numbering

    @property
    def grid(self) -> Any:
        return self.numbering.grid

    @property
    def identity(self) -> str:
        return self.numbering.identity

    def points(self, block: Index) -> Points:
        points = self.source.points(block)
        names, numbers = self.numbering.answers(block)
        number = numbers[np.searchsorted(names.astype(np.int64), points["place"] + 1)]
        return of({**points, "number": number}, number > 0)


def by_order(points: Points) -> dict[str, np.ndarray]:
    """Rows by group, best first, in raster order.

    The key is the three numbers as bytes, the highest first, which compare as the numbers do.
    """
    three = np.empty((len(points["place"]), 3), ">u8")
    for k, name in enumerate(("group", "order", "place")):
        three[:, k] = points[name]
    order = np.lexsort((points["place"], points["order"], points["group"]))
    rows = {k: points[k] for k in ("place", "order", "number")}
    return {"label": three.view("S24").reshape(-1)[order], **of(rows, order)}


class BestOfEach(Listed):
    """The `most` best points of each group. A source itself."""

    def __init__(self, source: Any, most: int) -> None:
        self.most = most
        super().__init__("best of each label", source, by_group, _Most(most))

    @property
    def stage(self) -> Stage:
        return self

    def points(self, block: Index) -> Points:
        points = self.source.points(block)
        if not len(points["place"]):
            return points
        edges = self.edges()
        asked = np.unique(np.searchsorted(edges, points["group"], side="right"))
        stay = np.concatenate([self.partition(int(i))["place"] for i in asked])
        return of(points, np.isin(points["place"], stay))


def by_group(points: Points) -> dict[str, np.ndarray]:
    order = np.argsort(points["group"], kind="stable")
    return {"label": points["group"][order], "place": points["place"][order], "order": points["order"][order]}


@dataclass(frozen=True)
class _Most:
    """Rows of groups -> the best of each, so many."""

    most: int

    def __call__(self, rows: Rows, starts: np.ndarray) -> Rows:
        return first_of_each(rows, rows["label"], self.most)


def first_of_each(points: Points, group: np.ndarray, most: int) -> dict[str, np.ndarray]:
    """The best points of each group, so many; groups ascending, best first."""
    order = best_first(points)
    order = order[np.argsort(group[order], kind="stable")]
    label = group[order]
    start = np.flatnonzero(np.append(True, label[1:] != label[:-1])) if len(label) else np.zeros(0, np.int64)
    rank = np.arange(len(label)) - np.repeat(start, np.diff(np.append(start, len(label))))
    return of(points, order[rank < most])
