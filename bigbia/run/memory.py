"""Predicted memory: of one task of a stage, and of a whole run. Nothing is read.

    a task    what it holds while it reads (`graph/cost.py`), or what it has read and what it works with (`task_bytes`)
    a run     Python and its libraries, the cache of decoded chunks, and on each thread the largest task of all

How the figures are calibrated, and what they leave out: docs/design/006-memory.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from bigbia.graph import cache, cost
from bigbia.graph.boxes import Box, Grid, Index, shape_of, volume
from bigbia.graph.group import Group
from bigbia.graph.reading import consumers_first, plan
from bigbia.graph.regions import Literal, Node, Store
from bigbia.graph.rounds import Rounds
from bigbia.graph.stages import Stage

PYRAMID = {"nearest": 0.5, "mean": 2.5, "mode": 24.0}  # bytes a voxel that making a coarser level takes
ENCODING = 3.2  # times a file's voxels: in order, as the codec needs room for them, with the checksum
TOGETHER = 10  # chunks that zarr decodes at once
TABLE_ROW = 512  # bytes of a row of a table that is written: as a frame, and as Parquet holds it back
ROWS_HELD = 1 << 16
RETAINED = 8 << 20  # bytes a thread that the allocator keeps of what was freed (`cache.relieve`)


@dataclass(frozen=True)
class Task:
    """The largest task of a step: its stage and block, and its bytes."""

    stage: str
    step: str
    block: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class Peak:
    """The predicted peak of a run. `alone` is what one thread holds once all others are done: a table being written."""

    reserved: int
    cache: int
    held: int  # arrays that are at hand, and are part of the graph
    threads: int
    largest: Task
    alone: int = 0

    @property
    def fixed(self) -> int:
        return self.reserved + self.cache + self.held + RETAINED * (self.threads + 1)

    @property
    def bytes(self) -> int:
        return self.fixed + max(self.threads * self.largest.bytes, self.alone)

    def threads_within(self, limit: int) -> int:
        """How many threads fit; 0: not even one."""
        if self.fixed + self.alone > limit:
            return 0
        return max(0, limit - self.fixed + RETAINED * self.threads) // (max(1, self.largest.bytes) + RETAINED)


# ---- of a task -------------------------------------------------------------------------------------------------------
def task_bytes(stage: Any, step: str, index: Index) -> int:
    """Peak bytes of one task of a stage: while it reads, or while it works on what it has read."""
    roots, boxes = stage.reads(step, index)
    reading = cost.task_bytes(roots, boxes) if roots else 0
    return max(reading, cost.root_bytes(roots, boxes) + held_bytes(stage, step, index))


def held_bytes(stage: Any, step: str, index: Index) -> int:
    """What a task holds besides what it has read, at its worst moment."""
    return int(stage.task_bytes(step, index))


def write_bytes(stage: Any, index: Index) -> int:
    """Of a task of the pass that writes: a copy in order, the levels made at once, one file; a table that rides along."""
    size = volume(stage.grid.box(index))
    riding = [r.stage.task_bytes("part", tuple(index[a] for a in stage.space)) for r in stage._riding(index)]
    each = [
        size * o.dtype.itemsize
        + (int(PYRAMID.get(o.how, 2.5) * size) if count > 1 or o.first_level else 0)
        + file_bytes(o.shards or o.chunks, o.dtype, size)
        for o, count in zip(stage.outputs, stage.counts)
    ]
    return max([0, *riding, *each])


def level_bytes(stage: Any, index: Index) -> int:
    """Of a task that makes a coarser level: the voxels of the finer one, what is made of them, one file."""
    size, output = volume(stage.grid.box(index)), stage.output
    read = size * output.dtype.itemsize
    chunk = math.prod(output.chunks) * output.dtype.itemsize
    made = read + min(read, TOGETHER * chunk) + int(PYRAMID.get(output.how, 2.5) * size)
    return made + file_bytes(output.shards or output.chunks, output.dtype, size)


def file_bytes(unit: Sequence[int], dtype: np.dtype, most: int) -> int:
    """Of a file that is being encoded; one of a smaller image is padded, but no larger than it must be."""
    return int(ENCODING * min(math.prod(unit), 8 * most) * np.dtype(dtype).itemsize)


@dataclass(frozen=True)
class Reading:
    """Blocks of an image that will be written, or only read: the last pass of a run, before there is a stage for it."""

    kind: str
    node: Node
    grid: Grid
    unit: tuple[int, ...] = ()  # voxels of a file; none: not written

    steps = ("read",)
    block_steps = frozenset({"read"})
    complete = False

    def indices(self, step: str) -> Iterator[Index]:
        return self.grid.indices()

    def reads(self, step: str, index: Index) -> tuple[Sequence[Node], Sequence[Box]]:
        return [self.node], [self.grid.box(index)]

    def task_bytes(self, step: str, index: Index) -> int:
        if not self.unit:
            return 0
        size, dtype = volume(self.grid.box(index)), self.node.dtype
        return size * dtype.itemsize + int(PYRAMID["mean"] * size) + file_bytes(self.unit, dtype, size)


# ---- of a run --------------------------------------------------------------------------------------------------------
def predicted(stages: Iterable[Any], threads: int, memory: int | None = None) -> Peak:
    """The peak of a run of stages, those below them included by the caller. `memory`: the setting, for the cache."""
    todo = [stage for stage in stages if not stage.complete]
    largest = max((largest_task(stage) for stage in todo), key=lambda t: t.bytes, default=Task("nothing", "", (), 0))
    tables = (table_bytes(stage) for stage in todo if isinstance(stage, Group))
    return Peak(
        reserved=cache.RESERVED,
        cache=cached_bytes(todo, memory),
        held=at_hand(todo),
        threads=threads,
        largest=largest,
        alone=max([0, *tables, *(single_bytes(stage) for stage in todo)]),
    )


def largest_task(stage: Any) -> Task:
    """The task of a stage that takes most."""
    found = Task(stage.kind, "", (), 0)
    for step in stage.steps:
        for index in () if _single(stage, step) else _typical(stage, step):
            size = task_bytes(stage, step, index)
            if size > found.bytes:
                by_block = step in stage.block_steps and len(index) == len(stage.grid.chunks)
                block = shape_of(stage.grid.box(index)) if by_block else largest_of(stage.grid)
                found = Task(stage.kind, step, block, size)
    return found


def single_bytes(stage: Any) -> int:
    """Of the largest task of those that are the only one of their step, so that other threads rest."""
    return max((task_bytes(stage, step, ()) for step in stage.steps if _single(stage, step)), default=0)


def _single(stage: Any, step: str) -> bool:
    """Whether a step is one task, and not the driver of others."""
    if step in stage.block_steps or (isinstance(stage, Rounds) and step == "rounds"):
        return False
    return list(islice(stage.indices(step), 2)) == [()]


def largest_of(grid: Grid) -> tuple[int, ...]:
    """The lengths of the largest block."""
    return tuple(max(c, default=0) for c in grid.chunks)


def _typical(stage: Any, step: str) -> list[Index]:
    """Tasks of a step, the largest among them: blocks of the full size, in the image and where it begins."""
    if step in stage.block_steps and len(stage.grid):
        grid = stage.grid
        full = [[i for i, n in enumerate(c) if n == max(c)] for c in grid.chunks]
        return list(dict.fromkeys([tuple(f[len(f) // 2] for f in full), tuple(f[0] for f in full)]))
    some = list(islice(stage.indices(step), 4096))
    return list(dict.fromkeys([*some[:1], *some[len(some) // 2 : len(some) // 2 + 1], *some[-1:]]))


def cached_bytes(stages: Iterable[Any], memory: int | None = None) -> int:
    """Of decoded chunks: the cache's share, or the images where they are smaller; none where blocks are whole chunks."""
    capacity = cache.capacity(memory)
    sizes: dict[str, int] = {}
    for stage in stages:
        for step in stage.block_steps:
            for index in _typical(stage, step)[:1]:
                for node, todo in plan(*stage.reads(step, index)):
                    if isinstance(node, Store) and any(not cache.whole_chunks(node.source, box) for box, _ in todo):
                        chunk = math.prod(node.source.chunks) * node.dtype.itemsize
                        sizes[node.token] = _bytes(node) if chunk <= capacity // 4 else 0
    return min(capacity, sum(sizes.values()))


