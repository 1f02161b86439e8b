"""What neighbouring blocks tell each other, up a tree and down again.

    leaf     every block finds its components and names each by the raster index of its first voxel, which no other
             block can use
    pairs    every block compares its faces, edges and corners with its neighbours': which components touch, and up to
             which level of the tree each of them has something to meet
    near     groups of blocks that straddle the cuts of the tree settle the objects that end within them
    up       a node of the tree unites the components that touch between its children (the smallest name wins), and
             hands on only those that a neighbour outside still touches; the others are complete: conditions are asked
             of them here, and those that fail are dropped before anything is numbered or written
    down     a node tells its children the final names of the components they handed it, 0 for one that was dropped

The result is defined without blocks (components, named by their first voxel), so the order in which blocks are merged
cannot matter. State of a node of the tree: the components that touch something outside its box, at most one for every
second voxel of its surface. Union-find over blocks: Isenburg & Shewchuk 2009; boundary trees: Gazagnes & Wilkinson
2021. `graph/rank.py` numbers the components.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from dask.base import tokenize

from bigbia.graph import near, touching
from bigbia.graph.boxes import Box, Grid, Index, shape_of, slices, volume, whole
from bigbia.graph.carried import Carried, Rows, joined, renamed, taken
from bigbia.graph.conditions import Largest, kept
from bigbia.graph.cost import as_doubles, largest, surface
from bigbia.graph.reading import read_together
from bigbia.graph.regions import Blocks, Node
from bigbia.graph.stages import Left, Stage, block_name
from bigbia.kernels.components import Runs, components, paint
from bigbia.kernels.contacts import united
from bigbia.kernels.names import names

NONE = np.empty(0, np.int64)

# Bytes of memory that are foretold, measured with noise (tests/test_memory.py): a voxel of a block that finds its
# components, and of a block that is painted; a voxel of the faces of blocks that are compared, and of a box of the tree.
LEAF, RUNS = 4.0, 1.8
FACE, OPEN = 8, 0.1  # the latter is no bound: how many objects are longer than a block nobody knows before


@dataclass(frozen=True)
class Rule:
    """What an object is, what is measured of it, and which objects stay.

    connectivity  voxels are neighbours if they differ by at most this many steps along axes
    background    voxels of this value belong to no object
    conditions    `graph/conditions.py`, asked of complete objects; `Largest` last
    carried       what is measured, if anything is
    table         whether the measurements of the objects that stay are left behind too
    """

    connectivity: int
    background: int = 0
    conditions: tuple[Any, ...] = ()
    carried: Carried | None = None
    table: bool = False

    @property
    def largest(self) -> Largest | None:
        last = self.conditions[-1] if self.conditions else None
        return last if isinstance(last, Largest) else None


class Components(Stage):
    """Connected components of an image, those that meet all conditions.

    It leaves the image without the others (`kept`), and what `graph/rank.py` numbers them by.
    """

    block_steps = frozenset({"leaf"})
    face: int = FACE
    open: float = OPEN

    def __init__(self, node: Node, grid: Grid, rule: Rule, kind: str = "label") -> None:
        identity = tokenize(
            "components", node.token, rule.connectivity, rule.background, rule.conditions, rule.carried, rule.table
        )
        carried = (rule.carried.images, rule.carried.values) if rule.carried else ((), ())
        self.images = 1 + len(carried[0])
        self._begin(kind, identity, [node, *carried[0], *carried[1]], grid, rule)

    def _begin(self, kind: str, identity: str, nodes: Sequence[Node], grid: Grid, rule: Rule) -> None:
        self.kind, self.node, self.rule = kind, nodes[0], rule
        self.depth = grid.depth
        ups = [f"up{k}" for k in range(1, self.depth + 1)]
        downs = [f"down{k}" for k in range(self.depth, 0, -1)]
        across = ["pairs", "near"] if self.depth > 1 else ["pairs"] if self.depth else []
        self.steps = ("leaf", *across, *ups, *downs, "done")
        super().__init__(identity, nodes, grid)

    # ---- who needs whom
    def level(self, step: str) -> int:
        return int(step.lstrip("updown"))

    def indices(self, step: str) -> Iterable[Index]:
        if step == "leaf":
            return self.grid.indices()
        if step == "done":
            return [()]
        if step == "near":
            return near.groups(self)
        return product(*map(range, self.grid.nodes(1 if step == "pairs" else self.level(step))))

    def needs(self, step: str, index: Index) -> Iterable[tuple[str, Index]]:
        if step == "leaf":
            return []
        if step == "done":
            last = "down1" if self.depth else "leaf"
            return [(last, i) for i in self.indices(last)]
        if step == "pairs":
            around = [
                range(max(0, r.start - 1), min(n, r.stop + 1))
                for r, n in zip(self.grid.below(1, index), self.grid.numblocks)
            ]
            return [("leaf", block) for block in product(*around)]
        if step == "near":
            return [("pairs", i) for i in sorted({tuple(k >> 1 for k in b) for b in near.blocks_of(self, index)})]
        level = self.level(step)
        if step.startswith("up"):
            if level > 1:
                return [(f"up{level - 1}", child) for child in self.grid.children(level, index)]
            if self.depth == 1:
                return [("pairs", index)]
            return [("near", g) for g in sorted({near.group_of(b) for b in product(*self.grid.below(1, index))})]
        return [(f"up{level}", index)] if level == self.depth else [(f"down{level + 1}", tuple(i >> 1 for i in index))]

    def run(self, step: str, index: Index, blocks: Blocks | None = None) -> None:
        if step == "leaf":
            self._leaf(index, blocks)
        elif step == "pairs":
            touching.find(self, index)
        elif step == "near":
            near.settle(self, index)
        elif step.startswith("up"):
            self._up(self.level(step), index)
        elif step.startswith("down"):
            self._down(self.level(step), index)
        else:
            self.folder.finish()

    def reads(self, step: str, index: Index) -> tuple[Sequence[Node], Sequence[Box]]:
        if step != "leaf":
            return (), ()
        return self.inputs, [self.grid.box(index)] * self.images + [()] * (len(self.inputs) - self.images)

    # ---- leaf
    def _leaf(self, index: Index, blocks: Blocks | None) -> None:
        data = read_together(*self.reads("leaf", index), blocks)
        block = data[0]
        box = self.grid.box(index)
        runs = components(block, self.rule.connectivity, self.rule.background)
        root, line = names(runs.first, runs.shape, [a for a, _ in box], self.grid.shape)
        leaf: dict[str, np.ndarray] = {"root": root, "line": line}
        if block.dtype != bool:
            values = block[np.unravel_index(runs.first, runs.shape)]
            leaf["value"] = values.astype(values.dtype.newbyteorder("="))
        if self.rule.carried is not None:
            rows = self.rule.carried.summarise(runs, data[: self.images], box, data[self.images :])
            leaf |= {f"row.{name}": column for name, column in rows.items() if name != "label"}
        self.folder.write(block_name("runs", index), record_of(runs))
        if self.depth:
            leaf |= touching.faces(runs, leaf, index, self.grid.numblocks)
        self.folder.write(block_name("leaf", index), leaf)

    def block_rows(self, block: Index) -> Rows:
        """What a block measured of its components."""
        leaf = self.folder.read_some(block_name("leaf", block), lambda key: key == "root" or key.startswith("row."))
        return {"label": leaf.pop("root")} | {k[4:]: v for k, v in leaf.items()}

    # ---- the tree
    def meeting(self, a: touching.Faces, b: touching.Faces, offset: Index) -> tuple[np.ndarray, np.ndarray]:
        """Which components of two blocks belong together, as places in their short lists."""
        return touching.meeting(a, b, offset, self.rule.connectivity)

    def _leaf_state(self, block: Index) -> tuple[dict[str, np.ndarray], Rows, Rows]:
        """What a block hands on: its open components, their rows, and the rows of those complete in it."""
        short = touching.short_list(self, block)
        shared = short["last"] > 0
        open_ = shared.copy()
        if self.depth > 1:
            open_ &= ~np.isin(short["edge"], near.read(self, near.group_of(block))[0])
        alias = {"leaf": short["edge"][open_], "now": short["edge"][open_], "last": short["last"][open_]}
        if self.rule.carried is None:
            return alias, {}, {}
        rows = self.block_rows(block)
        complete = np.ones(len(rows["label"]), bool)
        complete[short["member"][shared]] = False
        return alias, taken(rows, short["member"][open_]), taken(rows, complete)

    def _up(self, level: int, index: Index) -> None:
        aliases, rows, best = [], [], []
        for child in self.grid.children(level, index):
            if level == 1:
                alias, open_rows, closed = self._leaf_state(child)
                best.append(self._best(closed))
            else:
                record = self.folder.read(block_name(f"up{level - 1}", child))
                alias = {k: record[k] for k in ("leaf", "now", "last")}
                open_rows = {k[4:]: v for k, v in record.items() if k.startswith("row.")}
                best.append((record["best"], record["best_n"]))
            aliases.append(alias)
            rows.append(open_rows)
        if level == 1 and self.depth > 1 and self.rule.largest:
            best += [self._best(near.rows(self, group)) for group in near.beginning_in(self, index)]
        alias = {k: np.concatenate([a[k] for a in aliases]) for k in ("leaf", "now", "last")}
        order = np.argsort(alias["leaf"], kind="stable")  # sorted parts: merged in one pass
        leaf, now, last = (alias[k][order] for k in ("leaf", "now", "last"))
        pairs = touching.at_level(self, level, index, leaf)
        old, new = united_names(now[pairs]) if len(pairs) else (NONE, NONE)
        now = renamed(now, old, new)
        open_ = last > level
        out = {"leaf": leaf[open_], "now": now[open_], "last": last[open_], "old": old, "new": new, "gone": NONE}
        if self.rule.carried is not None:
            together = joined(rows, old, new, self.rule.carried)
            still = np.isin(together["label"], out["now"])
            complete = taken(together, ~still)
            keep = kept(self.rule.conditions, complete, len(complete["label"]))
            out["gone"] = complete["label"][~keep]
            out |= {f"row.{name}": column for name, column in taken(together, still).items()}
            if self.rule.table:
                self.folder.write(block_name(f"closed{level}", index), taken(complete, keep))
            best.append(self._best(complete))
        out["best"], out["best_n"] = self._joined_best(best)
        self.folder.write(block_name(f"up{level}", index), out)

    def _best(self, complete: Rows) -> tuple[np.ndarray, np.ndarray]:
        """The candidates of `Largest` among complete objects."""
        if self.rule.largest is None:
            return NONE, NONE
        rows = taken(complete, kept(self.rule.conditions, complete, len(complete["label"])))
        return self.rule.largest.best(rows["label"], rows)

    def _joined_best(self, best: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        if self.rule.largest is None:
            return NONE, NONE
        names, n = (np.concatenate([b[i] for b in best]) for i in (0, 1))
        return self.rule.largest.best(names, {"n": n})

    def _down(self, level: int, index: Index) -> None:
        own = self.folder.read(block_name(f"up{level}", index), "old", "new", "now", "gone", "best")
        if level < self.depth:
            above = self.folder.read(block_name(f"down{level + 1}", tuple(i >> 1 for i in index)))
        else:
            above = {"old": NONE, "new": NONE, "largest": own["best"]}
        known = np.unique(np.concatenate([own["old"], own["now"], own["gone"]]))
        final = renamed(renamed(known, own["old"], own["new"]), above["old"], above["new"])
        if len(own["gone"]):
            final[np.isin(final, own["gone"])] = 0
        changed = final != known
        down = {"old": known[changed], "new": final[changed], "largest": above["largest"]}
        self.folder.write(block_name(f"down{level}", index), down)
        if level == 1:
            for block in product(*self.grid.below(1, index)):
                self.folder.write(block_name("changed", block), self._changes(block, down))

    def _changes(self, block: Index, down: Rows) -> dict[str, np.ndarray]:
        """Which of a block's components belong to an object of another name, and that name; 0: to one dropped."""
        which, names = self.shared_names(block)
        final = renamed(names, down["old"], down["new"])
        if self.depth > 1:
            final = renamed(final, *near.read(self, near.group_of(block)))
        if self.rule.conditions:
            # those that nothing touches were complete here
            rows = self.block_rows(block)
            keep = kept(self.rule.conditions, rows, len(rows["label"]))
            keep[which] = True
            every = np.where(keep, rows["label"], 0)
            every[which] = final
            if self.rule.largest is not None:
                every[~np.isin(every, down["largest"])] = 0
            which, names, final = np.arange(len(every)), rows["label"], every
        changed = final != names
        return {"which": which[changed], "final": final[changed]}

    # ---- what it leaves
    def changes(self, block: Index) -> tuple[np.ndarray, np.ndarray]:
        """Which of a block's components belong to an object of another name, and that name; 0: to one dropped."""
        if self.depth:
            record = self.folder.read(block_name("changed", block))
        else:
            best = self._best(self.block_rows(block))[0] if self.rule.largest else NONE
            record = self._changes(block, {"old": NONE, "new": NONE, "largest": best})
        return record["which"], record["final"]

    def lines(self, block: Index) -> np.ndarray:
        """The line of the block's voxels that each of its components begins on."""
        return self.folder.read(block_name("leaf", block), "line")["line"]

    def shared_names(self, block: Index) -> tuple[np.ndarray, np.ndarray]:
        """Which of a block's components touch another block's, and their names."""
        if not self.depth:
            return NONE, NONE
        short = touching.short_list(self, block)
        return tuple(short[k][short["last"] > 0] for k in ("member", "edge"))  # type: ignore[return-value]

    def measured(self, block: Index) -> tuple[np.ndarray, Rows, Rows]:
        """Rows of objects: which of a block's components were complete in it, their rows, and further rows.

        These are of the objects complete in the groups and in the nodes of the tree that begin with the block.
        """
        rows = self.block_rows(block)
        here = np.ones(len(rows["label"]), bool)
        here[self.changes(block)[0]] = False
        here[self.shared_names(block)[0]] = False
        further: list[Rows] = [taken(rows, NONE)]
        if self.depth > 1 and near.first_block(near.group_of(block)) == block:
            further.append(near.rows(self, near.group_of(block)))
        for level in range(1, self.depth + 1):
            if any(i & ((1 << level) - 1) for i in block):
                break
            further.append(self.folder.read(block_name(f"closed{level}", tuple(i >> level for i in block))))
        return np.flatnonzero(here), taken(rows, here), {k: np.concatenate([f[k] for f in further]) for k in rows}

    def kept(self, fill: int = 0) -> Left:
        """The objects that stay, with their voxels' values, on a background of `fill`."""
        what = f"kept-{self.identity}-{fill}"
        return Left(self, f"image{fill}", self.grid.shape, self.node.dtype, what)

    def left(self, output: str, box: Box) -> np.ndarray:
        fill, dtype = int(output.removeprefix("image")), self.node.dtype

        def values(block: Index) -> np.ndarray:
            leaf = self.folder.read(block_name("leaf", block), "line", "value")
            out = np.empty(len(leaf["line"]) + 1, dtype)
            out[0] = fill
            out[1:] = leaf.get("value", not self.rule.background)
            which, final = self.changes(block)
            out[1:][which[final == 0]] = fill
            return out

        return self.painted(box, values, dtype)

    def _runs(self, block: Index) -> dict[str, np.ndarray]:
        return self.folder.read(block_name("runs", block))

    def painted(self, box: Box, numbers: Any, dtype: np.dtype) -> np.ndarray:
        """A box of the image in which every component has its number: numbers(block), the background's first."""
        out = None
        for index, part in self.grid.overlapping(box):
            origin = self.grid.box(index)
            runs = Runs(shape_of(origin), first=NONE, **self._runs(index))
            local = tuple((a - o, b - o) for (a, b), (o, _) in zip(part, origin))
            voxels = paint(runs, numbers(index), local)
            if part == box:
                return voxels
            if out is None:
                out = np.empty(shape_of(box), dtype)
            out[slices(part, box)] = voxels
        return np.empty(shape_of(box), dtype) if out is None else out

    def writes(self, step: str) -> float:
        return 0.5 if step == "leaf" else 0.0

    # ---- memory
    def task_bytes(self, step: str, index: Index) -> int:
        """Bytes that a task holds besides what it reads.

        Those of noise, whose runs are short, and more than of tidy objects; not of a checkerboard, whose voxels are an
        object each. Above the blocks only objects longer than a block are left.
        """
        if step == "leaf":
            carried = 1.0 + as_doubles(self.inputs[1 : self.images]) if self.rule.carried else 0.0
            return int((LEAF + carried) * volume(self.grid.box(index)))
        if step == "done":
            return 0
        first = step in ("pairs", "near", "up1", "down1")
        level = 1 if first else self.level(step)
        if step == "near":
            blocks = near.blocks_of(self, index)
            return self.face * sum(surface(self.grid.box(b)) for b in blocks)
        below = self.grid.below(level, index)
        if first:
            return self.face * sum(surface(self.grid.box(b)) for b in product(*below))
        sides = [e[r.stop] - e[r.start] for e, r in zip(self.grid.edges, below)]
        return int(self.open * surface(whole(sides)))

    def left_bytes(self, output: str, box: Box) -> int:
        """Bytes that painting a box takes besides it: the runs of a block, and its voxels where they are but a part."""
        return painting_bytes(self.grid, box, self.node.dtype)


