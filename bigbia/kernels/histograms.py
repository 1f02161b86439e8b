"""Extrema and histograms of one block, in one pass each, with NumPy's own binning."""

from __future__ import annotations

import numba as nb
import numpy as np

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
    if block.dtype == bool:
        block = block.view(np.uint8)
    elif block.dtype == np.float16:
        block = block.astype(np.float32)
    flat = np.ascontiguousarray(block).reshape(-1)
    flat.flags.writeable = False
    return flat


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
