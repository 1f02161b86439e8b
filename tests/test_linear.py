"""Weighted neighbourhoods: against SciPy and scikit-image beyond the contract, lengths, bad input."""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage import filters
from test_contract import check_refused

import bigbia
from bigbia.errors import ParameterError
from bigbia.filters import wide
from bigbia.graph.dask import node_of
from bigbia.graph.reading import consumers_first
from bigbia.graph.stages import Left
from bigbia.hyperstack import hyperstack
from bigbia.kernels.correlate import correlate, edges
from bigbia.kernels.gaussian import derivatives, gaussian
from bigbia.kernels.rows import outside, reach_of, rows_of

MODES = ("nearest", "reflect", "mirror", "constant")


def some(rng, *, longest=12):
    """An image of any shape and dtype, with values that are far apart, a mode, and a part of the image."""
    shape = tuple(int(n) for n in rng.integers(1, longest, rng.integers(1, 5)))
    dtype = rng.choice(["bool", "u1", "u2", "i2", "i4", "i8", "f4", "f8"])
    array = rng.integers(0, 300, shape) if dtype[0] != "f" else rng.normal(0, 1, shape) * 10.0 ** rng.integers(-9, 9)
    core = tuple(slice(*sorted(rng.choice(n + 1, 2, replace=False).tolist())) for n in shape)
    return array.astype(dtype), str(rng.choice(MODES)), core


@pytest.mark.parametrize("seed", range(60))
def test_gaussians_and_their_derivatives_are_scipys(seed):
    rng = np.random.default_rng(seed)
    array, mode, core = some(rng)
    output = rng.choice([np.float32, np.float64])
    sigma = rng.uniform(0.3, 3, array.ndim).tolist()
    order = rng.integers(0, 4, array.ndim).tolist()
    common = {"mode": mode, "cval": 2.5, "output": output}
    expected = ndi.gaussian_filter(array, sigma, order=order, **common)
    np.testing.assert_array_equal(gaussian(array, sigma=sigma, order=order, **common), expected)
    np.testing.assert_array_equal(gaussian(array, sigma=sigma, order=order, core=core, **common), expected[core])
    for n, name in ((1, "gaussian_gradient_magnitude"), (2, "gaussian_laplace")):
        expected = getattr(ndi, name)(array, sigma, **common)
        got = derivatives(array, sigma=sigma, axes=range(array.ndim), order=n, core=core, **common)
        np.testing.assert_array_equal(got, expected[core])


@pytest.mark.parametrize("seed", range(60))
def test_weights_of_any_shape_are_scipys(seed):
    rng = np.random.default_rng(seed)
    array, mode, core = some(rng)
    output = rng.choice([np.float32, np.float64])
    weights = rng.normal(0, 1, rng.integers(1, 7, array.ndim)) * (rng.random() < 0.8)
    common = {"mode": mode, "cval": 2.5, "output": output}
    expected = ndi.correlate(array, weights, **common)
    np.testing.assert_array_equal(correlate(array, weights=weights, core=core, **common), expected[core])
    turned = bigbia.filters.convolve(array.astype("f8"), weights, mode=mode, cval=2.5)
    np.testing.assert_array_equal(turned, ndi.convolve(array.astype("f8"), weights, mode=mode, cval=2.5))


@pytest.mark.parametrize("seed", range(40))
def test_rows_reach_what_the_borders_rule_says(seed):
    rng = np.random.default_rng(seed)
    array, mode, core = some(rng, longest=7)
    footprint = np.ones(rng.integers(1, 9, array.ndim), bool)
    rows = rows_of(array, core, reach_of(footprint), mode, 5)
    places = rows.places(footprint)
    out = rows.empty(array.dtype)
    for i, start in enumerate(rows.starts):
        out[i] = np.min([rows.flat[start + p : start + p + rows.length] for p in places], axis=0)
    expected = ndi.minimum_filter(array, footprint=footprint, mode=mode, cval=np.asarray(5).astype(array.dtype))[core]
    np.testing.assert_array_equal(out.reshape(rows.shape), expected)


