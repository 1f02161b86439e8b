"""What is known of the components of a block from their runs alone: labels, sizes, places, what touches the border."""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np

_njit = nb.njit(nogil=True, cache=True)
_U = np.uint64
CHUNK = 8  # voxels painted at once


@dataclass(frozen=True)
class Runs:
    """The components of a block of a shape.

    lines       (lines + 1,) where each line's runs begin; a line is a row along the last axis
    start, stop (runs,)      voxels along the last axis
    component   (runs,)      from 1
    first       (components,) raster index, in the block, of each component's first voxel, ascending
    """

    shape: tuple[int, ...]
    lines: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    component: np.ndarray
    first: np.ndarray

    @property
    def count(self) -> int:
        return len(self.first)


Box = tuple[tuple[int, int], ...]


def paint(runs: Runs, numbers: np.ndarray, box: Box | None = None) -> np.ndarray:
    """The labels of the block, or of a box of it: `numbers[component]`, and `numbers[0]` elsewhere; of any dtype."""
    box = tuple((0, n) for n in runs.shape) if box is None else box
    shape = tuple(b - a for a, b in box)
    out = np.full(shape, numbers[0], numbers.dtype) if numbers[0] else np.zeros(shape, numbers.dtype)
    if out.size and len(runs.start):
        begin = _axes(a for a, _ in box[:-1])
        size = _axes(shape[:-1])
        x0, x1 = box[-1]
        _paint(*_columns(runs), numbers, _axes(runs.shape[:-1]), begin, size, x0, x1, out.reshape(-1))
    return out


def runs_of(numbers: np.ndarray, count: int) -> Runs:
    """An image of numbers, 1 to `count` and 0 for background, as runs. Every number occurs."""
    length = numbers.shape[-1]
    rows = np.ascontiguousarray(numbers).reshape(-1, length)
    lines = np.zeros(len(rows) + 1, np.int64)
    _count_runs(rows, lines)
    np.cumsum(lines, out=lines)
    kind = np.uint16 if length < 65536 else np.uint32
    start, stop = np.empty(lines[-1], kind), np.empty(lines[-1], kind)
    component = np.empty(lines[-1], np.uint16 if count < 65536 else np.uint32)
    first = np.full(count, -1, np.int64)
    _fill_runs(rows, lines, start, stop, component, first)
    return Runs(numbers.shape, lines, start, stop, component, first)


def sizes(runs: Runs) -> np.ndarray:
    """Voxels of each component; int64."""
    out = np.zeros(_count(runs), np.int64)
    _sizes(runs.start, runs.stop, runs.component, out)
    return out


def touching(runs: Runs, mask: np.ndarray | None, box: Box, shape: tuple[int, ...], buffer: int = 0) -> np.ndarray:
    """Which components touch the border; uint8.

    A voxel touches within `buffer` voxels of the border of the whole image, of a shape, in which the block lies at a
    box; with a mask only where that is False, as in scikit-image's clear_border.
    """
    if mask is not None:
        return touching_mask(runs, mask)
    out = np.zeros(_count(runs), np.uint8)
    if len(out):
        # inside the block, the voxels low <= p <= high do not touch
        low = _axes(buffer + 1 - a for a, _ in box)
        high = _axes(n - 2 - buffer - a for n, (a, _) in zip(shape, box))
        _touching(*_columns(runs), _axes(runs.shape[:-1]), low, high, out)
    return out


def touching_mask(runs: Runs, mask: np.ndarray) -> np.ndarray:
    """Which components have a voxel where the mask, of the block's shape, is False; uint8."""
    out = np.zeros(_count(runs), np.uint8)
    if len(out):
        flat = np.ascontiguousarray(mask, bool).view(np.uint8).reshape(-1, runs.shape[-1]).view()
        flat.flags.writeable = False
        _touching_mask(*_columns(runs), flat, out)
    return out


def geometry(runs: Runs, origin: tuple[int, ...]) -> dict[str, np.ndarray]:
    """n, and, (count, ndim), sum, low and high (inclusive) of the voxels of each component; int64.

    In voxels of the whole image, in which the block starts at `origin`.
    """
    count, ndim = _count(runs), len(runs.shape)
    n = np.zeros(count, np.int64)
    total = np.zeros((count, ndim), np.int64)
    low = np.full((count, ndim), np.iinfo(np.int64).max)
    high = np.full((count, ndim), np.iinfo(np.int64).min)
    if count:
        _geometry(*_columns(runs), _axes(runs.shape[:-1]), _axes(origin), n, total, low, high)
    return {"n": n, "sum": total, "low": low, "high": high}


