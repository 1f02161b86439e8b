"""Averages of a neighbourhood weighted by likeness: bilateral and non-local means.

Weights are exponentials of differences, computed by multiplications alone, which vectorise; sums are in float64 and in
a fixed order for every voxel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba as nb
import numpy as np

from bigbia.kernels.rows import continued, plain, rows_of

_njit = nb.njit(nogil=True, cache=True, error_model="numpy")
_TILE = (8, 16, 256)  # voxels of non-local means that are worked on together: their differences stay in the cache


# ---- bilateral -------------------------------------------------------------------------------------------------------
def bilateral(
    block: np.ndarray,
    *,
    window: Sequence[int],
    sigma: Sequence[float],
    sigma_color: float,
    output: np.dtype | type,
    core: Sequence[slice] | None = None,
    mode: str = "nearest",
    cval: float = 0.0,
) -> np.ndarray:
    """The mean of a window, weighted by nearness and by likeness to the voxel in its middle."""
    reach = [(n // 2, n // 2) for n in window]
    offsets = np.indices(window).reshape(len(window), -1).T - np.array([n // 2 for n in window])
    wide = np.array([s if s > 0 else 1.0 for s in sigma])
    near = np.exp(-0.5 * ((offsets / wide) ** 2).sum(1))
    rows = rows_of(np.asarray(plain(block), np.float64), core, reach, mode, cval)
    places = rows.places(np.ones(window, bool))
    out = rows.empty(np.dtype(output))
    _bilateral(rows.flat, rows.starts, places, near, -0.5 / sigma_color**2 / 64, out)
    return out.reshape(rows.shape)


@_njit
def _exp64(x):
    """exp(64 x) for x from -0.625 to 0, to 1e-13 (of 1: the least are 1e-17, to 5 digits)."""
    y = 1 + x * (1 + x / 2 * (1 + x / 3 * (1 + x / 4 * (1 + x / 5 * (1 + x / 6 * (1 + x / 7 * (1 + x / 8)))))))
    y *= y
    y *= y
    y *= y
    y *= y
    y *= y
    return y * y


@_njit
def _like(here, there, near, share, total, weights):
    for j in range(here.size):
        d = there[j] - here[j]
        x = d * d * share
        x = x if x > -0.6 else -0.6  # from there on it is no weight to speak of
        w = near * _exp64(x)
        total[j] += w * there[j]
        weights[j] += w


@_njit
def _bilateral(flat, starts, places, near, share, out):
    n = out.shape[1]
    for a in range(0, n, 512):
        b = min(n, a + 512)
        total = np.empty(b - a, np.float64)
        weights = np.empty(b - a, np.float64)
        for r in range(starts.size):
            s = starts[r] + a
            here = flat[s : s + b - a]
            total[:] = 0
            weights[:] = 0
            for p in range(places.size):
                at = s + places[p]
                _like(here, flat[at : at + b - a], near[p], share, total, weights)
            for j in range(b - a):
                out[r, a + j] = total[j] / weights[j]


# ---- non-local means -------------------------------------------------------------------------------------------------
def non_local_means(
    block: np.ndarray,
    *,
    patch: int,
    distance: int,
    h: float,
    variance: float,
    space: Sequence[int],
    output: np.dtype | type,
    core: Sequence[slice] | None = None,
    mode: str = "mirror",
    cval: float = 0.0,
) -> np.ndarray:
    """The mean of a neighbourhood, weighted by how alike the patches around two voxels are; `space`: at most 3 axes.

    Patches are weighted by a Gaussian and continued by `mode` beyond the block; no voxel there is averaged.
    """
    core = [slice(0, n) for n in block.shape] if core is None else list(core)
    margin = patch // 2 + distance
    wide = [
        (part.start - margin, part.stop + margin) if a in space else (part.start, part.stop)
        for a, part in enumerate(core)
    ]
    over = [a for a in range(block.ndim) if a not in space]
    order = [*over, *space]
    data = continued(np.asarray(plain(block), np.float64), wide, mode, cval).transpose(order)
    lead = 3 - len(space)
    images = np.ascontiguousarray(data).reshape(-1, *(1,) * lead, *data.shape[len(over) :])
    flags = np.array([0] * lead + [1] * len(space))
    shape = [n - 2 * margin * f for n, f in zip(images.shape[1:], flags)]
    out = np.empty((len(images), *shape), np.dtype(output))
    low = np.array([0] * lead + [max(0, -wide[a][0]) for a in space])
    high = np.array([1] * lead + [block.shape[a] - wide[a][0] for a in space])
    x = np.arange(patch) - patch // 2
    taps = np.exp(-(x**2) / (2 * max((patch - 1) / 4, 0.1) ** 2))
    taps /= taps.sum()
    for image, result in zip(images, out):
        _non_local(image, low, high, flags * (patch // 2), flags * distance, taps, 2 * variance, 1 / (h * h), result)
    out = out.reshape(*data.shape[: len(over)], *shape[lead:])
    return np.ascontiguousarray(out.transpose(np.argsort(order)))


@_njit
def _squares(a, b, out):
    for j in range(out.size):
        d = a[j] - b[j]
        out[j] = d * d


@_njit
def _times(out, a, w):
    for j in range(out.size):
        out[j] = a[j] * w


@_njit
def _plus(out, a, w):
    for j in range(out.size):
        out[j] += a[j] * w


@_njit
def _weighted(sums, there, noise, share, total, weights):
    for j in range(sums.size):
        d = (sums[j] - noise) * share
        d = d if d > 0 else 0.0
        w = _exp64(-d / 64) if d <= 5 else 0.0
        total[j] += w * there[j]
        weights[j] += w


@_njit
def _patches(d, rows, sums, r, taps, nz, ny, nx):
    """Weighted sums over the patch around each voxel of a tile: plane by plane, then row by row, then along the rows."""
    wide = nx + 2 * r[2]
    for z in range(nz):
        for y in range(ny + 2 * r[1]):
            line = rows[y, :wide]
            if r[0] == 0:
                line[:] = d[z, y, :wide]
                continue
            _times(line, d[z, y, :wide], taps[0])
            for k in range(1, taps.size):
                _plus(line, d[z + k, y, :wide], taps[k])
        for y in range(ny):
            line = rows[y, :wide]  # nothing above it is needed any more
            if r[1] > 0:
                _times(line, line, taps[0])
                for k in range(1, taps.size):
                    _plus(line, rows[y + k, :wide], taps[k])
            out = sums[z, y, :nx]
            _times(out, line[:nx], taps[0])
            for k in range(1, taps.size):
                _plus(out, line[k : k + nx], taps[k])


@_njit
def _non_local(image, low, high, r, t, taps, noise, share, result):
    """`image` has a margin of r + t around the result, half a patch and the distance; from low to high it is one."""
    m = r + t
    tz, ty, tx = _TILE
    d = np.empty((tz + 2 * r[0], ty + 2 * r[1], tx + 2 * r[2]), np.float64)
    rows = np.empty((ty + 2 * r[1], tx + 2 * r[2]), np.float64)
    sums = np.empty((tz, ty, tx), np.float64)
    total = np.empty((tz, ty, tx), np.float64)
    weights = np.empty((tz, ty, tx), np.float64)
    for z0 in range(0, result.shape[0], tz):
        nz = min(tz, result.shape[0] - z0)
        for y0 in range(0, result.shape[1], ty):
            ny = min(ty, result.shape[1] - y0)
            for x0 in range(0, result.shape[2], tx):
                nx = min(tx, result.shape[2] - x0)
                total[:] = 0
                weights[:] = 0
                wide = nx + 2 * r[2]
                bx = x0 + t[2]
                for sz in range(-t[0], t[0] + 1):
                    for sy in range(-t[1], t[1] + 1):
                        for sx in range(-t[2], t[2] + 1):
                            for z in range(nz + 2 * r[0]):
                                for y in range(ny + 2 * r[1]):
                                    az, ay = z0 + t[0] + z, y0 + t[1] + y
                                    there = image[az + sz, ay + sy, bx + sx : bx + sx + wide]
                                    _squares(image[az, ay, bx : bx + wide], there, d[z, y, :wide])
                            _patches(d, rows, sums, r, taps, nz, ny, nx)
                            pz, py, px = z0 + m[0] + sz, y0 + m[1] + sy, x0 + m[2] + sx
                            a = max(0, low[2] - px)
                            b = max(a, min(nx, high[2] - px))
                            for z in range(max(0, low[0] - pz), min(nz, high[0] - pz)):
                                for y in range(max(0, low[1] - py), min(ny, high[1] - py)):
                                    there = image[pz + z, py + y, px + a : px + b]
                                    _weighted(
                                        sums[z, y, a:b], there, noise, share, total[z, y, a:b], weights[z, y, a:b]
                                    )
                for z in range(nz):
                    for y in range(ny):
                        for x in range(nx):
                            result[z0 + z, y0 + y, x0 + x] = total[z, y, x] / weights[z, y, x]
