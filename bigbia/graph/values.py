"""Objects that are all voxels of one value: which of them stay, and what they are called afterwards.

A label image says what belongs together by its values; pieces of one value may lie anywhere. What is known of every
label comes from a grouping (`graph/group.py`), in ranges of labels; the answers go back to the blocks that asked.

    candidates, cut    only to find the largest: the best of each range, then the least of the best of all
    verdict            a range: its labels that stay
    offsets            how many stay in the ranges before each; the last number is known before any voxel is made
    answers            64 blocks: what becomes of the labels of each, asked of the ranges they lie in

A voxel is read from the label image again and gets its answer. Nothing of the size of all labels is ever held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from dask.base import tokenize

from bigbia.errors import BlockError, RunError
from bigbia.graph.boxes import Box, Grid, Index, describe, shape_of, slices, whole
from bigbia.graph.conditions import Largest, columns_of, kept
from bigbia.graph.cost import worth_keeping
from bigbia.graph.group import ROW, Group
from bigbia.graph.lazy import check_image, is_lazy, lazy
from bigbia.graph.regions import Blocks, Node, Parts
from bigbia.graph.stages import Left, Stage, block_name
from bigbia.kernels import values as kernels

Rows = Mapping[str, np.ndarray]
_EMPTY = {"label": np.zeros(0, np.uint64), "n": np.zeros(0, np.int64)}


# ---- what stays and what it is called --------------------------------------------------------------------------------
@dataclass(frozen=True)
class Meets:
    """Rows -> which of them meet the conditions (`graph/conditions.py`)."""

    conditions: tuple[Any, ...] = ()

    def __call__(self, rows: Rows) -> np.ndarray:
        return kept(self.conditions, rows, len(rows["label"]))


@dataclass(frozen=True)
class Numbers:
    """What the labels that stay are called: as before, or from `offset` on in their order.

    `what` asks for it, and `way` is what to do where the numbers do not fit the dtype, for the message.
    """

    dtype: np.dtype
    offset: int | None = None
    what: str = ""
    way: str = ""

    def check(self, count: int) -> None:
        """That numbers for so many labels fit the dtype."""
        last = (self.offset or 0) + count - 1
        if self.offset is not None and count and last > np.iinfo(self.dtype).max:
            raise RunError(
                f"{self.what}: {count} labels from {self.offset} on do not fit {self.dtype} (at most "
                f"{np.iinfo(self.dtype).max}); nothing was written: {self.way}"
            )

    def of(self, labels: np.ndarray, rank: int = 0) -> np.ndarray:
        """The new numbers of labels that stay, the first of them the `rank`-th of all."""
        if self.offset is None:
            return labels.astype(self.dtype)
        return (np.arange(len(labels), dtype=np.uint64) + np.uint64(rank + self.offset)).astype(self.dtype)


# ---- counting --------------------------------------------------------------------------------------------------------
def count_labels(blocks: Sequence[np.ndarray], box: Box, values: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """One row a label of the block: label, n."""
    label, n = kernels.counts(blocks[0])
    if len(label) and label[0] < 0:
        raise BlockError(negative(label[0], box))
    return {"label": label, "n": n}


def add_counts(rows: Rows, starts: np.ndarray) -> dict[str, np.ndarray]:
    return {"label": rows["label"][starts], "n": np.add.reduceat(rows["n"], starts)}


def negative(label: Any, box: Box) -> str:
    return (
        f"label {label} in the block {describe(box)}: labels are 1 or more and 0 is background: "
        "set it to 0 first, labels * (labels > 0)"
    )


def counted(images: Sequence[Node], grid: Grid, summarise: Callable[..., Rows] = count_labels) -> Group:
    """The grouping that counts the voxels of each label, one for all that ask it of an image.

    A label image that is dear to compute is stored when it is read for this, and read back when it is renumbered.
    """
    return Group("count labels", images, [], grid, summarise, add_counts, [n for n in images if worth_keeping(n)])


# ---- the stage -------------------------------------------------------------------------------------------------------
class Values(Stage):
    """Labels judged and renumbered.

    seen     a grouping of the label image: which labels each block has
    asked    a grouping, or another `Values`, whose rows the verdict is on; the same one, or that of another image
    verdict  (rows) -> which of them stay; of those the `largest`, where given
    """

    kind = "renumber"
    partitions: int

    def __init__(
        self,
        seen: Group,
        asked: Group | Values,
        verdict: Callable[[Rows], np.ndarray],
        numbers: Numbers,
        largest: Largest | None = None,
    ) -> None:
        self.seen, self.asked = seen, asked
        self.verdict, self.numbers, self.largest = verdict, numbers, largest
        self.partitions = asked.partitions
        first = ("candidates", "cut") if largest else ()
        self.steps = (*first, "verdict", "offsets", "answers", "done")
        identity = tokenize(
            "values", seen.identity, asked.identity, verdict, largest, str(numbers.dtype), numbers.offset
        )
        before = {s.token: Left(s, "rows", (), np.dtype(bool), f"rows-{s.token}") for s in (seen, asked)}
        super().__init__(identity, list(before.values()), seen.grid)

    def renumbered(self, labels: Node) -> Renumbered:
        """The image of the new numbers, of the label image that was seen."""
        what = f"renumbered-{tokenize(self.identity, labels.token)}"
        return Renumbered(self, "labels", labels.shape, self.numbers.dtype, what, labels)

    def indices(self, step: str) -> Iterable[Index]:
        if step in ("candidates", "verdict"):
            return [(i,) for i in range(self.partitions)]
        return [(i,) for i in range(self.seen.gathers)] if step == "answers" else [()]

    def needs(self, step: str, index: Index) -> Iterable[tuple[str, Index]]:
        if step == self.steps[0]:
            return []
        before = self.steps[self.steps.index(step) - 1]
        return [(before, i) for i in self.indices(before)]

    def run(self, step: str, index: Index, blocks: Blocks | None = None) -> None:
        if step == "candidates":
            self.folder.write(block_name(step, index), self._candidates(index[0]))
        elif step == "cut":
            self.folder.write("cut", self._cut())
        elif step == "verdict":
            label = self._verdict(index[0])
            self.folder.write(block_name(step, index), {"label": label, "count": np.array(len(label))})
        elif step == "offsets":
            count = [int(self.folder.read(self._of(i), "count")["count"]) for i in range(self.partitions)]
            self.numbers.check(sum(count))
            self.folder.write("offsets", {"before": np.cumsum([0, *count])})
        elif step == "answers":
            self.folder.write(block_name(step, index), self._answers(index[0]))
        else:
            self.folder.finish()

    def _of(self, partition: int) -> str:
        return block_name("verdict", (partition,))

    def task_bytes(self, step: str, index: Index) -> int:
        """Bytes that a task holds: a range of labels, or the labels of the blocks of a gather and the ranges they ask."""
        if step in ("candidates", "cut", "verdict"):
            return 3 * ROW * self.asked.rows_foretold
        if step == "answers":
            return ROW * (self.asked.rows_foretold + self.seen.objects_foretold(index[0]))
        return 32 * self.partitions if step == "offsets" else 0

    @property
    def rows_foretold(self) -> int:
        """How many labels a range may have."""
        return self.asked.rows_foretold

    # ---- which stay
    def _candidates(self, i: int) -> Rows:
        assert self.largest is not None
        rows = self.asked.partition(i)
        keep = self.verdict(rows)
        label, n = self.largest.best(rows["label"][keep], {"n": rows["n"][keep]})
        return {"label": label.astype(np.uint64), "n": n}

    def _cut(self) -> Rows:
        """The last that is among the largest; none if all are."""
        assert self.largest is not None
        best: Rows = _EMPTY
        for i in range(self.partitions):
            more = self.folder.read(block_name("candidates", (i,)))
            label, n = (np.concatenate([best[k], more[k]]) for k in ("label", "n"))
            best = dict(zip(("label", "n"), self.largest.best(label, {"n": n})))
        return {k: v[self.largest.n - 1 :] for k, v in best.items()}

    def _verdict(self, i: int) -> np.ndarray:
        rows = self.asked.partition(i)
        keep = self.verdict(rows)
        if self.largest is not None:
            last = self.folder.read("cut")
            if not self.largest.n:
                keep[:] = False
            elif len(last["n"]):
                n, label = rows["n"], rows["label"].astype(np.uint64)
                keep &= (n > last["n"]) | ((n == last["n"]) & (label <= last["label"]))
        return rows["label"][keep]

    def edges(self) -> np.ndarray:
        """The labels at which all partitions but the first begin, ascending."""
        return self.asked.edges()

    def partition(self, i: int) -> Rows:
        """The labels of one range that stay, and their new numbers."""
        label = self.folder.read(self._of(i), "label")["label"]
        before = self.folder.read("offsets")["before"]
        return {"label": label, "new": self.numbers.of(label, int(before[i]))}

    # ---- and back to the blocks
    def _answers(self, gather: int) -> Rows:
        """old, new: the labels of each block of a gather; those of the k-th block from start[k] to start[k + 1]."""
        labels = self.seen.folder.read(block_name("gather", (gather,)), "label")["label"]
        new = np.zeros(len(labels), self.numbers.dtype)
        names = labels.astype(np.uint64)  # the labels asked about may be of another dtype
        bounds = [0, *np.searchsorted(names, self.edges().astype(np.uint64)).tolist(), len(names)]
        for i, (a, b) in enumerate(pairwise(bounds)):
            if a < b:
                rows = self.partition(i)
                stay = rows["label"].astype(np.uint64)
                at = np.searchsorted(stay, names[a:b])
                found = np.append(stay, np.uint64(0))[at] == names[a:b]
                new[a:b] = np.where(found, np.append(rows["new"], self.numbers.dtype.type(0))[at], 0)
        parts = [
            np.sort(self.seen.folder.read(block_name("part", block), "label")["label"])
            for block in self.seen.members(gather)
        ]
        old = np.concatenate(parts)
        start = np.cumsum([0, *map(len, parts)])
        return {"start": start, "old": old, "new": new[np.searchsorted(labels, old)]}

    def answers(self, block: Index) -> tuple[np.ndarray, np.ndarray]:
        """What becomes of the labels of one block: old, ascending, and new."""
        gather, k = self.seen.member(block)
        name = block_name("answers", (gather,))
        a, b = map(int, self.folder.read_rows(name, "start", k, k + 2))
        return self.folder.read_rows(name, "old", a, b), self.folder.read_rows(name, "new", a, b)


@dataclass(frozen=True, eq=False)
class Renumbered(Left):
    """A label image with new numbers: its own voxels, and what a stage says of them."""

    child: Node

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(children=(self.child,), cost=2.0)

    def needs(self, box: Box) -> tuple[list[Box], ...]:
        return ([box],)

    def compute(self, box: Box, parts: Parts) -> np.ndarray:
        labels = parts[0][0]
        out = None
        for block, part in self.stage.seen.grid.overlapping(box):
            old, new = self.stage.answers(block)
            piece = labels[slices(part, box)]
            made, wrong = kernels.replaced(piece, old, new)
            if wrong is not None:
                raise BlockError(
                    f"label {piece[wrong]} in the block {describe(part)} was not there when the labels were counted: "
                    "the image changed since, or is not the same each time it is computed; save it first"
                )
            if part == box:
                return made
            if out is None:
                out = np.empty(shape_of(box), self.dtype)
            out[slices(part, box)] = made
        return np.empty(shape_of(box), self.dtype) if out is None else out

    def rebuilt(self, children: tuple[Node, ...]) -> Node:
        return replace(self, child=children[0])


@dataclass(frozen=True, eq=False)
class Chosen(Node):
    """A label image with some labels only: `labels`, ascending, at hand, of its dtype."""

    child: Node
    labels: np.ndarray

    def __post_init__(self) -> None:
        self._set(
            shape=self.child.shape,
            dtype=self.child.dtype,
            children=(self.child,),
            token="chosen-" + tokenize(self.labels, self.child.token),
            cost=2.0,
        )

    def needs(self, box: Box) -> tuple[list[Box], ...]:
        return ([box],)

    def compute(self, box: Box, parts: Parts) -> np.ndarray:
        return chosen(parts[0][0], self.labels, box)

    def rebuilt(self, children: tuple[Node, ...]) -> Node:
        return replace(self, child=children[0])


def chosen(block: np.ndarray, labels: np.ndarray, box: Box) -> np.ndarray:
    """A block with some labels only."""
    out, wrong = kernels.replaced(block, labels, labels, strict=False)
    if wrong is not None:
        raise BlockError(negative(block[wrong], box))
    return out


# ---- at once ---------------------------------------------------------------------------------------------------------
def judged(
    labels: np.ndarray, verdict: Callable[[Rows], np.ndarray], numbers: Numbers, largest: Largest | None = None
) -> tuple[np.ndarray, Rows]:
    """What `Values` does to a whole image at hand: its labels renumbered, and the table label, new."""
    rows = count_labels([labels], whole(labels.shape), ())
    keep = verdict(rows)
    if largest is not None:
        best, _ = largest.best(rows["label"][keep], {"n": rows["n"][keep]})
        keep &= np.isin(rows["label"], best)
    stay = rows["label"][keep]
    numbers.check(len(stay))
    new = np.zeros(len(keep), numbers.dtype)
    new[keep] = numbers.of(stay)
    out, _ = kernels.replaced(labels, rows["label"], new)
    return out, {"label": stay, "new": new[keep]}


def selected(image: Any, what: str, conditions: Sequence[Any]) -> Any:
    """The label image without the objects that do not meet the conditions: 0 where they were, other labels unchanged.

    An object is all voxels of one label, 1 or more; in a DataArray for each time and channel by itself.

    image       integer array: NumPy (at once), Dask or DataArray; the result is of the same kind and dtype
    what        who asks, for messages: "morphology.remove_small_objects"
    conditions  of `graph/conditions.py`, on the number of voxels: `Size`, `Largest`

    Raises InputError for voxels that are not integers; BlockError for negative labels, when it is computed.
    """
    check_image(image, what, "iu")
    largest = [c for c in conditions if isinstance(c, Largest)]
    if set(columns_of(conditions)) - {"n"} or len(largest) > 1:
        raise NotImplementedError(f"{what}: {conditions}: only numbers of voxels are known here, and one Largest")
    verdict = Meets(tuple(c for c in conditions if not isinstance(c, Largest)))
    return renumbered(image, what, verdict, Numbers(np.dtype(image.dtype)), largest[0] if largest else None)


def renumbered(
    image: Any, what: str, verdict: Callable[[Rows], np.ndarray], numbers: Numbers, largest: Largest | None = None
) -> Any:
    """A label image judged and renumbered, for each time and channel of a DataArray by itself."""
    if not is_lazy(image):
        return judged(image, verdict, numbers, largest)[0]
    source = lazy(image, what)
    nodes = []
    for _, part in source.each():
        group = counted([part.node], part.grid)
        nodes.append(Values(group, group, verdict, numbers, largest).renumbered(part.node))
    return source.like(source.joined(nodes), source.joined_chunks())
