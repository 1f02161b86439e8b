"""Relaxation: blocks look at their neighbours' borders again and again, until nothing changes.

    start    every block works out its voxels from itself alone
    rounds   a driver: each round, every block beside which something changed works its voxels out again, from its own
             and its neighbours' borders of one voxel; the round after starts from the blocks beside new changes

The result must be the unique fixpoint that every order of such steps reaches (a rule that only ever raises voxels, to
values that the final image has or exceeds): then blocks may read a neighbour before or after its own step of a round,
and a step that is done twice does no harm.

The driver holds no voxels. Its block tasks run in one pool a process, so that several relaxations at once do not run
more of them than there are threads; within a distributed worker they go to the cluster. What was done is in scratch: a
driver that is started again goes on with the round it was in. A mark `stop` in the folder ends it before the next block.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from dask.base import tokenize

from bigbia import config
from bigbia.errors import RunError
from bigbia.graph.boxes import Box, Grid, Index, shape_of, slices
from bigbia.graph.regions import Blocks, Node
from bigbia.graph.stages import Left, Stage, block_name


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


class Relax(Stage):
    """The stage of a relaxation. It leaves `state`, an image."""

    block_steps = frozenset({"start"})
    steps = ("start", "rounds", "done")

    def __init__(self, kind: str, nodes: Sequence[Node], grid: Grid, rule: Relaxation) -> None:
        self.kind, self.rule = kind, rule
        self.offsets = [
            o for o in product((-1, 0, 1), repeat=len(grid.shape)) if 0 < sum(map(abs, o)) <= rule.connectivity
        ]
        identity = tokenize(
            kind, [n.token for n in nodes], rule.start, rule.relax, rule.outside, rule.connectivity, str(rule.dtype)
        )
        super().__init__(identity, nodes, grid)

    def title(self, step: str) -> str:
        return self.kind

    def indices(self, step: str) -> Iterable[Index]:
        return self.grid.indices() if step == "start" else [()]

    def needs(self, step: str, index: Index) -> Iterable[tuple[str, Index]]:
        if step == "start":
            return []
        return [("start", i) for i in self.grid.indices()] if step == "rounds" else [("rounds", ())]

    def run(self, step: str, index: Index, blocks: Blocks | None = None) -> None:
        if step == "start":
            self._start(index, blocks)
        elif step == "rounds":
            self._drive()
        else:
            self.folder.finish()

    def stop(self) -> None:
        self.folder.write("stop", {})

    # ---- blocks
    def _start(self, index: Index, blocks: Blocks | None) -> None:
        if self.folder.exists(block_name("border", index)):
            return  # a run that goes on: rounds have been built on it
        fixed, state = self.rule.start(self.read_inputs(index, blocks), self.grid.box(index))
        state = self.rule.relax(np.pad(state, 1, constant_values=self.rule.outside), fixed)
        self.folder.write(block_name("fixed", index), {"voxels": fixed})
        self._keep(index, state)

    def _keep(self, index: Index, state: np.ndarray) -> None:
        # The border last: it is what the neighbours see, and what is compared when a step is done again.
        self.folder.write(block_name("state", index), {"voxels": state})
        self.folder.write(block_name("border", index), borders(state))

    def step(self, index: Index) -> list[Index]:
        """Work a block out again. The neighbours beside which it changed."""
        if self.folder.exists("stop"):
            raise RunError(f"{self.kind}: stopped")
        state = self.folder.read(block_name("state", index))["voxels"]
        fixed = self.folder.read(block_name("fixed", index))["voxels"]
        new = self.rule.relax(self._with_halo(index, state), fixed)
        before, after = self.folder.read(block_name("border", index)), borders(new)
        beside = [o for o in self.offsets if self._inside(index, o) and (facing(before, o) != facing(after, o)).any()]
        if beside or (new != state).any():
            self._keep(index, new)
        return [tuple(i + k for i, k in zip(index, o)) for o in beside]

    def _inside(self, index: Index, offset: Index) -> bool:
        return all(0 <= i + o < n for i, o, n in zip(index, offset, self.grid.numblocks))

    def _with_halo(self, index: Index, state: np.ndarray) -> np.ndarray:
        out = np.pad(state, 1, constant_values=self.rule.outside)
        for offset in self.offsets:
            if self._inside(index, offset):
                other = tuple(i + o for i, o in zip(index, offset))
                seen = facing(self._border(other, offset), tuple(-o for o in offset))
                place = tuple(slice(1, -1) if not o else (0 if o < 0 else -1) for o in offset)
                out[place] = seen
        return out

    def _border(self, other: Index, offset: Index) -> dict[str, np.ndarray]:
        axis = next(a for a, o in enumerate(offset) if o)
        return self.folder.read(block_name("border", other), f"{axis}{int(offset[axis] < 0)}")

    # ---- rounds
    def _drive(self) -> None:
        self.folder.file("stop").unlink(missing_ok=True)
        if self.folder.exists("round"):
            record = self.folder.read("round")
            number, todo = int(record["number"]), [tuple(map(int, i)) for i in record["blocks"]]
        else:
            number, todo = 0, list(self.grid.indices()) if len(self.grid) > 1 else []
        while todo:
            beside = together(self.step, todo)
            number += 1
            todo = sorted({block for several in beside for block in several})
            blocks = np.array(todo, np.int64).reshape(len(todo), len(self.grid.numblocks))
            self.folder.write("round", {"number": np.array(number), "blocks": blocks})
            self.folder.write(f"rounds/{number}", {"blocks": np.array(len(beside))})

    @property
    def rounds(self) -> list[int]:
        """How many blocks each round worked out, of a relaxation that is done."""
        number = int(self.folder.read("round", "number")["number"]) if self.folder.exists("round") else 0
        return [int(self.folder.read(f"rounds/{k}")["blocks"]) for k in range(1, number + 1)]

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


def borders(state: np.ndarray) -> dict[str, np.ndarray]:
    """The faces of a block, by axis and side."""
    return {f"{a}{side}": np.take(state, -side, axis=a) for a in range(state.ndim) for side in (0, 1)}


def facing(faces: dict[str, np.ndarray], offset: Index) -> np.ndarray:
    """The voxels of a block's faces that its neighbour at an offset touches: a face, an edge or a corner."""
    axis = next(a for a, o in enumerate(offset) if o)
    face = faces[f"{axis}{int(offset[axis] > 0)}"]
    return face[tuple(slice(None) if not o else (-1 if o > 0 else 0) for a, o in enumerate(offset) if a != axis)]


# ---- the block tasks of all drivers --------------------------------------------------------------------------------
_lock = threading.Lock()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="bigbia-relax")


def together(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """The results of the block tasks of a driver: on the cluster whose task the driver is, else in this process."""
    try:
        from distributed import get_worker, worker_client

        get_worker()
    except (ImportError, ValueError):
        with _lock:
            pool = _pool(config.threads())
        return list(pool.map(function, items))
    with worker_client() as client:
        return client.gather(client.map(function, items, pure=False, retries=3))
