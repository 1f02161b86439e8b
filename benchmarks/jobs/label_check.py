"""Are two label images equal? python label_check.py REFERENCE RESULT prints the comparison as JSON.

They are compared number for number, a layer of chunks at a time; where they differ, also whether they are the same
objects under other numbers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import zarr


def compare(reference: str, result: str) -> dict[str, Any]:
    a, b = (zarr.open_array(f"{p}/labels/objects/0", mode="r") for p in (reference, result))
    if a.shape != b.shape:
        raise SystemExit(f"the labels have different shapes: {a.shape}, {b.shape}")
    differ = most = 0
    for x, y in layers(a, b):
        differ += int(np.count_nonzero(x != y))
        most = max(most, int(x.max()))
    return {
        "objects": most,
        "voxels": int(np.prod(a.shape)),
        "voxels_differ": differ,
        "labels_equal": differ == 0,
        "objects_equal": differ == 0 or same_objects(a, b),
    }


def layers(a: Any, b: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for z in range(0, a.shape[0], a.chunks[0]):
        yield tuple(np.asarray(v[z : z + a.chunks[0]]).astype(np.uint32, copy=False) for v in (a, b))


def same_objects(a: Any, b: Any) -> bool:
    """Whether each label of one is one label of the other, and 0 is 0."""
    pairs = np.empty(0, np.uint64)
    for x, y in layers(a, b):
        found = np.unique(x.astype(np.uint64) << np.uint64(32) | y)
        pairs = np.union1d(pairs, found)
    left, right = pairs >> np.uint64(32), pairs & np.uint64(2**32 - 1)
    one_to_one = len(np.unique(left)) == len(np.unique(right)) == len(pairs)
    return bool(one_to_one and ((left == 0) == (right == 0)).all())


if __name__ == "__main__":
    print(json.dumps(compare(sys.argv[1], sys.argv[2])))
