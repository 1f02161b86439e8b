"""Local means and thresholds, hysteresis: against SciPy and scikit-image over many sizes, modes and kinds of image."""

import functools

import dask.array as da
import numpy as np
import pytest
from case import linear
from scipy import ndimage as ndi
from skimage import filters
from test_contract import check_refused

import bigbia
from bigbia.hyperstack import hyperstack
from bigbia.kernels import boxes

MODES = ("nearest", "reflect", "mirror", "constant", "wrap")
FILTERS = bigbia.filters


def some_image(rng, shape, dtype):
    kind = np.dtype(dtype).kind
    if kind == "b":
        return rng.random(shape) < 0.5
    return (rng.normal(100, 30, shape) if kind == "f" else rng.integers(0, 120, shape)).astype(dtype)


def draw(rng):
    ndim = int(rng.integers(1, 5))
    shape = tuple(int(n) for n in rng.integers(1, {1: 70, 2: 24, 3: 12, 4: 7}[ndim], ndim))
    return shape, [int(n) for n in rng.integers(1, 9 if ndim < 4 else 5, ndim)]


@pytest.mark.parametrize("mode", MODES)
def test_uniform_is_scipys(mode):
    rng = np.random.default_rng(MODES.index(mode))
    for i in range(60):
        shape, size = draw(rng)
        dtype = ("bool", "uint8", "int8", "uint16", "int16", "float32", "float16", "int32", "float64")[i % 9]
        image = some_image(rng, shape, dtype)
        given = image.astype(np.float32) if dtype == "float16" else image
        expected = ndi.uniform_filter(given, size, output=linear(image.dtype), mode=mode, cval=2.5)
        got = FILTERS.uniform(image, size, mode=mode, cval=2.5)
        assert got.dtype == expected.dtype
        if dtype in ("int32", "float64"):
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13 * max(1, np.abs(image).max()))
        else:
            np.testing.assert_array_equal(got, expected, err_msg=f"{shape} {size} {dtype}")


@pytest.mark.parametrize("size", [2, 4, 5, 6, 7, 8, 15, 16, 17, 51, 64, 70, 100])
def test_every_length_of_a_box(size):
    """Boxes longer than a tile of rows, and than the image."""
    image = np.random.default_rng(size).integers(0, 1000, (60, 300)).astype(np.uint16)
    expected = ndi.uniform_filter(image, size, output=np.float32)
    np.testing.assert_array_equal(FILTERS.uniform(image, size), expected)
    np.testing.assert_array_equal(
        FILTERS.uniform(image[0], size), ndi.uniform_filter(image[0], size, output=np.float32)
    )


def test_a_core_is_what_the_whole_has_there():
    rng = np.random.default_rng(3)
    for i in range(60):
        shape, size = draw(rng)
        block = some_image(rng, shape, ("uint8", "float32", "float64")[i % 3])[::-1]  # not contiguous
        core = [slice(int(a), int(rng.integers(a + 1, n + 1))) for a, n in ((rng.integers(0, n), n) for n in shape)]
        given = {"size": size, "mode": MODES[i % 4], "cval": 1.5, "output": linear(block.dtype)}
        for kernel in (boxes.uniform, functools.partial(boxes.moments, result="std")):
            whole = kernel(block, **given)
            assert not np.shares_memory(whole, block)
            np.testing.assert_array_equal(kernel(block, core=core, **given), whole[tuple(core)])


@pytest.mark.parametrize("mode", MODES)
def test_variance_of_integers_is_exact(mode):
    rng = np.random.default_rng(5)
    for i in range(30):
        shape, size = draw(rng)
        image = some_image(rng, shape, ("bool", "uint8", "uint16", "int16")[i % 4])
        wide, box = image.astype(np.int64), np.ones(size, np.int64)
        one = ndi.correlate(wide, box, mode=mode, cval=3)
        two = ndi.correlate(wide**2, box, mode=mode, cval=9)
        expected = (box.size * two - one * one) / box.size**2
        got = FILTERS.variance(image, size, mode=mode, cval=3)
        np.testing.assert_array_equal(got, expected.astype(np.float32), err_msg=f"{shape} {size}")
        got = FILTERS.std(image, size, mode=mode, cval=3)
        np.testing.assert_array_equal(got, np.sqrt(expected).astype(np.float32))


def test_variance_of_floats_is_near_and_never_negative():
    rng = np.random.default_rng(6)
    for dtype, mean in (("float32", 10), ("float64", 10), ("float64", 1e6), ("int32", 10**6)):
        image = (mean + rng.normal(0, 3, (9, 20, 21))).astype(dtype)
        image[:, 10:] = image[0, 0, 0]
        expected = ndi.generic_filter(image.astype(np.float64), np.var, 5)
        got = FILTERS.variance(image, 5)
        assert got.min() >= 0
        tolerance = 1e-6 * expected.max() if dtype == "float32" else 3e-15 * float(mean) ** 2 + 1e-12
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)
        assert np.isfinite(FILTERS.std(image, 5)).all()


