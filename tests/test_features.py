"""Features at every voxel: against scikit-image in 3D, channels and lengths, bad input."""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage import feature, filters
from test_contract import check_refused

import bigbia
from bigbia.hyperstack import hyperstack
from bigbia.kernels.tensors import eigenvalues, gradient, sobel_along


@pytest.fixture(params=["f4", "f8"])
def smooth(request):
    """A smooth image: no two curvatures are the same by accident."""
    noise = np.random.default_rng(0).normal(100, 30, (18, 19, 20))
    return ndi.gaussian_filter(noise, 1).astype(request.param)


def lazily(array, chunks=7):
    return da.from_array(array, chunks=chunks)


def close(got, expected, share=1e-6):
    expected = np.asarray(expected)
    np.testing.assert_allclose(np.asarray(got), expected, rtol=0, atol=share * np.abs(expected).max())


def test_features_are_scikit_images(smooth):
    floats = smooth.astype("f4")
    expected = feature.multiscale_basic_features(floats, sigma_min=0.5, sigma_max=3, num_sigma=3)
    got = bigbia.feature.multiscale_basic_features(lazily(smooth), sigma_min=0.5, sigma_max=3, num_sigma=3)
    assert got.dtype == np.float32
    assert got.shape == expected.shape == (*smooth.shape, 15)
    assert got.chunks[-1] == (15,)
    close(got, expected)
    np.testing.assert_array_equal(np.asarray(got)[..., ::5], expected[..., ::5])  # intensities
    np.testing.assert_array_equal(np.asarray(got)[..., 1::5], expected[..., 1::5])  # edges
    some = bigbia.feature.multiscale_basic_features(lazily(smooth), False, True, False, sigma_max=1)
    np.testing.assert_array_equal(some, feature.multiscale_basic_features(floats, False, True, False, sigma_max=1))


def test_each_gaussian_is_taken_once(smooth, monkeypatch):
    from bigbia.kernels import gaussian as module

    calls = []
    kernel = module.separable
    monkeypatch.setattr(module, "separable", lambda *a, **kw: calls.append(1) or kernel(*a, **kw))
    features = bigbia.feature.multiscale_basic_features(lazily(smooth, -1), sigma_max=2)
    assert len(dask.optimize(features)[0].__dask_graph__()) <= 2
    features.compute(scheduler="sync")
    assert len(calls) == 3


def test_matrices_are_scikit_images(smooth):
    for mode in ("constant", "reflect"):
        got = bigbia.feature.structure_tensor(lazily(smooth), 1.5, mode=mode)
        np.testing.assert_array_equal(np.asarray(got), feature.structure_tensor(smooth, 1.5, mode))
        values = bigbia.feature.structure_tensor_eigenvalues(got)
        close(values, feature.structure_tensor_eigenvalues([np.asarray(a) for a in got]))
        for way in (True, False):
            hessian = bigbia.feature.hessian_matrix(lazily(smooth), 1.5, mode=mode, use_gaussian_derivatives=way)
            expected = feature.hessian_matrix(smooth, 1.5, mode, use_gaussian_derivatives=way)
            np.testing.assert_array_equal(np.asarray(hessian), expected)
            close(bigbia.feature.hessian_matrix_eigvals(hessian), feature.hessian_matrix_eigvals(expected))
    plane = smooth[4]
    for name in ("structure_tensor", "hessian_matrix"):
        way = {} if name == "structure_tensor" else {"use_gaussian_derivatives": True}
        got = getattr(bigbia.feature, name)(lazily(plane), 1.5, order="xy", **way)
        np.testing.assert_array_equal(np.asarray(got), getattr(feature, name)(plane, 1.5, order="xy", **way))


@pytest.mark.parametrize("name", ["sato", "meijering", "frangi"])
@pytest.mark.parametrize("black", [True, False])
def test_ridges_are_scikit_images(smooth, name, black):
    got = getattr(bigbia.filters, name)(lazily(smooth), [1.5, 3], black_ridges=black)
    close(got, getattr(filters, name)(smooth, [1.5, 3], black_ridges=black), 1e-5)