@pytest.mark.parametrize("mode", ["nearest", "reflect", "mirror", "wrap"])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_places_beyond_a_line(mode, n):
    names = {"nearest": "edge", "reflect": "symmetric", "mirror": "reflect", "wrap": "wrap"}
    expected = np.pad(np.arange(n), 13, mode=names[mode])
    np.testing.assert_array_equal(outside(np.arange(-13, n + 13), n, mode), expected)


def test_a_part_of_a_long_row():
    """Rows longer than what is summed at a time."""
    array = np.random.default_rng(0).normal(0, 1, (3, 1500)).astype("f4")
    mask = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]]) / 4
    got = edges(array, weights=[mask, mask.T.copy()], share=2, mode="reflect", output=np.float32)
    np.testing.assert_array_equal(got, filters.sobel(array))
    got = correlate(array, weights=mask, mode="reflect", output=np.float32)
    np.testing.assert_array_equal(got, ndi.correlate(array, mask, mode="reflect"))


@pytest.mark.parametrize("axes", ["zyx", "czyx"])
def test_a_wide_gaussian_goes_axis_by_axis(axes, monkeypatch):
    monkeypatch.setattr(wide, "SHORTEST", 9)
    monkeypatch.setattr(wide, "MORE", 1.2)
    monkeypatch.setattr(wide, "VOXELS", 2000)
    shape = (2, 20, 21, 22)[-len(axes) :]
    array = np.random.default_rng(0).integers(0, 999, shape).astype("u2")
    sigma = (3, 2.4, 0, 2.3)[-3:] if len(axes) == 3 else (3, 2.4, 2.3)
    for chunks in (6, 8):
        image = hyperstack(da.from_array(array, chunks=chunks), axes)
        got = bigbia.filters.gaussian(image, sigma, mode="mirror")
        assert any(isinstance(n, Left) for n in consumers_first(node_of(got.data)[0])), "not by way of scratch"
        alone = [array] if len(axes) == 3 else list(array)
        expected = np.stack([ndi.gaussian_filter(a, sigma, mode="mirror", output="f4") for a in alone])
        np.testing.assert_array_equal(got, expected.reshape(shape))
    whole = bigbia.filters.gaussian(hyperstack(da.from_array(array, chunks=-1), axes), sigma)
    assert len(dask.optimize(whole.data)[0].__dask_graph__()) <= 2  # no margins, no scratch


@pytest.fixture
def stack():
    array = np.random.default_rng(0).integers(0, 999, (2, 5, 20, 21)).astype("u2")
    lazy = da.from_array(array, chunks=(1, 3, 8, 21))
    return array, hyperstack(lazy, "czyx", voxel_size={"z": 1.0, "y": 0.5, "x": 0.25}, unit="um")


def test_lengths_follow_the_voxels(stack):
    array, image = stack
    sigma = {"z": 0.5, "y": 1, "x": 2}
    for name, more in (("gaussian_laplace", {}), ("gaussian_gradient_magnitude", {"mode": "nearest"})):
        got = getattr(bigbia.filters, name)(image, "0.5 um", **more)
        expected = [getattr(ndi, name)(a, list(sigma.values()), output="f4", **more) for a in array]
        np.testing.assert_array_equal(got, expected)
    got = bigbia.filters.difference_of_gaussians(image, "0.25, 0.25, 0.25 um", "0.5 um")
    low = [0.25, 0.5, 1]
    expected = [filters.difference_of_gaussians(a.astype("f4"), low, list(sigma.values())) for a in array]
    np.testing.assert_array_equal(got, expected)
    sharp = bigbia.filters.unsharp_mask(image, "0.5 um", 2)
    smooth = np.stack([ndi.gaussian_filter(a, list(sigma.values()), output="f4") for a in array])
    np.testing.assert_array_equal(sharp, array.astype("f4") + (array.astype("f4") - smooth) * 2)


