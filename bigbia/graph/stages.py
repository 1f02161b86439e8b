"""Stages: what must be finished before something else can be read.

A stage is a barrier: a threshold, a labelling, a table, an output. It names its tasks step by step, says which
earlier tasks each of them needs, and runs one; all a task makes goes to the stage's scratch folder. The Dask graph
(`graph/dask.py`) and the waves of `run/execute.py` are two renderings of the same stages.

`Left` is the node for what a stage left behind. It has the token of what it stands for, so a graph of nodes keeps its
token when a part of it is replaced by a stored copy (`lowered`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from dask.base import tokenize

from bigbia.graph import cache, scratch
from bigbia.graph.boxes import Box, Grid, Index, shape_of, slices, volume
from bigbia.graph.reading import consumers_first, live_inputs, read_together
from bigbia.graph.regions import Blocks, Node


class Stage:
    """A barrier. Subclasses set `inputs` and `steps` and define `indices`, `needs` and `run`.

    kind     what it is, for people: "threshold_otsu", "label"
    identity what it is: inputs and parameters, however it is cut
    token    its identity and its grid: the name of its scratch folder, whose files are cut as the grid is
    grid     how its block tasks cut the inputs
    steps    names of its steps, in order; the last has the single task ()
    keeps    token -> node, for inputs whose blocks its first step stores
    workspace  bytes a voxel that a task of a block holds besides what it reads, for `explain`
    replaces  its records are replaced as it goes: if one is lost, all of it is done again
    publishes  the places in the output whose files it writes
    definition  which definition of the result it follows, where there could be others: saved with what is made of it
    """

    kind = "stage"
    definition = ""
    workspace = 0.0
    replaces = False
    publishes: frozenset[str] = frozenset()
    steps: tuple[str, ...] = ()
    block_steps: frozenset[str] = frozenset()  # steps whose indices are those of the grid

    def __init__(self, identity: str, inputs: Sequence[Node], grid: Grid, keeps: Sequence[Node] = ()) -> None:
        self.identity = identity
        self.token = token = tokenize(identity, grid.chunks, [n.token for n in keeps])
        self.inputs = tuple(lowered(inputs))
        self.grid = grid
        self.keeps = {node.token: node for node in keeps}
        self._owner = scratch.session().folder(token)

    @property
    def folder(self) -> scratch.Folder:
        return self._owner.folder

    @property
    def complete(self) -> bool:
        return self.folder.complete

    # -- what a subclass says
    def indices(self, step: str) -> Iterable[Index]:
        raise NotImplementedError

    def needs(self, step: str, index: Index) -> Iterable[tuple[str, Index]]:
        raise NotImplementedError

    def run(self, step: str, index: Index, blocks: Blocks | None = None) -> None:
        raise NotImplementedError

    def reads(self, step: str, index: Index) -> tuple[Sequence[Node], Sequence[Box]]:
        """The nodes and boxes that a task reads, for live inputs, memory and `explain`."""
        if step in self.block_steps:
            return self.inputs, [self.grid.box(index)] * len(self.inputs)
        return (), ()

    def task_bytes(self, step: str, index: Index) -> int:
        """Bytes that a task holds besides what it reads, at its worst moment, for `explain` and admission."""
        _, boxes = self.reads(step, index)
        return int(self.workspace * max((volume(box) for box in boxes if box), default=0))

    def writes(self, step: str) -> float:
        """Bytes a voxel that a step leaves in scratch, for `explain`."""
        return sum(n.dtype.itemsize for n in self.keeps.values()) if step == self.steps[0] else 0.0

    def title(self, step: str) -> str:
        """What a step does, for a progress bar."""
        return self.kind if len(self.block_steps) == 1 else f"{self.kind}: {step}"

    def stop(self) -> None:
        """End what is under way elsewhere: only a step that drives tasks of its own has anything to end."""

    # -- what is the same for all
    def task(self, step: str, index: Index, blocks: Blocks | None = None) -> None:
        """Run one task, unless the whole stage is done already."""
        if not self.complete:
            self.run(step, index, blocks)
            cache.relieve()

    def live(self, step: str, index: Index) -> dict[str, list[Index]]:
        return live_inputs(*self.reads(step, index))

    def upstream(self) -> list[Stage]:
        return stages_of(self.inputs)

    def read_inputs(self, index: Index, blocks: Blocks | None = None) -> list[np.ndarray]:
        """The inputs of a block, those to be kept also written to scratch."""
        box = self.grid.box(index)
        data = read_together(self.inputs, [box] * len(self.inputs), blocks)
        for i, token in enumerate(self.keeps):
            voxels = data[[n.token for n in self.inputs].index(token)]
            self.folder.write(kept_name(i, index), {"voxels": voxels}, pack=True)
        return data

    def left(self, output: str, box: Box) -> np.ndarray:
        """The voxels of a box of something it left behind."""
        i = int(output.removeprefix("kept"))
        return self.recorded(f"kept{i}", "voxels", box, list(self.keeps.values())[i].dtype)

    def recorded(self, kind: str, key: str, box: Box, dtype: np.dtype) -> np.ndarray:
        """A box of an image whose blocks are arrays of that name in records of a kind."""
        out = np.empty(shape_of(box), dtype)
        for index, part in self.grid.overlapping(box):
            origin = self.grid.box(index)
            if not part:
                return self.folder.read(block_name(kind, index))[key]
            (a, b), *_ = part
            rows = self.folder.read_rows(block_name(kind, index), key, a - origin[0][0], b - origin[0][0])
            if part == box and part[1:] == origin[1:]:
                return rows
            out[slices(part, box)] = rows[(slice(None), *slices(part[1:], origin[1:]))]
        return out


def block_name(kind: str, index: Index) -> str:
    """A record's file name: one folder a kind."""
    return f"{kind}/" + (".".join(map(str, index)) or "0")


