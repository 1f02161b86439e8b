"""Filters: what a voxel becomes, given its neighbourhood; and thresholds. Named as in scikit-image."""

from bigbia.filters.edges import laplace, prewitt, scharr, sobel
from bigbia.filters.gaussians import (
    difference_of_gaussians,
    gaussian_gradient_magnitude,
    gaussian_laplace,
    unsharp_mask,
)
from bigbia.filters.linear import convolve, correlate
from bigbia.filters.smooth import gaussian, median
from bigbia.filters.thresholds import threshold_otsu

__all__ = [
    "convolve",
    "correlate",
    "difference_of_gaussians",
    "gaussian",
    "gaussian_gradient_magnitude",
    "gaussian_laplace",
    "laplace",
    "median",
    "prewitt",
    "scharr",
    "sobel",
    "threshold_otsu",
    "unsharp_mask",
]
