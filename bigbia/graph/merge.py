"""What neighbouring blocks tell each other, up a tree and down again.

    leaf     every block finds its components and names each by the raster index of its first voxel, which no
             other block can use
    up       a node of the tree compares the faces between its children, unites what touches (the smallest name
             wins), and hands on only the components that reach its own surface
    down     a node tells its children the final names of the components they handed it
    rank     a final name is a root if its block found it; its number is its rank in raster order, from counts a
             line of voxels that are summed along the last axis, then the one before it, ...: no list of all
             objects is ever made
    numbers  every block's components get their numbers; a block of labels is painted from its runs and its numbers

The result is defined without blocks (components, numbered by their first voxel), so the order in which blocks are
merged cannot matter. State of a node of the tree: the components that reach its surface. Union-find over blocks:
Isenburg & Shewchuk 2009; boundary trees: Gazagnes & Wilkinson 2021.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product

import numpy as np
from dask.base import tokenize

from bigbia.errors import RunError
from bigbia.graph.boxes import Box, Grid, Index, shape_of, slices
from bigbia.graph.regions import Blocks, Node
from bigbia.graph.stages import Left, Stage, block_name
from bigbia.kernels.components import Runs, components, paint
from bigbia.kernels.contacts import contacts, united


class Components(Stage):
    """Connected components of an image, numbered from 1 by their first voxel in raster order.

    It leaves `labels` (an image) and `count` (0-d).
    """

    kind = "label"
    block_steps = frozenset({"leaf"})

    def __init__(self, node: Node, grid: Grid, connectivity: int, background: int, dtype: np.dtype) -> None:
        self.connectivity, self.background, self.dtype = connectivity, background, np.dtype(dtype)
        self.depth = max((n - 1).bit_length() for n in grid.numblocks)
        ups = [f"up{k}" for k in range(1, self.depth + 1)]
        downs = [f"down{k}" for k in range(self.depth, 0, -1)]
        scans = [f"scan{k}" for k in range(node.ndim - 2, -1, -1)]
        self.steps = ("leaf", *ups, *downs, "rows", *scans, "numbers", "done")
        identity = tokenize("components", node.token, connectivity, background, str(self.dtype))
        super().__init__(identity, [node], grid)

    # ---- who needs whom
    def _level(self, step: str) -> int:
        return int(step.lstrip("updown"))

    def _nodes(self, level: int) -> tuple[int, ...]:
        return tuple(-(-n >> level) for n in self.grid.numblocks)

    def _blocks(self, level: int, index: Index) -> list[range]:
        """The blocks below a node of the tree, a range an axis."""
        return [range(i << level, min((i + 1) << level, n)) for i, n in zip(index, self.grid.numblocks)]

    def _children(self, level: int, index: Index) -> Iterator[Index]:
        counts = self._nodes(level - 1)
        return product(*(range(2 * i, min(2 * i + 2, n)) for i, n in zip(index, counts)))

    def indices(self, step: str) -> Iterable[Index]:
        if step == "leaf":
            return self.grid.indices()
        if step in ("rows", "done") or step.startswith("scan"):
            axes = self.node_ndim - 1 if step == "rows" else 0 if step == "done" else int(step[4:])
            return product(*map(range, self.grid.numblocks[:axes]))
        level = min(1, self.depth) if step == "numbers" else self._level(step)
        return product(*map(range, self._nodes(level)))

    @property
    def node_ndim(self) -> int:
        return len(self.grid.numblocks)

    def needs(self, step: str, index: Index) -> Iterable[tuple[str, Index]]:
        if step == "leaf":
            return []
        if step == "rows":
            last = range(self.grid.numblocks[-1])
            if not self.depth:
                return [("leaf", (*index, j)) for j in last]
            return sorted({("down1", tuple(i >> 1 for i in (*index, j))) for j in last})
        if step.startswith("scan"):
            k = int(step[4:])
            before = "rows" if k == self.node_ndim - 2 else f"scan{k + 1}"
            return [(before, (*index, b)) for b in range(self.grid.numblocks[k])]
        if step == "numbers":
            return [("scan0", ()) if self.node_ndim > 1 else ("rows", ())]
        if step == "done":
            return [("numbers", i) for i in self.indices("numbers")]
        level = self._level(step)
        if step.startswith("up"):
            below = "leaf" if level == 1 else f"up{level - 1}"
            return [(below, child) for child in self._children(level, index)]
        return [(f"up{level}", index)] if level == self.depth else [(f"down{level + 1}", tuple(i >> 1 for i in index))]

    def run(self, step: str, index: Index, blocks: Blocks | None = None) -> None:
        if step == "leaf":
            self._leaf(index, blocks)
        elif step.startswith("up"):
            self._up(self._level(step), index)
        elif step.startswith("down"):
            self._down(self._level(step), index)
        elif step == "rows":
            self._row(index)
        elif step.startswith("scan"):
            self._scan(int(step[4:]), index)
        elif step == "numbers":
            for block in product(*self._blocks(min(1, self.depth), index)):
                self._number(block)
        else:
            self.folder.finish()

    # ---- leaf
    def _leaf(self, index: Index, blocks: Blocks | None) -> None:
        (block,) = self.read_inputs(index, blocks)
        runs = components(block, self.connectivity, self.background)
        box = self.grid.box(index)
        local = np.array(np.unravel_index(runs.first, runs.shape), np.int64).reshape(len(box), -1)
        roots = _raveled(local + np.array([[a] for a, _ in box]), self.grid.shape) + 1
        everything = np.arange(runs.count + 1, dtype=np.uint32)
        reach = np.zeros(runs.count + 1, np.uint32)
        faces = {}
        for axis, side in product(range(len(box)), (0, 1)):
            if 0 <= index[axis] + (2 * side - 1) < self.grid.numblocks[axis]:
                n = runs.shape[axis]
                part = tuple((0, m) if a != axis else ((0, 1), (n - 1, n))[side] for a, m in enumerate(runs.shape))
                face = paint(runs, everything, part)
                faces[f"{axis}{side}"] = face.reshape([m for a, m in enumerate(runs.shape) if a != axis])
                reach[np.unique(face)] |= 1 << (2 * axis + side)
        narrow = np.uint16 if runs.shape[-1] < 65536 else np.uint32
        self.folder.write(
            block_name("runs", index),
            {
                "lines": runs.lines.astype(np.uint32) if runs.lines[-1] < 2**32 else runs.lines,
                "start": runs.start.astype(narrow),
                "stop": runs.stop.astype(narrow),
                "component": runs.component.astype(np.uint16) if runs.count < 65536 else runs.component,
            },
        )
        self.folder.write(block_name("faces", index), faces)
        values = block[tuple(local)]
        self.folder.write(
            block_name("leaf", index),
            {"root": roots, "reach": reach[1:], "value": values.astype(values.dtype.newbyteorder("="))},
        )

    # ---- the tree
    def _state(self, level: int, index: Index) -> dict[str, np.ndarray]:
        """Of the components that reach a node's surface.

        Their block's name for them, their name now, and the sides they reach.
        """
        if level:
            return self.folder.read(block_name(f"up{level}", index), "leaf", "now", "reach")
        leaf = self.folder.read(block_name("leaf", index), "root", "reach")
        open_ = leaf["reach"] > 0
        return {"leaf": leaf["root"][open_], "now": leaf["root"][open_], "reach": leaf["reach"][open_]}

    def _up(self, level: int, index: Index) -> None:
        children = list(self._children(level, index))
        states = [self._state(level - 1, child) for child in children]
        joined = {key: np.concatenate([s[key] for s in states]) for key in ("leaf", "now", "reach")}
        order = np.argsort(joined["leaf"])
        leaf, now = joined["leaf"][order], joined["now"][order]
        pairs = self._contacts(level, index)
        if len(pairs):
            old, new = united_names(now[np.searchsorted(leaf, pairs)])
        else:
            old = new = np.empty(0, np.int64)
        inner = []
        for child, state in zip(children, states):
            sides = 0  # those that face a sibling
            for axis, (i, n) in enumerate(zip(child, self._nodes(level - 1))):
                if i % 2 == 0 and i + 1 < n:
                    sides |= 2 << (2 * axis)
                elif i % 2:
                    sides |= 1 << (2 * axis)
            inner.append(np.full(len(state["leaf"]), sides, np.uint32))
        reach = (joined["reach"] & ~np.concatenate(inner))[order]
        open_ = reach > 0
        self.folder.write(
            block_name(f"up{level}", index),
            {"leaf": leaf[open_], "now": renamed(now[open_], old, new), "reach": reach[open_], "old": old, "new": new},
        )

    def _contacts(self, level: int, index: Index) -> np.ndarray:
        """Names, in their own blocks, of components that touch across the faces between a node's children; (n, 2)."""
        inside = self._blocks(level, index)
        middles = [(i << level) + (1 << (level - 1)) for i in index]
        found = []
        leaves: dict[Index, dict[str, np.ndarray]] = {}
        faces: dict[Index, dict[str, np.ndarray]] = {}
        for offset in _later(len(index), self.connectivity):
            for a in sorted(_across(offset, inside, middles)):
                b = tuple(i + o for i, o in zip(a, offset))
                for block in (a, b):
                    if block not in leaves:
                        leaves[block] = self.folder.read(block_name("leaf", block), "root", "value")
                        faces[block] = self.folder.read(block_name("faces", block))
                budget = self.connectivity - sum(map(abs, offset))
                codes = contacts(_facing(faces[a], offset, 1), _facing(faces[b], offset, -1), budget)
                if len(codes):
                    mine, other = (codes >> 32) - 1, (codes & 0xFFFFFFFF) - 1
                    same = leaves[a]["value"][mine] == leaves[b]["value"][other]
                    found.append(np.stack([leaves[a]["root"][mine[same]], leaves[b]["root"][other[same]]], axis=1))
        return np.concatenate(found) if found else np.empty((0, 2), np.int64)

    def _down(self, level: int, index: Index) -> None:
        own = self.folder.read(block_name(f"up{level}", index), "old", "new", "now")
        if level < self.depth:
            above = self.folder.read(block_name(f"down{level + 1}", tuple(i >> 1 for i in index)))
        else:
            above = {"old": np.empty(0, np.int64), "new": np.empty(0, np.int64)}
        names = np.unique(np.concatenate([own["old"], own["now"]]))
        final = renamed(renamed(names, own["old"], own["new"]), above["old"], above["new"])
        changed = final != names
        old, new = names[changed], final[changed]
        self.folder.write(block_name(f"down{level}", index), {"old": old, "new": new})
        if level == 1:
            for block in product(*self._blocks(1, index)):
                roots = self.folder.read(block_name("leaf", block), "root")["root"]
                self.folder.write(block_name("final", block), {"final": renamed(roots, old, new)})

    # ---- ranks
    def _owned(self, block: Index) -> np.ndarray:
        """The roots that a block found: ascending."""
        roots, final = self._final(block)
        return roots[roots == final]

    def _final(self, block: Index) -> tuple[np.ndarray, np.ndarray]:
        roots = self.folder.read(block_name("leaf", block), "root")["root"]
        return (roots, self.folder.read(block_name("final", block))["final"]) if self.depth else (roots, roots)

    def _row(self, row: Index) -> None:
        """Rank of each root among those of its line of voxels, over a row of blocks along the last axis."""
        lead = shape_of(self.grid.box((*row, 0)))[:-1]
        counts = np.zeros(int(np.prod(lead, dtype=np.int64)), np.int64)
        for j in range(self.grid.numblocks[-1]):
            block = (*row, j)
            roots = self._owned(block)
            line = self._line(roots, block)
            new = np.flatnonzero(np.diff(line, prepend=-1))
            repeats = np.diff(np.append(new, len(line)))
            rank = counts[line] + np.arange(len(line)) - np.repeat(new, repeats)
            self.folder.write(block_name("rank", block), {"rank": rank})
            counts[line[new]] += repeats
        if self.node_ndim == 1:
            self._check(int(counts.sum()))
        self.folder.write(block_name("rows", row), {"count": counts.reshape(lead)})

    def _line(self, roots: np.ndarray, block: Index) -> np.ndarray:
        """Index, in the block, of the line along the last axis that each root lies on."""
        box = self.grid.box(block)
        place = np.array(np.unravel_index(roots - 1, self.grid.shape), np.int64).reshape(len(box), -1)
        local = place[:-1] - np.array([a for a, _ in box[:-1]], np.int64).reshape(-1, 1)
        return _raveled(local, shape_of(box)[:-1])

    def _scan(self, k: int, index: Index) -> None:
        """Running sums along axis k.

        How many roots come before each line, among those that share its first k coordinates.
        """
        before = "rows" if k == self.node_ndim - 2 else f"scan{k + 1}"
        base: np.ndarray | None = None
        for b in range(self.grid.numblocks[k]):
            counts = self.folder.read(block_name(before, (*index, b)), "count")["count"]
            ahead = np.cumsum(counts, axis=k) - counts
            if base is None:
                base = np.zeros(counts.shape[:k], np.int64)
            self.folder.write(block_name(f"ahead{k}", (*index, b)), {"ahead": ahead + base[..., None]})
            base = base + counts.sum(axis=k)
        assert base is not None
        if k == 0:
            self._check(int(base))
        self.folder.write(block_name(f"scan{k}", index), {"count": base})

    def _check(self, total: int) -> None:
        if total > np.iinfo(self.dtype).max:
            raise RunError(
                f"label: {total} objects do not fit {self.dtype} (at most {np.iinfo(self.dtype).max}); nothing was written. "
                'Pass dtype="uint64"'
            )
        self.folder.write("count", {"count": np.array(total, np.int64)})

    def _number(self, block: Index) -> None:
        _, final = self._final(block)
        names, inverse = np.unique(final, return_inverse=True)
        place = np.array(np.unravel_index(names - 1, self.grid.shape), np.int64).reshape(self.node_ndim, -1)
        owners = np.array([np.searchsorted(e, p, side="right") - 1 for e, p in zip(self.grid.edges, place)], np.int64)
        numbers = np.zeros(len(names), np.int64)
        which, member = np.unique(_raveled(owners, self.grid.numblocks), return_inverse=True)
        for i, flat in enumerate(which):
            owner = tuple(int(c) for c in np.unravel_index(flat, self.grid.numblocks))
            mine = member == i
            numbers[mine] = self._ranks(owner, names[mine])
        out = np.zeros(len(final) + 1, self.dtype)
        out[1:] = numbers[inverse]
        self.folder.write(block_name("numbers", block), {"number": out})

    def _ranks(self, owner: Index, roots: np.ndarray) -> np.ndarray:
        """The numbers, from 1, of roots that a block owns."""
        rank = self.folder.read(block_name("rank", owner))["rank"][np.searchsorted(self._owned(owner), roots)]
        box = self.grid.box(owner)
        place = np.array(np.unravel_index(roots - 1, self.grid.shape), np.int64).reshape(len(box), -1)
        total = rank + 1
        for k in range(self.node_ndim - 1):
            ahead = self.folder.read(block_name(f"ahead{k}", owner[: k + 1]))["ahead"]
            total += ahead[tuple(p - a for p, (a, _) in zip(place[: k + 1], box))]
        return total

    # ---- what it leaves
    def labels(self) -> Left:
        return Left(self, "labels", self.grid.shape, self.dtype, f"label-{self.identity}")

    def count(self) -> Left:
        return Left(self, "count", (), np.dtype(np.int64), f"count-{self.identity}")

    def left(self, output: str, box: Box) -> np.ndarray:
        if output == "count":
            return self.folder.read("count")["count"]
        out = None
        for index, part in self.grid.overlapping(box):
            origin = self.grid.box(index)
            record = self.folder.read(block_name("runs", index))
            numbers = self.folder.read(block_name("numbers", index))["number"]
            runs = Runs(shape_of(origin), first=np.empty(0, np.int64), **record)
            local = tuple((a - o, b - o) for (a, b), (o, _) in zip(part, origin))
            labels = paint(runs, numbers, local)
            if part == box:
                return labels
            if out is None:
                out = np.empty(shape_of(box), self.dtype)
            out[slices(part, box)] = labels
        return np.zeros(shape_of(box), self.dtype) if out is None else out

    def writes(self, step: str) -> float:
        return 0.5 if step == "leaf" else 0.0