def test_nan_spreads_over_its_box_only():
    image = np.ones((20, 30), np.float32)
    image[4, 5] = np.nan
    seen = np.zeros(image.shape, bool)
    seen[3:6, 4:7] = True
    for name in ("uniform", "variance", "std"):
        np.testing.assert_array_equal(np.isnan(getattr(FILTERS, name)(image)), seen)


@pytest.mark.parametrize("method", ["gaussian", "mean", "median"])
def test_threshold_local_is_scikit_images(method):
    rng = np.random.default_rng(7)
    for i in range(12):
        shape = tuple(int(n) for n in rng.integers(9, 20, 1 + i % 3))
        size = [int(2 * n + 1) for n in rng.integers(0, 4, len(shape))]
        image = some_image(rng, shape, ("uint8", "int16", "float32", "float64")[i % 4])
        given = {"method": method, "mode": MODES[i % 5], "cval": 0.5, "offset": 1.25 * (i % 2)}
        expected = filters.threshold_local(image.astype(linear(image.dtype)), size, **given)
        got = FILTERS.threshold_local(image, size, **given)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13 * np.abs(expected).max() if i % 4 == 3 else 0)
        lazy = FILTERS.threshold_local(da.from_array(image, chunks=5), size, **given).compute()
        np.testing.assert_array_equal(lazy, got)


def test_threshold_local_by_its_own_sigma_is_one_task_a_block():
    image = some_image(np.random.default_rng(8), (30, 40), "uint8")
    expected = filters.threshold_local(image.astype(np.float32), 5, param=2.5)
    np.testing.assert_array_equal(FILTERS.threshold_local(image, 5, param=2.5), expected)
    source = bigbia.graph.dask.from_source(_Source(image), 10)
    for method in ("gaussian", "mean", "median"):
        above = source > FILTERS.threshold_local(source, 5, method, offset=3)
        assert len(da.core.Array.__dask_optimize__(above.dask, above.__dask_keys__())) <= above.npartitions + 5
        expected = image > FILTERS.threshold_local(image, 5, method, offset=3)
        np.testing.assert_array_equal(above.compute(), expected)


class _Source:
    def __init__(self, array):
        self.array, self.shape, self.dtype, self.chunks = array, array.shape, array.dtype, array.shape
        self.token = "threshold-local-test"

    def read(self, box):
        return self.array[tuple(slice(a, b) for a, b in box)].copy()


@pytest.mark.parametrize("name", ["threshold_niblack", "threshold_sauvola"])
def test_niblack_and_sauvola_are_scikit_images(name):
    rng = np.random.default_rng(9)
    for i in range(16):
        shape = tuple(int(n) for n in rng.integers(1, 20, 1 + i % 3))
        size = [int(2 * n + 1) for n in rng.integers(0, 6, len(shape))]
        image = some_image(rng, shape, ("uint8", "int16", "bool", "uint16")[i % 4])
        given = {"k": 0.3} | ({"r": 20.0} if i % 2 and name.endswith("a") else {})
        expected = getattr(filters, name)(image, size, **given)  # float64
        got = getattr(FILTERS, name)(image, size, **given)
        np.testing.assert_array_equal(got, expected.astype(np.float32), err_msg=f"{shape} {size} {image.dtype}")
    image = rng.normal(0, 0.3, (30, 31)).astype(np.float32)
    expected = getattr(filters, name)(image.astype(np.float64), 7)
    np.testing.assert_allclose(getattr(FILTERS, name)(image, 7), expected, rtol=0, atol=1e-6)


def test_lengths_with_a_unit_and_one_for_each_axis():
    image = some_image(np.random.default_rng(10), (2, 9, 14, 15), "uint16")
    stack = hyperstack(da.from_array(image, chunks=(1, 4, 5, 6)), "czyx", voxel_size="0.5, 0.2, 0.2 um")
    voxels = (3, 5, 5)  # of 1 um: the nearest odd numbers
    for name, given in (
        ("uniform", {}),
        ("variance", {}),
        ("std", {}),
        ("threshold_local", {}),
        ("threshold_niblack", {}),
        ("threshold_sauvola", {}),
    ):
        function = getattr(FILTERS, name)
        got, same = (function(stack, size, **given) for size in ("1 um", voxels))
        assert got.dims == stack.dims
        expected = np.stack([function(channel, voxels, **given) for channel in image])
        np.testing.assert_array_equal(got.data.compute(), expected)
        np.testing.assert_array_equal(same.data.compute(), expected)


# ---- hysteresis ------------------------------------------------------------------------------------------------------
def test_hysteresis_is_scikit_images():
    rng = np.random.default_rng(11)
    for i in range(40):
        shape = tuple(int(n) for n in rng.integers(1, 14, 1 + i % 4))
        image = some_image(rng, shape, ("uint8", "int16", "float32", "float64")[i % 4])
        low, high = (float(v) if i % 2 else int(v) for v in rng.integers(-5, 140, 2))  # low above high too
        expected = filters.apply_hysteresis_threshold(image, low, high)
        np.testing.assert_array_equal(FILTERS.apply_hysteresis_threshold(image, low, high), expected)
        lazy = FILTERS.apply_hysteresis_threshold(da.from_array(image, chunks=4), low, high)
        np.testing.assert_array_equal(lazy.compute(), expected)