def at_hand(stages: Iterable[Any]) -> int:
    """Of the arrays that are part of the graph."""
    found: dict[str, int] = {}
    for stage in stages:
        for step in stage.block_steps:
            for index in _typical(stage, step)[:1]:
                roots, _ = stage.reads(step, index)
                found |= {n.token: _bytes(n) for n in consumers_first(*roots) if isinstance(n, Literal)}
    return sum(found.values())


def _bytes(node: Node) -> int:
    return math.prod(node.shape) * node.dtype.itemsize


def table_bytes(stage: Group) -> int:
    """Of writing a table: the rows of a partition as a frame, and those that wait to be a row group."""
    return TABLE_ROW * min(stage.rows_foretold, ROWS_HELD) * 2


def scratch_bytes(stages: Iterable[Any]) -> int:
    """What stages leave in scratch, before it is packed."""
    total = 0.0
    for stage in stages:
        if isinstance(stage, Stage) and not stage.complete:
            total += sum(stage.writes(step) for step in stage.steps) * math.prod(stage.grid.shape)
    return int(total)


# ---- of results that are not saved yet -------------------------------------------------------------------------------
def stages_for(results: Mapping[str, Any], unit: Sequence[int] = ()) -> list[Any]:
    """All stages that lazy results need, and a `Reading` for each image among them, in whole files of `unit` voxels.

    results : name -> lazy array or table, or a mapping of such, as `bigbia.explain` takes them
    unit    : voxels of a file of the output along the axes of space
    """
    from bigbia import hyperstack
    from bigbia.graph.dask import node_of
    from bigbia.graph.stages import stages_of
    from bigbia.graph.table import table_graph

    found: dict[str, Any] = {}
    for name, one in named(results):
        graph = table_graph(one) if hasattr(one, "columns") else None
        if graph is not None:
            for part in graph.parts:
                found |= {s.token: s for s in [*stages_of(part.stage.inputs), part.stage]}
            continue
        data = one.data if hyperstack.is_hyperstack(one) else one
        if not hasattr(data, "dask"):
            continue
        node, _, _ = node_of(data)
        found |= {s.token: s for s in stages_of([node])}
        if all(n == n for n in data.shape):
            space = hyperstack.spatial_axes(one)
            found[name] = Reading(name, node, _in_files(data, space, unit), tuple(unit))
    return list(found.values())


def named(results: Any) -> list[tuple[str, Any]]:
    """The lazy results of a mapping of mappings, by "labels/nuclei"; one result alone is to be read."""
    if not isinstance(results, Mapping):
        return [("read", results)]
    found = []
    for key, value in results.items():
        several = value if isinstance(value, Mapping) else {"": value}
        found += [(f"{key}/{name}".strip("/"), one) for name, one in several.items() if one is not None]
    return found


def _in_files(data: Any, space: Sequence[int], unit: Sequence[int]) -> Grid:
    """The blocks in which an image is written: whole files, one time and channel each; those it has where there are none."""
    if not unit:
        return Grid(data.chunks)
    block = [1] * data.ndim
    for axis, u in zip(space, unit):
        u = min(u, data.shape[axis])
        block[axis] = -(-max(data.chunks[axis], default=1) // u) * u
    return Grid.regular(data.shape, block)