def test_weights_are_laid_over_space(stack):
    array, image = stack
    weights = np.random.default_rng(1).random((3, 2, 5))
    expected = [ndi.correlate(a, weights, output="f4") for a in array]
    np.testing.assert_array_equal(bigbia.filters.correlate(image, weights), expected)
    expected = [filters.scharr(a.astype("f4"), axis=2) for a in array]
    np.testing.assert_array_equal(bigbia.filters.scharr(image, axis=-1), expected)


def test_nan_stays_near():
    image = np.zeros((9, 9), "f4")
    image[4, 4] = np.nan
    for function in (bigbia.filters.sobel, bigbia.filters.laplace, lambda a: bigbia.filters.gaussian_laplace(a, 0.5)):
        bad = np.isnan(function(image))
        assert bad.any()
        assert not bad[:2].any()


IMAGE = np.zeros((6, 8), "u1")
REFUSED = {
    "weights of other axes": (
        lambda a: bigbia.filters.correlate(a, [1, 2]),
        "filters.correlate: the weights have 1 axes",
    ),
    "no weights": (lambda a: bigbia.filters.convolve(a, np.ones((0, 3))), "empty"),
    "weights that are not numbers": (lambda a: bigbia.filters.convolve(a, [["a"]]), "real numbers"),
    "complex weights": (lambda a: bigbia.filters.convolve(a, [[1j]]), "complex128"),
    "weights without end": (lambda a: bigbia.filters.correlate(a, [[np.inf]]), "inf"),
    "an unknown mode": (lambda a: bigbia.filters.correlate(a, [[1]], mode="edge"), "mode='edge'"),
    "a mode of prewitt": (lambda a: bigbia.filters.prewitt(a, mode="symmetric"), "filters.prewitt: mode='symmetric'"),
    "an axis that is not there": (lambda a: bigbia.filters.scharr(a, axis=2), "filters.scharr: axis=2"),
    "no derivative": (lambda a: bigbia.filters.gaussian_laplace(a, [1, 0]), "above 0"),
    "a negative truncate": (lambda a: bigbia.filters.gaussian_gradient_magnitude(a, 1, truncate=-1), "truncate=-1"),
    "sigmas of other axes": (lambda a: bigbia.filters.gaussian_laplace(a, [1, 1, 1]), "3 numbers for 2"),
    "sigmas the wrong way": (lambda a: bigbia.filters.difference_of_gaussians(a, 2, 1), "exchange"),
    "a unit without voxel size": (lambda a: bigbia.filters.unsharp_mask(a, "1 um"), "voxel size"),
    "a negative radius": (lambda a: bigbia.filters.unsharp_mask(a, -1), "negative"),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_refused(call):
    check_refused(call, IMAGE)


@pytest.mark.parametrize("mode", ["nearest", "reflect", "mirror", "constant", "wrap"])
def test_even_sides_in_the_smallest_blocks(mode):
    """Of a mirrored image a voxel at the border sees as far on this side of it as on the other."""
    array = np.random.default_rng(6).random((13, 6)).astype(np.float32)
    weights = np.random.default_rng(7).random((4, 2))
    for call in (
        lambda a: bigbia.filters.correlate(a, weights, mode=mode),
        lambda a: bigbia.filters.convolve(a, weights, mode=mode),
        lambda a: bigbia.filters.uniform(a, (6, 2), mode=mode),
        lambda a: bigbia.filters.std(a, (6, 4), mode=mode),
        lambda a: bigbia.filters.maximum(a, 6, mode=mode),
    ):
        for chunks in ((1, 1), (2, 3), ((1, 12), (5, 1)), ((12, 1), (1, 5))):
            np.testing.assert_array_equal(call(da.from_array(array, chunks=chunks)).compute(), call(array))


def test_ragged_weights_are_refused():
    with pytest.raises(ParameterError, match="lists of several lengths"):
        bigbia.filters.convolve(np.zeros((4, 4)), [[1], [1, 2]])
