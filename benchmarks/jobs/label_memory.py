"""Label a mask in memory, Zarr to Zarr. python label_memory.py INPUT OUTPUT CHUNK CONNECTIVITY skimage|cc3d

prints the wall and CPU seconds of the labelling alone as JSON.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import zarr
from label_clock import Clock
from steps import step
from zarr.codecs import Crc32cCodec, ZstdCodec


def skimage(mask: np.ndarray, connectivity: int) -> np.ndarray:
    from skimage.measure import label

    return label(mask, connectivity=connectivity)


def cc3d(mask: np.ndarray, connectivity: int) -> np.ndarray:
    from cc3d import connected_components

    neighbours = {1: 6, 2: 18, 3: 26}[connectivity]
    return connected_components(mask, connectivity=neighbours, out_dtype=np.uint32, binary_image=True)


METHODS = {"skimage": skimage, "cc3d": cc3d}


def main(source: str, target: str, chunk: int, connectivity: int, method: str) -> None:
    METHODS[method](np.ones((2, 2, 2), bool), connectivity)  # imports
    step("read")
    mask = zarr.open_array(f"{source}/0", mode="r")[...]
    step("label")
    with Clock() as clock:
        labels = METHODS[method](mask, connectivity)
    step("write")
    array = zarr.create_array(
        f"{target}/labels/objects/0",
        shape=labels.shape,
        dtype="uint32",
        chunks=tuple(min(chunk, n) for n in labels.shape),
        compressors=[ZstdCodec(level=1), Crc32cCodec()],
        config={"write_empty_chunks": True},
    )
    array[...] = labels.view(np.uint32) if labels.dtype.itemsize == 4 else labels.astype(np.uint32)
    step("exit")
    print(json.dumps(clock.told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
