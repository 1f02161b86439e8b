"""Features: places in an image that stand out. Named as in scikit-image."""

from bigbia.feature.peaks import peak_local_max

__all__ = ["peak_local_max"]
