"""Cases of features at every voxel: tensors, Hessians, what pixel classification takes."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
from case import Case, linear
from scipy import ndimage as ndi
from skimage import feature, filters

import bigbia
from bigbia.hyperstack import is_hyperstack

FEW = ("uint8", "int32", "float32", "float64")


def operator(public):
    """A function under test that goes by the name of the operator it tries."""

    def named(function):
        function.__module__, function.__name__ = public.__module__, public.__name__
        return function

    return named


@operator(bigbia.feature.structure_tensor)
def structure_tensor(image, **kw):
    return tuple(bigbia.feature.structure_tensor(image, **kw))


@operator(bigbia.feature.hessian_matrix)
def hessian_matrix(image, **kw):
    return tuple(bigbia.feature.hessian_matrix(image, **kw))


@operator(bigbia.feature.structure_tensor_eigenvalues)
def structure_tensor_eigenvalues(image, **kw):
    found = bigbia.feature.structure_tensor_eigenvalues(bigbia.feature.structure_tensor(image, **kw))
    return channels_apart(found, image)


@operator(bigbia.feature.hessian_matrix_eigvals)
def hessian_matrix_eigvals(image, **kw):
    return channels_apart(bigbia.feature.hessian_matrix_eigvals(bigbia.feature.hessian_matrix(image, **kw)), image)


@operator(bigbia.feature.multiscale_basic_features)
def multiscale_basic_features(image, **kw):
    return channels_apart(bigbia.feature.multiscale_basic_features(image, **kw), image)


def channels_apart(found, image):
    """What has other channels than the image is no result of its shape: looked at in test_features.py."""
    return (found.data,) if is_hyperstack(image) else found


def _structure_tensor(a, sigma, mode="constant"):
    if min(a.shape) > 1 and a.ndim > 1:  # scikit-image drops axes of one voxel, and refuses one axis
        return feature.structure_tensor(a.astype(linear(a.dtype)), sigma, mode)
    firsts = [ndi.sobel(a.astype(linear(a.dtype)), axis=k, mode=mode) for k in range(a.ndim)]
    return [ndi.gaussian_filter(u * v, sigma, mode=mode) for u, v in combinations_with_replacement(firsts, 2)]


def _hessian(a, sigma, mode="constant", use_gaussian_derivatives=False):
    floats = a.astype(linear(a.dtype))
    if use_gaussian_derivatives or (min(a.shape) > 1 and a.ndim > 1):
        return feature.hessian_matrix(floats, sigma, mode, use_gaussian_derivatives=use_gaussian_derivatives)
    smooth = ndi.gaussian_filter(floats, sigma, mode=mode)  # scikit-image refuses one axis, and axes of one voxel
    firsts = [np.gradient(smooth, axis=k) if n > 1 else 0 * smooth for k, n in enumerate(a.shape)]
    pairs = combinations_with_replacement(range(a.ndim), 2)
    return [np.gradient(firsts[i], axis=j) if a.shape[j] > 1 else 0 * smooth for i, j in pairs]


def _eigenvalues(elements):
    def reference(a, **kw):
        found = elements(a, **kw)
        return feature.hessian_matrix_eigvals(found) if a.ndim > 1 else np.stack(found)

    return reference


def _ridges(name):
    return lambda a, **kw: getattr(filters, name)(a.astype(linear(a.dtype)), **kw)


RIDGES = {"sigmas": [1.1, 2]}

CASES = {
    "structure_tensor": Case(structure_tensor, {"sigma": 0.8}, _structure_tensor, FEW),
    "structure_tensor-reflect": Case(
        structure_tensor, {"sigma": 1, "mode": "reflect"}, _structure_tensor, ("uint16", "float32")
    ),
    "hessian_matrix": Case(hessian_matrix, {"sigma": 0.9}, _hessian, FEW),
    "hessian_matrix-gaussians": Case(
        hessian_matrix,
        {"sigma": 1.1, "mode": "nearest", "use_gaussian_derivatives": True},
        _hessian,
        ("uint8", "float64"),
    ),
    "structure_tensor_eigenvalues": Case(
        structure_tensor_eigenvalues, {"sigma": 1}, _eigenvalues(_structure_tensor), ("uint8", "float64"), close=1e-6
    ),
    "hessian_matrix_eigvals": Case(
        hessian_matrix_eigvals, {"sigma": 1}, _eigenvalues(_hessian), ("uint8", "float32"), close=1e-6
    ),
    "multiscale_basic_features": Case(
        multiscale_basic_features, {"sigma_min": 0.5, "sigma_max": 1}, None, ("uint8", "float32")
    ),
    # In 3D scikit-image's eigenvalues differ in their last bits, and roots of nearly nothing magnify that.
    "sato": Case(bigbia.filters.sato, RIDGES, _ridges("sato"), ("uint8", "float32"), dims=(2, 2)),
    "sato-bright": Case(bigbia.filters.sato, RIDGES | {"black_ridges": False}, None, ("uint16",), dims=(2, 3)),
    "meijering": Case(
        bigbia.filters.meijering, RIDGES, _ridges("meijering"), ("uint8", "float64"), tasks=4.5, dims=(2, 2), close=1e-5
    ),
    "frangi": Case(bigbia.filters.frangi, RIDGES, _ridges("frangi"), ("uint8", "float32"), tasks=4.0, dims=(2, 2)),
    "frangi-gamma": Case(bigbia.filters.frangi, RIDGES | {"gamma": 3.0}, None, ("float32",), dims=(2, 3)),
}
