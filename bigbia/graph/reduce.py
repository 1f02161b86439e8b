"""Summarise every block, combine the summaries up a tree, finalise: thresholds, histograms, extrema.

A reduction has one or more passes; a pass sees what the passes before it found (extrema first, then a histogram
between them). Summaries combine exactly (integers, minima, maxima), so the order of the blocks cannot matter. Where
an image is read more than once, the first pass keeps it in scratch, if reading it back is cheaper than computing it
again (`graph/cost.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.base import tokenize

from bigbia.graph.boxes import Box, Grid, Index
from bigbia.graph.cost import worth_keeping
from bigbia.graph.reading import read_together
from bigbia.graph.regions import Blocks, Node
from bigbia.graph.stages import Left, Stage, block_name, tree_steps

Summary = Mapping[str, np.ndarray]
FAN_IN = 16


@dataclass(frozen=True)
class Pass:
    """summarise(block, box, *earlier results) -> summary;  combine([summary, ...]) -> summary.

    `size` is how many bytes a summary has.
    """

    summarise: Callable[..., Summary]
    combine: Callable[[Sequence[Summary]], Summary]
    size: int = 1 << 20


def extremes(block: np.ndarray, box: Box) -> dict[str, np.ndarray]:
    return {"low": block.min(), "high": block.max()}


def join_extremes(parts: Sequence[Summary]) -> dict[str, np.ndarray]:
    return {"low": np.min([p["low"] for p in parts]), "high": np.max([p["high"] for p in parts])}


class Reduce(Stage):
    """The stage of a reduction. It leaves the arrays that `finalise(*results)` returns, by name."""

    def __init__(
        self,
        kind: str,
        node: Node,
        grid: Grid,
        passes: Sequence[Pass],
        finalise: Callable[..., Summary],
        *,
        read_again: bool = False,
    ) -> None:
        self.kind = kind
        self.passes = tuple(passes)
        self.finalise = finalise
        what = [(p.summarise, p.combine) for p in passes]
        keep = worth_keeping(node) and (len(self.passes) > 1 or read_again)
        identity = tokenize(kind, node.token, what, finalise)
        self.levels = tree_steps(len(grid), FAN_IN)
        self.steps = (
            *(
                s
                for p in range(len(self.passes))
                for s in (f"pass{p}", *(f"pass{p}.{k}" for k in range(len(self.levels))))
            ),
            "done",
        )
        self.block_steps = frozenset(f"pass{p}" for p in range(len(self.passes)))
        super().__init__(identity, [node], grid, keeps=[node] if keep else [])

    def indices(self, step: str) -> Iterable[Index]:
        if step == "done":
            return [()]
        if step in self.block_steps:
            return self.grid.indices()
        return [(i,) for i in range(self.levels[int(step.split(".")[1])])]

    def title(self, step: str) -> str:
        return self.kind if len(self.passes) == 1 else f"{self.kind} {int(step[4:]) + 1}/{len(self.passes)}"

    def _below(self, step: str, i: int) -> tuple[str, list[Index]]:
        """The step below a node of the tree, and the node's children in it."""
        name, level = step.split(".")
        first, count = i * FAN_IN, FAN_IN
        if level == "0":
            return name, [_place(k, self.grid) for k in range(first, min(first + count, len(self.grid)))]
        below = int(level) - 1
        return f"{name}.{below}", [(k,) for k in range(first, min(first + count, self.levels[below]))]

    def needs(self, step: str, index: Index) -> Iterable[tuple[str, Index]]:
        top = len(self.levels) - 1
        if step == "done":
            return [(f"pass{len(self.passes) - 1}.{top}", (0,))]
        if step in self.block_steps:
            p = int(step.removeprefix("pass"))
            return [(f"pass{p - 1}.{top}", (0,))] if p else []
        below, children = self._below(step, index[0])
        return [(below, child) for child in children]

    def reads(self, step: str, index: Index) -> tuple[Sequence[Node], Sequence[Box]]:
        if step in self.block_steps and step != "pass0" and self.keeps:
            node = self.inputs[0]
            return [Left(self, "kept0", node.shape, node.dtype, node.token)], [self.grid.box(index)]
        return super().reads(step, index)

    def run(self, step: str, index: Index, blocks: Blocks | None = None) -> None:
        if step == "done":
            self.folder.write("value", self.finalise(*self._results(len(self.passes))))
            self.folder.finish()
        elif step in self.block_steps:
            p = int(step.removeprefix("pass"))
            box = self.grid.box(index)
            if p and self.keeps:
                block = self.left("kept0", box)
            else:
                (block,) = (
                    self.read_inputs(index, blocks) if p == 0 else read_together(*super().reads(step, index), blocks)
                )
            self.folder.write(block_name(step, index), self.passes[p].summarise(block, box, *self._results(p)))
        else:
            below, children = self._below(step, index[0])
            p = int(step.split(".")[0].removeprefix("pass"))
            summaries = [self.folder.read(block_name(below, child)) for child in children]
            self.folder.write(
                block_name(step, index), self.passes[p].combine(summaries) if len(summaries) > 1 else summaries[0]
            )

    def task_bytes(self, step: str, index: Index) -> int:
        """Bytes that a task holds besides what it reads: its summary twice, or those of a node of the tree and two more."""
        if step == "done":
            return 4 * max((p.size for p in self.passes), default=0)
        if step in self.block_steps:
            return 2 * self.passes[int(step.removeprefix("pass"))].size
        _, children = self._below(step, index[0])
        return (len(children) + 2) * self.passes[int(step.split(".")[0].removeprefix("pass"))].size

    def _results(self, count: int) -> list[Summary]:
        top = len(self.levels) - 1
        return [self.folder.read(block_name(f"pass{p}.{top}", (0,))) for p in range(count)]

    def output(self, name: str, shape: tuple[int, ...], dtype: Any) -> Left:
        """The node of one of the arrays the reduction leaves."""
        return Left(self, name, shape, np.dtype(dtype), f"{self.kind}-{self.identity}-{name}")

    def left(self, output: str, box: Box) -> np.ndarray:
        if output.startswith("kept"):
            return super().left(output, box)
        value = self.folder.read("value", output)[output]
        return value[tuple(slice(a, b) for a, b in box)]


def _place(i: int, grid: Grid) -> Index:
    """The i-th block in raster order."""
    return tuple(int(k) for k in np.unravel_index(i, grid.numblocks)) if grid.numblocks else ()
