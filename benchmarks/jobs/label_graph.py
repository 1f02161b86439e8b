"""Build the graph of a labelling, compute nothing. python label_graph.py VOLUME SIZE BLOCK

prints blocks, tasks, the seconds to build and to optimise, and the memory before and after as JSON.
"""

import json
import sys
import time

import dask
import psutil
from label_volumes import VOLUMES
from steps import step

from bigbia import measure
from bigbia.graph.dask import from_source


def labels(name: str, size: int, block: int) -> dask.array.Array:
    volume = VOLUMES[name]((size,) * 3)
    return measure.label(from_source(volume.source, block), connectivity=volume.connectivity)


def optimised(array: dask.array.Array) -> tuple[dask.array.Array, int]:
    array = dask.optimize(array)[0]
    return array, len(array.__dask_graph__())


def main(name: str, size: int, block: int) -> None:
    process = psutil.Process()
    step("imports")
    optimised(labels(name, 2 * block, block))  # and whatever is made once
    before = process.memory_info().rss
    step("build")
    began = time.perf_counter()
    array = labels(name, size, block)
    built = time.perf_counter()
    step("optimise")
    array, tasks = optimised(array)
    done = time.perf_counter()
    after = process.memory_info().rss
    step("exit")
    told = {"blocks": array.npartitions, "tasks": tasks, "build": built - began, "optimise": done - built}
    print(json.dumps(told | {"before": before, "after": after}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
