"""Objects that end nearby, settled before the tree is climbed.

Most objects that cross the border of two blocks end a few voxels beyond it; but if that border is a cut of the top of
the tree, they would be open all the way up. So groups of blocks that straddle the cuts come first:

    |  0  |  1  |  2  |  3  |      blocks, one axis
    |     0     |     1     |      nodes of the tree, first level
    |  0  |     1     |  2  |      groups

A group unites what touches within it, and settles the objects that touch nothing beyond it: their names, and whether
they stay. Only what is longer than a block climbs the tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from bigbia.graph import touching
from bigbia.graph.boxes import Index
from bigbia.graph.carried import Rows, joined, taken
from bigbia.graph.conditions import kept
from bigbia.graph.stages import block_name
from bigbia.kernels.contacts import united

if TYPE_CHECKING:
    from bigbia.graph.merge import Components


def groups(stage: Components) -> Iterator[Index]:
    return product(*(range(n // 2 + 1) for n in stage.grid.numblocks))


def group_of(block: Index) -> Index:
    """The group that a block is in."""
    return tuple((i + 1) >> 1 for i in block)


def beginning_in(stage: Components, node: Index) -> Iterator[Index]:
    """The groups whose first block lies in a node of the first level."""
    counts = [n // 2 + 1 for n in stage.grid.numblocks]
    return product(*([s for s in ((0, 1) if i == 0 else (i + 1,)) if s < c] for i, c in zip(node, counts)))


def first_block(group: Index) -> Index:
    return tuple(max(0, 2 * s - 1) for s in group)


def blocks_of(stage: Components, group: Index) -> list[Index]:
    return list(product(*(range(max(0, 2 * s - 1), min(n, 2 * s + 1)) for s, n in zip(group, stage.grid.numblocks))))


def settle(stage: Components, group: Index) -> None:
    """Write the objects that end within a group: what their parts were called, what they are called, their rows."""
    blocks = blocks_of(stage, group)
    parts = [touching.short_list(stage, block) for block in blocks]
    name, degree = (np.concatenate([p[k] for p in parts]) for k in ("edge", "degree"))
    order = np.argsort(name, kind="stable")
    name, degree = name[order], degree[order]
    inside = _inside(stage, blocks, name)
    first = united(inside, len(name))
    met = np.bincount(inside.reshape(-1), minlength=len(name))
    reaches_on = np.bincount(first, weights=met < degree, minlength=len(name)) > 0
    settled = (degree > 0) & ~reaches_on[first]
    out = {"settled": name[settled], "final": name[first[settled]]}
    if stage.rule.carried is not None:
        rows = _rows(stage, blocks, out["settled"])
        rows = joined([rows], out["settled"], out["final"], stage.rule.carried)
        keep = kept(stage.rule.conditions, rows, len(rows["label"]))
        out["final"][np.isin(out["final"], rows["label"][~keep])] = 0
        out |= {f"row.{k}": v for k, v in taken(rows, keep).items()}
    stage.folder.write(block_name("near", group), out)


def _inside(stage: Components, blocks: list[Index], name: np.ndarray) -> np.ndarray:
    """The pairs within a group, as places in the sorted names; (n, 2)."""
    if not len(name):
        return np.empty((0, 2), np.int64)
    found = []
    for node in sorted({tuple(i >> 1 for i in block) for block in blocks}):
        for pairs in touching.pairs_of(stage, node):
            at = np.minimum(np.searchsorted(name, pairs), len(name) - 1)
            found.append(at[(name[at] == pairs).all(axis=1)])
    return np.ascontiguousarray(np.concatenate(found)) if found else np.empty((0, 2), np.int64)


def _rows(stage: Components, blocks: list[Index], settled: np.ndarray) -> Rows:
    parts = []
    for block in blocks:
        rows = stage.block_rows(block)
        parts.append(taken(rows, np.isin(rows["label"], settled)))
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}


def read(stage: Components, group: Index) -> tuple[np.ndarray, np.ndarray]:
    """The parts that a group settled, and what they are called now; 0: dropped."""
    record = stage.folder.read(block_name("near", group), "settled", "final")
    return record["settled"], record["final"]


def rows(stage: Components, group: Index) -> Rows:
    """The measurements of the objects that a group settled and that stay."""
    record = stage.folder.read_some(block_name("near", group), lambda key: key.startswith("row."))
    return {k[4:]: v for k, v in record.items()}
