"""Cases of weighted neighbourhoods: Gaussians, edges, any weights."""

from __future__ import annotations

import numpy as np
from case import Case, linear
from scipy import ndimage as ndi
from skimage import filters

import bigbia

FEW = ("uint8", "int32", "float32", "float64")


def _gaussian(a, **kw):
    kw = {"mode": "nearest", **kw}
    return ndi.gaussian_filter(a, output=linear(a.dtype), **kw)


def _sobel(a, **kw):
    return filters.sobel(a.astype(linear(a.dtype)), **kw)


def _edge(name):
    return lambda a, **kw: getattr(filters, name)(a.astype(linear(a.dtype)), **kw)


def _derived(name):
    return lambda a, **kw: getattr(ndi, name)(a, output=linear(a.dtype), **kw)


def _dog(a, **kw):
    return filters.difference_of_gaussians(a.astype(linear(a.dtype)), **kw)


def _unsharp(a, **kw):
    return filters.unsharp_mask(a.astype(linear(a.dtype)), preserve_range=True, **kw)


def _weighted(name):
    """The same weights along every axis, as the operators under test have them: products of a line."""

    def reference(a, line, **kw):
        return getattr(ndi, name)(a, _box(line, a.ndim), output=linear(a.dtype), **kw)

    return reference


def _box(line, ndim):
    out = np.array(1.0)
    for _ in range(ndim):
        out = np.multiply.outer(out, line)
    return out


def correlated(image, line, **kw):
    return bigbia.filters.correlate(image, _box(line, space(image)), **kw)


def convolved(image, line, **kw):
    return bigbia.filters.convolve(image, _box(line, space(image)), **kw)


def space(image):
    return len(bigbia.hyperstack.spatial_axes(image)) if hasattr(image, "dtype") else 1


for function, operator in ((correlated, bigbia.filters.correlate), (convolved, bigbia.filters.convolve)):
    function.__module__, function.__name__ = operator.__module__, operator.__name__

CASES = {
    "gaussian": Case(bigbia.filters.gaussian, {"sigma": 1.3}, _gaussian),
    "gaussian-reflect": Case(bigbia.filters.gaussian, {"sigma": 2, "mode": "reflect"}, _gaussian),
    "gaussian-mirror": Case(bigbia.filters.gaussian, {"sigma": 2, "mode": "mirror"}, _gaussian),
    "gaussian-constant": Case(bigbia.filters.gaussian, {"sigma": 1, "mode": "constant", "cval": 7.5}, _gaussian),
    "gaussian-wrap": Case(bigbia.filters.gaussian, {"sigma": 2, "mode": "wrap"}, _gaussian),
    "gaussian-none": Case(bigbia.filters.gaussian, {"sigma": 0}, lambda a, sigma: a.astype(linear(a.dtype))),
    "sobel": Case(bigbia.filters.sobel, {}, _sobel),
    "sobel-axis": Case(bigbia.filters.sobel, {"axis": 0}, _sobel),
    "prewitt": Case(bigbia.filters.prewitt, {}, _edge("prewitt"), FEW),
    "scharr": Case(bigbia.filters.scharr, {}, _edge("scharr"), FEW),
    "scharr-constant": Case(
        bigbia.filters.scharr, {"mode": "constant", "cval": 7.5}, _edge("scharr"), ("uint8", "float32")
    ),
    "laplace": Case(bigbia.filters.laplace, {}, _edge("laplace"), FEW),
    "gaussian_laplace": Case(bigbia.filters.gaussian_laplace, {"sigma": 1.2}, _derived("gaussian_laplace"), FEW),
    "gaussian_gradient_magnitude": Case(
        bigbia.filters.gaussian_gradient_magnitude,
        {"sigma": 0.8, "mode": "mirror"},
        _derived("gaussian_gradient_magnitude"),
        FEW,
    ),
    "difference_of_gaussians": Case(bigbia.filters.difference_of_gaussians, {"low_sigma": 0.7}, _dog, FEW),
    "unsharp_mask": Case(bigbia.filters.unsharp_mask, {"radius": 0.6, "amount": 2.5}, _unsharp, FEW),
    "correlate": Case(correlated, {"line": [0.5, 0, 3]}, _weighted("correlate"), FEW),
    "convolve": Case(
        convolved,
        {"line": [0.1, 2, -1, 4], "mode": "constant", "cval": 2.5},
        _weighted("convolve"),
        ("bool", "float32"),
    ),
}
