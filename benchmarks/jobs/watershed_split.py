"""Split touching nuclei and compare with the exact truth. python watershed_split.py SIZE BLOCK MIN_DISTANCE

BLOCK: a length, or one an axis, "64,512,200". MIN_DISTANCE "none": only labelled, nothing split. Prints the table of
metrics.matching, a fingerprint of all labels, and the seconds from the lazy arrays to the table as JSON.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from label_clock import Clock
from steps import step

import bigbia
from bigbia import config
from bigbia.graph.boxes import Grid
from bigbia.graph.dask import from_source, node_of
from bigbia.graph.reading import read
from bigbia.graph.stages import stages_of
from bigbia.io.synthetic import source
from bigbia.run.execute import execute


def main(size: int, block: list[int], min_distance: float | None) -> None:
    shape = (size,) * 3
    nuclei = source("touching", shape)
    step("split and match")
    with Clock() as clock:
        truth = from_source(nuclei.labels, block if len(block) > 1 else block[0])
        mask = truth > 0
        if min_distance is None:
            found = bigbia.measure.label(mask)
        else:
            found = bigbia.segmentation.split_touching(mask, min_distance)
        table = bigbia.metrics.matching(truth, found).compute()
    step("fingerprint")
    told = {"block": found.chunksize, "blocks": found.npartitions, "drawn": nuclei.count()}
    told |= {"table": row(table), "fingerprint": fingerprint(found), "voxels": int(np.prod(shape))}
    step("exit")
    print(json.dumps(clock.told | told))


def row(table: Any) -> dict[str, float]:
    return table.to_dict("records")[0]


def fingerprint(labels: Any) -> str:
    """One number for all labels and the places where they are."""
    node = node_of(labels)[0]
    execute(stages_of([node]), scheduler="threads")
    grid = Grid(labels.chunks)

    def one(index: tuple[int, ...]) -> int:
        box = grid.box(index)
        place = np.zeros((1,) * len(box), np.uint64)
        for along, n in zip(np.ogrid[tuple(slice(a, b) for a, b in box)], grid.shape):
            place = place * np.uint64(n) + along.astype(np.uint64)
        place = (place + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        place ^= place >> np.uint64(31)
        return int((place * read(node, box)).sum(dtype=np.uint64))

    with ThreadPoolExecutor(config.threads()) as pool:
        return f"{sum(pool.map(one, grid.indices())) % 2**64:016x}"


if __name__ == "__main__":
    distance = sys.argv[3]
    main(int(sys.argv[1]), [*map(int, sys.argv[2].split(","))], None if distance == "none" else float(distance))
