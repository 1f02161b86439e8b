"""Read a TIFF, or convert it; a line of JSON with the seconds. python convert_run.py read|convert|write PLACE OUT [cold]

read     every voxel once, on all threads, in the blocks of the conversion, through bigbia's reader
convert  to sharded OME-Zarr with its pyramid
write    the files of OUT again, as bytes, each brought to the disk: what the disk alone takes for them
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bigbia import config
from bigbia.run.convert import Layout, _cut, convert
from bigbia.run.inputs import open_input


def read(place: str) -> float:
    from bigbia.graph.boxes import Grid
    from bigbia.graph.dask import node_of
    from bigbia.graph.reading import read as read_node

    image = open_input(place)
    node, _, _ = node_of(image.data)
    grid = Grid.regular(node.shape, _cut(image, Layout(shards="auto")).block)
    start = time.perf_counter()
    with ThreadPoolExecutor(config.threads()) as pool:
        total = sum(pool.map(lambda index: read_node(node, grid.box(index)).size, grid.morton()))
    assert total == image.size
    return time.perf_counter() - start


def write(out: str) -> float:
    files = [path for path in Path(out).rglob("*") if path.is_file()]
    copy = Path(out + ".bytes")
    copy.mkdir()
    sizes = [path.stat().st_size for path in files]
    data = os.urandom(max(sizes))

    def one(k: int) -> None:
        with open(copy / str(k), "wb", buffering=0) as file:
            file.write(memoryview(data)[: sizes[k]])
            os.fsync(file.fileno())

    start = time.perf_counter()
    with ThreadPoolExecutor(config.threads()) as pool:
        list(pool.map(one, range(len(sizes))))
    return time.perf_counter() - start


def main(what: str, place: str, out: str, cold: bool) -> None:
    if cold:
        with open(place, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    start = time.perf_counter()
    if what == "convert":
        convert(place, out, layout=Layout(shards="auto"))
        seconds = time.perf_counter() - start
    else:
        seconds = read(place) if what == "read" else write(out)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:4], "cold" in sys.argv[4:])
