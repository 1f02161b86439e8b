"""Morphology: footprints on masks and images, objects and holes. Named as in scikit-image."""

from bigbia.morphology.basic import closing, dilation, erosion, opening, white_tophat
from bigbia.morphology.objects import (
    fill_holes,
    keep_largest,
    remove_large_objects,
    remove_small_holes,
    remove_small_objects,
)

__all__ = [
    "closing",
    "dilation",
    "erosion",
    "fill_holes",
    "keep_largest",
    "opening",
    "remove_large_objects",
    "remove_small_holes",
    "remove_small_objects",
    "white_tophat",
]
