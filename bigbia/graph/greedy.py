"""Best first, within a radius: a point stays if no better one that stays is too near.

    start    every block finds its points and decides those of which all that is near lies in it
    rounds   a point stays once no better one near it stays or is undecided; it goes once one near it stays. Blocks look
             at the points near their borders, of all blocks within reach, be they ever so small

In rounds (`graph/rounds.py`): points are decided one way and for good, so whatever the order the result is that of one
pass over all points, best first. Points are better by `order`, of equal order by `place`, their raster index in the image;
points of different groups do not see each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from dask.base import tokenize

from bigbia.graph.boxes import Box, Grid, Index, grown
from bigbia.graph.cost import largest_block
from bigbia.graph.reading import read_together
from bigbia.graph.regions import Blocks, Node
from bigbia.graph.rounds import Rounds
from bigbia.graph.stages import Left, Stage, block_name
from bigbia.kernels.greedy import CUT_OFF, GOES, MINE, OPEN, OTHERS, STAYS, decided

Points = Mapping[str, np.ndarray]  # place int64, order uint64 (less is better), group uint64
COLUMNS = ("place", "order", "group")


def join(several: Sequence[Points]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([p[name] for p in several]) for name in several[0]}


def of(points: Points, which: np.ndarray) -> dict[str, np.ndarray]:
    return {name: column[which] for name, column in points.items()}


def best_first(points: Points) -> np.ndarray:
    """The points in order: which comes when."""
    return np.lexsort((points["place"], points["order"]))


def steps_of(place: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Raster indices as (n, axes)."""
    return np.stack(np.unravel_index(place, tuple(shape)), axis=1).astype(np.int64)


@dataclass(frozen=True)
class Spacing:
    """Points are too near if the p-norm of their difference, `sizes` a voxel, is below `distance`.

    Lengths that agree to 12 digits are equal, so that decimal sizes do what they say.
    """

    sizes: tuple[float, ...]
    distance: float
    p: float = math.inf

    @cached_property
    def reach(self) -> tuple[int, ...]:
        """How many voxels away along each axis a point can be too near."""
        return tuple(max(0, math.ceil(self.distance / s * (1 - 1e-12)) - 1) for s in self.sizes)

    def decide(self, points: Points, shape: Sequence[int], state: np.ndarray, whose: np.ndarray) -> np.ndarray:
        """The states of points, best first, as far as these points settle them."""
        reach = np.array([min(r, n - 1) for r, n in zip(self.reach, shape)], np.int64)
        steps = np.arange(reach.max(initial=0) + 1)
        costs, limit = np.zeros((len(reach), len(steps))), 1.0
        if not math.isinf(self.p):
            costs = (np.multiply.outer(self.sizes, steps) / max(self.distance, 1e-300)) ** self.p
            limit = 1.0 - 1e-12
        return decided(steps_of(points["place"], shape), points["group"], state, whose, reach, costs, limit)

    def spaced(self, points: Points, shape: Sequence[int]) -> dict[str, np.ndarray]:
        """Those of all points that stay, best first."""
        points = of(points, best_first(points))
        if any(self.reach):
            n = len(points["place"])
            stay = self.decide(points, shape, np.full(n, OPEN, np.int8), np.full(n, MINE, np.int8)) == STAYS
            points = of(points, stay)
        return points


