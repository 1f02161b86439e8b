"""Distances to other labels: the passes of `graph/sweep.py`, each begun with how far the next label is along its axis.

The labels are read once. Of a block there remain (`bits`) a byte a voxel, which says along which axes the label changes
there (`kernels/distance_labels.py`), how long the first and last run of its lines are, and the labels on its faces.

    ahead     as for a mask, of runs of equal labels: one that goes on in the next block is followed until it ends
    line<a>   the same for axis a, beside what it does there

Whether a voxel that is looked at from another block has the same label is never asked: beyond the end of a run nothing
is nearer than that end.
"""

from __future__ import annotations

import numpy as np

from bigbia.graph.boxes import Index
from bigbia.graph.reading import read_together
from bigbia.graph.regions import Blocks
from bigbia.graph.stages import block_name
from bigbia.graph.sweep import Sweep
from bigbia.kernels import distance_labels as kernels


class LabelSweep(Sweep):
    """Distances to the nearest voxel of another label; 0 where a label image is 0."""

    what = "distance to other labels"
    bits = 1.0
    marks = 2.5

    def _bits(self, index: Index, blocks: Blocks | None) -> None:
        (block,) = read_together(*self.reads("bits", index), blocks)
        code = kernels.changes(block, self.ndim)
        clear = np.logical_and.reduce(code >= kernels.FOREGROUND, axis=-1)  # lines without background
        record: dict[str, np.ndarray] = {"code": code, "clear": clear}
        for a in range(self.ndim):
            record |= {f"low{a}": block.take(0, a), f"high{a}": block.take(-1, a)}
            record |= self._ends(kernels.ends(code, a), a)
        self.folder.write(block_name("bits", index), record)

    def _across(self, carried: np.ndarray, axis: int, low: Index, high: Index) -> np.ndarray:
        change = self._bit(f"high{axis}", low) != self._bit(f"low{axis}", high)
        return np.where(change, carried.dtype.type(1), carried)

    def _within(self, block: Index, first: np.ndarray, nearest: np.ndarray) -> np.ndarray:
        return np.where(self._bit("clear", block), np.where(first > 0, 1, nearest), 0)

    def _first_pass(self, index: Index, part: tuple[slice, ...] = ()) -> np.ndarray:
        m, axis = self.metric, self.ndim - 1
        code = self._bit("code", index)[part]
        return kernels.along_runs(code, axis, m.weights[-1], m.dtype, m.far, self._around(axis, index, part))

    def _line(self, axis: int, index: Index) -> None:
        for _ in self._carry(axis, index):
            pass
        super()._line(axis, index)

    def _begun(self, axis: int, index: Index, own: np.ndarray) -> np.ndarray:
        out, code, m = own.copy(), self._bit("code", index), self.metric
        kernels.lower_to_ends(out, 0, code, axis, axis, m.weights[axis], m.far, self._around(axis, index))
        return out
