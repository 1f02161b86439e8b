"""Restoration: backgrounds, noise, blur. Named as in scikit-image."""

from bigbia.restoration.background import rolling_ball, subtract_background
from bigbia.restoration.deconvolution import richardson_lucy
from bigbia.restoration.denoise import denoise_bilateral, denoise_nl_means, denoise_tv_chambolle

__all__ = [
    "denoise_bilateral",
    "denoise_nl_means",
    "denoise_tv_chambolle",
    "richardson_lucy",
    "rolling_ball",
    "subtract_background",
]
