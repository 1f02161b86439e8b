"""Shapes, chunkings and images for the property tests: the ones that break things."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

KINDS = ("noise", "sparse", "dense", "full", "empty", "checkerboard", "diagonal", "stripes", "corner", "blobs")


@st.composite
def shapes(draw, min_dims=1, max_dims=4):
    ndim = draw(st.integers(min_dims, max_dims))
    longest = {1: 60, 2: 18, 3: 9, 4: 5}[ndim]
    return draw(st.tuples(*[st.integers(1, longest)] * ndim))


@st.composite
def cuts(draw, n):
    """One axis cut into blocks: whole, all ones, primes, or ragged."""
    kind = draw(st.sampled_from(["whole", "ones", "prime", "ragged"]))
    if n == 0 or kind == "whole":
        return (n,)
    if kind == "ones":
        return (1,) * n
    if kind == "prime":
        size = draw(st.sampled_from([2, 3, 5, 7]))
        return (size,) * (n // size) + ((n % size,) if n % size else ())
    places = sorted(draw(st.sets(st.integers(1, n - 1), max_size=4))) if n > 1 else []
    return tuple(np.diff([0, *places, n]).tolist())


@st.composite
def chunkings(draw, shape):
    return tuple(draw(cuts(n)) for n in shape)


def random_cuts(rng, n):
    """The same by a generator of NumPy, for loops over thousands of cases."""
    kind = rng.integers(0, 4)
    if kind == 0:
        return (n,)
    if kind == 1 and n < 30:
        return (1,) * n
    places = sorted(set(rng.integers(1, n, rng.integers(0, 6)).tolist())) if n > 1 else []
    return tuple(np.diff([0, *places, n]).tolist())


def image(kind: str, shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """A deterministic image of a kind."""
    rng = np.random.default_rng(seed)
    index = np.indices(shape).sum(0)
    mask = {
        "noise": lambda: rng.random(shape) < 0.5,
        "sparse": lambda: rng.random(shape) < 0.1,
        "dense": lambda: rng.random(shape) < 0.8,
        "full": lambda: np.ones(shape, bool),
        "empty": lambda: np.zeros(shape, bool),
        "checkerboard": lambda: index % 2 == 0,
        "diagonal": lambda: np.ptp(np.indices(shape), axis=0) == 0,
        "stripes": lambda: np.indices(shape)[-1] % 2 == 0,
        "corner": lambda: index == 0,
        "blobs": lambda: np.sin(index / 2.0) > 0,
    }[kind]()
    if dtype == "bool":
        return mask
    if np.dtype(dtype).kind == "f":
        return np.where(mask, rng.normal(100, 30, shape), 5).astype(dtype)
    high = min(int(np.iinfo(dtype).max), 300)
    return np.where(mask, rng.integers(1, high, shape), 0).astype(dtype)
