"""Filters: what a voxel becomes, given its neighbourhood; and thresholds. Named as in scikit-image."""

from bigbia.filters.edges import sobel
from bigbia.filters.smooth import gaussian, median
from bigbia.filters.thresholds import threshold_otsu

__all__ = ["gaussian", "median", "sobel", "threshold_otsu"]
