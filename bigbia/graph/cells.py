"""Anchored cells: any deterministic function of a block, the same bits however the image is cut.

A Fourier transform rounds differently in every crop of an image. So the image is divided into cells of one size,
counted from its first voxel, and every cell is computed from itself and its halo, always the same voxels; what the
blocks are decides only who asks. The size follows from the image's shape and the halo alone.

Each cell is computed once and kept in scratch: blocks are no multiples of cells, and a neighbourhood read from them
would compute its cells over and over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import numpy as np
from dask.base import tokenize

from bigbia.graph.boxes import Box, Grid, Index, grown, slices
from bigbia.graph.lazy import is_lazy, lazy
from bigbia.graph.reading import read_together
from bigbia.graph.regions import Blocks, Node
from bigbia.graph.stages import Left, Stage, block_name

VOXELS = 2**21  # of a cell with its halo, where the halo leaves room for that


def cell_shape(shape: Sequence[int], halo: Sequence[int], space: Sequence[int]) -> tuple[int, ...]:
    """The size of the cells: alike along the axes of space, at least as long as the halo, and 1 along the others."""

    def size(side: int) -> int:
        return prod(min(shape[a], side + 2 * halo[a]) for a in space)

    low, high = 1, max(shape)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if size(middle) <= VOXELS else (low, middle - 1)
    out = [1] * len(shape)
    for a in space:
        side = min(shape[a], max(low, 2 * halo[a], 16))
        count = -(-shape[a] // side)
        out[a] = -(-shape[a] // count)  # cells of one size: a sliver at the end would cost a whole halo
    return tuple(out)


def padded_voxels(shape: Sequence[int], halo: Sequence[int], cell: Sequence[int]) -> int:
    """Voxels of the largest cell with its halo."""
    return prod(min(n, c + 2 * h) for n, c, h in zip(shape, cell, halo))


class Cells(Stage):
    """It leaves `voxels`: what a function makes of every cell, from the cell and its halo."""

    steps = ("cells", "done")
    block_steps = frozenset({"cells"})
    anchored = True  # its grid is its own, whatever the blocks are

    def __init__(
        self,
        kind: str,
        node: Node,
        cell: Sequence[int],
        halo: Sequence[int],
        function: Callable[..., np.ndarray],
        dtype: np.dtype,
        workspace: float,
        params: dict[str, Any],
    ) -> None:
        self.kind = kind
        self.halo = tuple((int(h), int(h)) for h in halo)
        self.function, self.params = function, dict(params)
        self.dtype = np.dtype(dtype)
        self.workspace = workspace
        grid = Grid.regular(node.shape, cell)
        identity = tokenize(kind, node.token, tuple(cell), self.halo, function, sorted(self.params.items()), str(dtype))
        super().__init__(identity, [node], grid)

    def indices(self, step: str) -> Iterable[Index]:
        return [()] if step == "done" else self.grid.indices()

    def needs(self, step: str, index: Index) -> Iterable[tuple[str, Index]]:
        return [("cells", i) for i in self.grid.indices()] if step == "done" else []

    def reads(self, step: str, index: Index) -> tuple[Sequence[Node], Sequence[Box]]:
        if step == "done":
            return (), ()
        return self.inputs, [grown(self.grid.box(index), self.halo, self.grid.shape)]

    def writes(self, step: str) -> float:
        return float(self.dtype.itemsize) if step == "cells" else 0.0

    def title(self, step: str) -> str:
        return self.kind

    def run(self, step: str, index: Index, blocks: Blocks | None = None) -> None:
        if step == "done":
            self.folder.finish()
            return
        (data,) = read_together(*self.reads(step, index), blocks)
        box = self.grid.box(index)
        self.folder.write(
            block_name("cells", index),
            {"voxels": of_cell(self.function, data, box, self.halo, self.grid.shape, self.params)},
        )

    def left(self, output: str, box: Box) -> np.ndarray:
        return self.recorded("cells", "voxels", box, self.dtype)


def of_cell(
    function: Callable, data: np.ndarray, box: Box, halo: Sequence, shape: Sequence[int], params: dict
) -> np.ndarray:
    """What a function makes of a cell, from the voxels of the cell with its halo."""
    data = np.ascontiguousarray(data).view()
    data.flags.writeable = False
    return function(data, core=slices(box, grown(box, halo, shape)), **params)


def in_cells(
    function: Callable[..., np.ndarray],
    image: Any,
    what: str,
    *,
    cell: Sequence[int],
    halo: Sequence[int],
    dtype: np.dtype,
    workspace: float,
    **params: Any,
) -> Any:
    """An operator of ``function(block, core=slices, **params)``, which returns the core, computed cell by cell.

    workspace : bytes a voxel of a cell with its halo that the function takes besides its input
    """
    margins = tuple((int(h), int(h)) for h in halo)
    if not is_lazy(image):
        out = np.empty(image.shape, dtype)
        grid = Grid.regular(image.shape, cell)
        for index in grid.indices():
            box = grid.box(index)
            data = image[slices(grown(box, margins, image.shape))]
            out[slices(box)] = of_cell(function, data, box, margins, image.shape, params)
        return out
    source = lazy(image, what)
    stage = Cells(what.rsplit(".", 1)[-1], source.node, cell, halo, function, dtype, workspace, params)
    return source.like(Left(stage, "voxels", source.shape, stage.dtype, f"{stage.kind}-{stage.identity}"))