def kept_name(i: int, index: Index) -> str:
    return block_name(f"kept{i}", index)


@dataclass(frozen=True, eq=False)
class Left(Node):
    """What a stage left behind."""

    stage: Any  # Stage; Any keeps dataclass from comparing
    output: str
    size: tuple[int, ...]
    kind: np.dtype
    what: str  # the token of what it stands for

    def __post_init__(self) -> None:
        self._set(shape=tuple(self.size), dtype=np.dtype(self.kind), token=self.what)

    def compute(self, box: Box, parts: Any) -> np.ndarray:
        return self.stage.left(self.output, box)

    def __deepcopy__(self, memo: dict) -> Node:
        found = super().__deepcopy__(memo)
        if isinstance(found, Left) and found.stage is self.stage:
            found = memo[id(self)] = replace(found, stage=copy.deepcopy(self.stage, memo))
        return found


def stages_of(nodes: Iterable[Node]) -> list[Stage]:
    """The stages that must be done before the nodes can be read, each after those it needs itself."""
    found: dict[str, Stage] = {}

    def visit(several: Iterable[Node]) -> None:
        for node in consumers_first(*several):
            if isinstance(node, Left) and node.stage.token not in found:
                visit(node.stage.inputs)
                found.setdefault(node.stage.token, node.stage)

    visit(nodes)
    return list(found.values())


def lowered(nodes: Iterable[Node]) -> list[Node]:
    """The same nodes, reading what an upstream stage keeps instead of computing it again."""
    nodes = list(nodes)
    kept: dict[str, Left] = {}
    for stage in stages_of(nodes):
        for i, (token, node) in enumerate(stage.keeps.items()):
            kept.setdefault(token, Left(stage, f"kept{i}", node.shape, node.dtype, token))
    return replaced(nodes, kept) if kept else nodes


def replaced(nodes: Iterable[Node], stored: Mapping[str, Node]) -> list[Node]:
    """The same nodes over others that hold the same voxels: token -> node."""
    nodes = list(nodes)
    done: dict[str, Node] = {}
    for node in reversed(consumers_first(*nodes)):
        if node.token in stored and not isinstance(node, Left):
            done[node.token] = stored[node.token]
        else:
            children = tuple(done[c.token] for c in node.children)
            changed = any(a is not b for a, b in zip(children, node.children))
            done[node.token] = node.rebuilt(children) if changed else node
    return [done[node.token] for node in nodes]


def tree_steps(count: int, fan_in: int) -> list[int]:
    """How many tasks each level of a tree over `count` leaves has, above the leaves, down to 1."""
    levels: list[int] = []
    while count > 1 or not levels:
        count = -(-count // fan_in)
        levels.append(count)
    return levels


def tasks(stage: Stage) -> Iterator[tuple[str, Index]]:
    for step in stage.steps:
        for index in stage.indices(step):
            yield step, index
