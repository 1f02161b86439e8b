"""Transforms beyond the contract: random shapes against SciPy and scikit-image, borders, places of voxels, cuts."""

from __future__ import annotations

import warnings

import dask.array as da
import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage import transform as reference
from strategies import random_cuts
from test_contract import check_refused

import bigbia
from bigbia import transform
from bigbia.graph.dask import from_source
from bigbia.hyperstack import hyperstack, origin, voxel_size

MODES = {
    "constant": "grid-constant",
    "edge": "nearest",
    "symmetric": "reflect",
    "reflect": "mirror",
    "wrap": "grid-wrap",
}


def cut(rng, array):
    return da.from_array(array, chunks=tuple(random_cuts(rng, n) for n in array.shape))


def noise(rng, shape, dtype):
    return (rng.random(shape) * 200).astype(dtype)


def linear(dtype):
    return np.dtype("f8") if np.dtype(dtype) in (np.float64, np.int32) else np.dtype("f4")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", [0, 1])
def test_resize_is_scipys_zoom(mode, order):
    rng = np.random.default_rng(order)
    for _ in range(25):
        ndim = int(rng.integers(1, 5))
        shape, wanted = (tuple(map(int, rng.integers(1, n, ndim))) for n in (9, 14))
        array = noise(rng, shape, rng.choice(["u1", "i2", "i4", "f4", "f8"]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = ndi.zoom(
                array,
                [m / n for n, m in zip(shape, wanted)],
                order=order,
                mode=MODES[mode],
                cval=3,
                grid_mode=True,
                output=None if order == 0 else linear(array.dtype),
            )
        for image in (array, cut(rng, array)):
            got = transform.resize(image, wanted, order, mode, 3, anti_aliasing=False)
            np.testing.assert_array_equal(np.asarray(got), expected, f"{shape} {wanted}")
            assert got.dtype == expected.dtype


@pytest.mark.parametrize("mode", MODES)
def test_resize_smooths_first_as_scikit_image(mode):
    rng = np.random.default_rng(1)
    for _ in range(6):
        ndim = int(rng.integers(1, 4))
        shape, wanted = (tuple(map(int, rng.integers(1, n, ndim))) for n in (20, 12))
        array = noise(rng, shape, rng.choice(["u2", "f8"]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = reference.resize(array, wanted, None, mode, 7, preserve_range=True)
            fixed = reference.resize(array, wanted, 1, mode, preserve_range=True, anti_aliasing_sigma=1.5)
        got = transform.resize(cut(rng, array), wanted, mode=mode, cval=7)
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6 * 200)
        if any(m < n for n, m in zip(shape, wanted)):
            got = transform.resize(cut(rng, array), wanted, mode=mode, anti_aliasing_sigma=1.5)
            np.testing.assert_allclose(got, fixed, rtol=0, atol=2e-6 * 200)


def test_a_mask_and_half_floats_can_be_resized():
    mask = np.random.default_rng(2).random((9, 11)) < 0.5
    got = transform.resize(da.from_array(mask, chunks=4), (17, 5))
    expected = reference.resize(mask, (17, 5), order=0, anti_aliasing=False)
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == bool
    half = np.arange(12, dtype=np.float16).reshape(3, 4)
    assert transform.resize(half, (3, 8)).dtype == np.float32
    assert transform.downscale_local_mean(half, 2).dtype == np.float32


def test_downscale_is_scikit_images_block_by_block():
    rng = np.random.default_rng(3)
    for _ in range(40):
        ndim = int(rng.integers(1, 5))
        shape = tuple(map(int, rng.integers(1, 10, ndim)))
        factors = tuple(map(int, rng.integers(1, 13, ndim)))
        array = noise(rng, shape, rng.choice(["bool", "u1", "i2", "i4", "u8", "f4", "f8"]))
        expected = reference.downscale_local_mean(array, factors, cval=1)
        got = transform.downscale_local_mean(cut(rng, array), factors, cval=1)
        at_once = transform.downscale_local_mean(array, factors, cval=1)
        np.testing.assert_array_equal(got, at_once)
        if array.dtype.kind == "f":
            np.testing.assert_allclose(at_once, expected, rtol=1e-6)
        else:
            np.testing.assert_array_equal(at_once, expected.astype(at_once.dtype))


def test_downscale_does_not_overflow():
    image = np.full((300, 3, 256), 65535, np.uint16)
    assert (transform.downscale_local_mean(image, (300, 3, 256)) == 65535).all()
    huge = np.full((4, 4), 2**31 - 1, np.int32)
    assert (transform.downscale_local_mean(huge, 4) == 2**31 - 1).all()


@pytest.mark.parametrize("method", ["max", "min", "mean", "sum"])
def test_projections_are_numpys(method):
    rng = np.random.default_rng(4)
    for _ in range(25):
        ndim = int(rng.integers(1, 5))
        array = noise(
            rng, tuple(map(int, rng.integers(1, 12, ndim))), rng.choice(["bool", "u1", "i2", "u8", "f4", "f8"])
        )
        if array.dtype.kind == "f":
            array -= 100
            array.reshape(-1)[rng.integers(array.size)] = rng.choice([np.nan, np.inf, 0.0, -0.0])
        axis = int(rng.integers(-ndim, ndim))
        if method in ("max", "min"):
            expected = getattr(np, method)(array, axis) + array.dtype.type(0)
        else:
            wide = np.add.accumulate(array, axis, np.float64).take(-1, axis)
            total = wide if array.dtype.kind == "f" else array.sum(axis)
            expected = total if method == "sum" else wide / array.shape[axis]
        at_once = np.asarray(transform.project(array, method, axis))
        np.testing.assert_array_equal(at_once, np.asarray(expected).astype(at_once.dtype))
        for scheduler in ("sync", "threads"):
            got = transform.project(cut(rng, array), method, axis).compute(scheduler=scheduler)
            assert np.asarray(got).tobytes() == at_once.tobytes(), (array.shape, array.dtype, axis)


def test_thin_blocks_are_folded_in_runs():
    array = np.random.default_rng(5).random((37, 4, 5)).astype(np.float32)
    image = da.from_array(array, chunks=(1, 2, 5))
    plan = bigbia.explain(transform.project(image, "mean"))
    assert plan.tasks <= 2 * 5 + 1 + 2
    np.testing.assert_array_equal(transform.project(image, "mean"), transform.project(array, "mean"))


def test_a_projection_goes_into_further_operators():
    array = np.random.default_rng(6).integers(0, 200, (20, 30, 40)).astype(np.uint8)
    image = da.from_array(array, chunks=(7, 11, 13))
    got = bigbia.filters.gaussian(transform.project(bigbia.filters.gaussian(image, 1)), 2)
    expected = bigbia.filters.gaussian(bigbia.filters.gaussian(array, 1).max(0), 2)
    np.testing.assert_array_equal(got, expected)


@pytest.fixture
def stack():
    array = np.random.default_rng(7).integers(0, 200, (2, 3, 6, 9, 8)).astype(np.uint8)
    return hyperstack(
        da.from_array(array, chunks=(1, 1, 4, 5, 8)),
        "tczyx",
        voxel_size="2, 0.5, 0.25 um",
        channels=["a", "b", "d"],
        origin={"z": 1.0, "x": 10.0},
        time_step=3.0,
        time_unit="s",
    )


def test_voxel_sizes_and_places_follow(stack):
    small = transform.downscale_local_mean(stack, (1, 2, 4))
    assert small.shape == (2, 3, 6, 5, 2)
    assert voxel_size(small) == {"z": 2.0, "y": 1.0, "x": 1.0}
    assert origin(small) == {"t": 0.0, "z": 1.0, "y": 0.25, "x": 10.375}
    assert small.x.attrs["units"] == "micrometer"
    assert list(small.c.values) == ["a", "b", "d"]

    large = transform.rescale(stack, (2, 1, 0.5), anti_aliasing=False)
    assert large.shape == (2, 3, 12, 9, 4)
    assert voxel_size(large) == {"z": 1.0, "y": 0.5, "x": 0.5}
    assert origin(large) == {"t": 0.0, "z": 0.5, "y": 0.0, "x": 10.125}
    one = np.asarray(stack)[1, 2]
    np.testing.assert_array_equal(large[1, 2], transform.rescale(one, (2, 1, 0.5), anti_aliasing=False))
    assert transform.resize(stack, (12, 9, 4)).shape == transform.resize(stack, (2, 3, 12, 9, 4)).shape == large.shape


def test_an_axis_of_one_voxel_keeps_its_size(stack):
    thin = transform.downscale_local_mean(stack, (6, 1, 1))
    assert thin.sizes["z"] == 1
    assert voxel_size(thin) == {"z": 12.0, "y": 0.5, "x": 0.25}


def test_projections_by_name_and_number(stack):
    array = np.asarray(stack)
    for axis, at in [("z", 2), (0, 2), (-1, 4), ("x", 4), ("t", 0), ("c", 1)]:
        got = transform.project(stack, axis=axis)
        np.testing.assert_array_equal(got, array.max(at))
        assert got.dims == tuple(d for i, d in enumerate("tczyx") if i != at)
        assert not set(got.coords) - set(got.dims)
    assert voxel_size(transform.project(stack, axis="z")) == {"y": 0.5, "x": 0.25}


# ---- places ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["constant", "grid-constant", "nearest"])
def test_affine_is_scipys_to_the_bit(mode):
    rng = np.random.default_rng(8)
    for i in range(25):
        ndim = int(rng.integers(1, 4))
        shape, wanted = (tuple(map(int, rng.integers(1, n, ndim))) for n in (12, 14))
        array = noise(rng, shape, rng.choice(["u1", "i2", "i4", "f4", "f8"]))
        matrix, offset = np.eye(ndim) + rng.normal(0, 0.5, (ndim, ndim)), rng.normal(0, 3, ndim)
        if i % 3 == 0:  # places on voxels and on the border
            matrix, offset = np.round(matrix * 2) / 2, np.round(offset * 2) / 2
        for order in (0, 1):
            kind = array.dtype if order == 0 else linear(array.dtype)
            expected = ndi.affine_transform(array, matrix, offset, wanted, kind, order, mode, 3)
            given = {"output_shape": wanted, "order": order, "mode": mode, "cval": 3}
            for image in (array, cut(rng, array)):
                got = transform.affine(image, matrix, offset, **given)
                np.testing.assert_array_equal(got, expected, f"{shape} {matrix} {offset}")
                assert got.dtype == expected.dtype


def test_all_forms_of_a_matrix():
    array = noise(np.random.default_rng(9), (9, 8), "u1")
    square, offset = np.array([[2.0, 0], [0, 0.5]]), np.array([1.0, -2])
    expected = transform.affine(array, square, offset)
    wide = np.column_stack([square, offset])
    for given in ((square.tolist(), offset.tolist()), ([2, 0.5], offset), (wide,), (np.vstack([wide, [0, 0, 1]]),)):
        np.testing.assert_array_equal(transform.affine(array, *given), expected)


def test_a_mask_can_be_moved():
    mask = np.random.default_rng(10).random((9, 11)) < 0.5
    for lazy in (False, True):
        got = transform.rotate(da.from_array(mask, chunks=4) if lazy else mask, 90, resize=True)
        np.testing.assert_array_equal(got, np.rot90(mask))
        assert got.dtype == bool


def test_rotate_is_scikit_images():
    rng = np.random.default_rng(11)
    for _ in range(30):
        array = noise(rng, tuple(map(int, rng.integers(2, 20, 2))), rng.choice(["u1", "f8"]))
        given = {
            "angle": float(rng.choice([0, 90, 180, -90, 30, 45, rng.random() * 360])),
            "resize": bool(rng.integers(2)),
            "center": None if rng.integers(2) else tuple(map(float, rng.random(2) * 10)),
            "mode": rng.choice(["constant", "edge"]),
            "cval": 3,
        }
        expected = reference.rotate(array, order=1, preserve_range=True, clip=False, **given)
        got = transform.rotate(cut(rng, array), **given)
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * 200)


def test_planes_of_a_stack_are_rotated_alike_and_right_angles_are_exact(stack):
    got = transform.rotate(stack, 90, resize=True)
    np.testing.assert_array_equal(got, np.rot90(np.asarray(stack), axes=(-2, -1)))
    assert got.dims == stack.dims
    assert voxel_size(got) == {"z": 2.0, "y": 0.25, "x": 0.5}
    # the middle stays in its place
    assert float(got.y.mean()) == pytest.approx(float(stack.y.mean()))
    assert float(got.x.mean()) == pytest.approx(float(stack.x.mean()))


def test_places_of_a_moved_image(stack):
    got = transform.affine(stack, [1, 1, 2], (1, 0, -1), output_shape=(5, 9, 4))
    assert voxel_size(got) == {"z": 2.0, "y": 0.5, "x": 0.5}
    assert origin(got) == {"t": 0.0, "z": 3.0, "y": 0.0, "x": 9.75}
    np.testing.assert_array_equal(got.x, 9.75 + 0.5 * np.arange(4))


class Zeros:
    """A source without end that counts what is read of it at a time."""

    shape, dtype, chunks, token = (4096, 64, 64), np.dtype("u2"), (64, 64, 64), "zeros"
    most = 0

    def read(self, box):
        shape = tuple(b - a for a, b in box)
        Zeros.most = max(Zeros.most, int(np.prod(shape)))
        return np.ones(shape, self.dtype)


def test_a_long_axis_is_read_a_block_at_a_time():
    got = transform.project(from_source(Zeros(), (64, 64, 64)), "sum").compute(scheduler="sync")
    assert (got == 4096).all()
    assert Zeros.most <= 64**3


REFUSED = [
    (lambda a: transform.downscale_local_mean(a, 0), "factors=0"),
    (lambda a: transform.downscale_local_mean(a, 1.5), "rescale"),
    (lambda a: transform.downscale_local_mean(a, (2, 2)), "2 numbers for 3 spatial axes"),
    (lambda a: transform.resize(a, (3, 0, 2)), "1 or more"),
    (lambda a: transform.resize(a, (3, 2)), "2 lengths for 3 spatial axes"),
    (lambda a: transform.resize(a, (3, 3, 3), order=3), "order=3"),
    (lambda a: transform.resize(a, (3, 3, 3), mode="mirror"), "mode='mirror'"),
    (lambda a: transform.resize(a, (3, 3, 3), preserve_range=False), "preserve_range"),
    (lambda a: transform.resize(a, (3, 3, 3), anti_aliasing_sigma=-1), "negative"),
    (lambda a: transform.rescale(a, -2), "scale=-2"),
    (lambda a: transform.rescale(a, float("nan")), "scale=nan"),
    (lambda a: transform.rescale(a, (1, 2)), "2 numbers for 3 spatial axes"),
    (lambda a: transform.resize(a > 3, (3, 3, 3), anti_aliasing=True), "mask"),
    (lambda a: transform.project(a, "median"), "method='median'"),
    (lambda a: transform.project(a, axis=3), "axis=3"),
    (lambda a: transform.project(a, axis="z"), "axis='z'"),
    (lambda a: transform.project(a, axis=1.5), "axis=1.5"),
    (lambda a: transform.affine(a, np.eye(2)), "does not fit 3 spatial axes"),
    (lambda a: transform.affine(a, np.full((3, 3), np.inf)), "not finite"),
    (lambda a: transform.affine(a, "x"), "must be numbers"),
    (lambda a: transform.affine(a, np.ones((4, 4))), "last row"),
    (lambda a: transform.affine(a, np.eye(3), (1, 2)), "offset=(1, 2)"),
    (lambda a: transform.affine(a, np.eye(3), order=3), "order=3"),
    (lambda a: transform.affine(a, np.eye(3), mode="reflect"), "mode='reflect'"),
    (lambda a: transform.affine(a, np.eye(3), output_shape=(1, 2)), "output_shape=(1, 2)"),
    (lambda a: transform.rotate(a, "30"), "angle='30'"),
    (lambda a: transform.rotate(a, 30, center=(1, 2, 3)), "center=(1, 2, 3)"),
    (lambda a: transform.rotate(a[0, 0], 30), "1 spatial axis"),
]


@pytest.mark.parametrize("call", REFUSED, ids=[said for _, said in REFUSED])
def test_bad_input_is_refused_before_anything_is_read(call):
    check_refused(call, np.zeros((4, 5, 6), np.uint8))


def test_time_cannot_be_resized(stack):
    with pytest.raises(bigbia.errors.BigbiaError, match="not space"):
        transform.resize(stack, (4, 3, 6, 9, 8))


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_what_is_not_finite_does_not_tell_where_the_blocks_are(bad):
    """A voxel of weight 0 counts, or not, for the whole axis: 0 * inf is NaN."""
    rng = np.random.default_rng(3)
    array = rng.random((9, 10, 12)).astype(np.float32)
    array[4, 5, 6] = array[4, 2, 7] = bad
    for shape in ((5, 6, 7), (3, 20, 4), (9, 10, 4), (18, 5, 12)):
        expected = transform.resize(array, shape, anti_aliasing=False)
        factors = [m / n for n, m in zip(array.shape, shape)]
        with np.errstate(invalid="ignore"):
            scipys = ndi.zoom(array, factors, order=1, mode="mirror", grid_mode=True)
        if shape == (5, 6, 7):  # where all places of an axis are voxels, SciPy counts their neighbours, with weight 0
            np.testing.assert_array_equal(expected, scipys)
        for chunks in (1, 2, (9, 3, 5)):
            got = transform.resize(da.from_array(array, chunks=chunks), shape, anti_aliasing=False)
            np.testing.assert_array_equal(got.compute(), expected)


def test_bytes_in_the_other_order_and_half_floats():
    image = np.random.default_rng(4).integers(0, 90, (6, 8, 9))
    for dtype in ("u2", "i4", "f2", "f8"):
        array = image.astype(dtype)
        turned = array.astype(array.dtype.newbyteorder())
        for call in (
            lambda a: transform.resize(a, (4, 9, 9)),
            lambda a: transform.resize(a, (4, 9, 9), order=0, anti_aliasing=False),
            lambda a: transform.downscale_local_mean(a, 2),
            lambda a: transform.rotate(a, 20),
            lambda a: transform.project(a),
            lambda a: transform.project(a, "mean"),
        ):
            expected = call(array)
            for other in (turned, da.from_array(turned, chunks=4)):
                got = call(other)
                assert got.dtype == expected.dtype
                np.testing.assert_array_equal(np.asarray(got), expected)
