"""What reading costs: time a voxel, peak memory a task, bytes from the store.

Estimates; they choose, they never change a result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bigbia.graph.boxes import Box, Grid, united, volume
from bigbia.graph.reading import consumers_first, count_readers, plan
from bigbia.graph.regions import Literal, Node, Store, View
from bigbia.graph.stages import Left

# ns a byte on a local disk with its page cache; on slower scratch the ratio to the kernels hardly changes what is
# chosen
WRITE, READ = 0.6, 0.4
STORE = 1.0  # reading and decoding the input

UNPACKING = 6 << 20  # bytes: pieces of `graph/packing.py` and what its codec holds


def compute_cost(node: Node) -> float:
    """ns a voxel to compute a node from the stores, halos not counted."""
    total = 0.0
    for n in consumers_first(node):
        total += n.cost
        if isinstance(n, Store):
            total += STORE * n.dtype.itemsize
    return total


def worth_keeping(node: Node) -> bool:
    """Whether a node that is read twice is cheaper to store the first time than to compute again."""
    if isinstance(node, (Store, Left)):
        return False
    return compute_cost(node) > (WRITE + READ) * node.dtype.itemsize


def task_bytes(roots: Sequence[Node], boxes: Sequence[Box]) -> int:
    """Peak bytes of reading the boxes.

    The nodes alive together at the worst moment, and what the one that computes needs besides.
    """
    steps = plan(roots, boxes)
    readers = count_readers(steps, roots)
    held: dict[str, int] = {}
    peak = 0
    for node, todo in reversed(steps):
        size = sum(volume(box) for box, _ in todo)
        made = size * node.dtype.itemsize
        peak = max(peak, sum(held.values()) + made + _working(node, todo))
        held[node.token] = 0 if isinstance(node, View | Literal) else made
        for token in {c.token for c in node.children}:
            readers[token] -= 1
            if not readers[token]:
                held.pop(token, None)
    return peak


def _working(node: Node, todo: Sequence[tuple[Box, tuple[list[Box], ...]]]) -> int:
    """Bytes that a node needs while it computes its boxes, one after the other, besides its inputs and its result."""
    if isinstance(node, Store):
        return max([_decoding(node, box) for box, _ in todo], default=0)
    if isinstance(node, Left):
        return max([left_bytes(node, box) for box, _ in todo], default=0)
    size = sum(volume(box) for box, _ in todo)
    wide = max([volume(b) for _, needs in todo for several in needs for b in several], default=size)
    return int(node.workspace * max(size, wide))


def _decoding(node: Store, box: Box) -> int:
    """A chunk as it lies in the file, and decoded; not the latter where the box is nothing but that chunk."""
    chunk = math.prod(min(c, n) for c, n in zip(node.source.chunks, node.shape)) * node.dtype.itemsize
    return chunk if volume(box) * node.dtype.itemsize == chunk else 2 * chunk


def left_bytes(node: Left, box: Box) -> int:
    """Bytes that reading a box of what a stage left takes besides the box: of blocks it is put together from."""
    own = getattr(node.stage, "left_bytes", None)
    if own is not None:
        return int(own(node.output, box))
    if node.output.startswith("kept"):
        return packed_bytes(node.stage.grid, box, node.dtype)
    same = node.shape == node.stage.grid.shape
    return one_part(node.stage.grid, box) * node.dtype.itemsize if same else 0


def packed_bytes(grid: Grid, box: Box, dtype: np.dtype) -> int:
    """Bytes that reading a box of packed blocks takes besides it: of a part, and pieces before and after unpacking."""
    return one_part(grid, box) * dtype.itemsize + min(UNPACKING, 2 * largest(grid, box) * dtype.itemsize)


def one_part(grid: Grid, box: Box) -> int:
    """Voxels of the largest piece that is read of one block, whole lines, where a box is put together from several; 0 else."""
    parts = [(part, grid.box(index)) for index, part in grid.overlapping(box)]
    if len(parts) == 1 and parts[0][0][1:] == parts[0][1][1:]:
        return 0
    return max([volume((part[0], *block[1:])) for part, block in parts], default=0) if box else 0


def largest(grid: Grid, box: Box) -> int:
    """Voxels of the largest block that a box touches."""
    return max([volume(grid.box(index)) for index, _ in grid.overlapping(box)], default=0)


def as_doubles(images: Sequence[Node]) -> float:
    """Bytes a voxel of images whose sums are made of doubles, where they are not: one after the other."""
    return max([0.0, *(8.0 for n in images if n.dtype.kind == "f" and n.dtype.itemsize < 8)])


def largest_block(grid: Grid) -> int:
    """Voxels of the largest block of a grid."""
    return math.prod(max(c, default=0) for c in grid.chunks)


def surface(box: Box) -> int:
    """Voxels of the faces of a box, those of edges several times."""
    size = volume(box)
    return sum(2 * size // max(1, b - a) for a, b in box)


def root_bytes(roots: Sequence[Node], boxes: Sequence[Box]) -> int:
    """Bytes of the boxes themselves, once they are read."""
    asked: dict[str, list[Box]] = {}
    kinds = {root.token: root.dtype.itemsize for root in roots}
    for root, box in zip(roots, boxes):
        asked.setdefault(root.token, []).append(box)
    return sum(kinds[token] * sum(volume(b) for b in united(several)) for token, several in asked.items())


def bytes_read(roots: Sequence[Node], boxes: Sequence[Box]) -> int:
    """Decoded bytes that the boxes take from stores, halos included."""
    total = 0
    for node, todo in plan(roots, boxes):
        if isinstance(node, Store):
            total += sum(volume(box) for box, _ in todo) * node.dtype.itemsize
    return total


def amplification(roots: Sequence[Node], boxes: Sequence[Box]) -> float:
    """Voxels read from stores over voxels asked for: what the halos cost."""
    asked = max([volume(b) for b in boxes], default=0)
    most = 0
    for node, todo in plan(roots, boxes):
        if isinstance(node, Store):
            most = max(most, sum(volume(box) for box, _ in todo))
    return most / asked if asked else 1.0
