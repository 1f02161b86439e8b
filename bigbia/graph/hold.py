"""Live Dask arrays in a run: Dask computes their blocks once, into scratch, and the stages read them there."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import dask.array as da
import numpy as np

from bigbia.graph import scratch
from bigbia.graph.boxes import Grid
from bigbia.graph.reading import consumers_first
from bigbia.graph.regions import Live, Node
from bigbia.graph.stages import Left, Stage, kept_name, replaced


class Hold(Stage):
    """What a live array leaves: its blocks."""

    kind = "dask array"

    def __init__(self, node: Live) -> None:
        super().__init__(f"hold-{node.token}", [node], Grid(node.grid.chunks), keeps=[node])


def _write(block: np.ndarray, folder: scratch.Folder, block_id: tuple[int, ...] = ()) -> np.ndarray:
    folder.write(kept_name(0, block_id), {"voxels": np.asarray(block)})
    return np.zeros((1,) * block.ndim, bool)


def held(stage: Stage, live: Mapping[str, da.Array], scheduler: Any, holds: dict[str, Hold]) -> Stage:
    """The same stage, reading the blocks of live arrays from scratch, where they are put first.

    `scheduler` is Dask's name of one, or a client; `holds` keeps what is held for the next stage.
    """
    leaves = [n for n in consumers_first(*stage.inputs) if isinstance(n, Live)]
    if not leaves:
        return stage
    stored: dict[str, Node] = {}
    for node in leaves:
        hold = holds.setdefault(node.token, Hold(node))
        if not hold.complete:
            array = live[node.name]
            ones = tuple((1,) * len(c) for c in array.chunks)
            written = array.map_blocks(  # type: ignore[call-arg]
                _write,  # type: ignore[arg-type]
                folder=hold.folder,
                dtype=bool,
                chunks=ones,
                meta=np.empty((0,) * array.ndim, bool),
            )
            if isinstance(scheduler, str):
                written.compute(scheduler=scheduler)
            else:
                scheduler.compute(written).result()
            hold.folder.finish()
        stored[node.token] = Left(hold, "kept0", node.shape, node.dtype, node.token)
    other = copy.copy(stage)
    other.inputs = tuple(replaced(stage.inputs, stored))
    return other