def _raveled(place: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Coordinates (axes, n) to raster indices; unlike np.ravel_multi_index, of any number of axes and beyond 2**31."""
    out = np.zeros(place.shape[1], np.int64)
    for p, n in zip(place, shape):
        out = out * n + p
    return out


def _later(ndim: int, connectivity: int) -> list[Index]:
    """Offsets to half of the neighbouring blocks, so that each pair of blocks is met once."""
    return [o for o in product((-1, 0, 1), repeat=ndim) if o > (0,) * ndim and sum(map(abs, o)) <= connectivity]


def _across(offset: Index, inside: Sequence[range], middles: Sequence[int]) -> set[Index]:
    """The blocks of a node of the tree whose neighbour at an offset lies in it too, but in another of its children."""
    valid = [range(max(r.start, r.start - o), min(r.stop, r.stop - o)) for r, o in zip(inside, offset)]
    found: set[Index] = set()
    for axis, o in enumerate(offset):
        place = middles[axis] - 1 if o > 0 else middles[axis]
        if o and place in valid[axis]:
            found.update(product(*(valid[a] if a != axis else (place,) for a in range(len(offset)))))
    return found


def _facing(faces: dict[str, np.ndarray], offset: Index, sign: int) -> np.ndarray:
    """The voxels of a block that face its neighbour at `offset` (sign 1) or at `-offset` (sign -1)."""
    axis = next(a for a, o in enumerate(offset) if o)
    face = faces[f"{axis}{int(sign * offset[axis] > 0)}"]
    index = tuple(slice(None) if not o else (-1 if sign * o > 0 else 0) for a, o in enumerate(offset) if a != axis)
    return face[index]


def united_names(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Old and new names of those that change when pairs (n, 2) are united: all that hang together take the smallest."""
    names, index = np.unique(pairs, return_inverse=True)
    smallest = names[united(np.ascontiguousarray(index.reshape(-1, 2)), len(names))]
    changed = smallest != names
    return names[changed], smallest[changed]


def renamed(names: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Names after old -> new, `old` ascending."""
    if not len(old) or not len(names):
        return names
    at = np.minimum(np.searchsorted(old, names), len(old) - 1)
    return np.where(old[at] == names, new[at], names)
