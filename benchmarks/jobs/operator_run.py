"""One operator, in a process of its own. python operator_run.py time NAME SIZE DTYPE REPEATS | memory NAME SIZE DTYPE

time      seconds (wall, CPU) of bigbia and of the reference on a NumPy array with one core; of bigbia on one core and on
          all, of dask-image on all, lazily in chunks of 128^3 and block by block into another array; in turns
memory    peak bytes of one block of SIZE^3 inside a larger image and of one at its corner, and what was predicted
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import sys
import time
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
from scipy import ndimage as ndi

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from operator_list import entries

CHUNK = 128
SHORT = 1.5  # seconds


class Held:
    """An array in memory as a source, whose boxes are views: nothing is copied."""

    def __init__(self, array: np.ndarray, chunk: int) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.chunks = tuple(min(chunk, n) for n in array.shape)
        self.token = uuid.uuid4().hex
        array.flags.writeable = False

    def read(self, box: Any) -> np.ndarray:
        return self.array[tuple(slice(a, b) for a, b in box)]


def picture(size: int, dtype: str, mask: bool) -> np.ndarray:
    """Smooth noise from 0 to 65535, repeated every 64 voxels."""
    tile = ndi.gaussian_filter(np.random.default_rng(0).random((64, 64, 64)), 1.5, mode="wrap")
    tile = (tile - tile.min()) / np.ptp(tile) * 65535
    tile = tile > np.median(tile) if mask else tile.astype(dtype)
    return np.ascontiguousarray(np.tile(tile, (-(-size // 64),) * 3)[:size, :size, :size])


def into_memory(result: Any, threads: int) -> None:
    """Every block of a Dask array, or of several, written to an array; a table computed."""
    how = {"scheduler": "sync"} if threads == 1 else {"scheduler": "threads", "num_workers": threads}
    with dask.config.set(**how):
        if hasattr(result, "columns"):
            result.compute()
            return
        several = result if isinstance(result, list) else [result]
        da.store(several, [np.empty(r.shape, r.dtype) for r in several], lock=False)


def timed(function: Callable[[], Any], cores: set[int]) -> tuple[float, float]:
    """Seconds of wall and of CPU; of a short one, those of the better of two runs.

    The first run after another one's memory has been given back pays the system for every page anew.
    """
    os.sched_setaffinity(0, cores)
    gc.collect()
    walls, cpus = [], []
    while not walls or (len(walls) < 2 and walls[0] < SHORT):
        began, cpu = time.perf_counter(), time.process_time()
        function()
        walls.append(time.perf_counter() - began)
        cpus.append(time.process_time() - cpu)
    return min(walls), min(cpus)


def measure_time(name: str, size: int, dtype: str, repeats: int) -> dict[str, Any]:
    from bigbia.graph.dask import from_source

    entry = entries()[name]
    image = picture(size, dtype, entry.mask)
    everything = os.sched_getaffinity(0)
    ways = {
        "bigbia, at once": (entry.mine, 1),
        "bigbia, one core": (entry.mine, 1),
        "bigbia, all cores": (entry.mine, len(everything)),
        "reference": (entry.reference, 1),
        **({"dask-image": (entry.peer, len(everything))} if entry.peer else {}),
    }

    def run(way: str, x: np.ndarray, source: Any) -> tuple[float, float]:
        function, threads = ways[way]
        if way in ("reference", "bigbia, at once"):
            return timed(lambda: function(x), {min(everything)})
        lazy = da.from_array(x, chunks=CHUNK) if way == "dask-image" else from_source(source, CHUNK)
        return timed(lambda: into_memory(function(lazy), threads), everything if threads > 1 else {min(everything)})

    small = image[:40, :40, :40].copy()
    for way in ways:
        run(way, small, Held(small, 20))
    held = Held(image, CHUNK)
    seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way in ways:
            seconds[way].append(run(way, image, held))
    return {"voxels": image.size, "seconds": seconds}


def measure_memory(name: str, size: int, dtype: str) -> dict[str, Any]:
    from bigbia.graph.cost import task_bytes
    from bigbia.graph.dask import from_source, node_of
    from bigbia.graph.reading import read

    entry = entries()[name]
    image = picture(3 * size, dtype, entry.mask)
    small = entry.mine(from_source(Held(image[:24, :24, :24].copy(), 12), 12))
    dask.compute(small, scheduler="sync")
    array = entry.mine(from_source(Held(image, size), size))
    array = array[1] if isinstance(array, list) else array
    array[(slice(1),) * array.ndim].compute(scheduler="sync")  # what is behind a barrier is found before
    node, _, _ = node_of(array)
    found = {}
    for where, at in (("inside", 1), ("corner", 0)):
        box = [(0, n) for n in array.shape]
        for axis in range(array.ndim):
            if array.numblocks[axis] > 1:
                ends = np.cumsum([0, *array.chunks[axis]])
                k = min(at, array.numblocks[axis] - 1)
                box[axis] = (int(ends[k]), int(ends[k + 1]))
        predicted = task_bytes([node], [tuple(box)])
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        before = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        result = read(node, tuple(box))
        found[where] = {"predicted": predicted, "measured": status("VmHWM") - before}
        del result
    return found


def status(what: str) -> int:
    match = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) * 1024


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    what, name, size, dtype, *rest = sys.argv[1:]
    if what == "time":
        print(json.dumps(measure_time(name, int(size), dtype, int(rest[0]))))
    else:
        print(json.dumps(measure_memory(name, int(size), dtype)))