def test_hysteresis_by_numbers_out_of_the_dtypes_range_and_by_voxels():
    image = some_image(np.random.default_rng(12), (10, 12), "uint8")
    for low, high in ((-1, 300), (300, 400), (-5, -2), (0.1, 50.5)):
        for array in (image, da.from_array(image, chunks=5)):
            got = FILTERS.apply_hysteresis_threshold(array, low, high)
            np.testing.assert_array_equal(got, filters.apply_hysteresis_threshold(image, low, high))
    low = np.linspace(0, 90, 120).reshape(10, 12)
    expected = filters.apply_hysteresis_threshold(image, low, low + 20)
    for make in (np.asarray, functools.partial(da.from_array, chunks=5)):
        got = FILTERS.apply_hysteresis_threshold(make(image), make(low), make(low + 20))
        np.testing.assert_array_equal(got, expected)
    bright = image.astype(np.float32)
    bright[3] = np.nan
    got = FILTERS.apply_hysteresis_threshold(bright, 50, 90)
    np.testing.assert_array_equal(got, filters.apply_hysteresis_threshold(bright, 50, 90))


def test_hysteresis_by_lazy_thresholds_of_each_channel():
    image = some_image(np.random.default_rng(13), (2, 16, 17), "uint16")
    stack = hyperstack(da.from_array(image, chunks=(1, 5, 6)), "cyx", channels=["a", "b"])
    otsu = FILTERS.threshold_otsu(stack)
    got = FILTERS.apply_hysteresis_threshold(stack, otsu * 0.7, otsu + 20)
    assert got.dims == stack.dims
    for channel, mask in zip(image, got.data.compute()):
        t = filters.threshold_otsu(channel)
        np.testing.assert_array_equal(mask, filters.apply_hysteresis_threshold(channel, t * 0.7, t + 20))
    plain = da.from_array(image[0], chunks=5)
    t = FILTERS.threshold_otsu(plain)
    got = FILTERS.apply_hysteresis_threshold(plain, t, t + 30)
    t = filters.threshold_otsu(image[0])
    expected = filters.apply_hysteresis_threshold(image[0], t, t + 30)
    np.testing.assert_array_equal(got.compute(), expected)
    one = FILTERS.threshold_otsu(stack[:1], over="all")  # of no axis: for any kind of array
    for array in (image[0], plain, stack[0]):
        np.testing.assert_array_equal(FILTERS.apply_hysteresis_threshold(array, one, one + 30), expected)


# ---- what is refused -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("uniform", {"size": 0}, "filters.uniform: size=0 must be"),
        ("uniform", {"size": 2.5}, "size=2.5 must be"),
        ("uniform", {"size": (3, 3)}, "2 sides for 3"),
        ("uniform", {"size": "2 um"}, "no voxel size"),
        ("uniform", {"mode": "edge"}, "mode='edge'"),
        ("variance", {"size": -1}, "filters.variance: size=-1 must be"),
        ("std", {"mode": "fill"}, "filters.std: mode='fill'"),
        ("threshold_local", {"block_size": 4}, "block_size=4 has even sides"),
        ("threshold_local", {"block_size": (3, 4, 5)}, "even sides"),
        ("threshold_local", {"block_size": 0}, "filters.threshold_local: block_size=0 must be"),
        ("threshold_local", {"method": "generic", "param": 3}, "bigbia.window"),
        ("threshold_local", {"method": "mode"}, "method='mode'"),
        ("threshold_local", {"method": "mean", "param": 3}, "leave it out"),
        ("threshold_local", {"param": -1.0}, "must not be negative"),
        ("threshold_local", {"offset": "5"}, "offset='5' must be"),
        ("threshold_local", {"mode": "edge"}, "mode='edge'"),
        ("threshold_niblack", {"window_size": 6}, "window_size=6 has even sides"),
        ("threshold_niblack", {"k": "2"}, "k='2' must be"),
        ("threshold_sauvola", {"window_size": (3, 3)}, "2 sides for 3"),
        ("threshold_sauvola", {"r": 0}, "r=0 must not be 0"),
        ("apply_hysteresis_threshold", {"low": "5", "high": 7}, "low='5' must be a number"),
        ("apply_hysteresis_threshold", {"low": 5, "high": np.ones((2, 5))}, "high is (2, 5)"),
        ("apply_hysteresis_threshold", {"low": 5, "high": None}, "high=None must be a number"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_read(name, given, said):
    check_refused((lambda image: getattr(FILTERS, name)(image, **given), said), np.ones((6, 7, 8), np.uint16))
