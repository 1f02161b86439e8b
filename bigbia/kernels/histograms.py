"""Extrema and histograms of one block, in one pass each, with NumPy's own binning."""

from __future__ import annotations

import numba as nb
import numpy as np

from bigbia.kernels.rows import plain

_njit = nb.njit(nogil=True, cache=True)


def extrema(block: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Smallest and largest voxel, and whether a NaN or infinity was met."""
    flat = _flat(block)
    low, high, bad = _extrema(flat)
    return flat.dtype.type(low), flat.dtype.type(high), bool(bad)


def bin_edges(low: np.ndarray, high: np.ndarray, nbins: int) -> np.ndarray:
    """The edges that `numpy.histogram` uses for `nbins` bins over an image whose extrema are `low` and `high`."""
    return np.histogram_bin_edges(np.array([low, high]), nbins)


def counts(block: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """How many voxels lie between each two edges, the last included: `numpy.histogram` with evenly spaced edges."""
    out = np.zeros(len(edges) - 1, np.int64)
    flat = _flat(block)
    low = flat.dtype.type(edges[0])
    _counts(
        flat, np.ascontiguousarray(edges), low, flat.dtype.type(len(out) / (float(edges[-1]) - float(edges[0]))), out
    )
    return out


def integer_counts(block: np.ndarray, low: int, high: int) -> np.ndarray:
    """How many voxels have each value from low to high."""
    out = np.zeros(int(high) - int(low) + 1, np.int64)
    _integer_counts(_flat(block), int(low), out)
    return out


def _flat(block: np.ndarray) -> np.ndarray:
    return plain(block).reshape(-1)


@_njit
def _extrema(x):
    low = x[0]
    high = x[0]
    bad = x[0] - x[0] != 0
    for i in range(x.size):
        v = x[i]
        bad |= v - v != 0  # NaN and infinity
        low = min(low, v)
        high = max(high, v)
    return low, high, bad


@_njit
def _counts(x, edges, low, scale, out):
    n = out.size
    for i in range(x.size):
        v = x[i]
        if v < edges[0] or v > edges[n]:
            continue
        k = int((v - low) * scale)
        k = min(max(k, 0), n - 1)
        # The product is rounded: the edges decide.
        while v < edges[k]:
            k -= 1
        while k < n - 1 and v >= edges[k + 1]:
            k += 1
        out[k] += 1


@_njit
def _integer_counts(x, low, out):
    for i in range(x.size):
        out[np.int64(x[i]) - low] += 1


def looked_up(block: np.ndarray, low: int, table: np.ndarray) -> np.ndarray:
    """For each voxel the entry of a table that begins with that of the value `low`; the last one for values beyond."""
    if block.dtype.kind != "u" or block.dtype.itemsize > 2:
        block = block.astype(np.int16 if block.dtype.itemsize == 1 else np.int64, copy=False)
    out = np.empty(block.shape, table.dtype)
    bits = f"u{table.itemsize}"  # an entry is copied, whatever it means: one compiled version a size
    low = (int(low) + 2**63) % 2**64 - 2**63
    _looked_up(_flat(block), low, _flat(table.view(bits)), out.reshape(-1).view(bits))
    return out


def interpolated(block: np.ndarray, x: np.ndarray, y: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`numpy.interp` of a block of floats between points (x, y), x evenly spaced but for rounding; to the bit."""
    out = np.empty(block.shape, dtype)
    x, y = np.ascontiguousarray(x, np.float64), np.ascontiguousarray(y, np.float64)
    _interpolated(_flat(block), x, y, out.reshape(-1))
    return out


@_njit
def _looked_up(x, low, table, out):
    last = table.size - 1
    for i in range(x.size):
        k = np.int64(x[i]) - low
        out[i] = table[min(max(k, 0), last)]


@_njit
def _interpolated(x, at, y, out):
    n = at.size
    scale = (n - 1) / (at[n - 1] - at[0]) if at[n - 1] > at[0] else 0.0
    for i in range(x.size):
        v = np.float64(x[i])
        if not v > at[0]:
            out[i] = y[0] if v == v else v
        elif v >= at[n - 1]:
            out[i] = y[n - 1]
        else:
            k = min(int((v - at[0]) * scale), n - 2)
            while v < at[k]:
                k -= 1
            while v >= at[k + 1]:
                k += 1
            if v == at[k]:
                out[i] = y[k]
            else:
                slope = (y[k + 1] - y[k]) / (at[k + 1] - at[k])
                out[i] = slope * (v - at[k]) + y[k]


# ---- histograms of tiles, and the maps made of them -------------------------------------------------------------------
def tile_counts(
    bins: np.ndarray, tiles: list[np.ndarray], places: list[np.ndarray], counts: list[int], nbins: int
) -> np.ndarray:
    """Histograms of the tiles of a grid of `counts` tiles, (tiles, nbins).

    tiles, places : for each axis which place of the block counts for which tile, as often as it does
    """
    out = np.zeros((int(np.prod(counts)), nbins), np.int64)
    starts, rows = np.zeros(1, np.int64), np.zeros(1, np.int64)
    stride = [int(np.prod(bins.shape[a + 1 :])) for a in range(bins.ndim)]
    for axis in range(bins.ndim - 1):
        starts = (starts[:, None] + places[axis] * stride[axis]).reshape(-1)
        rows = (rows[:, None] * counts[axis] + tiles[axis]).reshape(-1)
    _tile_counts(_flat(bins), starts, rows * counts[-1], places[-1], tiles[-1], out)
    return out


@_njit
def _tile_counts(bins, starts, rows, places, tiles, out):
    for q in range(starts.size):
        for j in range(places.size):
            out[rows[q] + tiles[j], bins[starts[q] + places[j]]] += 1


def tile_maps(counts: np.ndarray, limit: int, voxels: int, top: int) -> np.ndarray:
    """Histograms (tiles, bins), each clipped at `limit`, added up and scaled from 0 to `top`, the share of `voxels`."""
    out = np.empty(counts.shape, np.uint16)
    _tile_maps(np.array(counts, np.int64), int(limit), int(top) / int(voxels), int(top), out)
    return out


@_njit
def _tile_maps(counts, limit, scale, top, out):
    for t in range(counts.shape[0]):
        _clip(counts[t], limit)
        total = 0
        for i in range(counts.shape[1]):
            total += counts[t, i]
            out[t, i] = np.uint16(min(total * scale, np.float64(top)))


@_njit
def _clip(h, limit):
    """Cut a histogram off at `limit`, and spread what was above it over the other bins, by scikit-image's rule."""
    n = h.size
    excess = 0
    for i in range(n):
        if h[i] > limit:
            excess += h[i] - limit
            h[i] = limit
    share = excess // n
    nearly = limit - share
    for i in range(n):
        if h[i] < nearly:
            h[i] += share
            excess -= share
        if nearly <= h[i] < limit:
            excess -= limit - h[i]
            h[i] = limit
    while excess > 0:  # one each for every so many bins, beginning at one after another
        before = excess
        for first in range(n):
            room = 0
            for i in range(n):
                room += h[i] < limit
            for i in range(first, n, max(1, room // excess)):
                if h[i] < limit:
                    h[i] += 1
                    excess -= 1
            if excess <= 0:
                break
        if excess == before:
            break  # all are full


def between_tiles(
    bins: np.ndarray, tiles: list[np.ndarray], shares: list[np.ndarray], counts: list[int], maps: np.ndarray
) -> np.ndarray:
    """Each voxel's bin through the maps of the tiles around it, (tiles, nbins), weighted by its distance from them.

    tiles : (places, 2) for each axis, the tile before and the tile after a place
    shares : (places, 2), of each of them
    """
    corners = list(np.ndindex(*(2,) * (bins.ndim - 1)))
    lines = bins.shape[:-1]
    rows = np.zeros((len(corners), *lines), np.int64)
    for c, corner in enumerate(corners):
        for axis, side in enumerate(corner):
            along = [-1 if a == axis else 1 for a in range(len(lines))]
            rows[c] = rows[c] * counts[axis] + tiles[axis][:, side].reshape(along)
    rows *= counts[-1]
    weights = np.ones((max(1, len(lines)), len(corners), *lines))
    for c, corner in enumerate(corners):
        for axis, side in enumerate(corner):
            along = [-1 if a == axis else 1 for a in range(len(lines))]
            weights[len(lines) - 1 - axis, c] = shares[axis][:, side].reshape(along)
    out = np.empty(bins.shape, np.uint16)
    _between_tiles(
        _flat(bins).reshape(-1, bins.shape[-1]),
        rows.reshape(len(corners), -1),
        weights.reshape(weights.shape[0], len(corners), -1),
        np.ascontiguousarray(tiles[-1].T),
        np.ascontiguousarray(shares[-1].T),
        _flat(maps).reshape(maps.shape),
        out.reshape(-1, bins.shape[-1]),
    )
    return out


@_njit
def _between_tiles(bins, rows, weights, tiles, shares, maps, out):
    corners, lines = rows.shape
    n = bins.shape[1]
    total = np.empty(n, np.float32)
    for q in range(lines):
        total[:] = 0
        for c in range(corners):
            for side in range(2):
                for b in range(n):
                    w = shares[side, b]
                    for k in range(weights.shape[0]):
                        w = w * weights[k, c, q]
                    total[b] += np.float32(maps[rows[c, q] + tiles[side, b], bins[q, b]] * w)
        for b in range(n):
            out[q, b] = np.uint16(total[b])
