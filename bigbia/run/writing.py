"""The stages that write: one pass over the blocks for all images of one shape, then the levels of their pyramids.

A block of the pass is a whole number of chunks (or shards) of every array written in it, so no two tasks share a
file. As many levels of a pyramid as come out in whole chunks are made from the block while it is at hand; the rest
are made from the level below, block by block.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.base import tokenize

from bigbia.errors import StorageError
from bigbia.graph.boxes import Box, Grid, Index, shape_of, slices
from bigbia.graph.group import Group
from bigbia.graph.journal import Written, noting
from bigbia.graph.reading import read_together
from bigbia.graph.regions import Blocks, Node
from bigbia.graph.stages import Stage, stages_of
from bigbia.run.output import Output, write_unit

LEVEL_BLOCK, LEVEL_BYTES = 1 << 22, 1 << 24  # voxels read at once to make a coarser level, and their bytes


@dataclass
class Rider:
    """A table that is summarised in the pass: its grouping, and the time and channel it belongs to."""

    stage: Group
    where: tuple[int, ...]
    nodes: range = range(0)  # which inputs of the pass are its images


class Write(Stage):
    """One pass over the blocks of all outputs of one shape."""

    kind = "write"
    steps = ("write", "done")
    block_steps = frozenset({"write"})

    def __init__(self, outputs: Sequence[Output], riders: Sequence[Rider], grid: Grid) -> None:
        self.outputs = list(outputs)
        self.riders = list(riders)
        self.over = outputs[0].image.over
        self.space = outputs[0].image.space
        inputs: list[Node] = [o.image.node for o in outputs]
        for rider in self.riders:
            rider.nodes = range(len(inputs), len(inputs) + rider.stage.images)
            inputs += rider.stage.inputs
        block = tuple(c[0] for c in grid.chunks)
        self.counts = [o.made_at_once(block) for o in outputs]
        self.publishes = frozenset(o.place for o in outputs)
        super().__init__(f"write-{tokenize([o.identity for o in outputs])}", inputs, grid)

    def indices(self, step: str) -> Iterable[Index]:
        return self.grid.indices() if step == "write" else [()]

    def needs(self, step: str, index: Index) -> Iterable[tuple[str, Index]]:
        return [] if step == "write" else [("write", i) for i in self.grid.indices()]

    def _riding(self, index: Index) -> list[Rider]:
        here = tuple(self.grid.box(index)[a][0] for a in self.over)
        return [r for r in self.riders if r.where == here]

    def reads(self, step: str, index: Index) -> tuple[Sequence[Node], Sequence[Box]]:
        if step != "write":
            return (), ()
        box = self.grid.box(index)
        nodes = list(self.inputs[: len(self.outputs)])
        boxes = [box] * len(nodes)
        for rider in self._riding(index):
            nodes += [self.inputs[i] for i in rider.nodes]
            boxes += [tuple(box[a] for a in self.space)] * len(rider.nodes)
        return nodes, boxes

    def run(self, step: str, index: Index, blocks: Blocks | None = None) -> None:
        if step == "done":
            self.folder.finish()
            return
        self._write(index, read_together(*self.reads(step, index), blocks))

    def _write(self, index: Index, data: list[np.ndarray]) -> None:
        box = self.grid.box(index)
        place = tuple(index[a] for a in self.space)
        at = len(self.outputs)
        for rider in self._riding(index):
            n = len(rider.nodes)
            rider.stage.write_part(place, data[at : at + n], rider.stage.read_values())
            at += n
        for output, count in zip(self.outputs, self.counts):
            output.write(box, data.pop(0), count)

    @property
    def targets(self) -> tuple[str, ...]:
        """The arrays that it writes to, as file names of theirs begin."""
        return tuple(f"{n}/" for o, count in zip(self.outputs, self.counts) for n in o.names()[:count])

    def write_missing(self, index: Index) -> tuple[Written, ...]:
        """Zeros for a block that cannot be had; the files written."""
        nodes, boxes = self.reads("write", index)
        with noting() as files:
            self._write(index, [np.zeros(shape_of(box), node.dtype) for node, box in zip(nodes, boxes)])
        return tuple(files)

    def task_bytes(self, step: str, index: Index) -> int:
        from bigbia.run.memory import write_bytes

        return write_bytes(self, index) if step == "write" else 0

    def writes(self, step: str) -> float:
        return 0.0


class Level(Stage):
    """A coarser level of a pyramid from the one below it."""

    kind = "pyramid"
    anchored = True  # its blocks are those of the level, whatever the blocks of the image
    steps = ("level", "done")
    block_steps = frozenset({"level"})

    def __init__(self, output: Output, level: int) -> None:
        self.output, self.level = output, level
        self.publishes = frozenset({output.place})
        self.step_factors = tuple(f // g for f, g in zip(output.factors[level], output.factors[level - 1]))
        unit = tuple(u * f for u, f in zip(write_unit(self.target), self.step_factors))
        shape = self.source.shape
        most = min(LEVEL_BLOCK, LEVEL_BYTES // output.dtype.itemsize)
        spatial = output.image.space
        block = [unit[a] if a in spatial else 1 for a in range(len(unit))]
        for axis in spatial:
            while math.prod(block) * 2 <= most and block[axis] < shape[axis]:
                block[axis] *= 2
        super().__init__(f"level-{tokenize(output.identity, level)}", [], Grid.regular(shape, block))

    @property
    def source(self) -> Any:
        return self.output.arrays[self.level - 1]

    @property
    def target(self) -> Any:
        return self.output.arrays[self.level]

    @property
    def targets(self) -> tuple[str, ...]:
        return (f"{self.output.names()[self.level]}/",)

    def indices(self, step: str) -> Iterable[Index]:
        return self.grid.indices() if step == "level" else [()]

    def needs(self, step: str, index: Index) -> Iterable[tuple[str, Index]]:
        return [] if step == "level" else [("level", i) for i in self.grid.indices()]

    def run(self, step: str, index: Index, blocks: Blocks | None = None) -> None:
        from bigbia.io.ome_zarr import downsample

        if step == "done":
            self.folder.finish()
            return
        box = self.grid.box(index)
        data = downsample(self._read(box), self.step_factors, self.output.how)
        self.output.write_level(
            self.level, tuple((a // f, -(-b // f)) for (a, b), f in zip(box, self.step_factors)), data
        )

    def task_bytes(self, step: str, index: Index) -> int:
        from bigbia.run.memory import level_bytes

        return level_bytes(self, index) if step == "level" else 0

    def _read(self, box: Box) -> np.ndarray:
        """Voxels of the level below; zarr would read a file that is gone as zeros."""
        from bigbia.io.ome_zarr import layout_of

        folder = self.output.root / self.output.names()[self.level - 1]
        layout = layout_of(self.source, folder)
        for index in layout.touched(box):
            if not (folder / layout.key(index)).exists():
                raise StorageError(
                    f"{folder / layout.key(index)}: is gone since this run wrote it; run again to write it again"
                )
        return np.asarray(self.source[slices(box)])


def written_together(
    outputs: Sequence[Output], tables: Sequence[tuple[str, int, Any]]
) -> tuple[list[Stage], dict[tuple[str, int], Rider]]:
    """The stages that write the outputs, and the tables' parts that ride along: (table, part number) -> rider."""
    passes: dict[tuple, list[Output]] = {}
    for output in outputs:
        passes.setdefault((output.array.dims, output.array.shape), []).append(output)
    stages: list[Stage] = []
    before = {stage.token for stage in stages_of([o.image.node for o in outputs])}  # will be there anyway
    riding: dict[tuple[str, int], Rider] = {}
    for (dims, _), several in passes.items():
        grid = grid_for(several)
        image = several[0].image
        spatial = Grid(tuple(grid.chunks[a] for a in image.space))
        mine = []
        for name, k, part in tables:
            over = [str(dims[a]) for a in image.over]
            fits = part.stage.grid.shape == spatial.shape and list(part.where) == over
            rides = isinstance(part.stage, Group) and part.stage.rides
            if (name, k) not in riding and fits and rides and part.stage.token not in before:
                rider = Rider(part.stage.regridded(spatial), tuple(part.where[d] for d in over))
                riding[name, k] = rider
                mine.append(rider)
        write = Write(several, mine, grid)
        stages.append(write)
        for output, count in zip(several, write.counts):
            stages += [Level(output, level) for level in range(max(1, count), len(output.arrays))]
    return stages, riding


def grid_for(outputs: Sequence[Output]) -> Grid:
    """Blocks of whole files of every output, as near to the blocks of the first image as can be."""
    first = outputs[0].image
    block = []
    for axis, n in enumerate(first.shape):
        unit = math.lcm(*(o.unit()[axis] for o in outputs))
        wanted = 1 if axis in first.over else max(first.chunks[axis], default=1)
        block.append(min(-(-wanted // unit) * unit, -(-n // unit) * unit))
    return Grid.regular(first.shape, block)
