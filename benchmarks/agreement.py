"""Do two results of the main job agree? python agreement.py REFERENCE RESULT prints the comparison as JSON.

Labels are compared voxel by voxel, a few planes at a time; tables column by column. Where the numbering differs
(dask-image numbers objects in the order of blocks) the objects are paired first, and `renumbered` says so.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pandas as pd
import zarr

WHOLE = ("label", "area", "bbox")  # columns of whole numbers: equal, or wrong
TOLERANCE = 1e-6  # of the others, relative


def compare(reference: str, result: str) -> dict[str, Any]:
    labels = compare_labels(*(zarr.open_array(f"{p}/labels/nuclei/0", mode="r") for p in (reference, result)))
    pairs = labels.pop("pairs")
    tables = [pd.read_parquet(f"{p}/tables/nuclei.parquet") for p in (reference, result)]
    columns = compare_tables(*tables, dict(pairs) if labels["one_to_one"] else {})
    close = {c: d == 0 if c.split("-")[0] in WHOLE else d <= TOLERANCE for c, d in columns.items()}
    same_objects = labels["one_to_one"] and labels["foreground_differs"] == 0
    return {
        **labels,
        "columns": columns,
        "labels_equal": labels["voxels_differ"] == 0,
        "objects_equal": same_objects,
        "table_equal": bool(columns) and all(close.values()),
    }


def compare_labels(a: Any, b: Any) -> dict[str, Any]:
    """How many voxels differ, and which label of `a` is which of `b`."""
    if a.shape != b.shape:
        raise SystemExit(f"the labels have different shapes: {a.shape}, {b.shape}")
    differ = foreground = 0
    found = []
    for z in range(0, a.shape[0], a.chunks[0]):
        x, y = (np.asarray(v[z : z + a.chunks[0]]).astype(np.uint64) for v in (a, b))
        differ += int(np.count_nonzero(x != y))
        foreground += int(np.count_nonzero((x > 0) != (y > 0)))
        both = (x > 0) & (y > 0)
        found.append(np.unique(x[both] << np.uint64(32) | y[both]))
    pairs = np.unique(np.concatenate(found))
    left, right = pairs >> np.uint64(32), pairs & np.uint64(2**32 - 1)
    return {
        "objects": len(np.unique(left)),
        "voxels": int(np.prod(a.shape)),
        "voxels_differ": differ,
        "foreground_differs": foreground,
        "one_to_one": len(np.unique(left)) == len(np.unique(right)) == len(pairs),
        "renumbered": bool((left != right).any()),
        "pairs": list(zip(left.tolist(), right.tolist())),
    }


def compare_tables(a: pd.DataFrame, b: pd.DataFrame, names: dict[int, int]) -> dict[str, float]:
    """The largest difference of each column, relative to the value; {} if the rows or the columns do not match."""
    if list(a.columns) != list(b.columns) or len(a) != len(b) or set(a["label"]) != set(names):
        return {}
    b = b.set_index("label", drop=False).reindex([names[n] for n in a["label"]])
    b["label"] = a["label"].to_numpy()
    out = {}
    for column in a.columns:
        x, y = (t[column].to_numpy(np.float64) for t in (a, b))
        with np.errstate(invalid="ignore"):
            # At least one voxel, or one grey level, as the scale: a centroid may be 0.
            away = np.abs(x - y) / np.maximum(np.abs(x), 1)
        out[column] = float(np.max(np.where(np.isnan(away), np.inf, away), initial=0.0))
    return out


if __name__ == "__main__":
    print(json.dumps(compare(sys.argv[1], sys.argv[2])))
