"""What became of the blocks of a step, in a grid of at most SIDE x SIDE cells however many blocks there are.

The ledger is read line by line; a bit a block is held, to count one that was done twice once.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bigbia.graph.boxes import Index, describe
from bigbia.run.ledger import entries_at
from bigbia.run.tasks import Failure

SIDE = 64  # cells along an axis
PANELS = 12  # times and channels drawn by themselves; more are drawn as one
SLOWEST = 5
NAMED = 200  # missing blocks named one by one
WORKERS = 500


@dataclass
class Plane:
    """How blocks are laid out on paper: two axes of space, the third looked along, times and channels side by side."""

    numblocks: tuple[int, ...]
    axes: tuple[str, ...]
    rows: int | None = None
    columns: int | None = None
    along: list[int] = field(default_factory=list)
    panels: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        space = [a for a, name in enumerate(self.axes) if name not in ("t", "c")]
        rest = [a for a in range(len(self.axes)) if a not in space]
        if math.prod(self.numblocks[a] for a in rest) <= PANELS:
            self.panels = [a for a in rest if self.numblocks[a] > 1]
        # The axis with the fewest blocks is looked along, z where that is open: so the map shows the most.
        drawn = sorted(sorted(space, key=lambda a: (-self.numblocks[a], -a))[:2])
        self.rows, self.columns = (drawn[0] if len(drawn) == 2 else None), (drawn[-1] if drawn else None)
        self.along = [a for a in range(len(self.axes)) if a not in drawn and a not in self.panels]

    def _count(self, axis: int | None) -> int:
        return 1 if axis is None else self.numblocks[axis]

    @property
    def steps(self) -> tuple[int, int]:
        """Blocks in a cell, down and across."""
        return -(-self._count(self.rows) // SIDE), -(-self._count(self.columns) // SIDE)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Panels, rows and columns of cells."""
        down, across = self.steps
        return (
            math.prod(self.numblocks[a] for a in self.panels),
            -(-self._count(self.rows) // down),
            -(-self._count(self.columns) // across),
        )

    def cell(self, block: Index) -> tuple[int, int, int]:
        panel = 0
        for a in self.panels:
            panel = panel * self.numblocks[a] + block[a]
        down, across = self.steps
        row = 0 if self.rows is None else block[self.rows] // down
        return panel, row, 0 if self.columns is None else block[self.columns] // across

    def blocks(self) -> np.ndarray:
        """How many blocks each cell stands for."""
        deep = math.prod(self.numblocks[a] for a in self.along)
        counts = []
        for n, step, cells in zip((self._count(self.rows), self._count(self.columns)), self.steps, self.shape[1:]):
            counts.append(np.minimum(step, n - step * np.arange(cells)))
        plane = counts[0][:, None] * counts[1][None, :] * deep
        return np.broadcast_to(plane, self.shape).astype(np.int64)

    def titles(self) -> list[str]:
        every = product(*(range(self.numblocks[a]) for a in self.panels))
        return [", ".join(f"{self.axes[a]} {i}" for a, i in zip(self.panels, index)) for index in every]

    def name(self, axis: int | None) -> str:
        return "" if axis is None else self.axes[axis]


@dataclass
class Tally:
    """What the ledger of a step says, summed up."""

    plane: Plane
    block: tuple[int, ...]
    shape: tuple[int, ...] | None

    def __post_init__(self) -> None:
        cells = self.plane.shape
        self.total = math.prod(self.plane.numblocks)
        self.seconds, self.longest = np.zeros(cells), np.zeros(cells)
        self.counts = {kind: np.zeros(cells, np.int64) for kind in ("done", "retried", "missing", "failed")}
        self.done = self.retries = 0
        self.lacking: list[dict[str, Any]] = []
        self.slowest: list[tuple[float, Index]] = []
        self.workers: dict[str, int] = {}
        self._seen = np.zeros(-(-self.total // 8), np.uint8)

    def read(self, ledger: Path) -> Tally:
        for _, entry in entries_at(ledger):
            if self._fits(entry.block):
                self._add(entry)
        return self

    def _fits(self, block: Index) -> bool:
        grid = self.plane.numblocks
        return len(block) == len(grid) and all(0 <= i < n for i, n in zip(block, grid))

    def _add(self, entry: Any) -> None:
        cell = self.plane.cell(entry.block)
        again = self._again(entry.block)
        self.seconds[cell] += entry.seconds
        self.longest[cell] = max(self.longest[cell], entry.seconds)
        if not again:
            self.done += 1
            self.counts["done"][cell] += 1
        if entry.attempts > 1 or again:
            self.counts["retried"][cell] += 1
            self.retries += entry.attempts - 1 + again
        if entry.missing:
            self.counts["missing"][cell] += 1
            if len(self.lacking) < NAMED:
                self.lacking.append({**self.named(entry.block), "error": entry.missing})
        if len(self.slowest) < SLOWEST:
            heapq.heappush(self.slowest, (entry.seconds, entry.block))
        elif entry.seconds > self.slowest[0][0]:
            heapq.heapreplace(self.slowest, (entry.seconds, entry.block))
        if entry.worker in self.workers or len(self.workers) < WORKERS:
            self.workers[entry.worker] = max(self.workers.get(entry.worker, 0), entry.peak)

    def _again(self, block: Index) -> bool:
        """Whether a block was there before."""
        at = 0
        for i, n in zip(block, self.plane.numblocks):
            at = at * n + i
        bit = np.uint8(1 << (at % 8))
        before = bool(self._seen[at // 8] & bit)
        self._seen[at // 8] |= bit
        return before

    def fail(self, failures: Iterable[Failure]) -> Tally:
        """Note the blocks that were given up."""
        for failure in failures:
            if self._fits(failure.block):
                self.counts["failed"][self.plane.cell(failure.block)] += 1
        return self

    def named(self, block: Index) -> dict[str, Any]:
        """A block and, where the image's shape is known, its voxels."""
        found: dict[str, Any] = {"block": list(block)}
        if self.shape is not None:
            box = tuple((i * b, min((i + 1) * b, n)) for i, b, n in zip(block, self.block, self.shape))
            found["region"] = describe(box, self.plane.axes)
        return found

    def map(self) -> dict[str, Any]:
        """For the report."""
        plane = self.plane
        count = self.counts["done"]
        mean = self.seconds / np.maximum(count, 1)
        left = np.maximum(plane.blocks() - count - self.counts["failed"], 0)
        marks = {"retried": self.counts["retried"], "missing": self.counts["missing"], "failed": self.counts["failed"]}
        panels = []
        for p, title in enumerate(plane.titles()):
            panel: dict[str, Any] = {
                "title": title,
                "seconds": _lists(mean[p], count[p]),
                "longest": _lists(self.longest[p], count[p]),
            }
            panels.append(panel | {kind: _sparse(cells[p]) for kind, cells in {**marks, "left": left}.items()})
        return {
            "rows": plane.name(plane.rows),
            "columns": plane.name(plane.columns),
            "along": [plane.axes[a] for a in plane.along if plane.numblocks[a] > 1],
            "cell": list(plane.steps),
            "deep": math.prod(plane.numblocks[a] for a in plane.along),
            "numblocks": list(plane.numblocks),
            "axes": "".join(plane.axes) if all(len(a) == 1 for a in plane.axes) else list(plane.axes),
            "block": list(self.block),
            "total": self.total,
            "done": self.done,
            "retries": self.retries,
            "missing": int(self.counts["missing"].sum()),
            "failed": int(self.counts["failed"].sum()),
            "slowest": [{**self.named(b), "seconds": round(s, 3)} for s, b in sorted(self.slowest, reverse=True)],
            "panels": panels,
        }


def _lists(values: np.ndarray, count: np.ndarray) -> list[list[float | None]]:
    """Rows of figures; None for a cell without a block that is done."""
    return [[round(v, 4) if n else None for v, n in zip(row, ns)] for row, ns in zip(values.tolist(), count.tolist())]


def _sparse(cells: np.ndarray) -> list[list[int]]:
    """[row, column, how many] of the cells that have any."""
    rows, columns = np.nonzero(cells)
    return [[r, c, n] for r, c, n in zip(rows.tolist(), columns.tolist(), cells[rows, columns].tolist())]


def axes_of(
    numblocks: Sequence[int], block: Sequence[int], outputs: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    """The names of the axes of a step's blocks, and the shape of its image where one of the outputs fits."""
    known = [o for o in outputs.values() if len(o["shape"]) == len(numblocks)]
    for output in known:
        if all(-(-n // b) == count for n, b, count in zip(output["shape"], block, numblocks) if b):
            return tuple(output["axes"]), tuple(output["shape"])
    if known:
        return tuple(known[0]["axes"]), None
    spaces = {"".join(a for a in o["axes"] if a in "zyx") for o in outputs.values()}
    if len(spaces) == 1 and len(space := spaces.pop()) == len(numblocks):
        return tuple(space), None
    return tuple(f"axis {i}" for i in range(len(numblocks))) if len(numblocks) > 3 else tuple(
        "zyx"[3 - len(numblocks) :]
    ), None