class Greedy(Rounds):
    """The stage. Subclasses say which points a block has: `find`."""

    workspace = 4.0  # bytes a voxel: points, at most one for some dozens of voxels

    def __init__(
        self, kind: str, identity: Any, nodes: Sequence[Node], grid: Grid, spacing: Spacing, never_all: bool = False
    ) -> None:
        self.spacing, self.never_all = spacing, never_all
        what = tokenize(kind, identity, [n.token for n in nodes], spacing, never_all)
        super().__init__(kind, what, nodes, grid, 0)

    def find(self, index: Index, blocks: Blocks | None) -> tuple[Points, Any, bool]:
        """The points of a block; which of them stay whatever is near, and matter to none; whether all its voxels were points.

        Where that is so in every block, and `never_all`, there are no points.
        """
        raise NotImplementedError

    # ---- blocks
    def start(self, index: Index, blocks: Blocks | None) -> None:
        if self.folder.exists(block_name("state", index)):
            return
        points, free, everywhere = self.find(index, blocks)
        order = best_first(points)
        free = np.broadcast_to(free, len(order))[order] | (not any(self.spacing.reach))
        points = of(points, order)
        state = np.full(len(order), STAYS, np.int8)
        tied = of(points, ~free)
        whose = np.where(self._seen_from_outside(index, tied), CUT_OFF, MINE).astype(np.int8)
        state[~free] = self.spacing.decide(tied, self.grid.shape, np.full(len(whose), OPEN, np.int8), whose)
        self.folder.write(block_name("points", index), {**points, "free": free, "everywhere": np.array(everywhere)})
        self._keep(index, tied, state[~free], state, -1, [])

    def step(self, index: Index) -> list[Index]:
        if not self.folder.read(block_name("state", index), "open")["open"]:
            return []
        before = self.folder.read(block_name("state", index), "state")["state"]
        points = self.folder.read(block_name("points", index), *COLUMNS, "free")
        left = (before != GOES) & ~points["free"]
        points = of({k: points[k] for k in COLUMNS}, left)
        mine = len(points["place"])
        parts, states, whose = [points], [before[left]], [np.full(mine, MINE, np.int8)]
        wide = self._wide(self.grid.box(index))
        for other in self._beside(index, points["place"][before[left] == OPEN]):
            seen = self.folder.read(block_name("border", other), *COLUMNS, "state")
            near = self._within(seen["place"], wide)
            parts.append(of({k: seen[k] for k in COLUMNS}, near))
            states.append(seen["state"][near])
            whose.append(np.full(len(states[-1]), OTHERS, np.int8))
        together, state = join(parts), np.concatenate(states)
        order = best_first(together)
        settled = self.spacing.decide(of(together, order), self.grid.shape, state[order], np.concatenate(whose)[order])
        state[order] = settled
        state = state[:mine]
        changed = points["place"][state != before[left]]
        if not len(changed):
            return []
        number = self._number()
        last = self.folder.read(block_name("border", index), "said", "round")
        said = [tuple(map(int, i)) for i in last["said"]] if int(last["round"]) == number else []
        beside = sorted({*said, *self._beside(index, changed)})
        after = before.copy()
        after[left] = state
        self._keep(index, points, state, after, number, beside)
        return beside

    def _number(self) -> int:
        return int(self.folder.read("round", "number")["number"]) if self.folder.exists("round") else 0

    def _keep(
        self, index: Index, points: Points, state: np.ndarray, states: np.ndarray, number: int, said: Sequence[Index]
    ) -> None:
        """The points that others see, with the round and who was told of it, should the step be done again; all states.

        These last: until then the step has not been.
        """
        seen = (state != GOES) & self._seen_from_outside(index, points)
        border = {**of(points, seen), "state": state[seen]}
        mark = {"said": np.array(said, np.int64).reshape(len(said), len(index)), "round": np.array(number)}
        again = number >= 0  # a start that comes late must not undo steps
        self.folder.write(block_name("border", index), {**border, **mark}, replace=again)
        states_of = {"state": states, "open": np.array((states == OPEN).any())}
        self.folder.write(block_name("state", index), states_of, replace=again)

    def task_bytes(self, step: str, index: Index) -> int:
        """Bytes that a task holds besides what it reads; of the driver, those of a block that it works out."""
        return 0 if step == "done" else int(self.workspace * largest_block(self.grid))

    # ---- who sees whom
    def _wide(self, box: Box) -> Box:
        return grown(box, [(r, r) for r in self.spacing.reach], self.grid.shape)

    def _within(self, place: np.ndarray, box: Box) -> np.ndarray:
        """Which raster indices lie in a box."""
        inside = np.ones(len(place), bool)
        for at, (a, b) in zip(steps_of(place, self.grid.shape).T, box):
            inside &= (at >= a) & (at < b)
        return inside

    def _seen_from_outside(self, index: Index, points: Points) -> np.ndarray:
        """Which points of a block have voxels of other blocks within reach."""
        inner = tuple(
            (a + (r if a else 0), b - (r if b < n else 0))
            for (a, b), r, n in zip(self.grid.box(index), self.spacing.reach, self.grid.shape)
        )
        return ~self._within(points["place"], inner)

    def _others(self, box: Box, index: Index) -> list[Index]:
        """The blocks within reach of a box."""
        return [other for other, _ in self.grid.overlapping(self._wide(box)) if other != index]

    def _beside(self, index: Index, changed: np.ndarray) -> list[Index]:
        """The blocks that see one of the points that changed."""
        return [
            other
            for other in self._others(self.grid.box(index), index)
            if self._within(changed, self._wide(self.grid.box(other))).any()
        ]

    # ---- the driver
    def _drive(self) -> None:
        if self.never_all and all(self._everywhere(index) for index in self.grid.indices()):
            self.folder.write("none", {})
        else:
            super()._drive()

    def _everywhere(self, index: Index) -> bool:
        return bool(self.folder.read(block_name("points", index), "everywhere")["everywhere"])

    # ---- what it leaves
    @property
    def stage(self) -> Stage:
        return self

    def points(self, index: Index) -> Points:
        """The points of a block that stay, best first."""
        points = self.folder.read(block_name("points", index), *COLUMNS)
        if self.folder.exists("none"):
            return of(points, np.zeros(len(points["place"]), bool))
        return of(points, self.folder.read(block_name("state", index), "state")["state"] == STAYS)

    def left(self, output: str, box: Box) -> np.ndarray:
        raise NotImplementedError("points are read by blocks")

    def writes(self, step: str) -> float:
        return 0.05 if step == "start" else 0.0


