"""Cases of tests/cases.py: filters by rank, morphology with footprints, backgrounds."""

from __future__ import annotations

import numpy as np
from case import Case, linear
from scipy import ndimage as ndi
from skimage import morphology, restoration

import bigbia

PAD = {"nearest": "edge", "reflect": "symmetric", "mirror": "reflect", "wrap": "wrap"}


def around(filtered, a, far, mode, cval=0.0):
    """A filter of a continued image: SciPy 1.17 reads beyond a line that is shorter than the footprint."""
    value = {"constant_values": np.asarray(cval).astype(a.dtype)} if mode == "constant" else {}
    padded = np.pad(a, far, mode=PAD.get(mode, mode), **value)
    return filtered(padded)[(slice(far, -far),) * a.ndim]


def _median(a, footprint=3, mode="nearest"):
    return around(lambda p: ndi.median_filter(p, footprint), a, 4, mode)


def _extreme(name):
    return lambda a, size=3, **kw: getattr(ndi, name)(a, size, **kw)


def _percentile(a, percentile, size=3, mode="reflect", **kw):
    return around(lambda p: ndi.percentile_filter(p, percentile, size), a, 5, mode, **kw)


def _morphology(name):
    function = getattr(morphology, name)

    def reference(a, footprint=None, mode="reflect"):
        fp = np.ones((footprint,) * a.ndim, bool) if isinstance(footprint, int) else footprint
        # scikit-image's modes for footprints of its own
        return around(lambda p: function(p, fp), a, 4, mode) if mode == "wrap" else function(a, fp, mode=mode)

    return reference


def _gradient(a, footprint=None, mode="reflect"):
    most, least = _morphology("dilation")(a, footprint, mode), _morphology("erosion")(a, footprint, mode)
    return most ^ least if a.dtype == bool else most - least


def _subtract_background(a, sigma, mode="nearest"):
    kind = linear(a.dtype)
    return a.astype(kind) - ndi.gaussian_filter(a, sigma, output=kind, mode=mode)


MORPHOLOGY = ("erosion", "dilation", "opening", "closing", "white_tophat", "black_tophat")

CASES: dict[str, Case] = {
    "minimum": Case(bigbia.filters.minimum, {}, _extreme("minimum_filter"), ("bool", "int16", "int32", "float32")),
    "minimum-4": Case(bigbia.filters.minimum, {"size": 4, "mode": "mirror"}, _extreme("minimum_filter"), ("uint16",)),
    "maximum": Case(bigbia.filters.maximum, {}, _extreme("maximum_filter"), ("uint8", "uint16", "float64")),
    "maximum-constant": Case(
        bigbia.filters.maximum,
        {"size": 7, "mode": "constant", "cval": 30},
        _extreme("maximum_filter"),
        ("uint8", "float32"),
    ),
    "median": Case(bigbia.filters.median, {}, _median),
    "median-even": Case(bigbia.filters.median, {"footprint": 4, "mode": "mirror"}, _median, ("uint8", "float32")),
    "median-wrap": Case(bigbia.filters.median, {"footprint": 3, "mode": "wrap"}, _median, ("uint8", "float32")),
    "percentile": Case(
        bigbia.filters.percentile, {"percentile": 20}, _percentile, ("bool", "uint8", "int16", "float32")
    ),
    "percentile-90": Case(
        bigbia.filters.percentile, {"percentile": -10, "size": 5, "mode": "nearest"}, _percentile, ("uint16",)
    ),
    **{name: Case(getattr(bigbia.morphology, name), {}, _morphology(name)) for name in MORPHOLOGY[:3]},
    **{
        name: Case(getattr(bigbia.morphology, name), {}, _morphology(name), ("bool", "uint16", "float32"))
        for name in MORPHOLOGY[3:]
    },
    "gradient": Case(bigbia.morphology.gradient, {}, _gradient, ("bool", "uint8", "int16", "float64")),
    "erosion-4": Case(bigbia.morphology.erosion, {"footprint": 4}, _morphology("erosion"), ("bool", "float32")),
    "opening-4": Case(bigbia.morphology.opening, {"footprint": 4}, _morphology("opening"), ("uint8",)),
    "closing-wrap": Case(
        bigbia.morphology.closing, {"footprint": 3, "mode": "wrap"}, _morphology("closing"), ("uint8",)
    ),
    "tophat-constant": Case(
        bigbia.morphology.white_tophat, {"footprint": 3, "mode": "constant"}, _morphology("white_tophat"), ("uint16",)
    ),
    "rolling_ball": Case(
        bigbia.restoration.rolling_ball,
        {"radius": 4},
        lambda a, radius: restoration.rolling_ball(a, radius=radius),
        ("uint8", "int16", "float32", "float64"),
    ),
    "subtract_background": Case(
        bigbia.restoration.subtract_background,
        {"sigma": 2},
        _subtract_background,
        ("bool", "uint16", "int32", "float32"),
    ),
    "subtract_background-wrap": Case(
        bigbia.restoration.subtract_background, {"sigma": 1.3, "mode": "wrap"}, _subtract_background, ("float32",)
    ),
}