def painting_bytes(grid: Grid, box: Box, dtype: np.dtype) -> int:
    """Bytes that painting a box from runs takes besides the box."""
    parts = [part for _, part in grid.overlapping(box)]
    piece = max(map(volume, parts), default=0) * dtype.itemsize if len(parts) > 1 else 0
    return int(RUNS * largest(grid, box)) + piece


def record_of(runs: Runs) -> dict[str, np.ndarray]:
    """What is kept of a block's runs."""
    return {
        "lines": runs.lines.astype(np.uint32) if runs.lines[-1] < 2**32 else runs.lines,
        "start": runs.start,
        "stop": runs.stop,
        "component": runs.component.astype(np.uint16) if runs.count < 65536 else runs.component,
    }


def united_names(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Old and new names of those that change when pairs (n, 2) are united: all that hang together take the smallest."""
    names, index = np.unique(pairs, return_inverse=True)
    smallest = names[united(np.ascontiguousarray(index.reshape(-1, 2)), len(names))]
    changed = smallest != names
    return names[changed], smallest[changed]


def at_once(data: Sequence[np.ndarray], rule: Rule, values: Sequence[np.ndarray] = ()) -> tuple[Runs, np.ndarray, Rows]:
    """The same of an image that is one block: its components, which of them stay, and the rows of those that do."""
    runs = components(data[0], rule.connectivity, rule.background)
    names = np.arange(1, runs.count + 1)
    if rule.carried is None:
        return runs, np.ones(runs.count, bool), {"label": names}
    rows = {"label": names} | {
        k: v for k, v in rule.carried.summarise(runs, data, whole(data[0].shape), values).items() if k != "label"
    }
    keep = kept(rule.conditions, rows, runs.count)
    if rule.largest is not None:
        best = rule.largest.best(names[keep], taken(rows, keep))[0]
        keep = np.isin(names, best)
    return runs, keep, taken(rows, keep)
