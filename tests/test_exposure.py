"""Values rescaled, adjusted, equalised and matched: against scikit-image, at once and in blocks."""

import dask.array as da
import numpy as np
import pytest
from case import linear
from skimage import exposure
from strategies import random_cuts
from test_contract import check_refused

import bigbia
from bigbia.errors import BlockError
from bigbia.hyperstack import hyperstack
from bigbia.kernels.histograms import tile_maps

EXPOSURE = bigbia.exposure
DTYPES = ("uint8", "uint16", "int8", "int16", "int32", "uint32", "float32", "float64")


def some_image(rng, dtype, largest=120, ndim=None):
    ndim = ndim or int(rng.integers(1, 5))
    shape = tuple(int(n) for n in rng.integers(1, {1: 70, 2: 24, 3: 12, 4: 7}[ndim], ndim))
    kind = np.dtype(dtype).kind
    return rng.random(shape).astype(dtype) if kind == "f" else rng.integers(0, largest, shape).astype(dtype)


def cut(rng, image):
    return da.from_array(image, chunks=tuple(random_cuts(rng, n) for n in image.shape))


def both_are(rng, name, image, expected, *more, **given):
    """The operator on the image and on one in blocks gives what is expected, to the bit."""
    function = getattr(EXPOSURE, name)
    for array in (image, cut(rng, image)):
        others = [cut(rng, m) if array is not image else m for m in more]
        got = np.asarray(function(array, *others, **given))
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected, err_msg=f"{name} {image.dtype} {image.shape} {given}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_rescale_intensity(dtype):
    rng = np.random.default_rng(DTYPES.index(dtype))
    for in_range in ("image", "dtype", "uint8", (3, 70), (0.2, 0.7), np.uint16):
        for out_range in ("dtype", "image", "uint12", "float32", np.int16, (-3, 10)):
            image = some_image(rng, dtype) - (np.array(50, dtype) if np.dtype(dtype).kind == "i" else 0)
            image = image.astype(dtype)
            expected = exposure.rescale_intensity(image, in_range, out_range)
            if isinstance(out_range, tuple):
                expected = expected.astype(linear(image.dtype))
            both_are(rng, "rescale_intensity", image, expected, in_range=in_range, out_range=out_range)


def test_rescale_intensity_of_one_value():
    for dtype in ("uint8", "float32", "int32"):
        image = np.full((4, 5), 7, dtype)
        for out_range in ("dtype", (1, 5), "image"):
            expected = exposure.rescale_intensity(image, out_range=out_range)
            got = EXPOSURE.rescale_intensity(da.from_array(image, chunks=2), out_range=out_range)
            np.testing.assert_array_equal(got.compute(), expected)


def test_the_largest_integers_do_not_wrap():
    image = np.array([0, 1 << 40, (1 << 63) - 1], np.int64)
    assert EXPOSURE.rescale_intensity(image)[-1] == (1 << 63) - 1
    wide = np.array([0, 200, 60000], np.uint16)
    np.testing.assert_array_equal(EXPOSURE.adjust_gamma(wide, 1, gain=2), [0, 400, 65535])
    np.testing.assert_array_equal(EXPOSURE.adjust_gamma(wide.astype(np.int32), 1, gain=1e9)[1:], [2**31 - 1] * 2)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_adjustments(dtype):
    rng = np.random.default_rng(1)
    for name, given in (
        ("adjust_gamma", {}),
        ("adjust_gamma", {"gamma": 0.45, "gain": 0.7}),
        ("adjust_gamma", {"gamma": 2.2}),
        ("adjust_log", {"gain": 0.5}),
        ("adjust_log", {"inv": True}),
        ("adjust_sigmoid", {"cutoff": 0.2, "gain": 4}),
        ("adjust_sigmoid", {"inv": True}),
    ):
        for _ in range(3):
            image = some_image(rng, dtype, largest=250)
            both_are(rng, name, image, getattr(exposure, name)(image, **given), **given)
        long = np.resize(some_image(rng, dtype, largest=250, ndim=1), 100_000)  # several pieces
        np.testing.assert_array_equal(getattr(EXPOSURE, name)(long, **given), getattr(exposure, name)(long, **given))


