"""A TIFF of camera noise. python convert_data.py PLACE KIND PLANES"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np

PLANES, SIDE, TILE = 64, 2048, 256


def noise() -> np.ndarray:
    """Some planes as a camera gives them: an offset, light, its shot noise. A quarter to a half of it is compressible."""
    random = np.random.default_rng(0)
    y, x = np.sin(np.arange(SIDE) / 37.0)[:, None], np.sin(np.arange(SIDE) / 43.0)
    out = np.empty((PLANES, SIDE, SIDE), np.uint16)
    for z, plane in enumerate(out):
        light = 100 + 300 * np.clip(np.sin(z / 9.0) * y * x, 0, 1)
        plane[...] = np.rint(light + np.sqrt(light) * random.standard_normal(light.shape, np.float32)).clip(0)
    return out


class Repeated:
    """The same planes again and again, as a source: too far apart for a compressor to notice."""

    def __init__(self, planes: np.ndarray, count: int) -> None:
        self.planes, self.shape, self.dtype = planes, (count, *planes.shape[1:]), planes.dtype
        self.chunks, self.token = (1, *planes.shape[1:]), f"noise-{count}"

    def read(self, box: Any) -> np.ndarray:
        z = np.arange(*box[0]) % len(self.planes)
        return np.ascontiguousarray(self.planes[z][:, slice(*box[1]), slice(*box[2])])


def main(place: str, kind: str, count: int) -> None:
    planes = noise()
    if kind == "tiled":
        import tifffile

        with tifffile.TiffWriter(place, ome=True, bigtiff=True) as file:
            tiles = (
                planes[z % PLANES, y : y + TILE, x : x + TILE]
                for z in range(count)
                for y in range(0, SIDE, TILE)
                for x in range(0, SIDE, TILE)
            )
            file.write(tiles, shape=(count, SIDE, SIDE), dtype=planes.dtype, tile=(TILE, TILE), compression="zlib",
                       compressionargs={"level": 1}, metadata={"axes": "ZYX"}, maxworkers=2)  # fmt: skip
        return
    from bigbia.graph.dask import from_source
    from bigbia.hyperstack import hyperstack
    from bigbia.run.tiff_output import write_tiff

    image = hyperstack(from_source(Repeated(planes, count), (4, SIDE, SIDE)), "zyx", voxel_size="0.25 um")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is BigTIFF
        write_tiff(place, image)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
