"""An operator over a volume many times larger than the memory it may use, through `bigbia.save`, in a process of its own.

    python memory_run.py OPERATOR BYTES LIMIT THREADS FOLDER

The volume is a formula, computed where it is read. What was predicted, and the wall seconds, are printed as JSON; the
peak is measured from outside.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np

CHUNK = 64
PERIOD = 40  # voxels from object to object


@dataclass(frozen=True)
class Waves:
    """A hill every `PERIOD` voxels along each axis, float32, from -3 to 3, and a little noise from a hash of the place."""

    shape: tuple[int, ...]

    dtype = np.dtype(np.float32)
    chunks = (CHUNK,) * 3

    @property
    def token(self) -> str:
        return f"waves-{self.shape}"

    def read(self, box: Sequence[tuple[int, int]]) -> np.ndarray:
        axes = [np.arange(a, b, dtype=np.uint32) for a, b in box]
        wave = [np.cos(at.astype(np.float32) * np.float32(2 * np.pi / PERIOD)) for at in axes]
        out = wave[0][:, None, None] + wave[1][:, None] + wave[2]
        noise = (axes[0] * np.uint32(73856093))[:, None, None] ^ (axes[1] * np.uint32(19349663))[:, None]
        noise = noise ^ axes[2] * np.uint32(83492791)
        out += ((noise >> np.uint32(8)) % np.uint32(64)).astype(np.float32) * np.float32(1e-3)
        return out


@dataclass(frozen=True)
class Cubes:
    """Label images: a cube of half the period in each of its cells, with the number of the cell; uint32."""

    shape: tuple[int, ...]

    dtype = np.dtype(np.uint32)
    chunks = (CHUNK,) * 3

    @property
    def token(self) -> str:
        return f"cubes-{self.shape}"

    def read(self, box: Sequence[tuple[int, int]]) -> np.ndarray:
        axes = [np.arange(a, b) for a, b in box]
        counts = [-(-n // PERIOD) for n in self.shape]
        cell = [at // PERIOD for at in axes]
        inside = [at % PERIOD < PERIOD // 2 for at in axes]
        number = (cell[0][:, None, None] * counts[1] + cell[1][:, None]) * counts[2] + cell[2] + 1
        number *= inside[0][:, None, None] & inside[1][:, None] & inside[2]
        return number.astype(np.uint32)


def shape_of(size: float) -> tuple[int, int, int]:
    """A volume of so many bytes, 4 a voxel, nearly a cube."""
    side = max(CHUNK, round((size / 4) ** (1 / 3) / CHUNK) * CHUNK)
    return max(CHUNK, round(size / 4 / side**2)), side, side


def results(operator: str, shape: tuple[int, ...], block: Any) -> dict[str, Any]:
    """What is saved."""
    from bigbia import feature, filters, measure, morphology, segmentation
    from bigbia.graph.dask import from_source

    image = from_source(Waves(shape), block)
    if operator == "filter":
        return {"images": {"out": filters.gaussian(image, 1)}}
    if operator == "label":
        return {"labels": {"out": measure.label(image > 1)}}
    if operator == "distance":
        return {"images": {"out": morphology.distance_transform_edt(image > 0)}}
    if operator == "watershed":
        smooth = filters.gaussian(image, 1)
        markers = feature.peak_local_max(smooth, min_distance=PERIOD // 4, threshold_abs=2, output="markers")
        return {"labels": {"out": segmentation.watershed(-smooth, markers)}}
    return {"tables": {"out": measure.regionprops_table(from_source(Cubes(shape), block), image)}}


def main(operator: str, size: float, limit: int, threads: int, folder: Path) -> None:
    import bigbia
    from bigbia.run.admission import fitting_block
    from bigbia.run.memory import predicted, stages_for

    shape = shape_of(size)
    unit = (CHUNK,) * 3
    with dask.config.set(
        {"bigbia.memory": limit, "bigbia.threads": threads, "bigbia.scratch": str(folder / "scratch")}
    ):

        def build(block: Any) -> list[Any]:
            return stages_for(results(operator, shape, tuple(block)), unit)

        block = fitting_block(build, (2 * CHUNK,) * 3, shape, unit, threads=threads, limit=limit)
        peak = predicted(build(block), threads, limit)
        began = time.perf_counter()
        bigbia.save(folder / "out.zarr", **results(operator, shape, block), chunks=CHUNK)
        told = {"shape": shape, "block": block, "predicted": peak.bytes, "seconds": time.perf_counter() - began}
        told |= {"task": peak.largest.bytes, "stage": f"{peak.largest.stage}, {peak.largest.step}"}
    print(json.dumps(told))
    shutil.rmtree(folder / "out.zarr")


if __name__ == "__main__":
    operator, size, limit, threads, folder = sys.argv[1:]
    main(operator, float(size), int(limit), int(threads), Path(folder))
