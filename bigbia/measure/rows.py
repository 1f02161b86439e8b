"""What a block knows of its objects, and how two blocks' knowledge of one object adds up.

Exactly, whatever the blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bigbia.errors import BlockError
from bigbia.graph.boxes import Box, describe
from bigbia.kernels import measurements

Rows = Mapping[str, np.ndarray]
_LOW = 0xFFFFFFFF


def summarise(
    blocks: Sequence[np.ndarray], box: Box, values: Sequence[np.ndarray], *, floats: Sequence[bool]
) -> dict[str, np.ndarray]:
    """One row an object of the block. `values` are the units of the floating-point images among `blocks[1:]`."""
    labels, *images = blocks
    rows = measurements.geometry(labels, tuple(a for a, _ in box))
    rows |= intensity_columns(labels, images, values, floats)
    if len(rows["label"]) and rows["label"].dtype.kind == "i" and rows["label"][0] < 0:
        raise BlockError(
            f"measure.regionprops_table: label {rows['label'][0]} in the block {describe(box)}: labels are 1 or more"
        )
    return rows


def intensity_columns(
    labels: np.ndarray, images: Sequence[np.ndarray], values: Sequence[np.ndarray], floats: Sequence[bool]
) -> dict[str, np.ndarray]:
    """What the objects of a block hold of each image, in order of their labels."""
    rows: dict[str, np.ndarray] = {}
    units = iter(values)
    for k, (image, is_float) in enumerate(zip(images, floats)):
        unit = float(next(units)) if is_float else 0.0
        found = measurements.intensity(labels, image, unit)
        rows[f"sums{k}"] = limbs(found["sums"])
        rows[f"ends{k}"] = np.stack([found["min"], found["max"]], axis=1)
        rows[f"nans{k}"] = found["nans"]
        rows[f"unit{k}"] = np.full(len(found["label"]), unit)
    return rows


def summed_as_float(dtype: np.dtype) -> bool:
    """Whether intensities are summed as fixed-point numbers: floats, and integers that int64 sums could not hold."""
    return dtype.kind == "f" or dtype.itemsize == 8


def limbs(sums: np.ndarray) -> np.ndarray:
    """(high, low) pairs as four numbers each, of 32 bits and a sign at the top.

    2**31 of them add up without overflow.
    """
    out = np.empty((len(sums), 8), np.int64)
    for i in range(4):
        out[:, 2 * i] = sums[:, i] >> 32
        out[:, 2 * i + 1] = sums[:, i] & _LOW
    return out


def combine(rows: Rows, starts: np.ndarray) -> dict[str, np.ndarray]:
    """Rows sorted by label, those of one label (from each start to the next) made one."""
    out = {"label": rows["label"][starts]}
    for name, column in rows.items():
        if name in ("n", "sum") or name.startswith(("sums", "nans")):
            out[name] = np.add.reduceat(column, starts, axis=0) if len(starts) else column
        elif name == "low":
            out[name] = np.minimum.reduceat(column, starts, axis=0) if len(starts) else column
        elif name == "high":
            out[name] = np.maximum.reduceat(column, starts, axis=0) if len(starts) else column
        elif name.startswith("ends"):
            low = np.minimum.reduceat(column[:, 0], starts) if len(starts) else column[:, 0]
            high = np.maximum.reduceat(column[:, 1], starts) if len(starts) else column[:, 1]
            out[name] = np.stack([low, high], axis=1)
        elif name != "label":
            out[name] = column[starts]
    return out


def magnitude(block: np.ndarray, box: Box) -> dict[str, np.ndarray]:
    """Largest finite magnitude of a block."""
    values = block[np.isfinite(block)] if block.dtype.kind == "f" else block
    if not values.size:
        return {"largest": np.array(0.0)}
    return {"largest": np.array(max(abs(float(values.min())), abs(float(values.max()))))}


def join_magnitudes(parts: Sequence[Rows]) -> dict[str, np.ndarray]:
    return {"largest": np.max([p["largest"] for p in parts])}


def unit_of(largest: Rows) -> dict[str, np.ndarray]:
    """The power of two above the largest magnitude; 0 for an image of zeros."""
    value = float(largest["largest"])
    return {"unit": np.array(np.ldexp(1.0, int(np.frexp(value)[1])) if value else 0.0)}
