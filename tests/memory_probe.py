"""Measures what tasks take, in a process of its own. python memory_probe.py SIZE CASE ...

For each case a line of JSON: the case, and for each step of each of its stages what was predicted for the largest of
its tasks and what that task took at its peak above what the process held before.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import json
import re
import sys
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LABELS = (
    "clear_border contingency_table distance_transform_edt-labels expand_labels filter_labels find_boundaries "
    "join_segmentations label matching objects regionprops_table relabel remove_"
)
Found = dict[str, list[int]]  # stage and step -> [predicted, measured]
_TRIM = ctypes.CDLL("libc.so.6").malloc_trim


class Copied:
    """An array as a source that copies what it is asked for, as a file does."""

    def __init__(self, array: np.ndarray, chunk: int) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.chunks = tuple(min(chunk, n) for n in array.shape)
        self.token = uuid.uuid4().hex

    def read(self, box: Any) -> np.ndarray:
        return self.array[tuple(slice(a, b) for a, b in box)].copy()


def status(what: str) -> int:
    match = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) * 1024


def peak_of(task: Callable[[], Any]) -> int:
    """Bytes by which the process grew at most while it did something; without the chunks that the cache keeps of it."""
    from bigbia.graph.cache import CACHE

    CACHE.clear()
    gc.collect()
    _TRIM(0)
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    kept = task()
    peak = status("VmHWM") - before - CACHE.bytes
    del kept
    return peak


def picture(size: int, dtype: str) -> np.ndarray:
    """Blobs of half the height of their surroundings, with noise; of 0 to 200 or 0 to 60000; a mask of them."""
    from scipy import ndimage as ndi

    random = np.random.default_rng(0)
    tile = ndi.gaussian_filter(random.random((64, 64, 64)), 3.0, mode="wrap")
    tile = (tile - tile.min()) / np.ptp(tile)
    tile = np.clip(tile + random.normal(0, 0.01, tile.shape), 0, 1)
    if dtype == "bool":
        tile = tile > np.median(tile)
    else:
        most = 120 if np.dtype(dtype).itemsize == 1 else 30000 if np.dtype(dtype).itemsize == 2 else 60000
        tile = (tile * most).astype(dtype)
    return np.ascontiguousarray(np.tile(tile, (-(-size // 64),) * 3)[:size, :size, :size])


def labelled(size: int, dtype: str) -> np.ndarray:
    """Cubes of 12 voxels, each with its number, and gaps between them; numbers go round where the dtype ends."""
    at = np.arange(size)
    cell, gap = at // 14, at % 14 > 11
    n = int(cell[-1]) + 1
    number = (cell[:, None, None] * n + cell[:, None]) * n + cell + 1
    number = (number - 1) % min(np.iinfo(dtype).max, 2**31 - 1) + 1
    number[gap] = 0
    number[:, gap] = 0
    number[:, :, gap] = 0
    return number.astype(dtype)


def stages_and_images(result: Any) -> tuple[list[Any], list[tuple[Any, Any]]]:
    """The stages of lazy results, and the nodes and chunks of those that are images."""
    import dask.array as da

    from bigbia.graph.dask import node_of
    from bigbia.graph.stages import stages_of
    from bigbia.graph.table import table_graph

    stages: dict[str, Any] = {}
    images = []
    for one in result if isinstance(result, (list, tuple)) else [result]:
        graph = table_graph(one) if hasattr(one, "columns") else None
        if graph is not None:
            for part in graph.parts:
                stages |= {s.token: s for s in [*stages_of(part.stage.inputs), part.stage]}
        elif isinstance(one, da.Array):
            data, rows = one, any(n != n for n in one.shape)  # places of peaks, as many as there are: no image
            node = None if rows else node_of(data)[0]
            stages |= {s.token: s for s in (stages_below(data) if node is None else stages_of([node]))}
            images += [] if node is None else [(node, one.chunks)]
    return list(stages.values()), images


def stages_below(array: Any) -> list[Any]:
    """The stages in the graph of an array that is no image."""
    from bigbia.graph.dask import StageLayer

    layers = [layer for layer in array.dask.layers.values() if isinstance(layer, StageLayer)]
    return [layer.stage for layer in layers]


def run_measured(stages: list[Any], found: Found) -> None:
    """Run all tasks of stages one by one; the largest and the slowest-to-foretell of each step are measured."""
    from bigbia.run.memory import task_bytes

    for stage in stages:
        if stage.complete:
            continue
        for step in stage.steps:
            indices = list(stage.indices(step))
            predicted = [task_bytes(stage, step, i) for i in indices]
            by_block = step in stage.block_steps
            watched = set(range(len(indices))) if len(indices) <= 4 else {0, len(indices) // 2, len(indices) - 1}
            watched |= {int(np.argmax(predicted))} if indices else set()
            for k, index in enumerate(indices):
                if k not in watched:
                    stage.task(step, index)
                    continue
                measured = peak_of(functools.partial(stage.task, step, index))
                name = f"{stage.kind}: {step}"
                if name not in found or measured / max(1, predicted[k]) > found[name][1] / max(1, found[name][0]):
                    found[name] = [predicted[k], measured, int(by_block)]


def read_measured(images: list[tuple[Any, Any]], found: Found) -> None:
    from bigbia.graph.boxes import Grid
    from bigbia.graph.cost import task_bytes
    from bigbia.graph.reading import read

    for node, chunks in images:
        grid = Grid(chunks)
        for index in {(0,) * len(chunks), tuple(n // 2 for n in grid.numblocks)}:
            box = grid.box(index)
            predicted = task_bytes([node], [box])
            measured = peak_of(functools.partial(read, node, box))
            if "read" not in found or measured / max(1, predicted) > found["read"][1] / max(1, found["read"][0]):
                found["read"] = [predicted, measured, 1]


def measured(build: Callable[[Any], Any], image: np.ndarray, block: int) -> Found:
    """A pipeline over an image in blocks, after the same over a tiny one, so that everything is imported."""
    from bigbia.graph.dask import from_source

    tiny = Copied(image[(slice(40),) * image.ndim].copy(), 20)
    stages, images = stages_and_images(build(from_source(tiny, 20)))
    run_measured(stages, {})
    read_measured(images, {})
    found: Found = {}
    stages, images = stages_and_images(build(from_source(Copied(image, block), block)))
    run_measured(stages, found)
    read_measured(images, found)
    return found


def of_case(name: str, size: int) -> dict[str, Found]:
    """A line of `cases.py`, for the widest and the narrowest of its dtypes."""
    from cases import CASES

    case = CASES[name]
    found = {}
    kinds = sorted(case.dtypes, key=lambda k: (np.dtype(k).itemsize, k))
    for dtype in dict.fromkeys((kinds[0], kinds[-1])):
        labels = case.takes in ("labels", "table") or (
            np.dtype(dtype).kind in "iu" and name.startswith(tuple(LABELS.split()))
        )
        image = labelled(2 * size, dtype) if labels else picture(2 * size, dtype)
        # the table itself, not what the contract makes of it
        build = functools.partial(case.function, **case.params) if case.takes == "peaks" else case
        found[dtype] = measured(build, image, size)
    return found


def of_noise(size: int) -> dict[str, Found]:
    """Labels of voxels that are set at random, for which the faces' connectivity finds most objects."""
    from bigbia.io import synthetic
    from bigbia.measure import label

    image = synthetic.source("percolation", (2 * size,) * 3, p=0.31).read(((0, 2 * size),) * 3)
    return {f"{c}": measured(functools.partial(label, connectivity=c), image, size) for c in (1, 3)}


