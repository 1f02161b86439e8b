"""What reading costs: time a voxel, peak memory a task, bytes from the store.

Estimates; they choose, they never change a result.
"""

from __future__ import annotations

from collections.abc import Sequence

from bigbia.graph.boxes import Box, volume
from bigbia.graph.reading import consumers_first, count_readers, plan
from bigbia.graph.regions import Literal, Node, Store, View
from bigbia.graph.stages import Left

# ns a byte on a local disk with its page cache; on slower scratch the ratio to the kernels hardly changes what is
# chosen
WRITE, READ = 0.6, 0.4
STORE = 1.0  # reading and decoding the input


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

    The nodes alive together at the worst moment, and the workspace of the one that computes.
    """
    steps = plan(roots, boxes)
    readers = count_readers(steps, roots)
    held: dict[str, int] = {}
    peak = 0
    for node, todo in reversed(steps):
        size = sum(volume(box) for box, _ in todo)
        wide = max([volume(b) for _, needs in todo for several in needs for b in several], default=size)
        made = size * node.dtype.itemsize
        peak = max(peak, sum(held.values()) + made + int(node.workspace * max(size, wide)))
        held[node.token] = 0 if isinstance(node, View | Literal) else made
        for token in {c.token for c in node.children}:
            readers[token] -= 1
            if not readers[token]:
                held.pop(token, None)
    return peak


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
