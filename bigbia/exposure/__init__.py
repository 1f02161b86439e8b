"""Exposure: how often each value occurs. Named as in scikit-image."""

from bigbia.exposure.histograms import histogram

__all__ = ["histogram"]