def _columns(runs: Runs) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return runs.lines, runs.start, runs.stop, runs.component


def _count(runs: Runs) -> int:
    """Runs that were read from a file have lost their `first`."""
    return int(runs.component.max(initial=0))


def _axes(values) -> np.ndarray:
    return np.array(list(values), np.int64)


@_njit
def _count_runs(rows, lines):
    for i in range(rows.shape[0]):
        last, n = 0, 0
        for x in range(rows.shape[1]):
            v = rows[i, x]
            if v != last:
                n += v != 0
                last = v
        lines[i + 1] = n


@_njit
def _fill_runs(rows, lines, start, stop, component, first):
    for i in range(rows.shape[0]):
        last, r = 0, lines[i]
        for x in range(rows.shape[1]):
            v = rows[i, x]
            if v != last:
                if last:
                    stop[r] = x
                    r += 1
                if v:
                    start[r], component[r] = x, v
                    if first[v - 1] < 0:
                        first[v - 1] = i * rows.shape[1] + x
                last = v
        if last:
            stop[r] = rows.shape[1]


@_njit
def step(place, size):
    """Go on to the next line of a box."""
    for a in range(size.size - 1, -1, -1):
        place[a] += 1
        if place[a] < size[a]:
            break
        place[a] = 0


@_njit
def _paint(lines, start, stop, component, numbers, lead, begin, size, x0, x1, out):
    """Runs are painted in chunks; what a chunk painted too much is painted over with the background, before the runs
    that follow. Most runs of noise are shorter than a chunk: no loop whose end cannot be foreseen."""
    background = numbers[0]
    place = np.zeros(lead.size, np.int64)
    width = x1 - x0
    for i in range(out.size // width):
        line = 0
        for a in range(lead.size):
            line = line * lead[a] + begin[a] + place[a]
        row = i * width - x0
        for r in range(lines[line], lines[line + 1]):
            a, b = max(np.int64(start[r]), x0), min(np.int64(stop[r]), x1)
            if a >= b:
                continue
            v = numbers[component[r]]
            if row + b + CHUNK <= out.size:
                x, end = (
                    _U(row + a),
                    _U(row + b),
                )  # unsigned: Numba asks of other indices whether they count from the end
                while x < end:
                    for t in range(CHUNK):
                        out[x + _U(t)] = v
                    x += _U(CHUNK)
                for t in range(CHUNK):
                    out[end + _U(t)] = background
            else:
                for p in range(row + a, row + b):
                    out[p] = v
        step(place, size)


@_njit
def _sizes(start, stop, component, out):
    for r in range(start.size):
        out[component[r] - 1] += np.int64(stop[r]) - np.int64(start[r])


@_njit
def _touching(lines, start, stop, component, lead, low, high, out):
    place = np.zeros(lead.size, np.int64)
    x0, x1 = low[-1], high[-1]
    for line in range(lines.size - 1):
        outer = False
        for a in range(lead.size):
            outer |= (place[a] < low[a]) | (place[a] > high[a])
        for r in range(lines[line], lines[line + 1]):
            out[component[r] - 1] |= outer | (np.int64(start[r]) < x0) | (np.int64(stop[r]) - 1 > x1)
        step(place, lead)


@_njit
def _touching_mask(lines, start, stop, component, mask, out):
    for line in range(lines.size - 1):
        for r in range(lines[line], lines[line + 1]):
            clear = np.uint8(0)
            for x in range(start[r], stop[r]):
                clear |= mask[line, x] == 0
            out[component[r] - 1] |= clear


@_njit
def _geometry(lines, start, stop, component, lead, origin, n, total, low, high):
    ndim = origin.size
    place = np.zeros(lead.size, np.int64)
    for line in range(lines.size - 1):
        for r in range(lines[line], lines[line + 1]):
            c = component[r] - 1
            x0, x1 = origin[-1] + np.int64(start[r]), origin[-1] + np.int64(stop[r]) - 1
            length = x1 - x0 + 1
            n[c] += length
            for a in range(ndim - 1):
                p = origin[a] + place[a]
                total[c, a] += p * length
                low[c, a] = min(low[c, a], p)
                high[c, a] = max(high[c, a], p)
            total[c, ndim - 1] += (x0 + x1) * length // 2
            low[c, ndim - 1] = min(low[c, ndim - 1], x0)
            high[c, ndim - 1] = max(high[c, ndim - 1], x1)
        step(place, lead)
