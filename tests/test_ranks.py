"""Minimum, maximum, median, percentile and the rolling ball against SciPy and scikit-image: shapes, footprints, parts."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from cases_ranks import around
from scipy import ndimage as ndi
from skimage import restoration
from test_contract import Array, check_refused

import bigbia
from bigbia.graph.dask import from_source
from bigbia.hyperstack import hyperstack
from bigbia.kernels import medians, ranks
from bigbia.kernels.extremes import extreme
from bigbia.kernels.medians import network, ranked
from bigbia.kernels.ranks import key_of, keys, values
from bigbia.kernels.rolling import ball, rolled

DTYPES = ("bool", "u1", "i1", "u2", "i2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">u2", ">f4")
MODES = ("nearest", "reflect", "mirror", "constant", "wrap")


def voxels(rng, shape, dtype, high=120):
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) > 0.5
    return (rng.normal(0, 100, shape) if dtype.kind == "f" else rng.integers(0, high, shape)).astype(dtype)


def drawn(rng, longest=(0, 200, 20, 9, 5)):
    """An image, a footprint, a mode and a part of the image."""
    ndim = int(rng.integers(1, 5))
    shape = tuple(rng.integers(1, longest[ndim], ndim))
    sides = tuple(rng.integers(1, (0, 14, 8, 6, 4)[ndim], ndim))
    footprint = np.ones(sides, bool) if rng.random() < 0.4 else rng.random(sides) < rng.choice([0.3, 0.8])
    footprint.flat[0] |= not footprint.any()
    starts = [int(rng.integers(0, n)) for n in shape]
    core = tuple(slice(a, int(rng.integers(a + 1, n + 1))) for a, n in zip(starts, shape))
    return voxels(rng, shape, rng.choice(DTYPES)), footprint, str(rng.choice(MODES)), core


def native(a):
    """What SciPy takes."""
    return a.astype(np.float32 if a.dtype == np.float16 else a.dtype.newbyteorder("="))


@pytest.mark.parametrize("seed", range(6))
def test_extremes_are_scipys(seed):
    rng = np.random.default_rng(seed)
    for _ in range(40):
        a, footprint, mode, core = drawn(rng)
        low = bool(rng.integers(2))
        reference = ndi.minimum_filter if low else ndi.maximum_filter
        expected = reference(native(a), footprint=footprint, mode=mode, cval=7)
        got = extreme(a, steps=[(footprint, low)], mode=mode, cval=7)
        assert got.dtype == a.dtype
        np.testing.assert_array_equal(got, expected)
        got = extreme(a, core=core, steps=[(footprint, low)], mode=mode, cval=7)
        np.testing.assert_array_equal(got, expected[core])


@pytest.mark.parametrize("seed", range(3))
def test_ranks_are_scipys(seed):
    rng = np.random.default_rng(seed)
    for _ in range(20):
        a, footprint, mode, core = drawn(rng)
        rank = int(rng.integers(0, footprint.sum()))
        # with another axis: SciPy 1.17 takes every footprint of a line for a full one
        wide, mask, far = native(a)[None], footprint[None], max(footprint.shape)
        expected = around(lambda p, m=mask, r=rank: ndi.rank_filter(p, r, footprint=m), wide, far, mode, 7)[0]
        got = ranked(a, footprint=footprint, rank=rank, mode=mode, cval=7)
        assert got.dtype == a.dtype
        np.testing.assert_array_equal(got, expected)
        got = ranked(a, core=core, footprint=footprint, rank=rank, mode=mode, cval=7)
        np.testing.assert_array_equal(got, expected[core])


def test_a_histogram_finds_the_same(monkeypatch):
    rng = np.random.default_rng(3)
    for _ in range(60):
        a, footprint, mode, core = drawn(rng)
        rank = int(rng.integers(0, footprint.sum()))
        monkeypatch.setattr(ranks, "_TOGETHER", int(rng.choice([100, 1 << 16])))
        expected = ranked(a, core=core, footprint=footprint, rank=rank, mode=mode, cval=7)
        with monkeypatch.context() as patch:
            patch.setattr(medians, "_most", lambda itemsize: 0)
            got = ranked(a, core=core, footprint=footprint, rank=rank, mode=mode, cval=7)
        assert got.dtype == a.dtype
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(("ndim", "side"), [(1, 501), (2, 15), (2, 25), (3, 7), (3, 9)])
def test_medians_of_large_windows(ndim, side):
    a = np.random.default_rng(0).integers(0, 65536, (side + 3,) * ndim).astype(np.uint16)
    expected = around(lambda p: ndi.median_filter(p, side), a, side, "nearest")
    np.testing.assert_array_equal(bigbia.filters.median(a, side), expected)


def test_a_network_leaves_out_what_no_result_needs():
    program, leaves, slots, _ = network(np.ones(27, bool).tobytes(), (3, 3, 3), 13)
    assert len(leaves) == 9  # rows; the columns of a row are shared by its neighbours
    assert len(program) < 80
    assert slots < 30


def test_keys_sort_as_the_values():
    for dtype in DTYPES:
        kind = np.dtype(dtype)
        if kind.kind == "f":
            a = np.array([-np.inf, -3e4, -1, -1e-7, 0, 1e-7, 2, 3e4, np.inf, np.nan], kind)
        elif kind.kind == "b":
            a = np.array([False, True])
        else:
            ends = np.iinfo(kind)
            a = np.array(sorted({ends.min, ends.min + 1, 0, 1, 5, ends.max - 1, ends.max}), kind)
        k = keys(a)
        assert (np.diff(k.astype(object)) >= 0).all()
        assert len({key_of(v, kind) for v in a.tolist()} - set(k.tolist())) == 0
        np.testing.assert_array_equal(values(k.copy(), kind), a)
    assert keys(np.array([-np.nan, np.nan]))[0] == keys(np.array([np.nan]))[0]
    assert key_of(-5, np.dtype("u1")) == 0
    assert key_of(300.7, np.dtype("u1")) == 255


def test_nan_is_the_greatest():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(9, 11, 13)).astype(np.float32)
    a[rng.random(a.shape) < 0.2] = np.nan
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(a, 1, mode="symmetric"), (3, 3, 3))
    order = np.sort(windows.reshape(*a.shape, 27), axis=-1)
    lazy = from_source(Array(a), 4)
    for got, rank in (
        (bigbia.filters.minimum, 0),
        (bigbia.filters.maximum, 26),
        (lambda i: bigbia.filters.median(i, mode="reflect"), 13),
        (lambda i: bigbia.filters.percentile(i, 90), 24),
    ):
        np.testing.assert_array_equal(got(a), order[..., rank])
        np.testing.assert_array_equal(got(lazy).compute(), order[..., rank])


def test_sides_by_axis_and_by_length():
    a = np.random.default_rng(0).integers(0, 99, (2, 7, 12, 14)).astype(np.uint8)
    stack = hyperstack(a, "czyx", voxel_size={"z": 2, "y": 0.5, "x": 0.25}, unit="um", channels=["a", "b"])
    for c in range(2):
        for got in (bigbia.filters.minimum(stack, "2 um"), bigbia.filters.minimum(stack, (1, 5, 9))):
            np.testing.assert_array_equal(got[c].values, ndi.minimum_filter(a[c], (1, 5, 9)))
        for got in (bigbia.filters.median(stack, "2 um"), bigbia.filters.median(stack, [1, 5, 9])):
            np.testing.assert_array_equal(got[c].values, ndi.median_filter(a[c], (1, 5, 9), mode="nearest"))
        got = bigbia.filters.percentile(stack, 25, footprint=np.ones((3, 2, 1)))
        np.testing.assert_array_equal(got[c].values, ndi.percentile_filter(a[c], 25, (3, 2, 1)))
        got = bigbia.restoration.rolling_ball(stack, "2 um")
        # an ellipsoid of 1, 4 and 8 voxels, as high as it is long along x
        expected = restoration.rolling_ball(a[c], kernel=restoration.ellipsoid_kernel((3, 9, 17), 8))
        np.testing.assert_array_equal(got[c].values, expected)


def test_percentiles_are_scipys():
    a = np.random.default_rng(0).integers(0, 99, (20, 30)).astype(np.int16)
    for percentile in (0, 1, 33.3, 50, 99.9, 100, -1, -100, np.float32(20)):
        got = bigbia.filters.percentile(a, percentile, (4, 5))
        np.testing.assert_array_equal(got, ndi.percentile_filter(a, percentile, (4, 5)))


@pytest.mark.parametrize("seed", range(4))
def test_rolling_ball_is_scikit_images(seed):
    rng = np.random.default_rng(seed)
    for _ in range(25):
        ndim = int(rng.integers(1, 4))
        shape = tuple(rng.integers(1, (0, 60, 16, 8)[ndim], ndim))
        a = voxels(rng, shape, rng.choice(["bool", "u1", "u2", "i2", "i4", "f4", "f8"]), 256)
        a = -a if a.dtype.kind == "i" else a
        if a.dtype.kind == "f" and rng.random() < 0.5:
            a[rng.random(shape) < 0.05] = np.nan
        radius = float(rng.choice([0, 1, 1.5, 3, 3.7, 11]))
        kernel = ball([radius] * ndim, radius)
        np.testing.assert_array_equal(kernel, restoration.ball_kernel(radius, ndim))
        if rng.random() < 0.4:
            kernel = rng.random(rng.integers(1, 6, ndim)) * 50 if rng.random() < 0.5 else ball([2, 3, 1.5][:ndim], 9)
        nansafe = bool(rng.integers(2))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = restoration.rolling_ball(a, kernel=kernel, nansafe=nansafe)
            np.testing.assert_array_equal(rolled(a, kernel=kernel, nansafe=nansafe), expected)
            core = tuple(slice(n // 3, n) for n in shape)
            np.testing.assert_array_equal(rolled(a, core=core, kernel=kernel, nansafe=nansafe), expected[core])


def test_rolling_ball_default_and_kernel():
    a = np.random.default_rng(0).integers(0, 255, (40, 70)).astype(np.uint8)
    expected = restoration.rolling_ball(a)
    np.testing.assert_array_equal(bigbia.restoration.rolling_ball(from_source(Array(a), 30)).compute(), expected)
    kernel = restoration.ellipsoid_kernel((7, 12), 30)
    got = bigbia.restoration.rolling_ball(from_source(Array(a), 9), kernel=kernel, nansafe=True).compute()
    np.testing.assert_array_equal(got, restoration.rolling_ball(a, kernel=kernel))


def test_subtracting_a_background_keeps_the_sign():
    a = np.zeros((9, 9), np.uint8)
    a[4, 4] = 200
    got = bigbia.restoration.subtract_background(a, 1)
    assert got.dtype == np.float32
    assert got.min() < 0 < got.max()
    assert abs(float(got.sum())) < 1e-3


filters, restored = bigbia.filters, bigbia.restoration
REFUSED = {
    "size 0": (lambda a: filters.minimum(a, 0), "filters.minimum: size=0 must be whole numbers"),
    "half a voxel": (lambda a: filters.maximum(a, 2.5), "size=2.5"),
    "three sides": (lambda a: filters.minimum(a, (3, 3, 3)), "3 sides for 2 spatial axes"),
    "a length without voxels": (lambda a: filters.minimum(a, "2 um"), "voxel size"),
    "an unknown mode": (lambda a: filters.minimum(a, mode="nearst"), "did you mean 'nearest'"),
    "a mode of morphology": (lambda a: filters.maximum(a, mode="ignore"), "filters.maximum: mode='ignore'"),
    "another rank": (lambda a: filters.maximum(a, footprint=np.ones(3)), "1 axes (3,), the image 2"),
    "an empty footprint": (lambda a: filters.median(a, np.zeros((3, 3))), "empty"),
    "parts": (lambda a: filters.median(a, [(np.ones((3, 1)), 1), (np.ones((1, 3)), 1)]), "list of parts"),
    "words": (lambda a: filters.median(a, [["a", "b"]]), "list of parts"),
    "side 0": (lambda a: filters.median(a, 0), "footprint=0"),
    "a negative side": (lambda a: filters.median(a, (3, -1)), "footprint=(3, -1)"),
    "a percentile above 100": (lambda a: filters.percentile(a, 101), "percentile=101"),
    "no percentile": (lambda a: filters.percentile(a, np.nan), "percentile=nan"),
    "a constant that is no number": (lambda a: filters.minimum(a, mode="constant", cval="0"), "cval='0'"),
    "a constant that is NaN": (lambda a: filters.median(a, mode="constant", cval=np.nan), "hold no NaN"),
    "a negative radius": (lambda a: restored.rolling_ball(a, -1), "negative"),
    "two radii of three": (lambda a: restored.rolling_ball(a, (1, 2, 3)), "3 numbers for 2"),
    "a kernel of another rank": (lambda a: restored.rolling_ball(a, kernel=np.ones(3)), "kernel has 1 axes"),
    "a kernel without a centre": (lambda a: restored.rolling_ball(a, kernel=np.full((3, 3), np.inf)), "centre"),
    "a kernel with NaN": (lambda a: restored.rolling_ball(a, kernel=[[np.nan, 1]]), "NaN"),
    "a kernel of words": (lambda a: restored.rolling_ball(a, kernel="ball"), "no array of heights"),
    "nansafe": (lambda a: restored.rolling_ball(a, nansafe="no"), "nansafe='no'"),
    "a negative sigma": (lambda a: restored.subtract_background(a, -1), "negative"),
    "truncate": (lambda a: restored.subtract_background(a, 1, truncate=-1), "truncate=-1"),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_refused(call):
    check_refused(call, np.zeros((6, 7), np.uint8))
