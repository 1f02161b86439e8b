"""Derivatives by differences, and eigenvalues of the symmetric matrices they make at every voxel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Any

import numba as nb
import numpy as np

from bigbia.kernels.lines import separable

_njit = nb.njit(nogil=True, cache=True, error_model="numpy")


def sobel_along(
    block: np.ndarray,
    *,
    axis: int,
    axes: Sequence[int],
    mode: str,
    cval: float = 0.0,
    output: np.dtype | type,
    core: Sequence[slice] | None = None,
) -> np.ndarray:
    """Bit for bit `scipy.ndimage.sobel`: the difference along one axis first, then smoothed along the others."""
    core = [slice(0, n) for n in block.shape] if core is None else list(core)
    wide = [
        slice(max(0, part.start - 1), min(n, part.stop + 1)) if a != axis else part
        for a, (part, n) in enumerate(zip(core, block.shape))
    ]
    inner = [slice(c.start - w.start, c.stop - w.start) for c, w in zip(core, wide)]
    edge, smooth = np.array([-1.0, 0.0, 1.0]), np.array([1.0, 2.0, 1.0])
    common: dict[str, Any] = {"mode": mode, "cval": cval, "output": output}
    first = separable(block, [edge if a == axis else None for a in range(block.ndim)], core=wide, **common)
    taps = [smooth if a in axes and a != axis else None for a in range(block.ndim)]
    return separable(first, taps, core=inner, **common)


def gradient(x: np.ndarray, axis: int) -> np.ndarray:
    """Half the difference of the two neighbours, as `numpy.gradient`; at the ends that to the one neighbour."""
    n = x.shape[axis]
    out = np.zeros(x.shape, x.dtype)
    if n == 1:
        return out

    def at(a: int | None, b: int | None = None) -> tuple:
        return (slice(None),) * axis + (slice(a, b),)

    np.subtract(x[at(2)], x[at(None, -2)], out[at(1, -1)])
    out[at(1, -1)] /= 2
    np.subtract(x[at(1, 2)], x[at(0, 1)], out[at(0, 1)])
    np.subtract(x[at(n - 1)], x[at(n - 2, n - 1)], out[at(n - 1)])
    return out


def second_differences(x: np.ndarray, axes: Sequence[int], core: Sequence[slice] | None = None) -> list[np.ndarray]:
    """The upper diagonal of the Hessian by differences of differences; needs two voxels around the core."""
    core = [slice(0, n) for n in x.shape] if core is None else core
    firsts = [gradient(x, a) for a in axes]
    return [gradient(firsts[i], axes[j])[tuple(core)] for i, j in combinations_with_replacement(range(len(axes)), 2)]


def eigenvalues(elements: Sequence[np.ndarray]) -> np.ndarray:
    """Of the symmetric matrices with this upper diagonal, row by row; largest first, along a new first axis.

    Two rows: scikit-image's formula, operation by operation. Three: by the angle of the characteristic polynomial
    (Smith, Comm. ACM 4:168, 1961), in double precision. More: LAPACK.
    """
    first = elements[0]
    n = (math.isqrt(8 * len(elements) + 1) - 1) // 2
    out = np.empty((n, *first.shape), first.dtype)
    if n == 1:
        out[0] = first
    elif n == 2:
        a, b, d = elements
        half = (a - d) / 2
        root = np.sqrt(b**2 + half**2)
        np.add(a, d, out[0])
        out[0] /= 2
        np.subtract(out[0], root, out[1])
        out[0] += root
    elif n == 3:
        flat = [np.ascontiguousarray(e).reshape(-1).view() for e in elements]
        for e in flat:
            e.flags.writeable = False  # one compiled version for data that may and may not be written
        _eigenvalues_3(flat[0], flat[1], flat[2], flat[3], flat[4], flat[5], out.reshape(3, -1))
    else:
        matrices = np.empty((*first.shape, n, n), first.dtype)
        for e, (i, j) in zip(elements, combinations_with_replacement(range(n), 2)):
            matrices[..., i, j] = matrices[..., j, i] = e
        out[:] = np.moveaxis(np.linalg.eigvalsh(matrices)[..., ::-1], -1, 0)
    return out


@_njit
def _eigenvalues_3(a00, a01, a02, a11, a12, a22, out):
    for i in range(a00.size):
        x, y, z = np.float64(a00[i]), np.float64(a11[i]), np.float64(a22[i])
        u, v, w = np.float64(a01[i]), np.float64(a02[i]), np.float64(a12[i])
        off = u * u + v * v + w * w
        mean = (x + y + z) / 3.0
        x, y, z = x - mean, y - mean, z - mean
        p = math.sqrt((x * x + y * y + z * z + 2.0 * off) / 6.0)
        if not p > 0.0:  # one eigenvalue, three times; or NaN
            out[0, i] = mean + p
            out[1, i] = mean + p
            out[2, i] = mean + p
            continue
        x, y, z, u, v, w = x / p, y / p, z / p, u / p, v / p, w / p
        r = (x * (y * z - w * w) - u * (u * z - w * v) + v * (u * w - y * v)) / 2.0
        angle = math.acos(min(1.0, max(-1.0, r))) / 3.0
        c, s = math.cos(angle), math.sin(angle)
        high = 2.0 * p * c
        low = -p * (c + math.sqrt(3.0) * s)
        out[0, i] = mean + high
        out[1, i] = mean - high - low
        out[2, i] = mean + low
