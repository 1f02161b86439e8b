"""Segmentation: label images renumbered, joined, outlined, cleared and filtered. Named as in scikit-image."""

from bigbia.segmentation.border import clear_border
from bigbia.segmentation.boundaries import find_boundaries
from bigbia.segmentation.expand import expand_labels
from bigbia.segmentation.filtering import filter_labels
from bigbia.segmentation.relabel import join_segmentations, relabel_sequential
from bigbia.segmentation.touching import split_touching
from bigbia.segmentation.watershed import watershed

__all__ = [
    "clear_border",
    "expand_labels",
    "filter_labels",
    "find_boundaries",
    "join_segmentations",
    "relabel_sequential",
    "split_touching",
    "watershed",
]
