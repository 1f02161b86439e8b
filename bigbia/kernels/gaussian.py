"""Gaussians of one block and their derivatives, bit for bit those of `scipy.ndimage`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bigbia.kernels.lines import separable
from bigbia.kernels.rows import plain

SMALLEST = 1e-15  # SciPy leaves an axis with a smaller sigma as it is


def radius(sigma: float, truncate: float) -> int:
    """Voxels from the centre of the kernel to its end."""
    return int(truncate * float(sigma) + 0.5)


def weights(sigma: float, truncate: float, order: int = 0) -> np.ndarray | None:
    """SciPy's kernel, as it is laid over a line; None where the axis stays as it is."""
    if sigma <= SMALLEST:
        return None
    r = radius(sigma, truncate)
    if order:
        from scipy import ndimage as ndi

        impulse = np.zeros(2 * r + 1)
        impulse[r] = 1
        return ndi.gaussian_filter1d(impulse, sigma, order=order, truncate=truncate, mode="constant")[::-1]
    x = np.arange(-r, r + 1)
    kernel = np.exp(-0.5 / (sigma * sigma) * x**2)
    return kernel / kernel.sum()


def gaussian(
    block: np.ndarray,
    *,
    sigma: Sequence[float],
    order: Sequence[int] | None = None,
    truncate: float = 4.0,
    mode: str = "nearest",
    cval: float = 0.0,
    output: np.dtype | type = np.float32,
    core: Sequence[slice] | None = None,
) -> np.ndarray:
    """Smooth a block, or derive it `order` times along each axis; with `core`, return only that part of it."""
    order = [0] * block.ndim if order is None else order
    taps = [weights(s, truncate, o) for s, o in zip(sigma, order)]
    return separable(block, taps, mode=mode, cval=cval, output=output, core=core)


def derivatives(
    block: np.ndarray,
    *,
    sigma: Sequence[float],
    axes: Sequence[int],
    order: int,
    truncate: float = 4.0,
    mode: str = "nearest",
    cval: float = 0.0,
    output: np.dtype | type = np.float32,
    core: Sequence[slice] | None = None,
) -> np.ndarray:
    """The second derivatives along the axes added up (`order=2`: the Laplacian), or the length of the first ones."""
    block = plain(block)  # once, and not for every axis
    total: np.ndarray | None = None
    for axis in axes:
        orders = [order if a == axis else 0 for a in range(block.ndim)]
        part = gaussian(
            block, sigma=sigma, order=orders, truncate=truncate, mode=mode, cval=cval, output=output, core=core
        )
        if order == 1:
            np.multiply(part, part, part)
        total = part if total is None else np.add(total, part, total)
    assert total is not None
    return np.sqrt(total, total) if order == 1 else total
