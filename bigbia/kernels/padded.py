"""A block with a margin, as one line of voxels: where its own voxels and their neighbours are."""

from __future__ import annotations

from itertools import product

import numpy as np


def steps(shape: tuple[int, ...], connectivity: int) -> np.ndarray:
    """From a voxel to its neighbours in a block of a shape, margin included; in raster order."""
    offsets = [o for o in product((-1, 0, 1), repeat=len(shape)) if 0 < sum(map(abs, o)) <= connectivity]
    return np.array([int(np.dot(_strides(shape), o)) for o in offsets], np.int64)


def first_voxels(shape: tuple[int, ...], margin: int = 1) -> np.ndarray:
    """Where each line of the block's own voxels begins in a block of a shape, margin included."""
    strides = _strides(shape)
    at = np.full(1, margin * strides[-1], np.int64)
    for n, stride in zip(shape[:-1], strides[:-1]):
        at = (at[:, None] + stride * np.arange(margin, n - margin)).reshape(-1)
    return at


def inner(ndim: int, margin: int = 1) -> tuple[slice, ...]:
    """The block without its margin."""
    return (slice(margin, -margin),) * ndim if margin else (slice(None),) * ndim


def shell(shape: tuple[int, ...], margin: int, thick: int = 1) -> np.ndarray:
    """The voxels of the layers from `margin` on, ascending; `margin` 0: the outermost."""
    mask = np.zeros(shape, bool)
    mask[inner(len(shape), margin)] = True
    mask[inner(len(shape), margin + thick)] = False
    return np.flatnonzero(mask)


def _strides(shape: tuple[int, ...]) -> np.ndarray:
    return np.array([int(np.prod(shape[a + 1 :])) for a in range(len(shape))], np.int64)
