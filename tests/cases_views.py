"""Cases of tests/cases.py: views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from case import ANY, Case

import bigbia
from bigbia import arrange


@dataclass(frozen=True)
class OfSeveral(Case):
    """Takes a list of images: the image twice, the second time with all its values halved or inverted."""

    def __call__(self, image: Any) -> Any:
        return self.function([image, other(image)], **self.params)


@dataclass(frozen=True)
class Joined(OfSeveral):
    """The second image begins where the first ends; here both get back a coordinate without a place."""

    def __call__(self, image: Any) -> Any:
        if not bigbia.hyperstack.is_hyperstack(image):
            return super().__call__(image)
        after = other(image)
        x = image.coords["x"]
        step = x.attrs["voxel_size"]
        after = after.assign_coords(x=("x", x.values + step * image.sizes["x"], x.attrs))
        return self.function([image, after], **self.params)


def other(image: Any) -> Any:
    if image.dtype.kind not in "biuf":
        return image
    return ~image if image.dtype == bool else image // 2


def _stack(a: np.ndarray, **params: Any) -> np.ndarray:
    return np.stack([a, other(a)])


def _concat(a: np.ndarray, axis: str) -> np.ndarray:
    return np.concatenate([a, other(a)], axis=-1)


CASES = {
    "select": Case(arrange.select, {"x": 0}, lambda a, x: a[..., 0], ANY, dims=(1, 3)),
    "select-run": Case(arrange.select, {"x": "0:1"}, lambda a, x: a[..., :1], ANY, dims=(1, 3)),
    "stack": OfSeveral(arrange.stack, {"axis": "z"}, _stack, ANY, tasks=2.0, dims=(1, 3)),
    "concat": Joined(arrange.concat, {"axis": "x"}, _concat, ANY, tasks=2.0, dims=(1, 3)),
}
