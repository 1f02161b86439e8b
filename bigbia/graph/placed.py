"""Voxels that follow from where they are, and from a few values that an earlier stage found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from dask.base import tokenize

from bigbia.graph.boxes import Box, whole
from bigbia.graph.regions import Node, Parts


@dataclass(frozen=True, eq=False)
class Placed(Node):
    """function(shape of the image, box, values) -> the voxels of the box; `values` is a small node, read whole."""

    function: Callable[[tuple[int, ...], Box, np.ndarray], np.ndarray]
    values: Node
    size: tuple[int, ...]
    kind: np.dtype

    def __post_init__(self) -> None:
        self._set(
            shape=tuple(self.size),
            dtype=np.dtype(self.kind),
            children=(self.values,),
            token="placed-" + tokenize(self.function, self.size, str(self.kind), self.values.token),
            cost=1.0,
        )

    def needs(self, box: Box) -> tuple[list[Box], ...]:
        return ([whole(self.values.shape)],)

    def compute(self, box: Box, parts: Parts) -> np.ndarray:
        return self.function(self.shape, box, parts[0][0])

    def rebuilt(self, children: tuple[Node, ...]) -> Node:
        return replace(self, values=children[0])