class Found(Greedy):
    """Points found in images: find(blocks, box, values) -> (points, which are free, whether all voxels are some).

    As `Greedy.find` has it. `values` are 0-d nodes that it needs.
    """

    def __init__(
        self,
        kind: str,
        images: Sequence[Node],
        values: Sequence[Node],
        grid: Grid,
        spacing: Spacing,
        find: Callable[[Sequence[np.ndarray], Box, Sequence[np.ndarray]], tuple[Points, Any, bool]],
        never_all: bool = False,
    ) -> None:
        self.images, self.finder = len(images), find
        self.workspace = 2.0 * images[0].dtype.itemsize + 2.0  # their keys, which are peaks, and the peaks of noise
        super().__init__(kind, find, [*images, *values], grid, spacing, never_all)

    def reads(self, step: str, index: Index) -> tuple[Sequence[Node], Sequence[Box]]:
        if step != "start":
            return (), ()
        return self.inputs, [self.grid.box(index)] * self.images + [()] * (len(self.inputs) - self.images)

    def find(self, index: Index, blocks: Blocks | None) -> tuple[Points, Any, bool]:
        data = read_together(*self.reads("start", index), blocks)
        return self.finder(data[: self.images], self.grid.box(index), data[self.images :])


class Again(Greedy):
    """The points that a stage leaves, thinned out without their groups; all stay, in their groups, if at most `most` are.

    `counted` is the numbering that knows how many there are (`graph/points.py`).
    """

    def __init__(self, kind: str, source: Any, counted: Stage, most: int, spacing: Spacing) -> None:
        self.source, self.counted, self.most = source, counted, most
        before = Left(counted, "count", (), np.dtype(np.int64), f"count-{counted.token}")
        super().__init__(kind, (source.identity, most), [before], source.grid, spacing)

    def reads(self, step: str, index: Index) -> tuple[Sequence[Node], Sequence[Box]]:
        return (), ()

    def find(self, index: Index, blocks: Blocks | None) -> tuple[Points, Any, bool]:
        points = self.source.points(index)
        if int(self.counted.folder.read("offsets")["before"][-1]) <= self.most:
            return points, True, False
        return {**points, "group": np.zeros_like(points["group"])}, False, False
