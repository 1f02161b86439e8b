"""Morphology with footprints against scikit-image: even and lopsided ones, sequences, modes, and what never wraps."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage import morphology as reference
from test_contract import Array, check_refused

import bigbia
from bigbia.graph.dask import from_source
from bigbia.hyperstack import hyperstack
from bigbia.kernels.extremes import difference

morphology = bigbia.morphology
NAMES = ("erosion", "dilation", "opening", "closing", "white_tophat", "black_tophat")
MODES = ("reflect", "constant", "nearest", "mirror", "max", "min", "ignore")


def expected_of(name, a, footprint, **words):
    """scikit-image's; its top-hats wrap round where an opening is above the image, as it can be at the border."""
    if a.dtype.kind not in "iu" or not name.endswith("tophat"):
        return getattr(reference, name)(a, footprint, **words)
    above, below = a, reference.opening(a, footprint, **words)
    if name == "black_tophat":
        above, below = reference.closing(a, footprint, **words), a
    ends = np.iinfo(a.dtype)
    return np.clip(above.astype(np.int64) - below.astype(np.int64), ends.min, ends.max).astype(a.dtype)


def drawn(rng):
    ndim = int(rng.integers(1, 4))
    shape = tuple(rng.integers(1, (0, 60, 20, 9)[ndim], ndim))
    dtype = rng.choice(["bool", "u1", "u2", "i2", "i4", "f4", "f8"])
    a = rng.random(shape) < 0.6 if dtype == "bool" else rng.integers(0, 200, shape).astype(dtype)
    sides = tuple(rng.integers(1, (0, 9, 6, 5)[ndim], ndim))
    footprint = rng.random(sides) < rng.choice([0.4, 0.8, 1.0])
    footprint.flat[-1] |= not footprint.any()
    return a, footprint


@pytest.mark.parametrize("name", NAMES)
def test_footprints_and_modes_are_scikit_images(name):
    rng = np.random.default_rng(len(name))
    for _ in range(30):
        a, footprint = drawn(rng)
        mode = str(rng.choice(MODES))
        words = {"mode": mode, "cval": int(rng.integers(0, 2 if a.dtype == bool else 200))}
        expected = expected_of(name, a, footprint, **words)
        np.testing.assert_array_equal(getattr(morphology, name)(a, footprint, **words), expected)
        lazy = getattr(morphology, name)(from_source(Array(a), int(rng.integers(1, 9))), footprint, **words)
        np.testing.assert_array_equal(lazy.compute(), expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ["reflect", "ignore", "constant"])
def test_sequences_are_applied_one_after_another(name, mode):
    rng = np.random.default_rng(0)
    a = rng.integers(0, 200, (30, 41)).astype(np.uint16)
    lopsided = np.array([[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 1, 0]], np.uint8)
    for footprint in (
        reference.disk(4, decomposition="sequence"),
        [(np.ones((3, 1)), 2), (lopsided, 1), (np.ones((1, 4)), 1)],
    ):
        expected = expected_of(name, a, footprint, mode=mode)
        np.testing.assert_array_equal(getattr(morphology, name)(a, footprint, mode=mode), expected)
        got = getattr(morphology, name)(da.from_array(a, chunks=(9, 13)), footprint, mode=mode)
        np.testing.assert_array_equal(got.compute(), expected)


def test_sides_by_axis_and_by_length():
    a = np.random.default_rng(0).integers(0, 99, (2, 7, 12, 14)).astype(np.int16)
    stack = hyperstack(a, "tzyx", voxel_size={"z": 2, "y": 0.5, "x": 0.25}, unit="um")
    box = np.ones((1, 5, 9), bool)
    for t in range(2):
        for name in NAMES:
            expected = getattr(reference, name)(a[t], box)
            for footprint in ("2 um", (1, 5, 9), [1, 5, 9], box):
                np.testing.assert_array_equal(getattr(morphology, name)(stack, footprint)[t].values, expected)


def test_a_ball_through_blocks():
    a = np.random.default_rng(0).normal(100, 30, (26, 30, 40)).astype(np.float32)
    ball = reference.ball(4)
    lazy = da.from_array(a, chunks=(10, 16, 23))
    for name in ("erosion", "closing"):
        expected = getattr(reference, name)(a, ball)
        np.testing.assert_array_equal(getattr(morphology, name)(lazy, ball).compute(), expected)


def test_gradient_is_between_dilation_and_erosion():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, footprint = drawn(rng)
        a = a.astype(np.float64) if a.dtype != bool else a
        most, least = reference.dilation(a, footprint), reference.erosion(a, footprint)
        expected = most ^ least if a.dtype == bool else most - least
        np.testing.assert_array_equal(morphology.gradient(a, footprint), expected)
    a = rng.integers(0, 99, (20, 30))
    np.testing.assert_array_equal(morphology.gradient(a, 3), ndi.morphological_gradient(a, 3))


def test_differences_never_wrap_round():
    ends = np.array([-128, 127, 0, -128, -128, 127], np.int8)
    np.testing.assert_array_equal(morphology.gradient(ends, 3), [127, 127, 127, 127, 127, 127])
    np.testing.assert_array_equal(morphology.white_tophat(np.array([-128, 127, -128] * 2, np.int8), 3)[1], 127)
    # beyond the image the greatest: the opening is above the image there
    image = np.array([3, 1, 2, 2, 1, 9], np.uint8)
    assert morphology.white_tophat(image, 3, mode="max").max() <= 9
    rng = np.random.default_rng(0)
    for dtype in ("i1", "i2", "i4", "u1", "u2"):
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        a, b = rng.integers(low, high, (2, 999), dtype, endpoint=True)
        exact = a.astype(np.int64) - b.astype(np.int64)
        np.testing.assert_array_equal(difference(a, b), np.clip(exact, low, high))


def test_a_constant_that_the_dtype_does_not_hold():
    a = np.full((4, 5), 9, np.uint8)
    assert (morphology.erosion(a, 3, mode="constant", cval=-7)[[0, -1]] == 0).all()
    assert (morphology.dilation(a, 3, mode="constant", cval=1e9)[[0, -1]] == 255).all()


REFUSED = {
    "side 0": (lambda a: morphology.erosion(a, 0), "morphology.erosion: footprint=0"),
    "a flag": (lambda a: morphology.erosion(a, True), "footprint=True"),
    "another rank": (lambda a: morphology.dilation(a, np.ones((3, 3, 3))), "3 axes"),
    "three sides": (lambda a: morphology.opening(a, (3, 3, 3)), "3 sides for 2"),
    "an empty footprint": (lambda a: morphology.closing(a, [[0, 0], [0, 0]]), "empty"),
    "an empty part": (lambda a: morphology.closing(a, [(np.zeros((3, 3)), 1)]), "empty"),
    "a part of no times": (lambda a: morphology.closing(a, [(np.ones((3, 3)), 0)]), "0 times"),
    "an unknown mode": (lambda a: morphology.gradient(a, mode="ignored"), "did you mean 'ignore'"),
    "a length without voxels": (lambda a: morphology.black_tophat(a, "1 um"), "voxel size"),
    "ragged": (lambda a: morphology.white_tophat(a, [[1, 1], [1]]), "list of parts"),
    "NaN beyond integers": (lambda a: morphology.erosion(a, mode="constant", cval=np.nan), "NaN"),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_refused(call):
    check_refused(call, np.zeros((6, 7), np.uint8))
