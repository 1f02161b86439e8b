"""What a line of tests/cases.py says about an operator.

Case(function, params)      the operator and its arguments
reference                   the same on a NumPy array, by SciPy or scikit-image
close                       how near the reference the result is, as a share of the largest value; 0: equal to the bit
dtypes                      of the images it is tried on
takes                       "image"; "seed", "seed above": a seed image and the image; "labels": a label image and an
                            intensity image; "mask": a mask and an intensity image; "table": a label image and its table;
                            "peaks": an image, whose places at once are made the table that they are lazily
tasks                       most tasks a block of a big image
empty                       whether an image without voxels has a result; else it is refused
by_size                     whether the voxel size of an image always counts
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

import bigbia

ANY = ("bool", "uint8", "uint16", "int16", "int32", "float32", "float64")


@dataclass(frozen=True)
class Case:
    function: Callable
    params: dict[str, Any] = field(default_factory=dict)
    reference: Callable[..., Any] | None = None
    dtypes: tuple[str, ...] = ANY
    takes: str = "image"
    tasks: float = 1.0
    dims: tuple[int, int] = (1, 4)
    empty: bool = False
    by_size: bool = False
    close: float = 0.0

    def __call__(self, image: Any) -> Any:
        if self.takes == "labels":
            return self.function(image, image, **self.params)
        if self.takes.startswith("seed"):
            return self.function(seed_of(image, self.takes), image, **self.params)
        if self.takes == "mask":
            return self.function(image > 20, image, **self.params)
        if self.takes == "peaks":
            return peak_table(self.function(image, **self.params), image)
        if self.takes == "table":
            return self.function(image, bigbia.measure.regionprops_table(image), **self.params)
        return self.function(image, **self.params)


def seed_of(image: Any, where: str) -> Any:
    """A seed image below an image by up to 30, or above it, whatever holds the values."""
    if where == "seed":
        return np.minimum(image, image - np.minimum(image, 30))
    return np.maximum(image, image + np.minimum(30, 255 - image))


def peak_table(found: Any, image: Any) -> Any:
    """Axes and intensity of peaks, also of those that are an array of places."""
    if not isinstance(found, np.ndarray):
        return found.drop(columns="label")
    return pd.DataFrame({f"axis-{a}": at for a, at in enumerate(found.T)} | {"intensity": image[tuple(found.T)]})


def linear(dtype: np.dtype) -> np.dtype:
    return np.dtype("f8") if dtype == np.float64 or (dtype.kind in "iu" and dtype.itemsize >= 4) else np.dtype("f4")
