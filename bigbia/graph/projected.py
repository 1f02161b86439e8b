"""An axis folded into a plane: maxima, minima, sums and means along an axis of any length, in bounded memory.

    fold   a run of blocks along the axis, one after the other; extremes and sums of integers may be combined in any
           order, so every run stands for itself; a sum of floats goes on where the run before it ended
    (read) a block of the plane: the runs above it, put together

A run holds a block and a plane at a time. It leaves the plane in scratch; runs are at least `PLANES` voxels long, so
that is little beside the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from dask.base import tokenize

from bigbia.graph.boxes import Box, Grid, Index, shape_of, slices
from bigbia.graph.dask import as_array
from bigbia.graph.lazy import is_lazy, lazy
from bigbia.graph.reading import read_together
from bigbia.graph.regions import Blocks, Node
from bigbia.graph.stages import Left, Stage, block_name

PLANES = 8


class Projection(Stage):
    """It leaves `plane`: the image without the axis."""

    kind = "project"
    steps = ("fold", "done")
    block_steps = frozenset({"fold"})

    def __init__(self, node: Node, grid: Grid, axis: int, method: str, result: np.dtype) -> None:
        from bigbia.kernels.projections import total_dtype

        self.axis, self.method, self.result = axis, method, np.dtype(result)
        self.length = node.shape[axis]
        self.total = total_dtype(method, node.dtype)
        self.chained = self.total.kind == "f" and method in ("sum", "mean")
        self.slabs, runs = _runs(grid.chunks[axis])
        cuts = list(grid.chunks)
        cuts[axis] = runs
        self.plane = Grid(tuple(c for a, c in enumerate(grid.chunks) if a != axis))
        self.workspace = self.total.itemsize / max(1, max(runs))
        super().__init__(tokenize("project", node.token, axis, method, str(result)), [node], Grid(tuple(cuts)))

    # ---- who needs whom
    def indices(self, step: str) -> Iterable[Index]:
        return [()] if step == "done" else self.grid.indices()

    def needs(self, step: str, index: Index) -> Iterable[tuple[str, Index]]:
        runs = self.grid.numblocks[self.axis]
        if step == "done":
            return [("fold", i) for i in self.grid.indices() if not self.chained or i[self.axis] == runs - 1]
        return [("fold", self._at(index, index[self.axis] - 1))] if self.chained and index[self.axis] else []

    def _at(self, index: Index, run: int) -> Index:
        return (*index[: self.axis], run, *index[self.axis + 1 :])

    def title(self, step: str) -> str:
        return f"{self.method} along an axis"

    def writes(self, step: str) -> float:
        return self.total.itemsize * self.grid.numblocks[self.axis] / self.length if step == "fold" else 0.0

    # ---- the work
    def run(self, step: str, index: Index, blocks: Blocks | None = None) -> None:
        from bigbia.kernels.projections import fold

        if step == "done":
            self.folder.finish()
            return
        run = index[self.axis]
        plane: Any = self._read(self._at(index, run - 1)) if self.chained and run else None
        box = self.grid.box(index)
        for slab in self.slabs[run]:
            part = (*box[: self.axis], slab, *box[self.axis + 1 :])
            (voxels,) = read_together(self.inputs, [part], blocks)
            plane = fold(voxels, self.axis, self.method, plane)
        self.folder.write(block_name("fold", index), {"plane": plane})

    def _read(self, index: Index) -> np.ndarray:
        return self.folder.read(block_name("fold", index))["plane"]

    def left(self, output: str, box: Box) -> np.ndarray:
        from bigbia.kernels.projections import fold

        out = np.empty(shape_of(box), self.result)
        runs = self.grid.numblocks[self.axis]
        for place, part in self.plane.overlapping(box):
            where = slices(part, self.plane.box(place))
            total = None
            for run in [runs - 1] if self.chained else range(runs):
                plane = self._read((*place[: self.axis], run, *place[self.axis :]))[where]
                # what is left of integers is itself summed as integers
                total = (
                    plane
                    if total is None
                    else fold(plane[None], 0, "sum" if self.method == "mean" else self.method, total)
                )
            out[slices(part, box)] = finished(total, self.method, self.length, self.result)
        return out


def _runs(chunks: Sequence[int]) -> tuple[list[list[tuple[int, int]]], tuple[int, ...]]:
    """Blocks along the axis put together to runs of at least PLANES voxels: the (start, stop) in each; their lengths."""
    runs: list[list[tuple[int, int]]] = [[]]
    at = 0
    for n in chunks:
        if runs[-1] and runs[-1][-1][1] - runs[-1][0][0] >= PLANES:
            runs.append([])
        runs[-1].append((at, at + n))
        at += n
    return runs, tuple(run[-1][1] - run[0][0] for run in runs)


def finished(total: Any, method: str, length: int, result: np.dtype) -> np.ndarray:
    """The plane in its own type; a mean from its sum."""
    total = np.asarray(total)
    return (total / length if method == "mean" else total).astype(result, copy=False)


def projected(image: Any, axis: int, method: str, result: np.dtype) -> Any:
    """The image without an axis, of the same kind; a DataArray without the axis's coordinates."""
    from bigbia.kernels.projections import fold

    if not is_lazy(image):
        return finished(fold(image, axis, method), method, image.shape[axis], result)
    source = lazy(image, "transform.project")
    stage = Projection(source.node, source.grid, axis, method, result)
    node = Left(stage, "plane", stage.plane.shape, stage.result, f"project-{stage.identity}")
    array = as_array(node, stage.plane.chunks, source.live)
    if source.template is None:
        return array
    import xarray as xr

    gone = source.template.dims[axis]
    dims = [d for d in source.template.dims if d != gone]
    coords = {k: v for k, v in source.template.coords.items() if gone not in v.dims}
    return xr.DataArray(array, dims=dims, coords=coords, name=source.template.name)
