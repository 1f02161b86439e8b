"""Numbers for objects: 1, 2, 3, ... in raster order of their first voxels, without a list of all objects.

An object is named by the raster index of its first voxel, and the block that holds that voxel owns it. Its number is
its rank among the names, from counts:

    rows     along a row of blocks (the last axis): how many objects begin on each line of voxels, and the rank of each
             among those of its own line
    scan     along each other axis, last but one first: running sums of these counts
    numbers  of a block's components: the owner's rank on the line, and the sums ahead of it

Only objects that stayed are counted, so a filter before costs no second labelling.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import numpy as np
from dask.base import tokenize

from bigbia.errors import RunError
from bigbia.graph.boxes import Box, Index, shape_of, volume
from bigbia.graph.merge import Components, painting_bytes
from bigbia.graph.regions import Blocks
from bigbia.graph.stages import Left, Stage, block_name
from bigbia.kernels.names import numbered, ranks_on_lines

KNOWN = 3.0  # bytes of memory a voxel that are foretold, as in `graph/merge.py`


class Ranks(Stage):
    """The components of a stage, numbered. It leaves `labels` (an image) and `count` (0-d)."""

    def __init__(self, objects: Components, dtype: np.dtype) -> None:
        self.objects, self.dtype = objects, np.dtype(dtype)
        self.kind = f"{objects.kind} numbers"
        self.ndim = len(objects.grid.numblocks)
        scans = [f"scan{k}" for k in range(self.ndim - 2, -1, -1)]
        self.steps = ("rows", *scans, "numbers", "done")
        super().__init__(tokenize("ranks", objects.identity, str(self.dtype)), [objects.kept()], objects.grid)

    def indices(self, step: str) -> Iterable[Index]:
        if step == "numbers":
            return product(*map(range, self.grid.nodes(min(1, self.objects.depth))))
        axes = self.ndim - 1 if step == "rows" else 0 if step == "done" else int(step[4:])
        return product(*map(range, self.grid.numblocks[:axes]))

    def needs(self, step: str, index: Index) -> Iterable[tuple[str, Index]]:
        if step == "rows":
            return []
        if step.startswith("scan"):
            k = int(step[4:])
            return [(self._before(k), (*index, b)) for b in range(self.grid.numblocks[k])]
        if step == "numbers":
            return [("scan0" if self.ndim > 1 else "rows", ())]
        return [("numbers", i) for i in self.indices("numbers")]

    def _before(self, k: int) -> str:
        return "rows" if k == self.ndim - 2 else f"scan{k + 1}"

    def run(self, step: str, index: Index, blocks: Blocks | None = None) -> None:
        if step == "rows":
            self._row(index)
        elif step.startswith("scan"):
            self._scan(int(step[4:]), index)
        elif step == "numbers":
            for block in product(*self.grid.below(min(1, self.objects.depth), index)):
                self._number(block)
        else:
            self.folder.finish()

    def _row(self, row: Index) -> None:
        """Rank of each object among those of its line of voxels, over a row of blocks along the last axis."""
        lead = shape_of(self.grid.box((*row, 0)))[:-1]
        counts = np.zeros(int(np.prod(lead, dtype=np.int64)), np.int64)
        for j in range(self.grid.numblocks[-1]):
            block = (*row, j)
            line = self.objects.lines(block)
            own = self._own(block, len(line))
            rank = ranks_on_lines(line[own], counts)
            # of those that other blocks ask for
            member, name = self.objects.shared_names(block)
            asked = own[member]
            of_member = np.cumsum(own)[member[asked]] - 1 if len(member) else member
            shared = {"name": name[asked], "name rank": rank[of_member], "name line": line[member[asked]]}
            self.folder.write(block_name("rank", block), {"rank": rank, **shared})
        if self.ndim == 1:
            self._check(int(counts.sum()))
        self.folder.write(block_name("rows", row), {"count": counts.reshape(lead)})

    def _own(self, block: Index, count: int) -> np.ndarray:
        """Which of a block's components are the beginning of an object."""
        own = np.ones(count, bool)
        own[self.objects.changes(block)[0]] = False
        return own

    def _scan(self, k: int, index: Index) -> None:
        """Running sums along axis k.

        How many objects come before each line, among those that share its first k coordinates.
        """
        base: np.ndarray | None = None
        for b in range(self.grid.numblocks[k]):
            counts = self.folder.read(block_name(self._before(k), (*index, b)), "count")["count"]
            ahead = np.cumsum(counts, axis=k) - counts
            if base is None:
                base = np.zeros(counts.shape[:k], np.int64)
            self.folder.write(block_name(f"ahead{k}", (*index, b)), {"ahead": ahead + base[..., None]})
            base = base + counts.sum(axis=k)
        assert base is not None
        if k == 0:
            self._check(int(base))
        self.folder.write(block_name(f"scan{k}", index), {"count": base})

    def _check(self, total: int) -> None:
        check_count(total, self.dtype)
        self.folder.write("count", {"count": np.array(total, np.int64)})

    def _number(self, block: Index) -> None:
        line = self.objects.lines(block)
        which, final = self.objects.changes(block)
        out = np.zeros(len(line) + 1, self.dtype)
        rank = self.folder.read(block_name("rank", block), "rank")["rank"]
        numbered(self._own(block, len(line)), rank, line, self._ahead(block), out)
        names, inverse = np.unique(final, return_inverse=True)
        out[1:][which] = self.numbers(names)[inverse]
        self.folder.write(block_name("numbers", block), {"number": out})

    def _ahead(self, block: Index) -> np.ndarray:
        """How many objects begin before each line of a block."""
        box = self.grid.box(block)
        ahead = np.zeros(shape_of(box)[:-1], np.int64)
        for k in range(self.ndim - 1):
            part = self.folder.read(block_name(f"ahead{k}", block[: k + 1]))["ahead"]
            ahead += part.reshape(part.shape + (1,) * (self.ndim - 2 - k))
        return ahead.reshape(-1)

    def numbers(self, names: np.ndarray) -> np.ndarray:
        """The numbers of objects of several blocks, ascending by name; 0 for 0."""
        numbers = np.zeros(len(names), np.int64)
        real = np.flatnonzero(names)
        place = np.array(np.unravel_index(names[real] - 1, self.grid.shape), np.int64).reshape(self.ndim, -1)
        owner = np.zeros(len(real), np.int64)
        for p, edges, n in zip(place, self.grid.edges, self.grid.numblocks):
            owner = owner * n + np.searchsorted(edges, p, side="right") - 1
        which, member = np.unique(owner, return_inverse=True)
        for i, flat in enumerate(which):
            block = tuple(int(c) for c in np.unravel_index(flat, self.grid.numblocks))
            mine = real[member == i]
            known = self.folder.read(block_name("rank", block), "name", "name rank", "name line")
            at = np.searchsorted(known["name"], names[mine])
            numbers[mine] = self._ahead(block)[known["name line"][at]] + known["name rank"][at] + 1
        return numbers

    # ---- memory
    def task_bytes(self, step: str, index: Index) -> int:
        """Bytes that a task holds: what is known of a block's components, and of its lines of voxels."""
        if step == "done":
            return 0
        if step == "rows":
            boxes = [self.grid.box((*index, 0))]
        elif step == "numbers":
            boxes = [self.grid.box(tuple(r.start for r in self.grid.below(min(1, self.objects.depth), index)))]
        else:  # running sums over the blocks of an axis
            first = self.grid.box((*index, *(0,) * (self.ndim - len(index))))[: int(step[4:]) + 1]
            return 32 * volume(first)
        return max(int(KNOWN * volume(b)) + 32 * volume(b[:-1]) for b in boxes)

    def left_bytes(self, output: str, box: Box) -> int:
        return 0 if output == "count" else painting_bytes(self.grid, box, self.dtype)

    # ---- what it leaves
    def labels(self) -> Left:
        return Left(self, "labels", self.grid.shape, self.dtype, f"label-{self.identity}")

    def count(self) -> Left:
        return Left(self, "count", (), np.dtype(np.int64), f"count-{self.identity}")

    def left(self, output: str, box: Box) -> np.ndarray:
        if output == "count":
            return self.folder.read("count")["count"]
        return self.objects.painted(box, self.of_block, self.dtype)

    def of_block(self, block: Index) -> np.ndarray:
        """The numbers of a block's components, 0 before them for the background."""
        return self.folder.read(block_name("numbers", block))["number"]


def check_count(total: int, dtype: np.dtype) -> None:
    """Refuse more objects than a dtype has numbers."""
    most = np.iinfo(dtype).max
    if total > most:
        wider = next(d for d in ("uint16", "uint32", "uint64") if np.iinfo(d).max >= total)
        raise RunError(
            f'label: {total} objects do not fit {dtype} (at most {most}); nothing was written. Pass dtype="{wider}"'
        )
