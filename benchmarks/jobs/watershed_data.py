"""An image to flood with its markers, and a mask of it, as OME-Zarr. python watershed_data.py FOLDER KIND SIZE CHUNK

prints the path and what it is as JSON.

The smooth image has no two voxels of one value: its voxels' ranks, written as the float32 numbers that come one after the
other. A watershed looks at nothing but which of two voxels is the lower one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

MIN_DISTANCE = 8  # of the nuclei's middles, as in split_touching
APART = 6  # of the smooth image's minima
ONE = 0x3F800000  # the bits of 1.0: the numbers around it are neither tiny nor infinite

KINDS = {
    "distance": f"minus the distance in the mask of touching nuclei, from its peaks {MIN_DISTANCE} voxels apart",
    "smooth": f"noise smoothed with sigma 3, no two voxels of one value, from its minima {APART} voxels apart",
}


def make(folder: Path, kind: str, size: int, chunk: int) -> dict[str, Any]:
    """Write the images unless they are there (they appear whole, under their final name)."""
    path = folder / f"watershed-{kind}-{size}-{chunk}"
    made = not path.exists()
    if made:
        import bigbia
        from bigbia.hyperstack import hyperstack

        part = path.with_name(f"{path.name}.part")
        part.mkdir(parents=True, exist_ok=True)

        def stored(name: str, array: Any) -> Any:
            bigbia.save(part / f"{name}.zarr", hyperstack(array, "zyx"), chunks=chunk, levels=1, overwrite=True)
            return bigbia.open(part / f"{name}.zarr").data

        MAKE[kind]((size,) * 3, chunk, stored)
        part.rename(path)
    return {"path": str(path), "made": made, "what": KINDS[kind]}


def distance(shape: tuple[int, ...], chunk: int, stored: Any) -> None:
    from bigbia.feature import peak_local_max
    from bigbia.graph.dask import from_source
    from bigbia.io.synthetic import source
    from bigbia.morphology import distance_transform_edt

    mask = stored("mask", from_source(source("touching", shape).labels) > 0)
    image = stored("image", -distance_transform_edt(mask).astype(np.float32))
    stored("markers", peak_local_max(-image, MIN_DISTANCE, exclude_border=False, output="markers"))


def smooth(shape: tuple[int, ...], chunk: int, stored: Any) -> None:
    import dask.array as da

    from bigbia.feature import peak_local_max
    from bigbia.filters import gaussian
    from bigbia.graph.dask import from_source
    from bigbia.io.synthetic import source

    noise = from_source(source("percolation", shape, p=0.5)).astype(np.float32)
    image = stored("image", da.from_array(ranks(gaussian(noise, 3).compute()), chunks=chunk))
    stored("markers", peak_local_max(-image, APART, exclude_border=False, output="markers"))


def ranks(image: np.ndarray) -> np.ndarray:
    """The place of each voxel in the order of all, of equal ones in raster order, as float32. Values of 0 or more."""
    keys = image.reshape(-1).view(np.uint32).astype(np.uint64) << np.uint64(32)  # bits of such floats are in order
    keys |= np.arange(len(keys), dtype=np.uint32)
    keys.sort()
    out = np.empty(len(keys), np.uint32)
    out[(keys & np.uint64(2**32 - 1)).astype(np.uint32)] = np.arange(len(keys), dtype=np.uint32)
    out += np.uint32(ONE - len(keys) // 2)
    return out.view(np.float32).reshape(image.shape)


MAKE = {"distance": distance, "smooth": smooth}

if __name__ == "__main__":
    print(json.dumps(make(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
