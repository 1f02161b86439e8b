"""Local maxima and minima: equal to scikit-image voxel for voxel, whatever the cut and however far a plateau reaches."""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import pytest
import tifffile
from scipy import ndimage as ndi
from skimage import morphology as skimage_morphology
from strategies import KINDS, image, random_cuts
from test_contract import Array, forbidden

import bigbia
from bigbia.errors import BigbiaError, BigbiaWarning, BlockError
from bigbia.graph.dask import from_source
from bigbia.hyperstack import hyperstack
from bigbia.kernels.extrema import plateaus
from bigbia.morphology import local_maxima, local_minima

DTYPES = ("bool", "uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "uint64", "float32", "float64")
BOTH = [(local_maxima, skimage_morphology.local_maxima), (local_minima, skimage_morphology.local_minima)]
both = pytest.mark.parametrize(("function", "reference"), BOTH, ids=["maxima", "minima"])

pytestmark = [
    pytest.mark.filterwarnings("ignore:maxima can't exist:UserWarning"),
    pytest.mark.filterwarnings("ignore:morphology.local_.*allow_borders=False:UserWarning"),
]


def random_image(rng, most_dims=5):
    """Few values, so that there are plateaus."""
    ndim = int(rng.integers(1, most_dims + 1))
    shape = tuple(int(n) for n in rng.integers(1, {1: 60, 2: 14, 3: 9, 4: 6, 5: 4}[ndim] + 1, ndim))
    dtype = np.dtype(str(rng.choice(DTYPES)))
    array = rng.integers(0, int(rng.integers(1, 6)), shape)
    if rng.random() < 0.3:
        array = image(str(rng.choice(KINDS)), shape, "int16", int(rng.integers(1000))) % 100
    if rng.random() < 0.3:
        array = np.kron(array, np.ones((3,) * ndim, int))[tuple(slice(n) for n in shape)]
    if dtype.kind == "f":
        return np.where(array == 3, -np.inf, array - 1.0).astype(dtype) * rng.choice([1, -1])
    if dtype.kind in "iu" and rng.random() < 0.5:  # to both ends of the dtype
        info = np.iinfo(dtype)
        ends = dtype.type(info.min) + array.astype(dtype), dtype.type(info.max) - (array % 50).astype(dtype)
        return np.where(array < 2, *ends)
    return array.astype(dtype)


def chunked(rng, array):
    return da.from_array(array, chunks=tuple(random_cuts(rng, n) for n in array.shape))


@both
def test_random_cases(function, reference):
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(400):
        array = random_image(rng)
        how = {"connectivity": int(rng.integers(1, array.ndim + 1)), "allow_borders": bool(rng.integers(2))}
        expected = reference(array, **how)
        got = function(array, **how)
        assert got.dtype == bool
        np.testing.assert_array_equal(got, expected, err_msg=f"{array.shape} {array.dtype} {how}")
        found += expected.sum()
    assert found > 1000


@both
def test_random_cuts(function, reference):
    rng = np.random.default_rng(1)
    for _ in range(40):
        array = random_image(rng, most_dims=4)
        how = {"connectivity": int(rng.integers(1, array.ndim + 1)), "allow_borders": bool(rng.integers(2))}
        got = function(chunked(rng, array), **how).compute(scheduler="sync")
        np.testing.assert_array_equal(got, reference(array, **how), err_msg=f"{array.shape} {array.dtype} {how}")


@pytest.mark.parametrize("higher", [None, 0, 33, 59])
@pytest.mark.parametrize("axis", [0, 1])
def test_one_higher_neighbour_settles_a_plateau_across_blocks(axis, higher):
    """A band over many blocks, and a voxel beside it in one of them; a second band is untouched by it."""
    array = np.zeros((60, 12), np.uint16)
    array[:, 3:5] = 700
    array[:, 8] = 700
    if higher is not None:
        array[higher, 2] = 701
    array = array if axis == 0 else array.T
    expected = skimage_morphology.local_maxima(array)
    assert expected.sum() == (180 if higher is None else 61)
    for chunks in (7, (20, 4), (1, 60)):
        np.testing.assert_array_equal(local_maxima(da.from_array(array, chunks=chunks)), expected)


@both
def test_images_of_one_value(function, reference):
    for dtype in DTYPES:
        for value in (0, 1):
            array = np.full((5, 7), value, dtype)
            assert not reference(array).any()
            assert not function(array).any()
        assert not function(da.from_array(array, chunks=(3, 4))).compute(scheduler="sync").any()
    assert not function(np.full((4, 4), -np.inf)).any()


@both
def test_a_staircase_has_one_of_each(function, reference):
    stairs = np.add.outer(np.arange(24) // 3, np.arange(20) // 5).astype(np.float32)
    expected = reference(stairs)
    assert expected.sum() == 15
    for chunks in (4, 7, (24, 3)):
        np.testing.assert_array_equal(function(da.from_array(stairs, chunks=chunks)), expected)


def test_a_spiral_through_every_block():
    """One plateau, a voxel wide, that winds through the whole image: alone, and with a higher voxel at its inner end."""
    spiral = np.zeros((41, 41), np.int16)
    y = x = 0
    dy, dx, length = 0, 1, 40
    spiral[0, 0] = 5
    for turn in range(38):
        for _ in range(length):
            y, x = y + dy, x + dx
            spiral[y, x] = 5
        dy, dx = dx, -dy
        length -= 2 if turn >= 2 and turn % 2 == 0 else 0
    assert ndi.label(spiral)[1] == 1
    assert local_maxima(da.from_array(spiral, chunks=6), 1).compute().sum() == (spiral == 5).sum() > 700
    spiral[y, x] = 6
    found = local_maxima(da.from_array(spiral, chunks=6), 1).compute()
    assert np.argwhere(found).tolist() == [[y, x]]


def test_zeros_of_both_signs_are_equal():
    array = np.array([-1, 0.0, -0.0, 0.0, -1, -0.0, 1], np.float32)
    for given in (array, da.from_array(array, chunks=2)):
        np.testing.assert_array_equal(local_maxima(given), [0, 1, 1, 1, 0, 0, 1])
        np.testing.assert_array_equal(local_minima(-given), [0, 1, 1, 1, 0, 0, 1])


def test_halves_and_other_byte_orders():
    array = np.random.default_rng(0).integers(0, 4, (9, 10)).astype(np.float32)
    expected = skimage_morphology.local_maxima(array)
    for dtype in ("f2", ">f2", ">f4", ">f8", ">i4", ">u2", "<u8"):
        np.testing.assert_array_equal(local_maxima(array.astype(dtype)), expected)
        np.testing.assert_array_equal(local_maxima(da.from_array(array.astype(dtype), chunks=4)), expected)
    np.testing.assert_array_equal(local_maxima(np.asfortranarray(array)[::-1]), expected[::-1])


@both
def test_hyperstacks(function, reference):
    rng = np.random.default_rng(2)
    array = rng.integers(0, 4, (5, 9, 2, 3)).astype(np.uint8)  # y, x, t, c in an order of their own
    array[..., 1, 1] = 3  # one of them of one value
    stack = hyperstack(da.from_array(array, chunks=(2, 4, 2, 1)), "yxtc", channels=["a", "b", "d"])
    for how in ({}, {"connectivity": 1}, {"allow_borders": False}):
        with dask.config.set(scheduler=forbidden):
            got = function(stack, **how)
        assert got.dims == stack.dims
        assert list(got.c.values) == ["a", "b", "d"]
        for t in range(2):
            for c in range(3):
                np.testing.assert_array_equal(got[:, :, t, c], reference(array[:, :, t, c], **how))


def test_live_arrays_and_filters_before_and_after():
    array = np.random.default_rng(3).integers(0, 9, (14, 15, 16)).astype(np.uint8)
    live = da.from_array(array, chunks=5).map_blocks(lambda b: b + 1, dtype=np.uint8)
    np.testing.assert_array_equal(local_maxima(live), skimage_morphology.local_maxima(array))
    source = Array(array)
    smooth = bigbia.filters.gaussian(from_source(source, 5), 1)
    with dask.config.set(scheduler=forbidden):
        peaks = bigbia.measure.label(local_maxima(smooth))
    assert source.reads == 0
    whole = bigbia.filters.gaussian(array, 1)
    np.testing.assert_array_equal(peaks, bigbia.measure.label(skimage_morphology.local_maxima(whole)))


def test_real_nuclei(data):
    nuclei = tifffile.imread(data / "stardist_3d/img3d.tif")
    for function, reference in BOTH:
        for connectivity in (1, 3):
            expected = reference(nuclei, connectivity=connectivity)
            np.testing.assert_array_equal(function(da.from_array(nuclei, chunks=(7, 20, 64)), connectivity), expected)


def test_the_kernel_sees_no_further_than_two_voxels():
    """What a block says of its inside does not change with what lies beyond."""
    rng = np.random.default_rng(4)
    for _ in range(50):
        array = rng.integers(0, 3, (12, 12)).astype(np.int16)
        for connectivity in (1, 2):
            inner = plateaus(array[2:10, 3:11], connectivity)[2:-2, 2:-2]
            np.testing.assert_array_equal(inner, plateaus(array, connectivity)[4:8, 5:9])


def test_thin_images_without_borders_warn():
    for given in (np.eye(2), da.from_array(np.eye(2), chunks=1)):
        with pytest.warns(
            BigbiaWarning, match=r"local_minima: allow_borders=False in an image of \(2, 2\).* no minima"
        ):
            found = local_minima(given, allow_borders=False)
        assert not np.asarray(found).any()


# ---- what is refused -------------------------------------------------------------------------------------------------
CALLS = {
    "connectivity 0": (lambda a: local_maxima(a, 0), "local_maxima: connectivity=0: 1 to 2"),
    "connectivity 3": (lambda a: local_minima(a, 3), "local_minima: connectivity=3: 1 to 2"),
    "borders": (lambda a: local_maxima(a, allow_borders="no"), "allow_borders='no': must be True or False"),
    "complex": (lambda a: local_maxima(a * 1j), "complex"),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_refused(name):
    call, said = CALLS[name]
    array = np.ones((6, 8), np.int32)
    for given in (array, da.from_array(array, chunks=4)):
        with dask.config.set(scheduler=forbidden), pytest.raises(BigbiaError) as caught:
            call(given)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@both
def test_nan_is_refused(function, reference, dtype):
    array = np.random.default_rng(0).random((6, 8)).astype(dtype)
    array[5, 6] = np.nan
    lowest = np.inf if function is local_minima else -np.inf
    for given in (array, da.from_array(array, chunks=4)):
        lazy = function(given) if given is not array else None
        with pytest.raises(
            BlockError, match=r"voxels of a block are NaN.*np.where\(np.isnan\(image\), -?np.inf, image\)"
        ):
            function(given) if lazy is None else lazy.compute()
        got = function(np.where(np.isnan(given), dtype_of(dtype, lowest), given))
        expected = reference(np.where(np.isnan(array), lowest, array).astype(np.float64))
        np.testing.assert_array_equal(got, expected)


def dtype_of(dtype, value):
    return np.dtype(dtype).type(value)
