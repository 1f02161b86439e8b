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
    return starts(shape, tuple(slice(margin, n - margin) for n in shape))


def starts(shape: tuple[int, ...], part: tuple[slice, ...]) -> np.ndarray:
    """Where each line of a part of a block of a shape begins."""
    at = np.full(1, part[-1].start, np.int64)
    for along, stride in zip(part[:-1], _strides(shape)[:-1]):
        at = (at[:, None] + stride * np.arange(along.start, along.stop)).reshape(-1)
    return at


def inner(ndim: int, margin: int = 1) -> tuple[slice, ...]:
    """The block without its margin."""
    return (slice(margin, -margin),) * ndim if margin else (slice(None),) * ndim


def shell(shape: tuple[int, ...], layer: int) -> np.ndarray:
    """The voxels of a layer, ascending; 0: the outermost."""
    mask = np.zeros(shape, bool)
    mask[inner(len(shape), layer)] = True
    mask[inner(len(shape), layer + 1)] = False
    return np.flatnonzero(mask)


def _strides(shape: tuple[int, ...]) -> np.ndarray:
    return np.array([int(np.prod(shape[a + 1 :])) for a in range(len(shape))], np.int64)
