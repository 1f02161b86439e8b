"""Summaries by object: every block summarises the objects it sees, summaries of one object meet, rows come in label order.

    part     a block's objects, one row each, sorted by label
    gather   the rows of up to 64 blocks joined, rows of one object combined
    bounds   label ranges that hold about equally many rows
    rows     one range of labels: its rows from every gather, combined; a partition of the table

Nothing of the size of all labels is ever held: a gather holds what 64 blocks see, a partition its range. Combining is
exact, so blocks do not show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from dask.base import tokenize

from bigbia.graph.boxes import Box, Grid, Index, volume, whole
from bigbia.graph.cost import as_doubles, surface
from bigbia.graph.reading import read_together
from bigbia.graph.regions import Blocks, Node
from bigbia.graph.stages import Stage, block_name

Rows = Mapping[str, np.ndarray]
GATHER = 64
VOXELS_A_PARTITION = 2**27
SAMPLES, ALL_SAMPLES = 1024, 2**20

# What memory is foretold by, for objects of 16 voxels across (tests/test_memory.py): voxels of an object, and of
# its cut through a face; bytes of a row; bytes a voxel of a block whose objects are counted.
OBJECT, FACE = 16**3, 16**2
ROW = 128
PART = 2.0


class Group(Stage):
    """summarise(blocks, box, values) -> rows with "label", ascending;  combine(rows sorted by label, starts of each label) -> rows.

    `values` are 0-d nodes (thresholds, maxima) that the summaries need. `keeps` are images whose voxels are stored when
    they are first read; only where there are no values. `workspace`: bytes a voxel of a block that a summary takes.
    """

    block_steps = frozenset({"part"})
    workspace = PART
    rides = True  # can be summarised in the pass of another stage that reads the same voxels
    steps: tuple[str, ...] = ("part", "gather", "bounds", "rows", "done")

    def __init__(
        self,
        kind: str,
        images: Sequence[Node],
        values: Sequence[Node],
        grid: Grid,
        summarise: Callable[..., Rows],
        combine: Callable[[Rows, np.ndarray], Rows],
        keeps: Sequence[Node] = (),
        workspace: float = PART,
    ) -> None:
        self.kind, self.workspace = kind, workspace
        self.summarise, self.combine = summarise, combine
        self.images = len(images)
        self.partitions = max(1, -(-volume(whole(grid.shape)) // VOXELS_A_PARTITION))
        self.gathers = -(-len(grid) // GATHER)
        identity = tokenize(
            kind, [n.token for n in images], [n.token for n in values], summarise, combine, self.partitions
        )
        super().__init__(identity, [*images, *values], grid, keeps)

    def indices(self, step: str) -> Iterable[Index]:
        if step == "part":
            return self.grid.indices()
        if step == "gather":
            return [(i,) for i in range(self.gathers)]
        return [(i,) for i in range(self.partitions)] if step == "rows" else [()]

    def needs(self, step: str, index: Index) -> Iterable[tuple[str, Index]]:
        if step == "part":
            return []
        if step == "gather":
            return [("part", i) for i in self.members(index[0])]
        if step == "bounds":
            return [("gather", (i,)) for i in range(self.gathers)]
        return [("bounds", ())] if step == "rows" else [("rows", (i,)) for i in range(self.partitions)]

    def members(self, i: int) -> list[Index]:
        """The blocks of a gather."""
        return [
            tuple(int(k) for k in np.unravel_index(j, self.grid.numblocks)) if self.grid.numblocks else ()
            for j in range(i * GATHER, min((i + 1) * GATHER, len(self.grid)))
        ]

    def member(self, block: Index) -> tuple[int, int]:
        """The gather of a block, and which of its members it is."""
        return divmod(int(np.ravel_multi_index(block, self.grid.numblocks)) if block else 0, GATHER)

    def reads(self, step: str, index: Index) -> tuple[Sequence[Node], list]:
        if step == "part":
            return self.inputs, [self.grid.box(index)] * self.images + [()] * (len(self.inputs) - self.images)
        return (), []

    def run(self, step: str, index: Index, blocks: Blocks | None = None) -> None:
        if step == "part":
            data = self.read_inputs(index, blocks) if self.keeps else read_together(*self.reads(step, index), blocks)
            self.write_part(index, data[: self.images], data[self.images :])
        elif step == "gather":
            self.folder.write(
                block_name("gather", index), self._joined([block_name("part", i) for i in self.members(index[0])])
            )
        elif step == "bounds":
            self.folder.write("bounds", self._bounds())
        elif step == "rows":
            self.folder.write(block_name("rows", index), self._range(index[0]))
        else:
            self.folder.finish()

    def write_part(self, index: Index, data: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> None:
        """Summarise a block whose voxels are at hand.

        Another stage that reads the same voxels does it in the same pass.
        """
        self.folder.write(block_name("part", index), self.summarise(data, self.grid.box(index), values))

    def regridded(self, grid: Grid) -> Group:
        """The same grouping over other blocks."""
        images, values = self.inputs[: self.images], self.inputs[self.images :]
        return Group(self.kind, images, values, grid, self.summarise, self.combine, workspace=self.workspace)

    def read_values(self) -> list[np.ndarray]:
        values = self.inputs[self.images :]
        return read_together(values, [()] * len(values))

    def _joined(self, names: Sequence[str], first: Any = None, last: Any = None) -> Rows:
        """The rows of several records, those of one label combined; only labels in [first, last) where given."""
        parts = []
        for name in names:
            if first is None and last is None:
                parts.append(self.folder.read(name))
                continue
            label = self.folder.read(name, "label")["label"]
            a = 0 if first is None else int(np.searchsorted(label, first))
            b = len(label) if last is None else int(np.searchsorted(label, last))
            if a < b or not parts:  # of most gathers a range has nothing
                parts.append({k: v[a:b] for k, v in self.folder.read(name).items()})
        rows = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
        order = np.argsort(rows["label"], kind="stable")
        rows = {k: v[order] for k, v in rows.items()}
        label = rows["label"]
        starts = np.flatnonzero(np.append(True, label[1:] != label[:-1])) if len(label) else label
        return self.combine(rows, starts) if len(starts) else rows

    def _bounds(self) -> dict[str, np.ndarray]:
        """The labels at which all label ranges but the first begin, from an even sample of each gather's labels.

        And which gathers have any, with their first and last label. Of the labels' own dtype: uint64 fits no other.
        """
        labels, weights, filled, ends = [], [], [], []
        for i in range(self.gathers):
            label = self.folder.read(block_name("gather", (i,)), "label")["label"]
            if len(label):
                filled.append(i)
                ends.append(label[[0, -1]])
                at = np.unique(np.linspace(0, len(label) - 1, min(self.samples, len(label))).astype(int))
                labels.append(label[at])
                weights.append(np.full(len(at), len(label) / len(at)))
        which = {"gather": np.array(filled, np.int64), "ends": np.array(ends, label.dtype).reshape(-1, 2)}
        if not labels:
            return which | {"edge": np.ones(self.partitions - 1, label.dtype)}
        label, weight = np.concatenate(labels), np.concatenate(weights)
        order = np.argsort(label, kind="stable")
        label, share = label[order], np.cumsum(weight[order])
        inner = [np.searchsorted(share, share[-1] * k / self.partitions) for k in range(1, self.partitions)]
        return which | {"edge": label[np.array(inner, np.int64)]}

    def edges(self) -> np.ndarray:
        """The labels at which all partitions but the first begin, ascending."""
        return self.folder.read("bounds", "edge")["edge"]

    def _range(self, i: int) -> Rows:
        bounds = self.folder.read("bounds")
        edges, ends = bounds["edge"], bounds["ends"]
        first = edges[i - 1] if i > 0 else None
        last = edges[i] if i < len(edges) else None
        overlaps = np.ones(len(ends), bool)
        if first is not None:
            overlaps &= ends[:, 1] >= first
        if last is not None:
            overlaps &= ends[:, 0] < last
        gathers = bounds["gather"][overlaps].tolist() or [0]  # an empty one still says which columns there are
        return self._joined([block_name("gather", (j,)) for j in gathers], first, last)

    def partition(self, i: int) -> Rows:
        """The rows of one range of labels."""
        return self.folder.read(block_name("rows", (i,)))

    def left(self, output: str, box: Any) -> np.ndarray:
        if output.startswith("kept"):
            return super().left(output, box)
        raise NotImplementedError("a table is read by partitions")

    def writes(self, step: str) -> float:
        return 0.01 + super().writes(step)

    # ---- memory
    def task_bytes(self, step: str, index: Index) -> int:
        """Bytes that a task holds besides what it reads. How many objects there are nobody knows before: see OBJECT."""
        if step == "part":
            box = self.grid.box(index)
            return int((self.workspace + as_doubles(self.inputs[1 : self.images])) * volume(box)) + ROW * objects_in(
                box
            )
        if step == "gather":
            return 3 * ROW * self.objects_foretold(index[0])
        if step == "rows":
            return 3 * ROW * self.rows_foretold
        return 3 * 16 * self.samples * self.gathers if step == "bounds" else 0

    @property
    def samples(self) -> int:
        """How many labels of a gather `bounds` looks at; of very many gathers fewer."""
        return min(SAMPLES, max(16, ALL_SAMPLES // self.gathers))

    def objects_foretold(self, gather: int) -> int:
        """How many rows the blocks of a gather may have."""
        return sum(objects_in(self.grid.box(b)) for b in self.members(gather))

    @property
    def rows_foretold(self) -> int:
        """How many rows a partition may have."""
        return min(VOXELS_A_PARTITION, volume(whole(self.grid.shape))) // OBJECT + 1


def objects_in(box: Box) -> int:
    """How many objects a block may see: those in it, and those that its faces cut."""
    return volume(box) // OBJECT + surface(box) // FACE + 1
