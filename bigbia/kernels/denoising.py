"""Total variation denoising of one block: Chambolle's iteration, a fixed number of times.

An iteration reaches one voxel farther, so of a block with a halo every iteration works on one voxel less on each side.
Of the image between two iterations only two planes are held.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba as nb
import numpy as np

_njit = nb.njit(nogil=True, cache=True, error_model="numpy")


def tv_chambolle(
    block: np.ndarray,
    *,
    weight: float,
    num_iter: int,
    space: Sequence[int],
    output: np.dtype | type,
    core: Sequence[slice] | None = None,
    mode: str = "",
    cval: float = 0.0,
) -> np.ndarray:
    """Denoise a block along the axes `space` (at most 3), each image of the others by itself.

    Beyond the block there is nothing: no difference is taken across its end.
    """
    core = [slice(0, n) for n in block.shape] if core is None else list(core)
    kind = np.dtype(output)
    over = [a for a in range(block.ndim) if a not in space]
    data = np.transpose(
        np.asarray(block, kind)[tuple(core[a] if a in over else slice(None) for a in range(block.ndim))],
        [*over, *space],
    )
    parts = [core[a] for a in space]
    shape = data.shape[len(over) :]
    images = np.ascontiguousarray(data).reshape(-1, *(1,) * (3 - len(space)), *shape)
    low = np.array([0] * (3 - len(space)) + [p.start for p in parts])
    high = np.array([1] * (3 - len(space)) + [p.stop for p in parts])
    out = np.empty((len(images), *(high - low)), kind)
    tau = 1.0 / (2.0 * len(space))
    for image, result in zip(images, out):
        _tv(image, low, high, num_iter, kind.type(tau), kind.type(tau / weight), kind.type(1), result)
    out = out.reshape(*(data.shape[: len(over)]), *(p.stop - p.start for p in parts))
    return np.ascontiguousarray(np.transpose(out, np.argsort([*over, *space])))


@_njit
def _minus_sum(out, p0, p1, p2):
    for x in range(out.size):
        out[x] = -(p0[x] + p1[x] + p2[x])


@_njit
def _add(out, a):
    for x in range(out.size):
        out[x] += a[x]


@_njit
def _sum(out, a, b):
    for x in range(out.size):
        out[x] = a[x] + b[x]


@_njit
def _difference(out, a, b):
    for x in range(out.size):
        out[x] = a[x] - b[x]


@_njit
def _norm(out, g0, g1, g2, share, one):
    for x in range(out.size):
        out[x] = np.sqrt(g0[x] * g0[x] + g1[x] * g1[x] + g2[x] * g2[x]) * share + one


@_njit
def _step(p, g, norm, tau):
    for x in range(p.size):
        p[x] = (p[x] - tau * g[x]) / norm[x]


@_njit
def _plane(image, p, z, low, high, first, work, out):
    """Plane z of the image less the divergence, rows and columns from low to high.

    Short loops over few rows each: they vectorise.
    """
    a, b = low[2], high[2]
    d = work[0, : b - a]
    for y in range(low[1], high[1]):
        if first:
            out[y, a:b] = image[z, y, a:b]
            continue
        _minus_sum(d, p[0, z, y, a:b], p[1, z, y, a:b], p[2, z, y, a:b])
        if z > 0:
            _add(d, p[0, z - 1, y, a:b])
        if y > 0:
            _add(d, p[1, z, y - 1, a:b])
        if a > 0:
            _add(d, p[2, z, y, a - 1 : b - 1])
        else:
            _add(d[1:], p[2, z, y, : b - 1])
        _sum(out[y, a:b], image[z, y, a:b], d)


@_njit
def _update(p, z, low, high, here, there, tau, share, one, work, inside):
    """Plane z of p, from the plane of the image there and the one after it; `inside` says whether there is one."""
    ny, nx = here.shape
    a, b = low[2], high[2]
    stop = min(b, nx - 1)
    g0, g1, g2, norm = work[0, : b - a], work[1, : b - a], work[2, : b - a], work[3, : b - a]
    for y in range(low[1], high[1]):
        row = here[y, a:b]
        if inside:
            _difference(g0, there[y, a:b], row)
        else:
            g0[:] = 0
        if y + 1 < ny:
            _difference(g1, here[y + 1, a:b], row)
        else:
            g1[:] = 0
        g2[:] = 0
        _difference(g2[: stop - a], here[y, a + 1 : stop + 1], row[: stop - a])
        _norm(norm, g0, g1, g2, share, one)
        _step(p[0, z, y, a:b], g0, norm, tau)
        _step(p[1, z, y, a:b], g1, norm, tau)
        _step(p[2, z, y, a:b], g2, norm, tau)


@_njit
def _tv(image, low, high, num_iter, tau, share, one, result):
    shape = np.array(image.shape)
    p = np.zeros((3, *image.shape), image.dtype)
    here = np.zeros(image.shape[1:], image.dtype)
    there = np.zeros(image.shape[1:], image.dtype)
    work = np.empty((4, image.shape[2]), image.dtype)
    for i in range(num_iter - 1):
        left = num_iter - 1 - i
        a = np.maximum(low - left, 0)
        b = np.minimum(high + left, shape)  # the image is needed here,
        d = np.minimum(high + left - 1, shape)  # and p from a to d: also one voxel before what the next image needs
        _plane(image, p, a[0], a, b, i == 0, work, here)
        for z in range(a[0], d[0]):
            inside = z + 1 < b[0]
            if inside:
                _plane(image, p, z + 1, a, b, i == 0, work, there)
            _update(p, z, a, d, here, there, tau, share, one, work, inside)
            here, there = there, here
    for z in range(low[0], high[0]):
        _plane(image, p, z, low, high, num_iter == 1, work, here)
        result[z - low[0]] = here[low[1] : high[1], low[2] : high[2]]
