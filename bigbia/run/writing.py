"""The stages that write: one pass over the blocks for all images of one shape, then the levels of their pyramids.

A block of the pass is a whole number of chunks (or shards) of every array written in it, so no two tasks share a
file. As many levels of a pyramid as come out in whole chunks are made from the block while it is at hand; the rest
are made from the level below, block by block.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from dask.base import tokenize

from bigbia import hyperstack
from bigbia.errors import ParameterError, StorageError
from bigbia.graph.boxes import Box, Grid, Index, shape_of, slices
from bigbia.graph.group import Group
from bigbia.graph.journal import Written, noting
from bigbia.graph.lazy import Lazy, lazy
from bigbia.graph.reading import read_together
from bigbia.graph.regions import Blocks, Node
from bigbia.graph.stages import Stage, stages_of
from bigbia.io.places import Place
from bigbia.io.zarr_source import Layout, find_node
from bigbia.run.like import Like
from bigbia.run.showing import Shown

CHUNK = {1: 1 << 18, 2: 512, 3: 128}  # voxels an axis of space, by how many there are
LEVEL_BLOCK, LEVEL_BYTES = 1 << 22, 1 << 24  # voxels read at once to make a coarser level, and their bytes


@dataclass
class Output:
    """An image to be written: where, and as what."""

    place: str
    array: Any  # DataArray, axes in OME order
    image: Lazy
    is_label: bool
    first_level: int
    version: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    levels: int | None
    how: str
    shown: Shown | None = None  # None for labels
    like: Like | None = None  # the image into whose labels it goes
    root: Path = Path()  # of the run
    read_back: bool = False
    arrays: list[Any] = field(default_factory=list)
    factors: list[tuple[int, ...]] = field(default_factory=list)  # of each array to the full resolution

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8) if self.image.node.dtype == bool else self.image.node.dtype

    def create(self, folder: Path) -> None:
        """Make the arrays and their metadata; no voxels."""
        from bigbia.io.ome_zarr import create_group, create_image, level_shapes, register_label

        axes = tuple(map(str, self.array.dims))
        sizes = hyperstack.voxel_size(self.array)
        step = hyperstack.time_step(self.array)
        create_group(folder, self.version)
        if self.place.startswith("images/"):  # a folder between two groups is one itself: Zarr 3 knows no others
            create_group(folder / "images", self.version)
        place = folder / self.place if self.place else folder
        known = None if self.like is None else self.like.pyramid(axes)
        definitions = sorted({s.definition for s in stages_of([self.image.node]) if s.definition})
        if definitions:
            create_group(place, self.version).attrs["bigbia"] = {"definitions": definitions}
        self.arrays = create_image(
            place,
            shape=self.array.shape,
            dtype=self.dtype,
            axes=axes,
            voxel_size=sizes,
            unit=hyperstack.unit(self.array),
            channels=None if self.shown is None else self.shown.names,
            colors=None if self.shown is None else self.shown.colors,
            windows=None if self.shown is None else self.shown.windows,
            limits=None if self.shown is None else self.shown.limits,
            name=self.place.split("/")[-1] or folder.name.removesuffix(".partial"),
            chunks=self.chunks,
            shards=self.shards,
            version=self.version,
            levels=self.levels,
            labels=self.is_label,
            first_level=self.first_level,
            origin=hyperstack.origin(self.array),
            time_step=step[0] if step else None,
            time_unit=step[1] if step else None,
            pyramid=known,
        )
        if self.like is not None and known is not None:
            self.like.describe(place, axes, known)
        if known is None:
            known = level_shapes(self.array.shape, axes, sizes, self.first_level + len(self.arrays))
        self.factors = [f for _, f in known[-len(self.arrays) :]]
        if self.is_label:
            register_label(folder, self.place.split("/")[-1])

    def placed(self, root: Path, read_back: bool) -> None:
        """Have the arrays in the folder of a run, where their metadata are by now."""
        import zarr

        self.root, self.read_back = root, read_back
        self.arrays = [zarr.open_array(root / name, mode="r+") for name in self.names()]

    def names(self) -> list[str]:
        """The folders of its arrays, in the output."""
        return [f"{self.place}/{i}".lstrip("/") for i in range(len(self.arrays))]

    def write_level(self, level: int, box: Box, data: np.ndarray) -> None:
        from bigbia.io.ome_zarr import write_block

        write_block(self.arrays[level], box, data, root=self.root, read_back=self.read_back)

    @property
    def identity(self) -> tuple:
        """What is written, for the names of stages: two runs of one identity write the same bytes."""
        return (
            *(self.place, self.image.node.token, self.is_label, self.first_level, self.version),
            *(self.chunks, self.shards, self.levels, self.how),
            None if self.like is None else self.like.described(),
        )

    def described(self) -> dict[str, Any]:
        """What is written, for people and for the fingerprint of a run."""
        return {
            "shape": list(self.array.shape),
            "axes": "".join(map(str, self.array.dims)),
            "dtype": str(self.dtype),
            "voxel_size": hyperstack.voxel_size(self.array),
            "unit": hyperstack.unit(self.array),
            "channels": hyperstack.channels(self.array),
            "labels": self.is_label,
            "first_level": self.first_level,
            "version": self.version,
            "chunks": list(self.chunks),
            "shards": None if self.shards is None else list(self.shards),
            "levels": self.levels,
            "downsampling": self.how,
            "voxels": self.image.node.token,
            **({} if self.shown is None else {"display": self.shown.described()}),
            **({} if self.like is None else {"like": self.like.described()}),
        }

    def unit(self) -> tuple[int, ...]:
        """The least block that fills whole files of the finest array, in voxels of the image."""
        return tuple(u * f for u, f in zip(write_unit(self.arrays[0]), self.factors[0]))

    def made_at_once(self, block: Sequence[int]) -> int:
        """How many of its levels come out of a block in whole files."""
        count = 0
        for array, factors in zip(self.arrays, self.factors):
            fits = all(
                b >= n or b % (f * u) == 0 for b, n, f, u in zip(block, self.array.shape, factors, write_unit(array))
            )
            if not fits:
                break
            count += 1
        return count

    def write(self, box: Box, voxels: np.ndarray, count: int) -> None:
        """Write a block and what becomes of it in the first levels."""
        for level, (factors, data) in enumerate(zip(self.factors[:count], self.made_levels(voxels))):
            self.write_level(level, tuple((a // f, -(-b // f)) for (a, b), f in zip(box, factors)), data)

    def made_levels(self, voxels: np.ndarray) -> Iterator[np.ndarray]:
        """What a block becomes, level after level."""
        from bigbia.io.ome_zarr import downsample

        data = voxels.view(np.uint8) if voxels.dtype == bool else np.ascontiguousarray(voxels)
        before = (1,) * voxels.ndim
        for factors in self.factors:
            step = tuple(f // g for f, g in zip(factors, before))
            if any(s > 1 for s in step):
                data = downsample(data, step, self.how)
            yield data
            before = factors


def layout_at(folder: Path) -> Layout:
    """How the array in a folder is cut into files."""
    node = find_node(Place(folder))
    if node is None:
        raise StorageError(f"{folder}: its metadata is gone: run again")
    return Layout.of(node)


def write_unit(array: Any) -> tuple[int, ...]:
    return tuple(array.shards or array.chunks)


def output_of(
    place: str,
    array: Any,
    is_label: bool,
    first_level: int,
    version: str,
    chunks: Any,
    shards: Any,
    levels: int | None,
    how: str,
) -> Output:
    space = hyperstack.spatial_axes(array)
    image = lazy(array, f"save: {place or 'image'}")

    def voxels(given: Any, name: str) -> tuple[int, ...]:
        lengths = [given] * len(space) if np.ndim(given) == 0 else list(given)
        if len(lengths) != len(space) or not all(isinstance(n, (int, np.integer)) and n > 0 for n in lengths):
            raise ParameterError(f"save: {name}={given!r}: give 1 or {len(space)} whole numbers of voxels")
        out = [1] * array.ndim
        for axis, n in zip(space, lengths):
            out[axis] = min(int(n), array.shape[axis])
        return tuple(out)

    size = voxels(CHUNK[len(space)] if chunks is None else chunks, "chunks")
    shard = None if shards is None else voxels(shards, "shards")
    if shard is not None:
        shard = tuple(-(-s // c) * c if s == n else s for s, c, n in zip(shard, size, array.shape))
        for axis, s, c in zip(array.dims, shard, size):
            if s % c:
                raise ParameterError(
                    f"save: axis {axis}: a shard of {s} voxels is not a whole number of chunks of {c}; use {-(-s // c) * c}"
                )
    return Output(place, array, image, is_label, first_level, version, size, shard, levels, how)


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
