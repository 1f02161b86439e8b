"""Morphology: footprints on masks and images, objects and holes, extrema. Named as in scikit-image."""

from bigbia.morphology.basic import black_tophat, closing, dilation, erosion, gradient, opening, white_tophat
from bigbia.morphology.distance import distance_transform_edt
from bigbia.morphology.extrema import local_maxima, local_minima
from bigbia.morphology.isotropic import isotropic_closing, isotropic_dilation, isotropic_erosion, isotropic_opening
from bigbia.morphology.objects import (
    fill_holes,
    keep_largest,
    remove_large_objects,
    remove_small_holes,
    remove_small_objects,
)
from bigbia.morphology.reconstruction import h_maxima, h_minima, reconstruction

__all__ = [
    "black_tophat",
    "closing",
    "dilation",
    "distance_transform_edt",
    "erosion",
    "fill_holes",
    "gradient",
    "h_maxima",
    "h_minima",
    "isotropic_closing",
    "isotropic_dilation",
    "isotropic_erosion",
    "isotropic_opening",
    "keep_largest",
    "local_maxima",
    "local_minima",
    "opening",
    "reconstruction",
    "remove_large_objects",
    "remove_small_holes",
    "remove_small_objects",
    "white_tophat",
]
