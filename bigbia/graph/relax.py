"""Relaxation: voxels rise to what their neighbours offer, as far as they are allowed, until nothing changes.

In rounds (`graph/rounds.py`): the result is the unique fixpoint of a rule that only ever raises voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.base import tokenize

from bigbia.graph.boxes import Box, Grid, Index, shape_of, slices
from bigbia.graph.regions import Blocks, Node
from bigbia.graph.rounds import Rounds, borders
from bigbia.graph.stages import Left, block_name


@dataclass(frozen=True)
class Relaxation:
    """start(blocks of the inputs, box) -> (fixed, state): arrays of the block; relax(state with a halo, fixed) -> state.

    The halo is one voxel wide, and `outside` beyond the image. Neighbours differ by at most `connectivity` steps.
    """

    start: Callable[[Sequence[np.ndarray], Box], tuple[np.ndarray, np.ndarray]]
    relax: Callable[[np.ndarray, np.ndarray], np.ndarray]
    outside: Any
    connectivity: int
    dtype: np.dtype


class Relax(Rounds):
    """The stage of a relaxation. It leaves `state`, an image."""

    def __init__(self, kind: str, nodes: Sequence[Node], grid: Grid, rule: Relaxation) -> None:
        self.rule = rule
        identity = tokenize(
            kind, [n.token for n in nodes], rule.start, rule.relax, rule.outside, rule.connectivity, str(rule.dtype)
        )
        super().__init__(kind, identity, nodes, grid, rule.connectivity)

    # ---- blocks
    def start(self, index: Index, blocks: Blocks | None) -> None:
        if self.folder.exists(block_name("border", index)):
            return
        fixed, state = self.rule.start(self.read_inputs(index, blocks), self.grid.box(index))
        state = self.rule.relax(np.pad(state, 1, constant_values=self.rule.outside), fixed)
        self.folder.write(block_name("fixed", index), {"voxels": fixed})
        self._keep(index, state)

    def _keep(self, index: Index, state: np.ndarray) -> None:
        self.folder.write(block_name("state", index), {"voxels": state})
        self.keep_border(index, borders("state", state))

    def step(self, index: Index) -> list[Index]:
        state = self.folder.read(block_name("state", index))["voxels"]
        fixed = self.folder.read(block_name("fixed", index))["voxels"]
        padded = np.pad(state, 1, constant_values=self.rule.outside)
        self.fill_halo(index, {"state": padded})
        new = self.rule.relax(padded, fixed)
        beside = self.beside(index, self.border(index), borders("state", new))
        if beside or (new != state).any():
            self._keep(index, new)
        return beside

    # ---- what it leaves
    def state(self) -> Left:
        return Left(self, "state", self.grid.shape, self.rule.dtype, f"{self.kind}-{self.identity}")

    def left(self, output: str, box: Box) -> np.ndarray:
        out = np.empty(shape_of(box), self.rule.dtype)
        for index, part in self.grid.overlapping(box):
            origin = self.grid.box(index)
            (a, b), first = part[0], origin[0][0]
            rows = self.folder.read_rows(block_name("state", index), "voxels", a - first, b - first)
            out[slices(part, box)] = rows[(slice(None), *slices(part[1:], origin[1:]))]
        return out

    def writes(self, step: str) -> float:
        return 2.0 * self.rule.dtype.itemsize if step == "start" else 0.0
