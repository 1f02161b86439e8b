"""Filters: what a voxel becomes, given its neighbourhood; and thresholds. Named as in scikit-image."""

from bigbia.filters.edges import laplace, prewitt, scharr, sobel
from bigbia.filters.gaussians import (
    difference_of_gaussians,
    gaussian_gradient_magnitude,
    gaussian_laplace,
    unsharp_mask,
)
from bigbia.filters.hysteresis import apply_hysteresis_threshold
from bigbia.filters.linear import convolve, correlate
from bigbia.filters.local import std, uniform, variance
from bigbia.filters.local_thresholds import threshold_local, threshold_niblack, threshold_sauvola
from bigbia.filters.ranks import maximum, median, minimum, percentile
from bigbia.filters.ridges import frangi, meijering, sato
from bigbia.filters.smooth import gaussian
from bigbia.filters.thresholds import threshold_otsu

__all__ = [
    "apply_hysteresis_threshold",
    "convolve",
    "correlate",
    "difference_of_gaussians",
    "frangi",
    "gaussian",
    "gaussian_gradient_magnitude",
    "gaussian_laplace",
    "laplace",
    "maximum",
    "median",
    "meijering",
    "minimum",
    "percentile",
    "prewitt",
    "sato",
    "scharr",
    "sobel",
    "std",
    "threshold_local",
    "threshold_niblack",
    "threshold_otsu",
    "threshold_sauvola",
    "uniform",
    "unsharp_mask",
    "variance",
]
