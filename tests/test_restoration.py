"""Restoration beyond the contract: against scikit-image over random shapes, cells, halos, bad input."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage import restoration as reference
from strategies import random_cuts
from test_contract import check_refused

import bigbia
from bigbia import restoration
from bigbia.graph import cells
from bigbia.hyperstack import hyperstack


def cut(rng, array):
    return da.from_array(array, chunks=tuple(random_cuts(rng, n) for n in array.shape))


# ---- deconvolution ---------------------------------------------------------------------------------------------------
@pytest.fixture
def small_cells(monkeypatch):
    monkeypatch.setattr(cells, "VOXELS", 4000)


def blurred(rng, shape, sigma=1.0):
    image = np.zeros(shape)
    image.reshape(-1)[rng.integers(0, image.size, 6)] = 1000
    return rng.poisson(ndi.gaussian_filter(image, sigma) + 5).astype(np.uint16)


def spot(ndim, sigma=1.0, radius=2):
    line = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    psf = line
    for _ in range(ndim - 1):
        psf = np.multiply.outer(psf, line)
    return psf / psf.sum()


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_richardson_lucy_is_scikit_images(ndim, small_cells):
    rng = np.random.default_rng(ndim)
    for _ in range(4):
        shape = tuple(map(int, rng.integers(1, {1: 300, 2: 60, 3: 25}[ndim], ndim)))
        array = blurred(rng, shape)
        psf = rng.random(tuple(map(int, rng.integers(1, 6, ndim))))
        steps = int(rng.integers(1, 4))
        expected = reference.richardson_lucy(array.astype(float), psf, steps, clip=False)
        got = restoration.richardson_lucy(cut(rng, array), psf, steps)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * expected.max())
        np.testing.assert_array_equal(got, restoration.richardson_lucy(array, psf, steps))


def test_a_depth_of_twice_the_psf_is_near(small_cells):
    rng = np.random.default_rng(0)
    array = blurred(rng, (80, 90))
    psf = spot(2)
    exact = reference.richardson_lucy(array.astype(float), psf, 10, clip=False)
    grid = cells.cell_shape(array.shape, (10, 10), (0, 1))
    assert grid != array.shape
    errors = []
    for depth in (2, 5, 10):
        got = restoration.richardson_lucy(array, psf, 10, depth=depth)
        errors.append(np.abs(got - exact).max() / exact.max())
        np.testing.assert_array_equal(restoration.richardson_lucy(cut(rng, array), psf, 10, depth=depth), got)
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-4


def test_epsilon_and_clip_are_scikit_images():
    rng = np.random.default_rng(1)
    array = blurred(rng, (30, 20)).astype(np.float64) / 100
    psf = spot(2)
    expected = reference.richardson_lucy(array, psf, 5, filter_epsilon=0.08)
    got = restoration.richardson_lucy(array, psf, 5, clip=True, filter_epsilon=0.08)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_cells_are_computed_once_and_follow_the_image_alone(small_cells):
    image = np.zeros((60, 60), np.float32)
    psf = spot(2)
    plans = []
    for chunks in (60, 30, 7):
        lazy = restoration.richardson_lucy(da.from_array(image, chunks=chunks), psf, 3)
        plans.append(bigbia.explain(lazy).lines[0])
    assert len({(line.blocks, line.block) for line in plans}) == 1
    assert cells.cell_shape((100, 1000), (3, 3), (1,))[0] == 1
    assert cells.cell_shape((5, 1000), (40, 40), (0, 1)) == (5, 500)


def test_psf_by_voxels_of_a_hyperstack(small_cells):
    rng = np.random.default_rng(2)
    array = np.stack([[blurred(rng, (12, 30, 20)) for _ in range(2)]])
    stack = hyperstack(da.from_array(array, chunks=(1, 1, 5, 11, 20)), "tczyx", voxel_size="1, 0.5, 0.5 um")
    psf = spot(3)
    got = restoration.richardson_lucy(stack, psf, 2, depth="3 um")
    alone = restoration.richardson_lucy(array[0, 1], psf, 2, depth=(3, 6, 6))
    np.testing.assert_array_equal(got[0, 1], alone)
    assert got.dims == stack.dims


# ---- total variation -------------------------------------------------------------------------------------------------
def test_tv_is_scikit_images_to_the_bit():
    rng = np.random.default_rng(3)
    for _ in range(20):
        ndim = int(rng.integers(1, 4))
        shape = tuple(map(int, rng.integers(1, {1: 60, 2: 20, 3: 10}[ndim], ndim)))
        array = (rng.random(shape) * 100).astype(rng.choice(["u1", "i2", "f4", "f8"]))
        given = {"weight": float(rng.choice([0.1, 5, 50])), "max_num_iter": int(rng.integers(1, 9))}
        kind = np.float64 if array.dtype == np.float64 else np.float32
        expected = reference.denoise_tv_chambolle(array.astype(kind), eps=0, **given)
        np.testing.assert_array_equal(restoration.denoise_tv_chambolle(array, **given), expected)
        np.testing.assert_array_equal(restoration.denoise_tv_chambolle(cut(rng, array), **given), expected)


def test_tv_treats_images_apart():
    array = np.random.default_rng(4).random((2, 12, 3, 14)).astype(np.float32)
    stack = hyperstack(da.from_array(array, chunks=(1, 5, 2, 6)), "tycx")
    got = restoration.denoise_tv_chambolle(stack, 0.2, max_num_iter=6)
    for t in range(2):
        for c in range(3):
            alone = restoration.denoise_tv_chambolle(array[t, :, c], 0.2, max_num_iter=6)
            np.testing.assert_array_equal(got[t, :, c], alone)


# ---- averages --------------------------------------------------------------------------------------------------------
def non_local(a, patch, distance, h, sigma):
    """The definition, voxel by voxel."""
    r = patch // 2
    x = np.arange(-r, r + 1)
    line = np.exp(-(x**2) / (2 * ((patch - 1) / 4) ** 2))
    taps = line / line.sum()
    for _ in range(a.ndim - 1):
        taps = np.multiply.outer(taps, line / line.sum())
    padded = np.pad(a.astype(float), r, mode="reflect")
    patches = np.lib.stride_tricks.sliding_window_view(padded, (patch,) * a.ndim)
    out = np.empty(a.shape)
    for i in np.ndindex(a.shape):
        around = tuple(slice(max(0, k - distance), k + distance + 1) for k in i)
        d = (taps * ((patches[around] - patches[i]) ** 2 - 2 * sigma**2)).sum(tuple(range(-a.ndim, 0))) / h**2
        w = np.where(d <= 5, np.exp(-np.maximum(d, 0)), 0)
        out[i] = (w * a[around]).sum() / w.sum()
    return out


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_nl_means_is_its_definition_and_near_scikit_images(ndim):
    rng = np.random.default_rng(5 + ndim)
    for _ in range(4):
        shape = tuple(map(int, rng.integers(4, {1: 40, 2: 14, 3: 8}[ndim], ndim)))
        array = 100 + 50 * np.indices(shape).sum(0) % 3 + rng.normal(0, 10, shape)
        patch, distance, sigma = int(rng.choice([3, 5])), int(rng.integers(0, 5)), float(rng.choice([0, 8]))
        expected = non_local(array, patch, distance, 15.0, sigma)
        got = restoration.denoise_nl_means(array, patch, distance, 15.0, sigma)
        np.testing.assert_allclose(got, expected, rtol=1e-9)
        lazy = restoration.denoise_nl_means(cut(rng, array), patch, distance, 15.0, sigma)
        np.testing.assert_array_equal(lazy, got)
        if ndim > 1:
            given = {"fast_mode": False, "preserve_range": True, "sigma": sigma}
            theirs = reference.denoise_nl_means(array, patch, distance, 15.0, **given)
            assert np.abs(got - theirs).max() <= 0.05 * np.abs(array - theirs).max() + 1e-9


def test_tiles_of_nl_means_do_not_show():
    array = np.random.default_rng(9).random((3, 40, 600)).astype(np.float32)
    got = restoration.denoise_nl_means(array, 3, 1, 0.3)
    crop = restoration.denoise_nl_means(array[:, 3:, 7:], 3, 1, 0.3)
    np.testing.assert_array_equal(got[:, 5:, 9:], crop[:, 2:, 2:])


def test_bilateral_by_lengths_and_along_space_alone():
    array = np.random.default_rng(10).integers(0, 99, (2, 5, 12, 14)).astype(np.uint8)
    stack = hyperstack(da.from_array(array, chunks=(1, 3, 5, 6)), "tzyx", voxel_size="2, 0.5, 0.5 um")
    got = restoration.denoise_bilateral(stack, sigma_color=20, sigma_spatial="0.5 um", mode="reflect")
    alone = restoration.denoise_bilateral(
        array[1], (5, 7, 7), sigma_color=20, sigma_spatial=(0.25, 1, 1), mode="reflect"
    )
    np.testing.assert_array_equal(got[1], alone)


REFUSED = [
    (lambda a: restoration.denoise_bilateral(a), "sigma_color=None"),
    (lambda a: restoration.denoise_bilateral(a, 4, 1.0), "win_size=4"),
    (lambda a: restoration.denoise_bilateral(a, sigma_color=0), "sigma_color=0"),
    (lambda a: restoration.denoise_bilateral(a, sigma_color=1, mode="nearest"), "mode='nearest'"),
    (lambda a: restoration.denoise_nl_means(a, 0), "patch_size=0"),
    (lambda a: restoration.denoise_nl_means(a, 3, -1), "patch_distance=-1"),
    (lambda a: restoration.denoise_nl_means(a, h=0), "h=0"),
    (lambda a: restoration.denoise_nl_means(a, sigma=-1), "sigma=-1"),
    (lambda a: restoration.richardson_lucy(a, np.ones((3, 3))), "2 axes"),
    (lambda a: restoration.richardson_lucy(a, np.zeros((0, 3, 3))), "empty"),
    (lambda a: restoration.richardson_lucy(a, np.full((3, 3, 3), np.nan)), "not finite"),
    (lambda a: restoration.richardson_lucy(a, "gauss"), "not an array"),
    (lambda a: restoration.richardson_lucy(a, np.ones((3, 3, 3)), 0), "num_iter=0"),
    (lambda a: restoration.richardson_lucy(a, np.ones((3, 3, 3)), depth=-1), "negative"),
    (lambda a: restoration.richardson_lucy(a, np.ones((3, 3, 3)), filter_epsilon=-1), "filter_epsilon=-1"),
    (lambda a: restoration.denoise_tv_chambolle(a, 0), "weight=0"),
    (lambda a: restoration.denoise_tv_chambolle(a, max_num_iter=1.5), "max_num_iter=1.5"),
]


@pytest.mark.parametrize("call", REFUSED, ids=[said for _, said in REFUSED])
def test_bad_input_is_refused_before_anything_is_read(call):
    check_refused(call, np.zeros((4, 5, 6), np.uint8))


def test_exact_deconvolution_of_a_large_image_names_the_way_out():
    image = da.zeros((2000, 2000, 2000), chunks=500, dtype=np.uint16)
    with pytest.raises(bigbia.errors.ParameterError, match="depth=30"):
        restoration.richardson_lucy(image, np.ones((15, 15, 15)))
    assert restoration.richardson_lucy(image, np.ones((15, 15, 15)), depth=30).shape == image.shape


def test_four_axes_of_space_are_refused():
    with pytest.raises(bigbia.errors.InputError, match="4 spatial axes"):
        restoration.denoise_tv_chambolle(np.zeros((3, 3, 3, 3)))
    with pytest.raises(bigbia.errors.InputError, match="4 spatial axes"):
        restoration.denoise_nl_means(np.zeros((3, 3, 3, 3)))


@pytest.mark.parametrize("dtype", ["u2", "f2", "f8"])
def test_bytes_in_the_other_order(dtype):
    array = np.random.default_rng(5).integers(0, 90, (7, 9)).astype(dtype)
    turned = array.astype(array.dtype.newbyteorder())
    for call in (
        lambda a: restoration.rolling_ball(a, 3),
        lambda a: restoration.subtract_background(a, 2),
        lambda a: restoration.denoise_bilateral(a, 3, 20),
        lambda a: restoration.denoise_tv_chambolle(a, 5, max_num_iter=3),
        lambda a: restoration.richardson_lucy(a, np.ones((3, 3)) / 9, 2),
    ):
        expected = call(array)
        for other in (turned, da.from_array(turned, chunks=4)):
            got = call(other)
            assert got.dtype == expected.dtype
            np.testing.assert_array_equal(np.asarray(got), expected)