@pytest.mark.parametrize("name", ["adjust_gamma", "adjust_log", "adjust_sigmoid"])
@pytest.mark.parametrize("dtype", ["int16", "int32", "float32"])
def test_negative_values_are_refused_when_they_are_met(name, dtype):
    image = np.zeros((6, 7), dtype)
    image[5, 5] = -3
    lazy = getattr(EXPOSURE, name)(da.from_array(image, chunks=3))
    for call in (lambda: getattr(EXPOSURE, name)(image), lazy.compute):
        with pytest.raises(BlockError, match=f"exposure.{name}: 1 of .* negative, down to -3"):
            call()


@pytest.mark.parametrize("dtype", DTYPES)
def test_equalize_hist(dtype):
    rng = np.random.default_rng(2)
    for i in range(8):
        image = some_image(rng, dtype)
        mask = rng.random(image.shape) < 0.4
        mask.flat[0] = True
        nbins = (256, 10)[i % 2]
        expected = exposure.equalize_hist(image, nbins).astype(linear(image.dtype))
        both_are(rng, "equalize_hist", image, expected, nbins=nbins)
        expected = exposure.equalize_hist(image, nbins, mask).astype(linear(image.dtype))
        for array, inside in ((image, mask), (cut(rng, image), cut(rng, mask)), (cut(rng, image), mask)):
            got = np.asarray(EXPOSURE.equalize_hist(array, nbins, inside))
            np.testing.assert_array_equal(got, expected, err_msg=f"{dtype} {image.shape} masked")


def test_equalize_hist_of_few_values_and_an_empty_mask():
    for image in (np.full((5, 6), 3, np.uint8), np.full((5, 6), 0.5, np.float32), np.eye(6, dtype=np.float32)):
        expected = exposure.equalize_hist(image).astype(np.float32)
        np.testing.assert_array_equal(EXPOSURE.equalize_hist(da.from_array(image, chunks=4)).compute(), expected)
    empty = np.zeros((5, 6), bool)
    for dtype in ("uint8", "int32", "float32"):
        image = np.arange(30).reshape(5, 6).astype(dtype)
        with pytest.raises(BlockError, match="equalize_hist: the mask is empty"):
            EXPOSURE.equalize_hist(image, mask=empty)
        lazy = EXPOSURE.equalize_hist(da.from_array(image, chunks=2), mask=da.from_array(empty, chunks=3))
        with pytest.raises(BlockError, match="the mask is empty"):
            lazy.compute()


def test_a_channel_that_is_there_twice_has_two_masks():
    rng = np.random.default_rng(6)
    image, mask = rng.integers(0, 90, (9, 10)).astype(np.uint8), rng.random((2, 9, 10)) < 0.3
    one = da.from_array(image, chunks=4)
    twice = hyperstack(da.stack([one, one]), "cyx")
    got = EXPOSURE.equalize_hist(twice, mask=hyperstack(da.from_array(mask, chunks=5), "cyx")).data.compute()
    for c in range(2):
        np.testing.assert_array_equal(got[c], EXPOSURE.equalize_hist(image, mask=mask[c]))


def test_nan_names_its_block():
    image = np.zeros((6, 6), np.float32)
    image[4, 5] = np.nan
    for name in ("rescale_intensity", "equalize_hist", "equalize_adapthist"):
        with pytest.raises(BlockError, match=rf"exposure.{name}: the image holds nan at voxel \(4, 5\)"):
            getattr(EXPOSURE, name)(da.from_array(image, chunks=3)).compute()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int8", "int16"])
def test_match_histograms(dtype):
    rng = np.random.default_rng(3)
    for _ in range(8):
        image = some_image(rng, dtype)
        reference = some_image(rng, dtype, largest=90, ndim=image.ndim)
        if dtype == "int16":
            image, reference = image - np.int16(60), reference * np.int16(-3)
        expected = exposure.match_histograms(image, reference).astype(np.float32)
        both_are(rng, "match_histograms", image, expected, reference)
        other = np.asarray(EXPOSURE.match_histograms(image, cut(rng, reference)))
        np.testing.assert_array_equal(other, expected)


