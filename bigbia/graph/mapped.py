"""Voxels that follow from their value, and from a few numbers or a table that a pass over the image found.

image -> passes -> values        one barrier (`graph/reduce.py`)
image, values -> result          one task a block
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bigbia.graph.boxes import Box, Grid, slices, whole
from bigbia.graph.lazy import Lazy, is_lazy, lazy
from bigbia.graph.reduce import Pass, Reduce, Summary
from bigbia.graph.regions import Node
from bigbia.graph.windows import Windows

Leaves = Mapping[str, tuple[tuple[int, ...], Any]]  # name -> shape, dtype


@dataclass(frozen=True, eq=False)
class Mapped(Windows):
    """kernel((image, *values), box, core, **params): the first input's voxels of the box, the others whole."""

    def needs(self, box: Box) -> tuple[list[Box], ...]:
        return ([box], *([whole(n.shape)] for n in self.inputs[1:]))


@dataclass(frozen=True)
class Found:
    """A reduction: its passes, what it makes of them, and what of that it leaves."""

    what: str
    passes: Sequence[Pass]
    finish: Callable[..., Mapping[str, np.ndarray]]
    leaves: Leaves

    def of(self, node: Node, grid: Grid) -> list[Node]:
        stage = Reduce(self.what.rpartition(".")[2], node, grid, self.passes, self.finish, read_again=True)
        return [stage.output(name, shape, dtype) for name, (shape, dtype) in self.leaves.items()]

    def at_once(self, image: np.ndarray) -> list[np.ndarray]:
        found = passed(image, self.passes, self.finish)
        return [np.asarray(found[name]) for name in self.leaves]


def mapped(node: Node, values: Sequence[Node], kernel: Callable, dtype: Any, cost: float = 2.0, **params: Any) -> Node:
    return Mapped(kernel, (node, *values), ((0, 0),) * node.ndim, np.dtype(dtype), params, cost, 1.0)


def by_values(
    image: Any,
    what: str,
    over: str,
    found: Callable[[Lazy | np.ndarray], Found],
    kernel: Callable[..., np.ndarray],
    dtype: Any,
    cost: float = 2.0,
    **params: Any,
) -> Any:
    """`kernel` of an image's voxels and of what `found` finds in it: for each time and channel by itself, or in all."""
    if not is_lazy(image):
        return applied(kernel, image, found(image).at_once(image), params)
    source = lazy(image, what)

    def one(part: Lazy) -> Node:
        return mapped(part.node, found(part).of(part.node, part.grid), kernel, dtype, cost, **params)

    return for_each(source, one, over)


def for_each(source: Lazy, one: Callable[[Lazy], Node], over: str) -> Any:
    """What `one` makes of each time and channel of an image put together, or of all of it."""
    if over == "all" or not source.over:
        return source.like(one(source))
    return source.like(source.joined([one(part) for _, part in source.each()]), source.joined_chunks())


def applied(kernel: Callable, image: np.ndarray, values: Sequence[np.ndarray], params: Mapping) -> np.ndarray:
    """The same of a NumPy array, which is one block."""
    box = whole(image.shape)
    return kernel([image, *values], box, slices(box), **params)


def passed(image: np.ndarray, passes: Sequence[Pass], finish: Callable[..., Summary]) -> Summary:
    """What passes over an image that is one block lead to."""
    results: list[Summary] = []
    for p in passes:
        results.append(p.summarise(image, whole(image.shape), *results))
    return finish(*results)
