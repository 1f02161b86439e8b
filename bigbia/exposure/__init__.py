"""Exposure: how often each value occurs, and values changed by that. Named as in scikit-image."""

from bigbia.exposure.adaptive import equalize_adapthist
from bigbia.exposure.adjusting import adjust_gamma, adjust_log, adjust_sigmoid
from bigbia.exposure.equalizing import equalize_hist, match_histograms
from bigbia.exposure.histograms import histogram
from bigbia.exposure.rescaling import rescale_intensity

__all__ = [
    "adjust_gamma",
    "adjust_log",
    "adjust_sigmoid",
    "equalize_adapthist",
    "equalize_hist",
    "histogram",
    "match_histograms",
    "rescale_intensity",
]