@pytest.mark.filterwarnings("ignore:Downcasting")
@pytest.mark.parametrize("dtype", [*DTYPES[:6], "large", "float32", "float64"])
def test_equalize_adapthist(dtype):
    """With tiles larger than the image and axes of length 1; and integers of 32 bits that need more than 16."""
    rng = np.random.default_rng(4)
    reference = exposure.equalize_adapthist.__wrapped__  # without the guess that 3 or 4 voxels are colours
    for i, given in enumerate(
        [
            {},
            {"kernel_size": 4},
            {"kernel_size": 5, "clip_limit": 0.3, "nbins": 64},
            {"kernel_size": 3, "clip_limit": 0, "nbins": 1000},
            {"kernel_size": 40, "clip_limit": 2.0},
        ]
    ):
        image = some_image(rng, "int32" if dtype == "large" else dtype)
        if dtype == "large":
            image = image * 70_000 - 500
        elif image.dtype.kind in "if" and i % 2:
            image = image - image.dtype.type(image.max() / 2)
        expected = reference(image, **given).astype(linear(image.dtype))
        both_are(rng, "equalize_adapthist", image, expected, **given)


def test_adapthist_wants_floats_between_minus_one_and_one():
    image = da.from_array(np.linspace(0, 900, 30, dtype=np.float32).reshape(5, 6), chunks=3)
    with pytest.raises(BlockError, match=r"values from 0\.0 to 900\.0: floats must be between -1 and 1"):
        EXPOSURE.equalize_adapthist(image).compute()


