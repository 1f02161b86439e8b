"""What each block drains to: its markers, and voxels of its neighbours that its water comes from.

The second of three stages of a watershed: `graph/relax.py` finds the flood level of every voxel, this one how far each
voxel lies inside its plateau and from which neighbour its water comes (`kernels/plateaus.py`), `graph/basins.py`
which marker it came from in the end.

Distances and entries depend on what lies beyond a block where a plateau is wider than the block's margin: in rounds
(`graph/rounds.py`) they only ever become less. A block first assumes of its neighbours' voxels what follows from a
margin of three. Where neighbours then show just that, and for most blocks they do, it is not worked out again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from dask.base import tokenize

from bigbia.errors import BlockError
from bigbia.graph.boxes import Box, Index, grown
from bigbia.graph.cost import largest_block
from bigbia.graph.merge import record_of
from bigbia.graph.reading import read_together
from bigbia.graph.regions import Blocks, Node
from bigbia.graph.relax import Relax
from bigbia.graph.rounds import Rounds, at_the_end, borders
from bigbia.graph.stages import Left, block_name
from bigbia.kernels.padded import inner
from bigbia.kernels.plateaus import FAR, OUTSIDE, Plateaus, catchments, codes, have_entries, looked_up, plateaus, settle
from bigbia.kernels.runs import runs_of

MARKER, INSIDE, BEYOND = 0, 1, 2  # what a voxel is: the domain
_DISTANCE = np.array([0, FAR, OUTSIDE], np.uint32)
_SHOWN = ("distance", "entry_level", "entry_distance")
MARGIN = 3  # a voxel next to the block has its entry from a neighbour whose distance needs another one's level


class Catchments(Rounds):
    """The stage of `flood`, a relaxation of levels turned over (the higher the sooner they are flooded), with records
    `more`.

    domain   of each voxel: MARKER, INSIDE or BEYOND
    markers  the labels of the marker voxels, in raster order

    It leaves the trees of every block (`trees`).
    """

    def __init__(self, flood: Relax) -> None:
        self.flood, self.connectivity = flood, flood.rule.connectivity
        self.workspace = 3.0 * max(flood.rule.dtype.itemsize, 4) + 34.0  # levels, entries; distances, sources, a queue
        identity = tokenize("catchments", flood.identity)
        super().__init__(f"{flood.kind}: catchments", identity, [flood.state()], flood.grid, self.connectivity)

    def reads(self, step: str, index: Index) -> tuple[Sequence[Node], Sequence[Box]]:
        return (self.inputs, [self._box(index, MARGIN)]) if step == "start" else ((), ())

    def _box(self, index: Index, margin: int) -> Box:
        return grown(self.grid.box(index), [(margin, margin)] * len(index), self.grid.shape)

    # ---- blocks
    def start(self, index: Index, blocks: Blocks | None) -> None:
        if self.folder.exists(block_name("border", index)):
            return
        block = self._block(index, MARGIN)
        own = block.distance[inner(len(index), MARGIN)]
        for what, value in (("marked", 0), ("inside", FAR)):
            if not self.folder.exists(what) and (own == value).any():
                self.folder.write(what, {})
        self._keep(index, block, MARGIN)

    def _drive(self) -> None:
        check_markers(self.flood.kind, *map(self.folder.exists, ("marked", "inside")))
        super()._drive()

    def step(self, index: Index) -> list[Index]:
        seen = self.folder.read(block_name("border", index), "seen")["seen"].tobytes()
        views = {o: self.facing_me(index, o, _SHOWN) for o in self.offsets if self.inside(index, o)}
        if digest(view.values() for view in views.values()) == seen:
            return []
        before, block = self.border(index), self._block(index, 1)
        for offset, view in views.items():
            for name, values in view.items():
                getattr(block, name)[at_the_end(offset)] = values
        return self.beside(index, before, self._keep(index, block, 1))

    def _block(self, index: Index, margin: int) -> Plateaus:
        """A block with a margin, of which only the levels and the markers are known."""
        box = self._box(index, margin)
        own = self.grid.box(index)
        pad = [(margin - (a - c), margin - (d - b)) for (a, b), (c, d) in zip(own, box)]
        (level,) = read_together(self.inputs, [box])
        return unsettled(level, self.flood.recorded("more", "domain", box, np.dtype(np.uint8)), pad)

    def _keep(self, index: Index, block: Plateaus, margin: int) -> dict[str, np.ndarray]:
        """Work a block out, write its trees, and then its border, which it gives back."""
        source = settle(block, self.connectivity)
        for layer in (margin - 1, margin):
            have_entries(block, layer, self.connectivity)
        own = inner(len(index), margin)
        border = {k: _certain(v) for name in _SHOWN for k, v in borders(name, getattr(block, name)[own]).items()}
        views = [
            [_certain(np.asarray(getattr(block, name)[_beyond(o, margin)])) for name in _SHOWN]
            for o in self.offsets
            if self.inside(index, o)
        ]
        border["seen"] = np.frombuffer(digest(views), np.uint8)
        self._keep_trees(index, block, source, margin)
        self.keep_border(index, border)
        return border

    # ---- what it leaves
    def trees(self, index: Index, *keys: str) -> dict[str, np.ndarray]:
        """Of a block: its runs, by tree; the markers' labels, whose trees come first; where the others come from.

        These are voxels beside the block, counted from its first.
        """
        return self.folder.read(block_name("trees", index), *keys)

    def _keep_trees(self, index: Index, block: Plateaus, source: np.ndarray, margin: int) -> None:
        label = self.flood.folder.read(block_name("more", index), "markers")["markers"]
        names, number = np.unique(label, return_inverse=True)
        seeds = block.distance[inner(len(index), margin)] == 0
        markers = np.zeros(seeds.shape, np.int32)
        markers[seeds] = number.reshape(-1) + 1
        padded = source.shape
        tree, rim = catchments(block, source, markers, margin, self.connectivity)
        places = np.stack(np.unravel_index(rim, padded), axis=1) - margin
        runs = runs_of(tree, len(names) + len(rim))
        self.folder.write(
            block_name("trees", index),
            {**record_of(runs), "first": runs.first, "label": names, "from": places.astype(np.int32)},
            replace=margin == 1,  # a start that comes late must not undo steps
        )

    def task_bytes(self, step: str, index: Index) -> int:
        """Bytes that a task holds besides what it reads; of the driver, those of a block that it works out."""
        return 0 if step == "done" else int(self.workspace * largest_block(self.grid))

    def settled(self) -> Left:
        """True when it is done: for stages that read its trees."""
        return Left(self, "settled", (), np.dtype(bool), f"settled-{self.identity}")

    def left(self, output: str, box: Box) -> np.ndarray:
        return np.array(True)

    def writes(self, step: str) -> float:
        return 1.0 if step == "start" else 0.0


def unsettled(level: np.ndarray, domain: np.ndarray, pad: Sequence[tuple[int, int]]) -> Plateaus:
    """A block of which the levels, turned over, and the domain are known. The outermost voxels after padding are margin."""
    code = codes(level, pad)
    distance = looked_up(_DISTANCE, domain, pad, OUTSIDE)
    for axis in range(distance.ndim):
        for side in (slice(0, 1), slice(-1, None)):
            edge = distance[(slice(None),) * axis + (side,)]
            edge[edge != 0] = OUTSIDE  # not known; markers are
    return plateaus(code, distance)


def check_markers(kind: str, marked: bool, inside: bool) -> None:
    """Refuse what no water reaches: voxels to be flooded, and no marker."""
    if inside and not marked:
        raise BlockError(
            f"{kind}: no marker in the image or its mask, so nothing can be flooded: look at the markers, or leave them out, "
            "markers=None, for local minima (an image of one value has none)"
        )


def _certain(shown: np.ndarray) -> np.ndarray:
    """What neighbours see: FAR is as good as outside, until it is known better."""
    return np.where(shown == FAR, np.uint32(OUTSIDE), shown) if shown.dtype == np.uint32 else shown


def _beyond(offset: Index, margin: int) -> tuple[slice | int, ...]:
    """The voxels beside a block that its neighbour at an offset shows."""
    return tuple(slice(margin, -margin) if not o else (margin - 1 if o < 0 else -margin) for o in offset)


def digest(views: Iterable[Iterable[np.ndarray]]) -> bytes:
    """Of what was seen of the neighbours, in their order."""
    found = hashlib.blake2b(digest_size=16)
    for arrays in views:
        for array in arrays:
            found.update(array.tobytes())
    return found.digest()
