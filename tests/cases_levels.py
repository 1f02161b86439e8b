"""Cases of tests/cases.py: local means and thresholds, hysteresis, exposure."""

from __future__ import annotations

import numpy as np
from case import Case, linear
from scipy import ndimage as ndi
from skimage import exposure, filters

import bigbia

INTEGERS = ("bool", "uint8", "uint16", "int16")


def _uniform(a, size=3, **kw):
    return ndi.uniform_filter(a, size, output=linear(a.dtype), **kw)


def _variance(a, size=3, mode="reflect", cval=0):
    """From sums in whole numbers."""
    box = np.ones((size,) * a.ndim, np.int64)
    wide = a.astype(np.int64)
    one = ndi.correlate(wide, box, mode=mode, cval=cval)
    two = ndi.correlate(wide**2, box, mode=mode, cval=cval**2)
    return ((box.size * two - one * one) / box.size**2).astype(linear(a.dtype))


def _std(a, size=3, **kw):
    return np.sqrt(_variance(a.astype(np.int64), size, **kw)).astype(linear(a.dtype))


def _threshold(name, **usual):
    def reference(a, **kw):
        wide = a if a.dtype == np.float64 else a.astype(np.float64)  # scikit-image's sums of floats are float32
        kw = {**usual.get(a.dtype.name, {}), **kw}
        return getattr(filters, name)(wide, **kw).astype(linear(a.dtype))

    return reference


def _threshold_local(a, block_size=3, method="gaussian", offset=0, mode="reflect", **kw):
    return filters.threshold_local(a.astype(linear(a.dtype)), block_size, method, offset, mode, **kw)


def _as_linear(function):
    return lambda a, **kw: function(a, **kw).astype(linear(a.dtype))


HALVES = {"uint8": {"r": 127.5}, "uint16": {"r": 32767.5}, "bool": {"r": 0.5}}

CASES: dict[str, Case] = {
    "uniform": Case(bigbia.filters.uniform, {}, _uniform, ("bool", "uint8", "uint16", "float32")),
    "uniform-wide": Case(bigbia.filters.uniform, {"size": 19}, _uniform, ("int32", "float64"), close=1e-13),
    "uniform-even": Case(bigbia.filters.uniform, {"size": 6, "mode": "wrap"}, _uniform, ("uint16", "float32")),
    "uniform-constant": Case(
        bigbia.filters.uniform, {"size": 5, "mode": "constant", "cval": 7.5}, _uniform, ("uint8", "float32")
    ),
    "variance": Case(bigbia.filters.variance, {}, _variance, INTEGERS),
    "variance-constant": Case(
        bigbia.filters.variance, {"size": 4, "mode": "constant", "cval": 3}, _variance, ("uint16",)
    ),
    "variance-float": Case(bigbia.filters.variance, {"size": 5, "mode": "mirror"}, None, ("int32", "float32")),
    "std": Case(bigbia.filters.std, {"size": 5}, _std, ("uint8", "uint16")),
    "threshold_local": Case(
        bigbia.filters.threshold_local, {"block_size": 5, "offset": 2}, _threshold_local, ("uint8", "int32", "float32")
    ),
    "threshold_local-mean": Case(
        bigbia.filters.threshold_local,
        {"block_size": 7, "method": "mean", "mode": "mirror"},
        _threshold_local,
        ("uint16", "float32"),
    ),
    "threshold_local-median": Case(
        bigbia.filters.threshold_local, {"method": "median"}, _threshold_local, ("uint8",), dims=(1, 3)
    ),
    "threshold_niblack": Case(
        bigbia.filters.threshold_niblack,
        {"window_size": 5},
        _threshold("threshold_niblack"),
        ("uint8", "uint16", "int16"),
    ),
    "threshold_niblack-float": Case(
        bigbia.filters.threshold_niblack,
        {"window_size": 15, "k": -0.5},
        _threshold("threshold_niblack"),
        ("float32",),
        close=1e-5,
    ),
    "threshold_sauvola": Case(
        bigbia.filters.threshold_sauvola,
        {"window_size": 5},
        _threshold("threshold_sauvola", **HALVES),
        ("bool", "uint8", "uint16"),
    ),
    "apply_hysteresis_threshold": Case(
        bigbia.filters.apply_hysteresis_threshold,
        {"low": 20, "high": 110.5},
        filters.apply_hysteresis_threshold,
        ("uint8", "int16", "float32"),
        tasks=4.0,
    ),
    "rescale_intensity": Case(
        bigbia.exposure.rescale_intensity,
        {},
        exposure.rescale_intensity,
        ("uint8", "uint16", "int32", "float32"),
        tasks=2.5,
    ),
    "rescale_intensity-image": Case(
        bigbia.exposure.rescale_intensity,
        {"in_range": (20, 90), "out_range": "image"},
        exposure.rescale_intensity,
        ("int16", "float64"),
        tasks=2.5,
    ),
    "rescale_intensity-ranges": Case(
        bigbia.exposure.rescale_intensity,
        {"in_range": "uint12", "out_range": (0, 1)},
        _as_linear(exposure.rescale_intensity),
        ("uint16", "float32"),
    ),
    "adjust_gamma": Case(
        bigbia.exposure.adjust_gamma, {"gamma": 0.7}, exposure.adjust_gamma, ("uint8", "uint16", "int32")
    ),
    "adjust_log": Case(bigbia.exposure.adjust_log, {}, exposure.adjust_log, ("uint8", "int16")),
    "adjust_sigmoid": Case(bigbia.exposure.adjust_sigmoid, {"inv": True}, exposure.adjust_sigmoid, ("uint8", "uint16")),
    "equalize_hist": Case(
        bigbia.exposure.equalize_hist,
        {},
        _as_linear(exposure.equalize_hist),
        ("uint8", "int16", "int32", "float32"),
        tasks=3.5,
    ),
    "match_histograms": Case(
        bigbia.exposure.match_histograms,
        {},
        lambda a: exposure.match_histograms(a, a).astype(np.float32),
        ("uint8", "uint16", "int16"),
        "labels",
        tasks=3.5,
    ),
    "equalize_adapthist": Case(
        bigbia.exposure.equalize_adapthist,
        {"kernel_size": 4, "clip_limit": 0.1},
        _as_linear(exposure.equalize_adapthist.__wrapped__),  # which takes a last axis of 3 or 4 for colours
        ("uint8", "uint16", "int32"),
        tasks=4.5,
    ),
}