def of_writing(size: int) -> dict[str, Found]:
    """The stages that write an image of noise and labels, with their pyramids."""
    import tempfile

    import bigbia
    from bigbia.graph.dask import from_source
    from bigbia.run import save as saving
    from bigbia.run import writing

    found: dict[str, Found] = {}
    seen: list[Any] = []
    together = writing.written_together
    saving.written_together = lambda *a, **k: seen.append(together(*a, **k)) or seen[-1]  # type: ignore[attr-defined]
    execute = saving.execute

    def run(stages: list[Any], **_: Any) -> Any:
        run_measured([s for s in stages if s.kind in ("write", "pyramid")], found.setdefault(kind, {}))
        raise KeyboardInterrupt  # no more is asked

    for kind, dtype in (("warm", "float32"), ("float32", "float32"), ("labels", "int32")):
        n = 2 * size if kind != "warm" else size
        image = picture(n, dtype) if dtype == "float32" else labelled(n, dtype).astype(np.uint32)
        lazy = from_source(Copied(image, size), size)
        what: Any = {"labels": {"x": lazy}} if kind == "labels" else {"images": {"x": lazy}}
        with tempfile.TemporaryDirectory() as folder:
            saving.execute = run  # type: ignore[attr-defined]
            try:
                bigbia.save(f"{folder}/x.zarr", **what, chunks=size // 2, levels=4)
            except KeyboardInterrupt:
                pass
            finally:
                saving.execute = execute  # type: ignore[attr-defined]
    del found["warm"]
    return found


def of_libraries() -> int:
    """The peak of a process that has used kernels and writers of every kind on a small image."""
    import tempfile

    import bigbia
    from bigbia.graph.dask import from_source
    from bigbia.io import synthetic

    image = from_source(synthetic.source("nuclei", (64, 64, 64)), 32)
    labels = bigbia.measure.label(bigbia.filters.gaussian(image, 1) > 300)
    away = bigbia.morphology.distance_transform_edt(labels > 0)
    split = bigbia.segmentation.watershed(image)
    table = bigbia.measure.regionprops_table(labels, image)
    with tempfile.TemporaryDirectory() as folder:
        bigbia.save(f"{folder}/x.zarr", images={"d": away}, labels={"a": labels, "b": split}, tables={"t": table})
    return status("VmHWM")


def main(size: int, names: list[str]) -> None:
    for name in names:
        if name == "libraries":
            print(json.dumps({"case": name, "peak": of_libraries()}), flush=True)
            continue
        other = {"noise": of_noise, "writing": of_writing}.get(name)
        print(json.dumps({"case": name, "found": other(size) if other else of_case(name, size)}), flush=True)


if __name__ == "__main__":
    import dask

    warnings.simplefilter("ignore")
    dask.config.set({"bigbia.threads": 1})
    main(int(sys.argv[1]), sys.argv[2:])
