"""Which components of neighbouring blocks touch, found from the blocks' faces before the tree is climbed.

leaf/<block>   the components on each face that another block adjoins, as places in a short list of those that are
               on any face: `member` (which component), `edge` (its name), `edge value`
pairs/<node>   for the blocks of a node of the first level: names that touch, by the level where they meet, and for
               each block's short list the last level at which a component meets another, and how many it meets
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from bigbia.graph.boxes import Index, meeting_level
from bigbia.graph.stages import block_name
from bigbia.kernels.components import Runs, paint
from bigbia.kernels.contacts import contacts

if TYPE_CHECKING:
    from bigbia.graph.merge import Components


def faces(runs: Runs, leaf: Mapping[str, np.ndarray], index: Index, numblocks: Index) -> dict[str, np.ndarray]:
    """The record of a block's faces."""
    everything = np.arange(runs.count + 1, dtype=np.uint32)
    found = {}
    seen = np.zeros(runs.count + 1, bool)
    for axis, side in product(range(len(index)), (0, 1)):
        if 0 <= index[axis] + (2 * side - 1) < numblocks[axis]:
            n = runs.shape[axis]
            part = tuple((0, m) if a != axis else ((0, 1), (n - 1, n))[side] for a, m in enumerate(runs.shape))
            face = paint(runs, everything, part)
            found[f"face{axis}{side}"] = face.reshape([m for a, m in enumerate(runs.shape) if a != axis])
            seen[face.reshape(-1)] = True
    seen[0] = True
    member = np.flatnonzero(seen)
    place = np.zeros(runs.count + 1, np.uint16 if len(member) < 65536 else np.uint32)
    place[member] = np.arange(len(member))
    out = {name: place[face] for name, face in found.items()}
    member = member[1:] - 1
    out |= {"member": member, "edge": leaf["root"][member]}
    if "value" in leaf:
        out["edge value"] = leaf["value"][member]
    return out


def find(stage: Components, index: Index) -> None:
    """Compare the blocks of a node of the first level with all their neighbours."""
    cache: dict[Index, Faces] = {}

    def of(block: Index) -> Faces:
        if block not in cache:
            cache[block] = Faces(stage, block)
        return cache[block]

    pairs: dict[int, list[np.ndarray]] = {}
    own = set(product(*stage.grid.below(1, index)))
    last = {block: np.zeros(len(of(block).root), np.uint8) for block in own}
    degree = {block: np.zeros(len(of(block).root), np.uint32) for block in own}
    for a in sorted(own):
        for offset in _offsets(len(index), stage.rule.connectivity):
            b = tuple(i + o for i, o in zip(a, offset))
            later = offset > (0,) * len(offset)
            if not all(0 <= i < n for i, n in zip(b, stage.grid.numblocks)) or (b in own and not later):
                continue
            mine, other = stage.meeting(of(a), of(b), offset)
            if not len(mine):
                continue
            level = meeting_level(a, b)
            for block, which in [(a, mine), (b, other)] if b in own else [(a, mine)]:
                last[block][which] = np.maximum(last[block][which], level)
                degree[block] += np.bincount(which, minlength=len(degree[block])).astype(np.uint32)
            if later:
                pairs.setdefault(level, []).append(np.stack([of(a).root[mine], of(b).root[other]], axis=1))
    record = {f"level{k}": np.concatenate(p) for k, p in sorted(pairs.items())}
    record |= {block_name("last", block): levels for block, levels in last.items()}
    record |= {block_name("degree", block): count for block, count in degree.items()}
    stage.folder.write(block_name("pairs", index), record)


def meeting(a: Faces, b: Faces, offset: Index, connectivity: int) -> tuple[np.ndarray, np.ndarray]:
    """Which components of two blocks touch, as places in their short lists; b lies at an offset from a."""
    codes = contacts(a.facing(offset, 1), b.facing(offset, -1), connectivity - sum(map(abs, offset)))
    mine, other = (codes >> 32) - 1, (codes & 0xFFFFFFFF) - 1
    if a.value is None or b.value is None:
        return mine, other
    same = a.value[mine] == b.value[other]
    return mine[same], other[same]


def short_list(stage: Components, block: Index) -> dict[str, np.ndarray]:
    """A block's components on its faces: member, edge; the last level where each meets another; how many it meets."""
    keys = {name: block_name(name, block) for name in ("last", "degree")}
    record = stage.folder.read(block_name("pairs", tuple(i >> 1 for i in block)), *keys.values())
    faces = stage.folder.read(block_name("leaf", block), "member", "edge")
    return faces | {name: record[key] for name, key in keys.items()}


def pairs_of(stage: Components, node: Index) -> list[np.ndarray]:
    """All names that touch, from a node of the first level."""
    record = stage.folder.read_some(block_name("pairs", node), lambda key: key.startswith("level"))
    return list(record.values())


class Faces:
    """The record of one block's faces, read as far as it is asked for."""

    def __init__(self, stage: Components, block: Index) -> None:
        self.folder, self.name = stage.folder, block_name("leaf", block)
        record = self.folder.read(self.name, "edge", "edge value")
        self.root, self.value = record["edge"], record.get("edge value")
        self._read: dict[str, np.ndarray] = {}

    def record(self, key: str) -> np.ndarray:
        """What else the block's leaf says."""
        if key not in self._read:
            self._read |= self.folder.read(self.name, key)
        return self._read[key]

    def facing(self, offset: Index, sign: int) -> np.ndarray:
        """The voxels that face the neighbour at `offset` (sign 1) or at `-offset` (sign -1)."""
        axis = next(a for a, o in enumerate(offset) if o)
        key = f"face{axis}{int(sign * offset[axis] > 0)}"
        face = self.record(key)
        index = tuple(slice(None) if not o else (-1 if sign * o > 0 else 0) for a, o in enumerate(offset) if a != axis)
        return face[index]


def _offsets(ndim: int, connectivity: int) -> list[Index]:
    return [o for o in product((-1, 0, 1), repeat=ndim) if 0 < sum(map(abs, o)) <= connectivity]


def at_level(stage: Components, level: int, index: Index, names: np.ndarray) -> np.ndarray:
    """The pairs of names that touch across the faces between the children of a node of the tree.

    As places in `names`, ascending; (n, 2). Those that are settled already are not there.
    """
    inside = stage.grid.below(level, index)
    middles = [(i << level) + (1 << (level - 1)) for i in index]
    nodes: set[Index] = set()
    for offset in _offsets(len(index), stage.rule.connectivity):
        if offset > (0,) * len(offset):
            nodes.update(tuple(i >> 1 for i in block) for block in _across(offset, inside, middles))
    key = f"level{level}"
    found = [np.empty((0, 2), np.int64)]
    for node in sorted(nodes) if len(names) else ():
        pairs = stage.folder.read(block_name("pairs", node), key).get(key)
        if pairs is not None:
            at = np.minimum(np.searchsorted(names, pairs), len(names) - 1)
            found.append(at[(names[at] == pairs).all(axis=1)])
    return np.concatenate(found)


def _across(offset: Index, inside: list[range], middles: list[int]) -> set[Index]:
    """The blocks of a node of the tree whose neighbour at an offset lies in it too, but in another of its children."""
    valid = [range(max(r.start, r.start - o), min(r.stop, r.stop - o)) for r, o in zip(inside, offset)]
    found: set[Index] = set()
    for axis, o in enumerate(offset):
        place = middles[axis] - 1 if o > 0 else middles[axis]
        if o and place in valid[axis]:
            found.update(product(*(valid[a] if a != axis else (place,) for a in range(len(offset)))))
    return found
