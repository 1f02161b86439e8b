"""Which marker each voxel's water came from in the end: the trees of all blocks, put together.

The last of three stages of a watershed. In each block the water of every voxel comes from a marker of the block or from
a voxel of a neighbour (`graph/catchments.py`): the block is cut into trees, and a tree that comes from a neighbour's
voxel belongs to the tree which that voxel is in. A tree of trees ends at one marker, so they are components, merged
as any others (`graph/merge.py`); a marker's tree is named by its label, below all names of others, and the smallest
name wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from dask.base import tokenize

from bigbia.errors import BlockError
from bigbia.graph import touching
from bigbia.graph.boxes import Box, Index, describe, shape_of
from bigbia.graph.catchments import Catchments
from bigbia.graph.merge import Components, Rule, painting_bytes
from bigbia.graph.regions import Blocks, Node
from bigbia.graph.stages import Left, block_name
from bigbia.kernels.names import names
from bigbia.kernels.runs import Runs

_INNER = 1 << 62  # names of trees without a marker are above


class Basins(Components):
    """It leaves `labels`, an image."""

    face, open = 48, 0.5  # every voxel of a face may be one that a tree comes from

    def __init__(self, trees: Catchments, dtype: np.dtype, kind: str, definition: str) -> None:
        self.trees, self.dtype, self.definition = trees, np.dtype(dtype), definition
        self.bits = max(len(trees.grid) - 1, 1).bit_length()  # of a marker's name, for its block
        identity = tokenize("basins", trees.identity, str(self.dtype), definition)
        self._begin(f"{kind}: basins", identity, [trees.settled()], trees.grid, Rule(trees.connectivity))

    def reads(self, step: str, index: Index) -> tuple[Sequence[Node], Sequence[Box]]:
        return (self.inputs, [()]) if step == "leaf" else ((), ())

    # ---- leaf
    def _leaf(self, index: Index, blocks: Blocks | None) -> None:
        record = self.trees.trees(index)
        box = self.grid.box(index)
        label, origin = record.pop("label"), record.pop("from")
        runs = Runs(shape_of(box), **record)
        name, line = names(runs.first, runs.shape, [a for a, _ in box], self.grid.shape)
        name += _INNER
        name[: len(label)] = self._names(label, index, box)
        leaf = {"root": name, "line": line}
        if self.depth:
            leaf |= touching.faces(runs, leaf, index, self.grid.numblocks)
            leaf |= _upstream(origin, len(label), leaf["member"], runs.shape)
        self.folder.write(block_name("leaf", index), leaf)

    def _names(self, label: np.ndarray, index: Index, box: Box) -> np.ndarray:
        """Of markers' trees: the label, then the block, which makes it the block's own."""
        signed = label.dtype.kind == "i"
        ends = [int(label[0]), int(label[-1])] if len(label) else [0]  # ascending
        if max(2 * max(-e - 1, e) if signed else e for e in ends) >= 1 << (62 - self.bits):
            raise BlockError(
                f"{self.kind.partition(':')[0]}: marker {ends[-1]} in the block {describe(box)}: too large a number for an image of "
                f"{len(self.grid)} blocks: segmentation.relabel_sequential(markers) gives smaller ones"
            )
        code = label.astype(np.int64)
        if signed:
            code = np.where(code < 0, ~(code << 1), code << 1)
        return (code << self.bits) + int(np.ravel_multi_index(index, self.grid.numblocks))

    def _labels(self, name: np.ndarray) -> np.ndarray:
        code = name >> self.bits
        if self.dtype.kind == "i":
            code = np.where(code & 1, ~(code >> 1), code >> 1)
        return code.astype(self.dtype)

    def meeting(self, a: touching.Faces, b: touching.Faces, offset: Index) -> tuple[np.ndarray, np.ndarray]:
        back = tuple(-o for o in offset)
        mine, place = a.record(f"tree{offset}"), a.record(f"place{offset}")
        there, at = b.record(f"tree{back}"), b.record(f"place{back}")
        other = b.facing(offset, -1).reshape(-1)[place].astype(np.int64) - 1
        here = a.facing(offset, 1).reshape(-1)[at].astype(np.int64) - 1
        return np.concatenate([mine, here]), np.concatenate([other, there])

    def left_bytes(self, output: str, box: Box) -> int:
        return painting_bytes(self.grid, box, self.dtype)

    # ---- what it leaves
    def _runs(self, block: Index) -> dict[str, np.ndarray]:
        return self.trees.trees(block, "lines", "start", "stop", "component")

    def labels(self) -> Left:
        return Left(self, "labels", self.grid.shape, self.dtype, f"labels-{self.identity}")

    def left(self, output: str, box: Box) -> np.ndarray:
        def numbers(block: Index) -> np.ndarray:
            name = self.folder.read(block_name("leaf", block), "root")["root"]
            which, final = self.changes(block)
            name[which] = final
            out = np.zeros(len(name) + 1, self.dtype)
            out[1:] = self._labels(name)
            return out

        return self.painted(box, numbers, self.dtype)


def _upstream(origin: np.ndarray, markers: int, member: np.ndarray, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """For each neighbour, by its offset: the trees that come from it, and the voxels of its border they come from."""
    offset = (origin >= np.array(shape)).astype(np.int64) - (origin < 0)
    tree = np.searchsorted(member, np.arange(len(origin)) + markers)
    out = {}
    for o in product((-1, 0, 1), repeat=len(shape)):
        here = (offset == o).all(axis=1)
        along = [a for a, k in enumerate(o) if not k]
        out[f"tree{o}"] = tree[here]
        size = [shape[a] for a in along]
        out[f"place{o}"] = (
            np.ravel_multi_index(tuple(origin[here][:, along].T), size) if along else np.zeros(here.sum(), np.int64)
        )
    return out