def test_each_channel_by_itself_or_all_together():
    rng = np.random.default_rng(5)
    image = rng.integers(0, 90, (2, 9, 10)).astype(np.uint8)
    image[1] += 100
    stack = hyperstack(da.from_array(image, chunks=(1, 4, 5)), "cyx", voxel_size="0.5, 0.25 um", channels=["a", "b"])
    mask = stack > 20
    for name, more in (
        ("rescale_intensity", ()),
        ("equalize_hist", ()),
        ("equalize_hist", (256, mask)),
        ("match_histograms", (stack[::-1].drop_vars("c"),)),
        ("match_histograms", (stack[1:],)),
        ("equalize_adapthist", ("1 um",)),
    ):
        got = getattr(EXPOSURE, name)(stack, *more)
        assert got.dims == stack.dims
        alone = [[m.values if hasattr(m, "values") else m for m in more] for _ in range(2)]
        for c, these in enumerate(alone):
            if name == "match_histograms":
                these[0] = these[0][min(c, len(these[0]) - 1)]
            elif len(these) == 2:
                these[1] = these[1][c]
            elif these:
                these[0] = (3, 5)  # 1 um as odd numbers of voxels
            expected = getattr(EXPOSURE, name)(image[c], *these)
            np.testing.assert_array_equal(got.data.compute()[c], expected, err_msg=f"{name} {c}")
    for name, more in (("rescale_intensity", ()), ("equalize_hist", (256, mask)), ("match_histograms", (stack[:1],))):
        got = getattr(EXPOSURE, name)(stack, *more, over="all").data.compute()
        expected = getattr(EXPOSURE, name)(image, *[m.values if hasattr(m, "values") else m for m in more])
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("rescale_intensity", {"in_range": "uint9"}, "exposure.rescale_intensity: in_range='uint9' is not known"),
        ("rescale_intensity", {"out_range": (1, 2, 3)}, "must be two numbers"),
        ("rescale_intensity", {"in_range": (0, np.nan)}, "must be two numbers"),
        ("rescale_intensity", {"over": "t"}, "over='t'"),
        ("adjust_gamma", {"gamma": -1}, "gamma=-1 must be a number of 0 or more"),
        ("adjust_gamma", {"gain": "2"}, "exposure.adjust_gamma: gain='2' must be"),
        ("adjust_log", {"gain": np.inf}, "gain=inf must be"),
        ("adjust_sigmoid", {"cutoff": None}, "cutoff=None must be"),
        ("equalize_hist", {"nbins": 0}, "nbins=0 must be"),
        ("equalize_hist", {"mask": np.ones((3, 3), bool)}, "the mask is (3, 3), the image (6, 7, 8)"),
        ("equalize_hist", {"over": "z"}, "over='z'"),
        ("match_histograms", {"reference": np.ones((4, 4), np.uint8)}, "the image has 3 axes, the reference 2"),
        ("match_histograms", {"reference": np.ones((4, 4, 4), np.float32)}, "too many values to count"),
        ("equalize_adapthist", {"kernel_size": 0}, "kernel_size=0 must be"),
        ("equalize_adapthist", {"kernel_size": (2, 3)}, "2 sides for 3"),
        ("equalize_adapthist", {"kernel_size": "2 um"}, "no voxel size"),
        ("equalize_adapthist", {"clip_limit": -0.1}, "clip_limit=-0.1 must be"),
        ("equalize_adapthist", {"nbins": 20000}, "nbins=20000 must be"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_read(name, given, said):
    check_refused((lambda image: getattr(EXPOSURE, name)(image, **given), said), np.ones((6, 7, 8), np.uint16))


def test_too_many_tiles_are_refused():
    image = da.zeros((512, 512, 512), chunks=128, dtype=np.uint16)
    with pytest.raises(bigbia.errors.ParameterError, match=r"tiles of .* are more than"):
        EXPOSURE.equalize_adapthist(image, 8)


def test_wide_integers_and_floats_are_not_matched():
    for dtype in ("int32", "float32"):
        with pytest.raises(bigbia.errors.InputError, match=r"match_histograms: image: .* too many values"):
            EXPOSURE.match_histograms(np.ones((4, 4), dtype), np.ones((4, 4), np.uint8))


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float16", "float32", "float64"])
def test_bytes_in_the_other_order(dtype):
    image = some_image(np.random.default_rng(7), dtype, ndim=2)
    turned = image.astype(image.dtype.newbyteorder())
    names = ["rescale_intensity", "adjust_gamma", "adjust_log", "equalize_hist", "equalize_adapthist"]
    for name in names:
        got = getattr(EXPOSURE, name)(da.from_array(turned, chunks=5)).compute()
        expected = getattr(EXPOSURE, name)(image)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected, err_msg=name)
    for got, expected in zip(EXPOSURE.histogram(da.from_array(turned, chunks=5)), EXPOSURE.histogram(image)):
        np.testing.assert_array_equal(got.compute(), expected)
    for name in ("gaussian", "laplace", "sobel", "maximum", "median", "uniform", "std", "threshold_niblack"):
        expected = getattr(bigbia.filters, name)(image)
        for array in (turned, da.from_array(turned, chunks=5)):
            got = getattr(bigbia.filters, name)(array)
            assert got.dtype == expected.dtype
            np.testing.assert_array_equal(np.asarray(got), expected, err_msg=name)


def test_half_floats_are_equalised_as_single_ones():
    image = np.random.default_rng(8).random((9, 11, 8)).astype(np.float16)
    np.testing.assert_array_equal(
        EXPOSURE.equalize_adapthist(image, 4), EXPOSURE.equalize_adapthist(image.astype(np.float32), 4)
    )


def test_maps_of_tiles_are_scikit_images():
    """Clipped and added up, for histograms of every shape."""
    from skimage.exposure import _adapthist

    rng = np.random.default_rng(9)
    for _ in range(300):
        nbins, voxels = int(rng.integers(1, 60)), int(rng.integers(1, 3000))
        counts = rng.multinomial(voxels, rng.dirichlet(np.full(nbins, rng.choice([0.02, 0.2, 2.0]))))
        limit = int(max(rng.choice([0.001, 0.01, 0.05, 0.3, 2]) * voxels, 1))
        expected = _adapthist.map_histogram(_adapthist.clip_histogram(counts.copy(), limit), 0, 999, voxels)
        np.testing.assert_array_equal(tile_maps(counts[None], limit, voxels, 999)[0], expected)
