"""Relaxation: voxels rise to what their neighbours offer, as far as they are allowed, until nothing changes.

    state(v) = min(limit(v), max(state(v), state of the neighbours))

In rounds (`graph/rounds.py`): the result is the unique fixpoint of a rule that only ever raises voxels. A step looks at
the borders first, and reads the voxels of its block only where a neighbour offers something to one on its surface.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from dask.base import tokenize

from bigbia.errors import StorageError
from bigbia.graph.boxes import Box, Grid, Index
from bigbia.graph.cost import largest_block, packed_bytes
from bigbia.graph.floodtree import FOLDER, FloodTree
from bigbia.graph.regions import Blocks, Node
from bigbia.graph.rounds import Rounds, borders
from bigbia.graph.stages import Left, block_name
from bigbia.kernels.reconstruction import raised

# When rounds are given up for the passes of a tree, which cost about as much as 6 steps of each block: after so many steps
# of each block, on average, if more than this share of the blocks have still to be worked out; or after twice as many.
PATIENCE = 6.0
SHARE = 0.1


@dataclass(frozen=True)
class Relaxation:
    """start(blocks of the inputs, box) -> (limit, state, more): arrays of the block, and by name what else to keep of it.

    relax(state with a halo, limit) -> state. The halo is one voxel wide, and `outside` beyond the image, which is the
    lowest value there is. Neighbours differ by at most `connectivity` steps. Floats have one kind of zero only.
    """

    start: Callable[[Sequence[np.ndarray], Box], tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]
    relax: Callable[[np.ndarray, np.ndarray], np.ndarray]
    outside: Any
    connectivity: int
    dtype: np.dtype


class Relax(Rounds):
    """The stage of a relaxation. It leaves `state`, an image."""

    def __init__(self, kind: str, nodes: Sequence[Node], grid: Grid, rule: Relaxation) -> None:
        self.rule = rule
        self.workspace = 5.0 * rule.dtype.itemsize + 12.0  # limit and state, with and without margin; a queue, marks
        identity = tokenize(
            kind, [n.token for n in nodes], rule.start, rule.relax, rule.outside, rule.connectivity, str(rule.dtype)
        )
        super().__init__(kind, identity, nodes, grid, rule.connectivity)

    # ---- blocks
    def start(self, index: Index, blocks: Blocks | None) -> None:
        if self.folder.exists(block_name("border", index)) or self.complete:
            return
        limit, state, more = self.rule.start(self.read_inputs(index, blocks), self.grid.box(index))
        state = self.rule.relax(np.pad(state, 1, constant_values=self.rule.outside), limit)
        self.folder.write(block_name("limit", index), {"voxels": limit}, pack=True)
        if more:
            self.folder.write(block_name("more", index), more, pack=True)
        self.folder.write(block_name("most", index), borders("limit", limit))
        self._keep(index, state, replace=False)

    def _keep(self, index: Index, state: np.ndarray, replace: bool = True) -> None:
        self.folder.write(block_name("state", index), {"voxels": state}, pack=True, replace=replace)
        self.keep_border(index, borders("state", state))

    def step(self, index: Index) -> list[Index]:
        try:
            return self._step(index)
        except StorageError:
            if self.complete:  # by another driver, which has removed what only steps need
                return []
            raise

    def _step(self, index: Index) -> list[Index]:
        border = self.border(index)
        at, values = self._offered(index, border)
        if not len(at):
            return []
        state = raised(self.voxels("state", index), self.voxels("limit", index), at, values, self.rule.connectivity)
        beside = self.beside(index, border, borders("state", state))
        self._keep(index, state)
        return beside

    def voxels(self, name: str, index: Index) -> np.ndarray:
        return self.folder.read(block_name(name, index))["voxels"]

    def _offered(self, index: Index, border: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Voxels of a block's surface (n, axes) that can take more from neighbours than they have, and what."""
        most = self.folder.read(block_name("most", index))
        along = [
            o for o in product((-1, 0, 1), repeat=len(index) - 1) if sum(map(abs, o)) < self.rule.connectivity
        ]  # what a voxel of the layer outside a face touches, along the face
        at, values = [], []
        for (axis, side), layer in self.layers(index, "state", self.rule.outside).items():
            have = border[f"state.{axis}{side}"]
            best = have.copy()
            for offset in along:
                part = layer[tuple(slice(1 + o, 1 + o + n) for o, n in zip(offset, have.shape))]
                np.maximum(best, part, out=best)
            np.minimum(best, most[f"limit.{axis}{side}"], out=best)
            rising = best > have
            if rising.any():
                places = np.argwhere(rising)
                where = side * (self.grid.chunks[axis][index[axis]] - 1)
                at.append(np.insert(places, axis, where, axis=1))
                values.append(best[rising])
        if not at:
            return np.empty((0, len(index)), np.int64), np.empty(0, self.rule.dtype)
        return np.concatenate(at), np.concatenate(values)

    # ---- another way to the end
    def remaining(self, number: int, steps: int, todo: list[Index]) -> list[Index]:
        if not self.folder.exists("switched"):
            patience = PATIENCE * (1 if len(todo) > SHARE * len(self.grid) else 2)
            if not todo or steps < patience * len(self.grid):
                return todo
            self.folder.write("switched", {})
        FloodTree(self, self.rule.connectivity, self.rule.dtype).run()
        return []

    def finish(self) -> None:
        super().finish()
        for kind in ("limit", "most", "border", FOLDER):  # after the mark: from then on no task needs them
            self.folder.remove(kind)

    def task_bytes(self, step: str, index: Index) -> int:
        """Bytes that a task holds besides what it reads; of the driver, those of a block that it works out."""
        return 0 if step == "done" else int(self.workspace * largest_block(self.grid))

    def left_bytes(self, output: str, box: Box) -> int:
        return packed_bytes(self.grid, box, self.rule.dtype)

    # ---- what it leaves
    def state(self) -> Left:
        return Left(self, "state", self.grid.shape, self.rule.dtype, f"{self.kind}-{self.identity}")

    def left(self, output: str, box: Box) -> np.ndarray:
        return self.recorded("state", "voxels", box, self.rule.dtype)

    def writes(self, step: str) -> float:
        return 2.0 * self.rule.dtype.itemsize if step == "start" else 0.0
