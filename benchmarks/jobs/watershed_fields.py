"""Small images to flood, as NumPy arrays: noise, few grey levels, none at all, and balls by their distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage as ndi
from skimage.feature import peak_local_max

ONE_IN = 4000  # voxels, for each marker at random


@dataclass(frozen=True)
class Field:
    image: np.ndarray
    markers: np.ndarray
    mask: np.ndarray | None = None


def fields(size: int, seed: int = 0) -> dict[str, Field]:
    rng = np.random.default_rng(seed)
    shape = (size,) * 3
    smooth, rough = noise(rng, shape, 3), noise(rng, shape, 1)
    random = scattered(rng, shape)
    bytes_ = np.clip(128 + 40 * smooth / smooth.std(), 0, 255).astype(np.uint8)
    inside = balls(rng, shape)
    depth = ndi.distance_transform_edt(inside).astype(np.float32)
    tops = inside & (depth > 0.7 * ndi.maximum_filter(depth, 9))
    return {
        "smooth float noise, minima": Field(smooth, peaks(-smooth, 6)),
        "rough float noise, random markers": Field(rough, random),
        "smooth uint8, minima": Field(bytes_, peaks(255 - bytes_, 6)),
        "8 grey levels, random markers": Field(bytes_ // np.uint8(32), random),
        "constant, random markers": Field(np.zeros(shape, np.uint8), random),
        "minus distance, peaks": Field(-depth, peaks(depth, 4), inside),
        "minus distance, regions": Field(-depth, ndi.label(tops)[0].astype(np.int32), inside),
    }


def noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    return ndi.gaussian_filter(rng.standard_normal(shape), sigma, output=np.float32)


def scattered(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    count = max(2, int(np.prod(shape)) // ONE_IN)
    return numbered(np.argwhere(np.ones(shape, bool))[rng.choice(int(np.prod(shape)), count, replace=False)], shape)


def peaks(image: np.ndarray, min_distance: int) -> np.ndarray:
    return numbered(peak_local_max(image, min_distance=min_distance, exclude_border=False), image.shape)


def numbered(places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    markers = np.zeros(shape, np.int32)
    markers[tuple(places.T)] = np.arange(1, len(places) + 1)
    return markers


def balls(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Balls of 5 to 12 % of the length, one for 6000 voxels; many overlap."""
    inside = np.zeros(shape, bool)
    for _ in range(max(12, inside.size // 6000)):
        centre, radius = rng.uniform(0, shape), shape[0] * rng.uniform(0.05, 0.12)
        box = tuple(slice(max(0, int(c - radius)), int(c + radius) + 2) for c in centre)
        away: Any = np.ogrid[tuple(slice(s.start, min(s.stop, n)) for s, n in zip(box, shape))]
        inside[box] |= sum((g - c) ** 2 for g, c in zip(away, centre)) < radius**2
    return inside
