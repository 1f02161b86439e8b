"""Rounds: blocks look at their neighbours' borders again and again, until nothing changes.

    start    every block works out what it can from itself alone, and leaves its border
    rounds   a driver: each round, every block beside which something changed is worked out again, from its neighbours'
             borders of one voxel; the round after starts from the blocks beside new changes

The result must be the unique fixpoint that every order of such steps reaches (a rule that only ever moves voxels one
way, to values that the final image has or that lie before it): then blocks may read a neighbour before or after its own
step of a round, and a step that is done twice does no harm.

The driver holds no voxels. Its block tasks run in one pool a process, so that several drivers at once do not run more
of them than there are threads; within a distributed worker they go to the cluster. What was done is in scratch: a
driver that is started again goes on with the round it was in. A mark `stop` in the folder ends it before the next block.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from itertools import product
from typing import Any

import numpy as np

from bigbia import config
from bigbia.errors import RunError
from bigbia.graph import cache
from bigbia.graph.boxes import Grid, Index, shape_of
from bigbia.graph.regions import Blocks, Node
from bigbia.graph.stages import Stage, block_name

_MARK = ("said", "round")  # beside a border: which neighbours its last change was beside, and in which round that was


class Rounds(Stage):
    """A stage whose driver works blocks out in rounds. Subclasses say what a block does: `start` and `step`.

    Neighbours differ by at most `connectivity` steps. `start` must leave what is there already as it is (`replace=False`):
    a run that goes on, or another one, has built rounds upon it.
    """

    block_steps = frozenset({"start"})
    steps = ("start", "rounds", "done")
    replaces = True

    def __init__(
        self, kind: str, identity: str, nodes: Sequence[Node], grid: Grid, connectivity: int, **more: Any
    ) -> None:
        self.kind = kind
        self.offsets = [o for o in product((-1, 0, 1), repeat=len(grid.shape)) if 0 < sum(map(abs, o)) <= connectivity]
        super().__init__(identity, nodes, grid, **more)

    def start(self, index: Index, blocks: Blocks | None) -> None:
        """Work a block out from itself alone."""
        raise NotImplementedError

    def step(self, index: Index) -> list[Index]:
        """Work a block out again. The neighbours beside which it changed."""
        raise NotImplementedError

    # ---- the stage
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
            self.start(index, blocks)
        elif step == "rounds":
            with self.folder.locked("driver"):  # two computes of one image: the second finds what the first has done
                if not self.complete:
                    self._drive()
        else:
            self.finish()

    def finish(self) -> None:
        self.folder.finish()

    # ---- the driver
    def stop(self) -> None:
        self.folder.write("stop", {})

    def _drive(self) -> None:
        self.folder.file("stop").unlink(missing_ok=True)
        if self.folder.exists("round"):
            record = self.folder.read("round")
            number, steps = int(record["number"]), int(record["steps"])
            todo = [tuple(map(int, i)) for i in record["blocks"]]
        else:
            number, steps, todo = 0, 0, list(self.grid.indices()) if len(self.grid) > 1 else []
        while todo := self.remaining(number, steps, todo):
            beside = together(functools.partial(self._checked_step, number), todo)
            number += 1
            steps += len(beside)
            todo = sorted({block for several in beside for block in several})
            blocks = np.array(todo, np.int64).reshape(len(todo), len(self.grid.numblocks))
            self.folder.write(f"rounds/{number}", {"blocks": np.array(len(beside))})
            self.folder.write("round", {"number": np.array(number), "steps": np.array(steps), "blocks": blocks})

    def remaining(self, number: int, steps: int, todo: list[Index]) -> list[Index]:
        """What is left to do after rounds, with steps in all: none where a subclass got to the end in another way."""
        return todo

    def check_stop(self) -> None:
        if self.folder.exists("stop"):
            raise RunError(f"{self.kind}: stopped")

    def _checked_step(self, number: int, index: Index) -> list[Index]:
        self.check_stop()
        beside = self.step(index)
        cache.relieve()
        name = block_name("border", index)
        said = self.folder.read(name, *_MARK) if self.folder.exists(name) else {}
        if said and int(said["round"]) == number:  # also by a step of this round that was cut off after its border
            beside = sorted({*beside, *(tuple(map(int, i)) for i in said["said"])})
        return beside

    @property
    def rounds(self) -> list[int]:
        """How many blocks each round worked out, of a stage that is done."""
        number = int(self.folder.read("round", "number")["number"]) if self.folder.exists("round") else 0
        return [int(self.folder.read(f"rounds/{k}")["blocks"]) for k in range(1, number + 1)]

    # ---- borders
    def keep_border(self, index: Index, border: Mapping[str, np.ndarray]) -> None:
        """What the neighbours see. Written last: it is compared when a step is done again.

        With it go the round and the neighbours beside which it changed, for the same step done again afterwards.
        """
        name = block_name("border", index)
        number, said = -1, []
        if self.folder.exists(name):
            number = int(self.folder.read("round", "number")["number"]) if self.folder.exists("round") else 0
            last = self.folder.read(name)
            said = self.beside(index, last, border)
            if int(last["round"]) == number:
                said = sorted({*said, *(tuple(map(int, i)) for i in last["said"])})
        mark = {"said": np.array(said, np.int64).reshape(len(said), len(index)), "round": np.array(number)}
        self.folder.write(name, {**border, **mark}, replace=number >= 0)

    def border(self, index: Index) -> dict[str, np.ndarray]:
        return self.folder.read_some(block_name("border", index), lambda name: name not in _MARK)

    def beside(self, index: Index, before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> list[Index]:
        """The neighbours beside which a border changed."""
        names = sorted({name.rpartition(".")[0] for name in after if "." in name})
        return [
            tuple(i + k for i, k in zip(index, o))
            for o in self.offsets
            if self.inside(index, o) and any((facing(before, o, n) != facing(after, o, n)).any() for n in names)
        ]

    def inside(self, index: Index, offset: Index) -> bool:
        return all(0 <= i + o < n for i, o, n in zip(index, offset, self.grid.numblocks))

    def layers(self, index: Index, name: str, outside: Any) -> dict[tuple[int, int], np.ndarray]:
        """The voxels just outside each face of a block, by axis and side, as the neighbours' borders are now.

        Each is larger than the face by one voxel on every side.
        """
        box = shape_of(self.grid.box(index))
        shapes = [tuple(n + 2 for b, n in enumerate(box) if b != a) for a in range(len(box))]
        found: dict[tuple[int, int], np.ndarray] = {}
        for offset in self.offsets:
            if not self.inside(index, offset):
                continue
            voxels = self.facing_me(index, offset, [name])[name]
            for axis in (a for a, o in enumerate(offset) if o):
                key = axis, int(offset[axis] > 0)
                if key not in found:
                    found[key] = np.full(shapes[axis], outside, voxels.dtype)
                found[key][at_the_end(tuple(o for a, o in enumerate(offset) if a != axis))] = voxels
        return found

    def facing_me(self, index: Index, offset: Index, names: Iterable[str]) -> dict[str, np.ndarray]:
        """The voxels of the neighbour at an offset that a block touches."""
        other = tuple(i + o for i, o in zip(index, offset))
        axis = next(a for a, o in enumerate(offset) if o)
        keys = {name: f"{name}.{axis}{int(offset[axis] < 0)}" for name in names}
        faces = self.folder.read(block_name("border", other), *keys.values())
        return {name: facing(faces, tuple(-o for o in offset), name) for name in keys}


def at_the_end(offset: Index) -> tuple[slice | int, ...]:
    """Where in an array with a halo the voxels of the neighbour at an offset go."""
    return tuple(slice(1, -1) if not o else (0 if o < 0 else -1) for o in offset)


def borders(name: str, state: np.ndarray) -> dict[str, np.ndarray]:
    """The faces of a block, by axis and side."""
    return {f"{name}.{a}{side}": np.take(state, -side, axis=a) for a in range(state.ndim) for side in (0, 1)}


def facing(faces: Mapping[str, np.ndarray], offset: Index, name: str) -> np.ndarray:
    """The voxels of a block's faces that its neighbour at an offset touches: a face, an edge or a corner."""
    axis = next(a for a, o in enumerate(offset) if o)
    face = faces[f"{name}.{axis}{int(offset[axis] > 0)}"]
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
        futures = [pool.submit(function, item) for item in items]
        left = wait(futures, return_when=FIRST_EXCEPTION).not_done
        for future in left:
            future.cancel()
        wait(left)  # what is running finishes, so that nothing is written after the error
        return [future.result() for future in futures if not future.cancelled()]
    with worker_client() as client:
        return client.gather(client.map(function, items, pure=False, retries=3))
