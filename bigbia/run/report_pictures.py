"""Small pictures of what a run wrote, from a coarse level of its pyramids: a slice, and the brightest voxel along z.

At most CROP pixels a side and BUDGET voxels of an image are read, a few chunks at a time.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

ENOUGH = 200  # pixels: the coarsest level with so many is drawn
CROP = 512
BUDGET = 24_000_000  # voxels looked at for a projection
TILE = 4_000_000  # voxels read at once, or a chunk
MOST_CHUNKS = 1024  # decoded for a projection
CHUNK = 64 << 20  # bytes of a chunk; larger ones are not decoded for a picture
IMAGES, CHANNELS = 12, 4  # drawn at most, of a report and of an image
LOW, HIGH = 0.5, 99.8  # percentiles shown black and white
DOCUMENTS = {"zarr.json", ".zarray", ".zattrs", ".zgroup"}


@dataclass(frozen=True)
class Picture:
    """A PNG, and what is said of it. `aspect`: width by height in space; `across`: its width in units of length."""

    place: str
    what: str
    note: str
    png: bytes
    width: int
    height: int
    aspect: float
    across: float | None
    unit: str | None
    labels: bool


@dataclass(frozen=True)
class View:
    """The part of a level that is drawn: its array, where its axes are, the window in y and x."""

    array: Any
    axes: str
    level: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    def size(self, axis: str) -> int:
        return int(self.array.shape[self.axes.index(axis)]) if axis in self.axes else 1

    def read(self, at: Mapping[str, int], z: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]) -> Any:
        """The voxels of a box as (z, y, x)."""
        where = {"z": slice(*z), "y": slice(*rows), "x": slice(*columns)}
        key = tuple(where[a] if a in where else at.get(a, 0) for a in self.axes)
        data = np.asarray(self.array[key])
        return data if "z" in self.axes else data[None]


def pictures(root: Path, outputs: Mapping[str, Any]) -> Iterator[Picture]:
    """The pictures of the images and labels in a folder; those that have no voxels yet are left out."""
    for place, layout in outputs.items():
        folder = root if place == "image" else root / place
        axes = str(layout["axes"])
        if not {"y", "x"} <= set(axes):
            continue
        view = chosen(folder, axes)
        if view is not None:
            yield from _of(place, layout, view)


def chosen(folder: Path, axes: str) -> View | None:
    """The coarsest level with enough pixels, of those that hold voxels; None without any."""
    import zarr

    found: View | None = None
    y, x = axes.index("y"), axes.index("x")
    for level in range(64):
        if not any((folder / str(level) / name).exists() for name in ("zarr.json", ".zarray")):
            break
        if not _has_voxels(folder / str(level)):
            continue
        array = zarr.open_array(folder / str(level), mode="r")
        if len(array.shape) != len(axes) or int(np.prod(array.chunks)) * array.dtype.itemsize > CHUNK:
            continue
        if found is not None and max(array.shape[y], array.shape[x]) < ENOUGH:
            break
        found = View(array, axes, level, _window(array.shape[y]), _window(array.shape[x]))
    return found


def _has_voxels(folder: Path) -> bool:
    return any(set(files) - DOCUMENTS for _, _, files in os.walk(folder))


def _window(n: int) -> tuple[int, int]:
    start = max(0, (n - CROP) // 2)
    return start, min(n, start + CROP)


def _of(place: str, layout: Mapping[str, Any], view: View) -> Iterator[Picture]:
    labels, deep = bool(layout["labels"]), view.size("z")
    full = dict(zip(layout["axes"], layout["shape"]))
    sizes = layout.get("voxel_size") or {}
    step = {a: float(sizes.get(a, 1.0)) * full[a] / view.size(a) for a in "yx"}
    height, width = view.rows[1] - view.rows[0], view.columns[1] - view.columns[0]
    names = layout.get("channels") or []
    middle = {"t": view.size("t") // 2}
    cut = ", the middle of it" if (height, width) != (view.size("y"), view.size("x")) else ""
    for channel in range(min(view.size("c"), CHANNELS)):
        at = {**middle, "c": channel}
        where = [f"t {middle['t']}"] * (view.size("t") > 1)
        if view.size("c") > 1:
            where.append(str(names[channel]) if channel < len(names) else f"channel {channel}")
        planes = [(f"slice z {deep // 2} of {deep}" if deep > 1 else "", _slice(view, at, deep // 2))]
        if deep > 1:
            projected, seen = _projection(view, at)
            kind = "largest label along z" if labels else "maximum along z"
            planes.append((kind if seen == deep else f"{kind}, of {seen} of {deep} slices", projected))
        for what, plane in planes:
            shown, values = (painted(plane), "") if labels else stretched(plane)
            note = f"level {view.level}, {width} x {height} pixels{cut}" + (f"; {values}" if values else "")
            yield Picture(
                place, ", ".join(filter(None, [*where, what])), note, png(shown), width, height,
                width * step["x"] / (height * step["y"]), width * step["x"] if sizes else None, layout.get("unit"), labels,
            )  # fmt: skip


def _slice(view: View, at: Mapping[str, int], z: int) -> np.ndarray:
    return view.read(at, (z, z + 1), view.rows, view.columns)[0]


def _projection(view: View, at: Mapping[str, int]) -> tuple[np.ndarray, int]:
    """The largest value along z and how many slices it is of: a layer of chunks of several where there are very many."""
    chunk = {"z": 1, **dict(zip(view.axes, view.array.chunks))}
    layers = list(_ranges((0, view.size("z")), chunk["z"]))
    height, width = view.rows[1] - view.rows[0], view.columns[1] - view.columns[0]
    files = (-(-height // chunk["y"]) + 1) * (-(-width // chunk["x"]) + 1)
    most = max(1, min(BUDGET // max(1, height * width * chunk["z"]), MOST_CHUNKS // files))
    layers = [layers[i] for i in sorted({round(i) for i in np.linspace(0, len(layers) - 1, min(most, len(layers)))})]
    # A call costs more than a small chunk: several are read at once.
    across = chunk["x"] * max(1, TILE // (chunk["z"] * chunk["y"] * chunk["x"]))
    down = chunk["y"] * max(1, TILE // (chunk["z"] * chunk["y"] * max(width, across)))
    tiles = list(product(_ranges(view.rows, down), _ranges(view.columns, across)))
    found = np.zeros((height, width), view.array.dtype)
    for rows, columns in tiles:
        part = tuple(slice(a - o, b - o) for (a, b), o in ((rows, view.rows[0]), (columns, view.columns[0])))
        for number, layer in enumerate(layers):
            block = view.read(at, layer, rows, columns).max(axis=0)
            found[part] = block if number == 0 else np.fmax(found[part], block)
    return found, sum(b - a for a, b in layers)


def _ranges(span: tuple[int, int], step: int) -> Iterator[tuple[int, int]]:
    """A span cut where the chunks are."""
    at = span[0]
    while at < span[1]:
        end = min(span[1], (at // step + 1) * step)
        yield at, end
        at = end


# ---- colours ---------------------------------------------------------------------------------------------------------
def stretched(plane: np.ndarray) -> tuple[np.ndarray, str]:
    """Grey values between two percentiles, whatever lies outside cut off; and which values are black and white."""
    values = plane.astype(np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.zeros(plane.shape, np.uint8), "no finite values"
    low, high = np.percentile(finite, [LOW, HIGH])
    if high <= low:
        low, high = finite.min(), finite.max()
    if high <= low:
        return np.full(plane.shape, 128, np.uint8), f"all values {low:g}"
    scaled = np.clip((np.nan_to_num(values, nan=low) - low) / (high - low), 0, 1)
    return np.round(scaled * 255).astype(np.uint8), f"black {low:.4g}, white {high:.4g}"


def painted(labels: np.ndarray) -> np.ndarray:
    """A colour for each label, the same in every picture of every run; 0 is black."""
    names, inverse = np.unique(labels, return_inverse=True)
    return colours(names)[inverse].reshape(*labels.shape, 3)


def colours(labels: np.ndarray) -> np.ndarray:
    """Bright colours for labels, as rows of red, green and blue."""
    bits = labels.astype(np.int64).view(np.uint64) if labels.dtype.kind == "i" else labels.astype(np.uint64)
    bits = (bits ^ (bits >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    share = [((bits >> np.uint64(s)) & np.uint64(0xFFFF)).astype(np.float64) / 0xFFFF for s in (0, 16, 32)]
    hue, pale, bright = share[0] * 6, 0.05 + 0.4 * share[1], 0.7 + 0.3 * share[2]
    # Of hue 0..6 each of red, green and blue is full for two sixths, and rises or falls for one on either side.
    full = [np.clip(np.abs((hue + shift) % 6 - 3) - 1, 0, 1) for shift in (0.0, 4.0, 2.0)]
    rgb = np.stack([bright * (pale + (1 - pale) * f) for f in full], axis=-1)
    rgb[labels == 0] = 0
    return np.round(rgb * 255).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """A PNG of grey values (y, x) or colours (y, x, 3), of 8 bits each."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels, np.uint8).reshape(height, -1)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)  # each begins with its filter: none

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
