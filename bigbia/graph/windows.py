"""A voxel and its neighbourhood in several images at once, and where it lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from dask.base import tokenize

from bigbia.errors import BlockError
from bigbia.graph.boxes import Box, describe, grown, shape_of, slices
from bigbia.graph.regions import Node, Parts

Kernel = Callable[..., np.ndarray]


@dataclass(frozen=True, eq=False)
class Windows(Node):
    """kernel(blocks, box, core, **params) -> the voxels of the core, which is what `slices` cut out of the blocks.

    The blocks are the box with a margin, cut off at the image's border. What a voxel becomes may depend on its place in
    the image, never on the box. With `lead`, each voxel becomes that many, along a new first axis.
    """

    kernel: Kernel
    inputs: tuple[Node, ...]
    halo: tuple[tuple[int, int], ...]
    kind: np.dtype
    params: Mapping[str, Any]
    work: float = 10.0
    extra: float = 0.0
    lead: int = 0

    def __post_init__(self) -> None:
        what = (self.kernel, self.halo, str(self.kind), sorted(self.params.items()), self.lead)
        self._set(
            shape=(*([self.lead] if self.lead else []), *self.inputs[0].shape),
            dtype=np.dtype(self.kind),
            children=self.inputs,
            token="windows-" + tokenize(what, [n.token for n in self.inputs]),
            cost=self.work,
            workspace=self.extra,
        )

    def _place(self, box: Box) -> Box:
        """Where a box lies in the images."""
        return box[1:] if self.lead else box

    def needs(self, box: Box) -> tuple[list[Box], ...]:
        wide = grown(self._place(box), self.halo, self.inputs[0].shape)
        return tuple([wide] for _ in self.inputs)

    def compute(self, box: Box, parts: Parts) -> np.ndarray:
        place = self._place(box)
        wide = grown(place, self.halo, self.inputs[0].shape)
        blocks: Sequence[np.ndarray] = [p[0] for p in parts]
        out = self.kernel(blocks, wide, slices(place, wide), **self.params)
        if self.lead:
            out = out[slice(*box[0])]
        if out.shape != shape_of(box) or out.dtype != self.dtype:
            raise BlockError(f"{self.kernel} returned {out.dtype} {out.shape} at {describe(box)}, not {self.dtype}")
        return out

    def rebuilt(self, children: tuple[Node, ...]) -> Node:
        return replace(self, inputs=children)
