"""Reading boxes of a graph of nodes: each node once for all that is asked of it, dropped after its last reader."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bigbia.graph.boxes import Box, contains, shape_of, slices, united, volume
from bigbia.graph.regions import Blocks, Live, Node


def consumers_first(*roots: Node) -> list[Node]:
    """Every node below the roots once, each before the nodes it reads. Nodes of one token are one."""
    done: dict[str, Node] = {}

    def visit(node: Node) -> None:
        pending = [(node, iter(node.children))]
        seen = {node.token}
        while pending:
            current, rest = pending[-1]
            for child in rest:
                if child.token not in done and child.token not in seen:
                    seen.add(child.token)
                    pending.append((child, iter(child.children)))
                    break
            else:
                pending.pop()
                done[current.token] = current

    for root in roots:
        if root.token not in done:
            visit(root)
    return list(reversed(done.values()))


Plan = list[tuple[Node, list[tuple[Box, tuple[list[Box], ...]]]]]


def plan(roots: Sequence[Node], boxes: Sequence[Box]) -> Plan:
    """What must be computed for the boxes.

    For each node its boxes, and for each of those what it needs of its children.
    """
    wanted: dict[str, list[Box]] = {}
    for root, box in zip(roots, boxes):
        wanted.setdefault(root.token, []).append(box)
    steps: Plan = []
    for node in consumers_first(*roots):
        todo = []
        for box in united(b for b in wanted.get(node.token, ()) if volume(b)):
            needs = node.needs(box)
            todo.append((box, needs))
            for child, several in zip(node.children, needs):
                wanted.setdefault(child.token, []).extend(several)
        steps.append((node, todo))
    return steps


def count_readers(steps: Plan, roots: Sequence[Node]) -> dict[str, int]:
    """How many nodes read each node, the caller of a root included: after its last reader a node is dropped."""
    readers: dict[str, int] = {}
    for node, _ in steps:
        for token in {c.token for c in node.children}:
            readers[token] = readers.get(token, 0) + 1
    for root in roots:
        readers[root.token] = readers.get(root.token, 0) + 1
    return readers


def read(node: Node, box: Box, blocks: Blocks | None = None) -> np.ndarray:
    """The voxels of a box."""
    return read_together([node], [box], blocks)[0]


def read_together(roots: Sequence[Node], boxes: Sequence[Box], blocks: Blocks | None = None) -> list[np.ndarray]:
    """The voxels of one box of each root, what they share computed once."""
    steps = plan(roots, boxes)
    readers = count_readers(steps, roots)
    held: dict[str, list[tuple[Box, np.ndarray]]] = {}
    for node, todo in reversed(steps):
        made = []
        for box, needs in todo:
            if isinstance(node, Live):
                made.append((box, node.compute_live(box, blocks or {})))
                continue
            parts = tuple([_part(held[c.token], b) for b in several] for c, several in zip(node.children, needs))
            made.append((box, node.compute(box, parts)))
            del parts
        held[node.token] = made
        for token in {c.token for c in node.children}:
            readers[token] -= 1
            if not readers[token]:
                del held[token]
    return [
        _part(held[root.token], box) if volume(box) else np.empty(shape_of(box), root.dtype)
        for root, box in zip(roots, boxes)
    ]


def _part(made: list[tuple[Box, np.ndarray]], box: Box) -> np.ndarray:
    for outer, data in made:
        if contains(outer, box):
            return data if outer == box else data[slices(box, outer)]
    raise AssertionError(f"{box} was not planned")  # pragma: no cover


def live_inputs(roots: Sequence[Node], boxes: Sequence[Box]) -> dict[str, list[tuple[int, ...]]]:
    """Which blocks of which live arrays reading the boxes takes."""
    found: dict[str, list[tuple[int, ...]]] = {}
    for node, todo in plan(roots, boxes):
        if isinstance(node, Live):
            indices = {index for box, _ in todo for index, _ in node.grid.overlapping(box)}
            found[node.name] = sorted(indices)
    return found