def test_parameters_of_ridges(smooth):
    got = bigbia.filters.frangi(lazily(smooth), [2], alpha=0.3, beta=0.8, gamma=5, mode="constant", cval=90)
    close(got, filters.frangi(smooth, [2], alpha=0.3, beta=0.8, gamma=5, mode="constant", cval=90), 1e-5)
    close(bigbia.filters.meijering(smooth, [2], alpha=0.1), filters.meijering(smooth, [2], alpha=0.1), 1e-5)
    flat = np.zeros((9, 9), "f4")
    for name in ("sato", "meijering", "frangi"):
        np.testing.assert_array_equal(getattr(bigbia.filters, name)(lazily(flat), [1.5]), flat)


def stack(array, axes="tczyx", channels=("DNA", "actin"), chunks=(1, 1, 5, 4, 5)):
    lazy = da.from_array(array, chunks=chunks[-array.ndim :])
    names = channels if "c" in axes else None
    return hyperstack(lazy, axes, voxel_size=dict(zip("zyx", (1.0, 0.5, 0.25))), unit="um", channels=names)


def test_channels_become_as_many_features():
    array = np.random.default_rng(0).integers(0, 99, (2, 2, 7, 8, 9)).astype("u1")
    got = bigbia.feature.multiscale_basic_features(stack(array), sigma_max=1, texture=False)
    assert got.dims == ("t", "c", "z", "y", "x")
    assert got.chunks[1] == (4, 4)
    assert list(got.c.values[:4]) == ["DNA intensity 0.5", "DNA edges 0.5", "DNA intensity 1", "DNA edges 1"]
    assert got.c.values[4].startswith("actin")
    assert bigbia.hyperstack.voxel_size(got) == {"z": 1.0, "y": 0.5, "x": 0.25}
    for t in range(2):
        for c in range(2):
            alone = bigbia.feature.multiscale_basic_features(array[t, c], sigma_max=1, texture=False)
            np.testing.assert_array_equal(got[t, 4 * c : 4 * c + 4], np.moveaxis(alone, -1, 0))
    one = stack(array[0, 0], "zyx")
    values = bigbia.feature.hessian_matrix_eigvals(bigbia.feature.hessian_matrix(one, 1))
    assert values.dims == ("c", "z", "y", "x")
    assert list(values.c.values) == ["eigenvalue 0", "eigenvalue 1", "eigenvalue 2"]
    alone = bigbia.feature.hessian_matrix_eigvals(bigbia.feature.hessian_matrix(array[0, 0], 1))
    np.testing.assert_array_equal(values, alone)


def test_scales_with_a_unit_follow_the_voxels():
    array = np.random.default_rng(0).integers(0, 99, (12, 13, 14)).astype("f4")
    image = stack(array, "zyx")
    got = bigbia.feature.multiscale_basic_features(image, True, False, False, "0.5 um", "1 um")
    assert list(got.c.values) == ["intensity 0.5, 1, 2", "intensity 1, 2, 4"]
    np.testing.assert_array_equal(got[0], ndi.gaussian_filter(array, (0.5, 1, 2), mode="nearest"))


