"""Morphology: the least and greatest of a neighbourhood, and what is made of them. Named as in scikit-image."""

from bigbia.morphology.basic import closing, dilation, erosion, opening, white_tophat

__all__ = ["closing", "dilation", "erosion", "opening", "white_tophat"]
