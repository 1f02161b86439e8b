"""Flood an image in memory with scikit-image, Zarr to Zarr. python watershed_memory.py INPUT OUTPUT CHUNK CONNECTIVITY

prints the wall and CPU seconds of the flooding alone as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import zarr
from label_clock import Clock
from skimage.segmentation import watershed
from steps import step
from zarr.codecs import Crc32cCodec, ZstdCodec


def main(source: str, target: str, chunk: int, connectivity: int) -> None:
    step("read")
    image, markers = (zarr.open_array(f"{source}/{name}.zarr/0", mode="r")[...] for name in ("image", "markers"))
    mask = zarr.open_array(f"{source}/mask.zarr/0", mode="r")[...] if Path(source, "mask.zarr").exists() else None
    markers = markers.view(np.int32)
    step("watershed")
    with Clock() as clock:
        labels = watershed(image, markers, connectivity, mask=mask)
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
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
