"""Two label images voxel by voxel: each pair of labels as one number."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bigbia.graph.lazy import Lazy, is_lazy, lazy

HALF = 32  # bits of a pair for each of its two labels


def alike(s1: Any, s2: Any, what: str) -> tuple[Lazy, Lazy]:
    """Both as lazy images, cut as the first lazy one, with the live arrays and the coordinates of both."""
    first = s1 if is_lazy(s1) else s2
    like = lazy(first, what)
    one, two = (lazy(s, what, like.chunks) for s in (s1, s2))
    template = one.template if one.template is not None else two.template
    live = {**one.live, **two.live}
    return (
        replace(one, template=template, live=live, chunks=like.chunks),
        replace(two, template=template, live=live, chunks=like.chunks),
    )


def paired(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pairs of labels below 2**32, uint64; 0 is background in both."""
    out = a.astype(np.uint64)
    out <<= np.uint64(HALF)
    out |= b.astype(np.uint64, copy=False)
    return out
