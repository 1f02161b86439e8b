"""Flood a volume that is a formula, of any size. python watershed_large.py KIND SIZE BLOCK SPACING

Nothing is stored but what the stages leave in scratch: the labels of each block are painted and counted. Prints a line of
JSON with the memory about every second, and one with all the rest at the end.
"""

from __future__ import annotations

import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from label_clock import Clock
from label_run import Watched
from steps import step
from watershed_bigbia import told as told_of
from watershed_bigbia import traffic
from watershed_data import MIN_DISTANCE

from bigbia import config
from bigbia.feature import peak_local_max
from bigbia.filters import gaussian
from bigbia.graph.boxes import Grid
from bigbia.graph.dask import from_source, node_of
from bigbia.graph.reading import read
from bigbia.graph.stages import Stage, stages_of
from bigbia.io.synthetic import source
from bigbia.morphology import distance_transform_edt
from bigbia.run.execute import execute
from bigbia.segmentation import watershed

FARTHEST = 16  # of the distances that are looked for: no nucleus is thicker than twice this


class Weighed(Watched):
    """Watched, and the bytes in scratch when a step begins."""

    def __init__(self, stages: list[Stage]) -> None:
        super().__init__()
        self.stages, self.scratch = stages, 0

    def begin(self, stage: str, total: int, voxels: int) -> None:
        self.weigh()
        super().begin(stage, total, voxels)

    def weigh(self) -> None:
        self.scratch = max(self.scratch, sum(traffic(self.stages).values()))


def flooded(kind: str, size: int, block: int, spacing: int) -> Any:
    """The labels, lazily. Noise from voxels evenly spread, or touching nuclei from their middles."""
    shape = (size,) * 3
    if kind == "smooth":
        noise = from_source(source("percolation", shape, p=0.5), block).astype(np.float32)
        return watershed(gaussian(noise, 3), max(1, round(size / spacing)) ** 3, marker_level="lowest")
    mask = from_source(source("touching", shape).labels, block) > 0
    away = distance_transform_edt(mask, max_distance=FARTHEST).astype(np.float32)
    middles = peak_local_max(away, MIN_DISTANCE, exclude_border=False, output="markers")
    return watershed(-away, middles, mask=mask)


def main(kind: str, size: int, block: int, spacing: int) -> None:
    step("build")
    labels = flooded(kind, size, block, spacing)
    node = node_of(labels)[0]
    stages = stages_of([node])
    with Weighed(stages) as watched, Clock() as clock:
        execute(stages, scheduler="threads", progress=watched)
        watched.weigh()
        watched.begin("paint and count", labels.npartitions, math.prod(labels.shape))
        counts = counted(node, Grid(labels.chunks), watched)
    step("exit")
    told = {
        **clock.told,
        "voxels": math.prod(labels.shape),
        "blocks": labels.npartitions,
        "flooded": int(counts[1:].sum()),
        "dry": int(counts[0]),
        "basins": int(np.count_nonzero(counts[1:])),
        "last": len(counts) - 1,
        "drawn": source("touching", labels.shape).count() if kind == "distance" else None,
        "median": float(np.median(counts[1:][counts[1:] > 0])),
        "scratch": watched.scratch,
        **told_of(stages),
    }
    print(json.dumps(told), flush=True)


def counted(node: Any, grid: Grid, watched: Watched) -> np.ndarray:
    """The voxels of every label."""

    def one(index: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        found = np.unique(read(node, grid.box(index)), return_counts=True)
        watched.advance(1)
        return found

    out = np.zeros(1, np.int64)
    with ThreadPoolExecutor(config.threads()) as pool:
        for labels, n in pool.map(one, grid.indices()):
            if labels[-1] >= len(out):
                out = np.pad(out, (0, int(labels[-1]) + 1 - len(out)))
            out[labels] += n
    return out


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
