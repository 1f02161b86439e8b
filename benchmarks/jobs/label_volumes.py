"""Volumes to label that are formulas, of any size: noise, and the worst that can be thought of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bigbia.io.synthetic import Checkerboard, Percolation, Shells, Spiral


@dataclass(frozen=True)
class Rods:
    """Rods along one axis, at every second position of the others."""

    shape: tuple[int, ...]
    axis: int

    dtype = np.dtype(bool)

    @property
    def chunks(self) -> tuple[int, ...]:
        return tuple(min(64, n) for n in self.shape)

    @property
    def token(self) -> str:
        return f"rods-{self.shape}-{self.axis}"

    def count(self) -> int:
        return int(np.prod([-(-n // 2) for a, n in enumerate(self.shape) if a != self.axis], dtype=np.int64))

    def read(self, box: Sequence[tuple[int, int]]) -> np.ndarray:
        out = np.ones([b - a for a, b in box], bool)
        for axis, (start, stop) in enumerate(box):
            if axis != self.axis:
                even = np.arange(start, stop) % 2 == 0
                out &= even.reshape([-1 if a == axis else 1 for a in range(len(box))])
        return out


@dataclass(frozen=True)
class Volume:
    """A source, the connectivity it is labelled with, and how many objects there are, where that is known."""

    source: Any
    connectivity: int
    objects: int | None = None


def checkerboard(shape: tuple[int, ...], connectivity: int) -> Volume:
    source = Checkerboard(shape)
    return Volume(source, connectivity, source.count(connectivity))


def counted(source: Any, connectivity: int) -> Volume:
    return Volume(source, connectivity, source.count())


VOLUMES: dict[str, Callable[[tuple[int, ...]], Volume]] = {
    "percolation": lambda shape: Volume(Percolation(shape, p=0.3116), 1),
    "noise": lambda shape: Volume(Percolation(shape, p=0.8), 3),
    "spiral": lambda shape: counted(Spiral(shape), 1),
    "shells": lambda shape: counted(Shells(shape), 3),
    "checkerboard-6": lambda shape: checkerboard(shape, 1),
    "checkerboard-26": lambda shape: checkerboard(shape, 3),
    "rods-last": lambda shape: counted(Rods(shape, 2), 3),
    "rods-first": lambda shape: counted(Rods(shape, 0), 3),
}
