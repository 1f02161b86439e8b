"""A relaxation finished in a fixed number of passes, instead of rounds: a tree of boxes, each with a tree of levels.

    leaf    every block finds the tree between the voxels of its surface (`kernels/boundary_tree.py`), with the state that
            it has as seeds
    join    every block finds which of its terminals its neighbours' touch, and at what level; of edges that make a ring
            the lowest is left out
    up      a box of the tree joins those of its children (2 along each axis) and the edges between them, and hands on
            terminals with something beyond the box to meet, with what they get within it and the tree between them
    down    a box tells its children what their terminals get
    rise    every block raises the voxels of its surface to that, and what these raise

What the image in the end has at a voxel is the highest that comes along any path, the lowest of the limits on it and the
state where it begins: a sum of such paths over blocks is a path over edges of the trees. All levels are values of the
input, so the bits are those that rounds come to. State of a box: its terminals, fewer than the voxels of its surface,
and as many edges.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Any

import numpy as np

from bigbia.errors import StorageError
from bigbia.graph import cache
from bigbia.graph.boxes import Index, meeting_level
from bigbia.graph.rounds import Rounds, borders, facing, together
from bigbia.graph.stages import block_name
from bigbia.kernels.boundary_tree import Edges, boundary_tree, contracted, forest, settled
from bigbia.kernels.reconstruction import raised

FOLDER = "tree"
_BLOCK = 1 << 32  # a terminal's name: the number of its block times this, and its number in the block


class FloodTree:
    """The passes of a stage whose blocks have records `state`, `limit`, and `most`, the limit's faces."""

    def __init__(self, stage: Rounds, connectivity: int, dtype: np.dtype) -> None:
        self.stage, self.folder, self.grid = stage, stage.folder, stage.grid
        self.connectivity, self.dtype = connectivity, dtype
        self.kind = np.dtype(np.uint8) if dtype.kind == "b" else dtype  # of levels
        self.depth = self.grid.depth

    def run(self) -> None:
        """All passes; those tasks that are not done yet."""
        levels = range(1, self.depth + 1)
        self._each("leaf", self.leaf, self.grid.indices())
        self._each("join", self.join, self.grid.indices())
        for level in levels:
            self._each(f"up{level}", functools.partial(self.up, level), self._boxes(level))
        for level in reversed(levels):
            self._each(f"down{level}", functools.partial(self.down, level), self._boxes(level))
        self._each("rise", self.rise, self.grid.indices())

    def _each(self, step: str, task: Callable[[Index], dict[str, Any]], indices: Iterable[Index]) -> None:
        together(functools.partial(self._task, step, task), list(indices))

    def _task(self, step: str, task: Callable[[Index], dict[str, Any]], index: Index) -> None:
        self.stage.check_stop()
        try:
            if not self.folder.exists(_name(step, index)) and not self.stage.complete:
                self.folder.write(_name(step, index), task(index), pack=True)
        except StorageError:
            if not self.stage.complete:  # else another driver was faster, and has removed what only these tasks need
                raise
        cache.relieve()

    # ---- the tree of boxes
    def _boxes(self, level: int) -> Iterator[Index]:
        return product(*map(range, self.grid.nodes(level)))

    def _beside_cuts(self, level: int, index: Index) -> Iterator[Index]:
        """The blocks of a box on either side of the cuts between its children."""
        blocks = self.grid.below(level, index)
        cuts = [r.start + (1 << (level - 1)) for r in blocks]
        for block in product(*blocks):
            if any(i in (c - 1, c) for i, c in zip(block, cuts)):
                yield block

    def _first_name(self, block: Index) -> int:
        return int(np.ravel_multi_index(block, self.grid.numblocks)) * _BLOCK

    # ---- blocks
    def _voxels(self, name: str, index: Index) -> np.ndarray:
        return self.folder.read(block_name(name, index))["voxels"]

    def leaf(self, index: Index) -> dict[str, Any]:
        state, limit = (self._voxels(name, index).view(self.kind) for name in ("state", "limit"))
        surface = np.zeros(state.shape, bool)
        sides = [tuple(i + o for i in index) for o in (-1, 1)]
        for axis, n in enumerate(self.grid.numblocks):
            for side, other in zip((0, -1), (s[axis] for s in sides)):
                if 0 <= other < n:
                    surface[(slice(None),) * axis + (side,)] = True
        tree = boundary_tree(state, limit, surface, self.connectivity)
        faces = borders("terminal", tree.terminal)
        last = np.zeros(len(tree.seed), np.uint8)  # the level of the tree up to which a terminal has something to meet
        for offset in self.stage.offsets:
            if self.stage.inside(index, offset):
                some = facing(faces, offset, "terminal")
                some = some[some >= 0]
                last[some] = np.maximum(last[some], meeting_level(index, tuple(i + o for i, o in zip(index, offset))))
        return {**faces, "seed": tree.seed, "last": last, **tree.edges._asdict()}

    def join(self, index: Index) -> dict[str, Any]:
        own, seeds = self._faces(index), self.folder.read(_name("leaf", index), "seed")["seed"]
        edges: dict[int, list[Edges]] = {}
        for offset in self.stage.offsets:
            if not self.stage.inside(index, offset):
                continue
            other = tuple(i + o for i, o in zip(index, offset))
            back = tuple(-o for o in offset)
            theirs = self._faces(other, next((a, int(o > 0)) for a, o in enumerate(back) if o))
            here = [np.atleast_1d(facing(own, offset, name)) for name in ("terminal", "limit")]
            there = [np.atleast_1d(facing(theirs, back, name)) for name in ("terminal", "limit")]
            a, b, level = self._touching(here, there, self.connectivity - sum(map(abs, offset)))
            rest = b < 0  # at their limit, so they are sources
            np.maximum.at(seeds, a[rest], level[rest])
            if offset > (0,) * len(offset):
                names = b[~rest] + self._first_name(other)
                found = Edges(a[~rest] + self._first_name(index), names, level[~rest])
                edges.setdefault(meeting_level(index, other), []).append(_without_rings(found))
        out: dict[str, Any] = {"seed": seeds}
        for meeting, several in edges.items():
            out |= {f"{meeting}.{k}": v for k, v in _without_rings(_together(several))._asdict().items()}
        return out

    def _faces(self, index: Index, *which: tuple[int, int]) -> dict[str, np.ndarray]:
        """Terminals and limits of a block's faces; of those named by axis and side, or of all."""
        which = which or tuple(product(range(len(index)), (0, 1)))
        faces = self.folder.read(_name("leaf", index), *(f"terminal.{axis}{side}" for axis, side in which))
        most = self.folder.read(block_name("most", index), *(f"limit.{axis}{side}" for axis, side in which))
        return faces | {name: face.view(self.kind) for name, face in most.items()}

    def _touching(self, here: list[np.ndarray], there: list[np.ndarray], apart: int) -> tuple[np.ndarray, ...]:
        """Own terminals, those of the voxels beyond that their voxels touch (-1: none), and the levels."""
        found = []
        for shift in product((-1, 0, 1), repeat=here[0].ndim):
            if sum(map(abs, shift)) <= max(apart, 0):
                one = tuple(slice(max(-s, 0), n - max(s, 0)) for s, n in zip(shift, here[0].shape))
                two = tuple(slice(max(s, 0), n - max(-s, 0)) for s, n in zip(shift, here[0].shape))
                a, b, level = here[0][one], there[0][two], np.minimum(here[1][one], there[1][two])
                some = a >= 0
                found.append((a[some].astype(np.int64), b[some].astype(np.int64), level[some]))
        return tuple(np.concatenate(several) for several in zip(*found))

    def rise(self, index: Index) -> dict[str, Any]:
        record = self.folder.read_some(
            _name("leaf", index), lambda name: name == "seed" or name.startswith("terminal.")
        )
        names = self._first_name(index) + np.arange(len(record.pop("seed")))
        exact = self._exact(1, tuple(i >> 1 for i in index), names)
        most = self.folder.read(block_name("most", index))
        at, values = [], []
        for name, terminal in record.items():
            axis, side = (int(c) for c in name.rpartition(".")[2])
            some = terminal >= 0
            where = side * (self.grid.chunks[axis][index[axis]] - 1)
            at.append(np.insert(np.argwhere(some), axis, where, axis=1))
            limit = most[f"limit.{axis}{side}"].view(self.kind)
            values.append(np.minimum(exact[terminal[some]], limit[some]))
        if len(names):
            state, limit = self._voxels("state", index), self._voxels("limit", index)
            offered = np.concatenate(values).view(self.dtype)
            state = raised(state, limit, np.concatenate(at), offered, self.connectivity)
            self.folder.write(block_name("state", index), {"voxels": state}, pack=True)
        return {}

    # ---- boxes
    def _below(self, level: int, child: Index) -> tuple[dict[str, np.ndarray], Edges]:
        """What a child hands on: names of terminals, seeds and last meetings, and the edges between them."""
        if level > 1:
            record = self.folder.read(_name(f"up{level - 1}", child), "name", "seed", "last", "a", "b", "level")
        else:
            record = self.folder.read(_name("leaf", child), "last", "a", "b", "level")
            record |= self.folder.read(_name("join", child), "seed")
            record["name"] = self._first_name(child) + np.arange(len(record["seed"]))
        names = record["name"]
        return record, Edges(names[record["a"]], names[record["b"]], record["level"])

    def up(self, level: int, index: Index) -> dict[str, Any]:
        records, edges = map(list, zip(*(self._below(level, child) for child in self.grid.children(level, index))))
        mark = f"{level}."
        for block in self._beside_cuts(level, index):
            found = self.folder.read_some(_name("join", block), lambda name: name.startswith(mark))
            if found:
                edges.append(Edges(*(found[mark + k] for k in Edges._fields)))
        names, seed, last = (np.concatenate([r[k] for r in records]) for k in ("name", "seed", "last"))
        order = np.argsort(names)
        names, seed, last = names[order], seed[order], last[order]
        a, b, at = _together(edges)
        tree = forest(Edges(np.searchsorted(names, a), np.searchsorted(names, b), at), len(names))
        seed = settled(tree, seed)
        kept = last > level
        out = {"name": names[kept], "seed": seed[kept], "last": last[kept], **contracted(tree, seed, kept)._asdict()}
        inner = {"inner.name": names, "inner.seed": seed, "inner.level": tree.level}
        return out | inner | {"inner.a": tree.a.astype(np.int32), "inner.b": tree.b.astype(np.int32)}

    def down(self, level: int, index: Index) -> dict[str, Any]:
        own = self.folder.read_some(
            _name(f"up{level}", index), lambda name: name == "name" or name.startswith("inner.")
        )
        seed = own["inner.seed"]
        if level < self.depth:
            above = self._exact(level + 1, tuple(i >> 1 for i in index), own["name"])
            seed[np.searchsorted(own["inner.name"], own["name"])] = above
        tree = Edges(*(own[f"inner.{k}"] for k in Edges._fields))
        return {"name": own["inner.name"], "exact": settled(tree, seed)}

    def _exact(self, level: int, index: Index, names: np.ndarray) -> np.ndarray:
        """What terminals get in the end, from the box above them."""
        record = self.folder.read(_name(f"down{level}", index))
        return record["exact"][np.searchsorted(record["name"], names)]


def _name(step: str, index: Index) -> str:
    return block_name(f"{FOLDER}/{step}", index)


def _together(several: Iterable[Edges]) -> Edges:
    return Edges(*(np.concatenate(parts) for parts in zip(*several)))


def _without_rings(edges: Edges) -> Edges:
    """The same by names, without the lowest edge of every ring."""
    names, ends = np.unique(np.concatenate([edges.a, edges.b]), return_inverse=True)
    a, b = ends.reshape(2, -1)
    tree = forest(Edges(a, b, edges.level), len(names))
    return Edges(names[tree.a], names[tree.b], tree.level)
