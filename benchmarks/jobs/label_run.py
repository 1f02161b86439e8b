"""Find and number the objects of a volume, and say what the stages left behind. python label_run.py VOLUME SIZE BLOCK

prints a line of JSON with the memory about every second, so that a run that is stopped tells something too, and one
with all the rest at the end.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
from label_clock import Clock
from label_volumes import VOLUMES
from steps import Steps, step

from bigbia import measure
from bigbia.graph.boxes import Box, Grid
from bigbia.graph.dask import from_source, node_of
from bigbia.graph.merge import Components
from bigbia.graph.reading import read
from bigbia.graph.stages import Stage, stages_of
from bigbia.run.execute import execute

MESSAGES = ("pairs", "up", "down")  # what the tree of blocks hands on
COUNTS = ("rows", "scan", "ahead")  # what numbers the objects


class Watched(Steps):
    """Steps, the blocks done, and the memory about every second."""

    def __init__(self, every: float = 1.0) -> None:
        self.process, self.every, self.began = psutil.Process(), every, time.perf_counter()
        self.done = self.total = 0
        self.lock = threading.Lock()  # a line is one line, whoever prints it
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def begin(self, stage: str, total: int, voxels: int) -> None:
        self.done, self.total = 0, total
        with self.lock:
            super().begin(stage, total, voxels)

    def advance(self, n: int) -> None:
        self.done += n

    def sample(self) -> None:
        at = round(time.perf_counter() - self.began, 3)
        rss = self.process.memory_info().rss
        with self.lock:
            print(json.dumps({"at": at, "rss": rss, "done": self.done, "of": self.total}), flush=True)

    def watch(self) -> None:
        while not self.stop.wait(self.every):
            self.sample()

    def __enter__(self) -> Watched:
        self.sample()
        self.thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop.set()
        self.thread.join()
        self.sample()


def main(name: str, size: int, block: int) -> None:
    step("formula")
    volume = VOLUMES[name]((size,) * 3)
    image = from_source(volume.source, block)
    formula = speed(volume.source, Grid(image.chunks))
    _, count = measure.label(image, connectivity=volume.connectivity, return_num=True)
    node = node_of(count)[0]
    stages = stages_of([node])
    with Watched() as watched, Clock() as clock:
        execute(stages, scheduler="threads", progress=watched)
    step("exit")
    told = {
        **clock.told,
        "voxels": math.prod(volume.source.shape),
        "blocks": image.npartitions,
        "objects": int(read(node, ())),
        "truth": volume.objects,
        "formula": formula,
        **left_behind(stages),
    }
    print(json.dumps(told), flush=True)


def speed(source: Any, grid: Grid) -> float:
    """CPU seconds a voxel that the formula itself takes: over a few blocks, once it is compiled."""
    boxes = [grid.box(index) for _, index in zip(range(9), grid.indices())]
    source.read(boxes[0])
    with Clock() as clock:
        voxels = sum(source.read(box).size for box in boxes)
    return clock.cpu / voxels


# ---- what is in scratch --------------------------------------------------------------------------------------------
def left_behind(stages: Iterable[Stage]) -> dict[str, Any]:
    """Bytes by kind of record, and the largest record of those that are handed on."""
    kinds: dict[str, dict[str, Any]] = {}
    for stage in stages:
        folder = stage.folder.path
        for kind, name, size in files(folder):
            found = kinds.setdefault(kind, {"files": 0, "bytes": 0, "largest": 0})
            found["files"] += 1
            found["bytes"] += size
            if size > found["largest"]:
                found |= {"largest": size, "surface": node_surface(stage, kind, name)}
    whole = [(0, n) for n in stage.grid.shape]
    return {
        "kinds": kinds,
        "scratch": sum(k["bytes"] for k in kinds.values()),
        "message": largest(kinds, MESSAGES),
        "counts": largest(kinds, COUNTS),
        "surface": surface(whole),
    }


def files(folder: Path) -> Iterable[tuple[str, str, int]]:
    """Kind, name and bytes of all records of a stage."""
    for place, _, names in os.walk(folder):
        for name in names:
            kind = os.path.relpath(place, folder)
            yield name if kind == "." else kind, name, os.stat(os.path.join(place, name)).st_size


def largest(kinds: dict[str, dict[str, Any]], prefixes: tuple[str, ...]) -> dict[str, Any]:
    """The largest record of some kinds: its kind, its bytes, and the surface of the box it speaks of."""
    some = {k: found for k, found in kinds.items() if k.rstrip("0123456789") in prefixes}
    if not some:
        return {"kind": "", "bytes": 0, "surface": None}
    kind = max(some, key=lambda k: some[k]["largest"])
    return {"kind": kind, "bytes": some[kind]["largest"], "surface": some[kind]["surface"]}


def node_surface(stage: Stage, kind: str, name: str) -> int | None:
    """Voxels on the surface of the node of the tree that a message belongs to."""
    if not isinstance(stage, Components) or kind.rstrip("0123456789") not in MESSAGES:
        return None
    level = 1 if kind == "pairs" else stage.level(kind)
    ranges = stage.grid.below(level, tuple(map(int, name.split("."))))
    return surface([(e[r.start], e[r.stop]) for e, r in zip(stage.grid.edges, ranges)])


def surface(box: Iterable[tuple[int, int]] | Box) -> int:
    lengths = [b - a for a, b in box]
    return math.prod(lengths) - math.prod(max(0, n - 2) for n in lengths)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
