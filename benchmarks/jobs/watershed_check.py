"""How many voxels have the same label in two images? python watershed_check.py REFERENCE RESULT prints it as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import zarr
from label_check import layers


def compare(reference: str, result: str) -> dict[str, Any]:
    a, b = (zarr.open_array(f"{p}/labels/objects/0", mode="r") for p in (reference, result))
    if a.shape != b.shape:
        raise SystemExit(f"the labels have different shapes: {a.shape}, {b.shape}")
    flooded = differ = most = 0
    for x, y in layers(a, b):
        flooded += int(np.count_nonzero(x | y))  # by either
        differ += int(np.count_nonzero(x != y))
        most = max(most, int(x.max()))
    equal = 1 - differ / flooded if flooded else 1.0
    return {"objects": most, "voxels": int(np.prod(a.shape)), "flooded": flooded, "differ": differ, "equal": equal}


if __name__ == "__main__":
    print(json.dumps(compare(sys.argv[1], sys.argv[2])))