def test_ridges_through_long_voxels():
    """A tube along the diagonal of space is as strong as the same one along x, where sigma has a unit."""
    z, y, x = np.indices((24, 48, 96)) * np.array([1, 0.5, 0.25])[:, None, None, None]
    ways = {"x": ((y - 12) ** 2 + (z - 12) ** 2), "yz": (x - 12) ** 2 + (y - z) ** 2 / 2}
    middle = (12, 24, 48)
    found = {}
    for way, distance in ways.items():
        image = stack(np.exp(-distance / (2 * 2.0**2)).astype("f4") * 100, "zyx", chunks=(24, 24, 48))
        values = bigbia.filters.sato(image, ["1.5 um"], black_ridges=False).values
        found[way] = values[middle]
    assert found["yz"] == pytest.approx(found["x"], rel=0.02)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_eigenvalues_of_any_size(dtype):
    rng = np.random.default_rng(0)
    for scale in (1, 1e-30, 1e15):
        elements = [(rng.normal(0, scale, (40, 10, 5))).astype(dtype) for _ in range(6)]
        elements[1][:9], elements[3][:5] = 0, elements[0][:5]  # diagonal, and equal ones
        expected = feature.hessian_matrix_eigvals([e.astype("f8") for e in elements])
        close(eigenvalues(elements), expected, 1e-6 if dtype == "f4" else 1e-12)
    four = [rng.normal(0, 1, (5, 4, 3, 2)).astype(dtype) for _ in range(10)]
    np.testing.assert_array_equal(eigenvalues(four), feature.hessian_matrix_eigvals(four))


@pytest.mark.parametrize("seed", range(40))
def test_derivatives_are_scipys(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 9, rng.integers(1, 5)))
    array = rng.normal(0, 1, shape).astype(rng.choice(["f4", "f8"]))
    mode, axis = str(rng.choice(["nearest", "reflect", "mirror", "constant"])), int(rng.integers(0, len(shape)))
    core = tuple(slice(*sorted(rng.choice(n + 1, 2, replace=False).tolist())) for n in shape)
    got = sobel_along(array, axis=axis, axes=range(len(shape)), mode=mode, cval=1.5, output=array.dtype, core=core)
    np.testing.assert_array_equal(got, ndi.sobel(array, axis=axis, mode=mode, cval=1.5)[core])
    if shape[axis] > 1:
        np.testing.assert_array_equal(gradient(array, axis), np.gradient(array, axis=axis))


IMAGE = np.zeros((6, 8), "u1")
F, R = bigbia.feature, bigbia.filters
REFUSED = {
    "no features": (lambda a: F.multiscale_basic_features(a, False, False, False), "all False"),
    "scales the wrong way": (lambda a: F.multiscale_basic_features(a, sigma_min=3, sigma_max=1), "sigma_min=3"),
    "no scales": (lambda a: F.multiscale_basic_features(a, num_sigma=0), "num_sigma=0"),
    "a unit without voxel size": (lambda a: F.multiscale_basic_features(a, sigma_min="1 um"), "voxel size"),
    "an order that is not known": (lambda a: F.hessian_matrix(a, order="yx"), "order='yx'"),
    "xy in 3D": (lambda a: F.structure_tensor(a[None], order="xy"), "2 axes of space, the image has 3"),
    "an unknown mode": (lambda a: F.structure_tensor(a, mode="edge"), "feature.structure_tensor: mode='edge'"),
    "no derivative": (lambda a: F.hessian_matrix(a, 0, use_gaussian_derivatives=True), "sigma=0"),
    "too few elements": (lambda a: F.hessian_matrix_eigvals([a, a]), "2 arrays"),
    "elements of another image": (lambda a: F.hessian_matrix_eigvals([a] * 6), "2 axes of space"),
    "no elements": (lambda a: F.structure_tensor_eigenvalues([]), "empty"),
    "elements that differ": (lambda a: F.structure_tensor_eigenvalues([a, a, a[1:]]), "(5, 8)"),
    "ridges of a line": (lambda a: R.sato(a[0]), "1 axes of space"),
    "no sigma": (lambda a: R.frangi(a, []), "filters.frangi: sigmas=[]"),
    "sigma of 0": (lambda a: R.meijering(a, [1, 0]), "above 0"),
    "a sigma an axis": (lambda a: R.sato(a, [[1, 2]]), "for each scale"),
    "gamma of 0": (lambda a: R.frangi(a, gamma=0), "gamma=0"),
    "an unknown mode of ridges": (lambda a: R.sato(a, mode="edge"), "filters.sato: mode='edge'"),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_refused(call):
    check_refused(call, IMAGE)
