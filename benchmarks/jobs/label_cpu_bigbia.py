"""Labelling alone with bigbia, of a mask in memory, warm. python label_cpu_bigbia.py INPUT CHUNK CONNECTIVITY BLOCK

The whole distributed labelling, from the lazy array to every block of labels painted and looked at, without a codec: its
graph, its stages with all that they leave in scratch, its painting. BLOCK: "auto" or a length. Prints wall and CPU seconds
(all threads together), voxels and objects as JSON.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import zarr
from label_clock import Clock
from steps import step

from bigbia import config, measure
from bigbia.graph.boxes import Grid
from bigbia.graph.dask import from_source, node_of
from bigbia.graph.reading import read
from bigbia.graph.stages import stages_of
from bigbia.run.execute import execute


class Held:
    """An array in memory as a source. Its boxes are views: nothing is copied."""

    def __init__(self, array: np.ndarray, chunk: int) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.chunks = tuple(min(chunk, n) for n in array.shape)
        self.token = uuid.uuid4().hex
        array.flags.writeable = False

    def read(self, box: Sequence[tuple[int, int]]) -> np.ndarray:
        return self.array[tuple(slice(a, b) for a, b in box)]


def main(source: str, chunk: int, connectivity: int, block: str | int) -> None:
    step("read")
    mask = zarr.open_array(f"{source}/0", mode="r")[...]
    step("warm up")  # on two blocks of the very mask: what Numba compiled for them is what all blocks need
    lengths = from_source(Held(mask, chunk), block).chunksize
    labelled(mask[: lengths[0], : lengths[1], : 2 * lengths[2]].copy(), chunk, connectivity, block)
    step("label")
    told = labelled(mask, chunk, connectivity, block)
    step("exit")
    print(json.dumps(told))


def labelled(mask: np.ndarray, chunk: int, connectivity: int, block: str | int) -> dict[str, Any]:
    source = Held(mask, chunk)
    with Clock() as finding:
        labels = measure.label(from_source(source, block), connectivity=connectivity)
        node = node_of(labels)[0]
        execute(stages_of([node]), scheduler="threads")
    with Clock() as painting:
        objects = painted(node, Grid(labels.chunks))
    return {
        "wall": finding.wall + painting.wall,
        "cpu": finding.cpu + painting.cpu,
        "finding": finding.told,
        "painting": painting.told,
        "block": labels.chunksize,
        "voxels": mask.size,
        "objects": objects,
    }


def painted(node: Any, grid: Grid) -> int:
    """Every block of the labels, read and let go as the writer of a block does; the largest label."""

    def one(index: tuple[int, ...]) -> int:
        return int(read(node, grid.box(index)).max())

    with ThreadPoolExecutor(config.threads()) as pool:
        return max(pool.map(one, grid.indices()))


if __name__ == "__main__":
    block = sys.argv[4]
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), block if block == "auto" else int(block))
