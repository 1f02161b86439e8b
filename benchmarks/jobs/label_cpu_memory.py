"""Labelling alone, of a mask in memory, warm. python label_cpu_memory.py INPUT CHUNK CONNECTIVITY skimage|cc3d

prints wall and CPU seconds, voxels and objects as JSON.
"""

import json
import sys

import zarr
from label_clock import Clock
from label_memory import METHODS
from steps import step


def main(source: str, chunk: int, connectivity: int, method: str) -> None:
    step("read")
    mask = zarr.open_array(f"{source}/0", mode="r")[...]
    step("warm up")
    METHODS[method](mask[:chunk, :chunk, : 2 * chunk].copy(), connectivity)
    step("label")
    with Clock() as clock:
        labels = METHODS[method](mask, connectivity)
    step("exit")
    print(json.dumps(clock.told | {"voxels": mask.size, "objects": int(labels.max())}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
