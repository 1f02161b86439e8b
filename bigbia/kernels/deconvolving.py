"""Deconvolution of one block by Richardson and Lucy's iteration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def richardson_lucy(
    block: np.ndarray,
    *,
    psf: np.ndarray,
    num_iter: int,
    filter_epsilon: float | None = None,
    core: Sequence[slice] | None = None,
    output: np.dtype | type = np.float64,
) -> np.ndarray:
    """Deconvolve a block, beyond which everything is 0; in float64, by Fourier transforms.

    `core`: return only that part.
    """
    from scipy import fft

    image = np.asarray(block, np.float64)
    shape = [fft.next_fast_len(n + k - 1, True) for n, k in zip(image.shape, psf.shape)]
    axes = tuple(range(image.ndim))
    transfer = fft.rfftn(psf, shape, axes=axes, workers=1)
    mirrored = fft.rfftn(np.flip(psf), shape, axes=axes, workers=1)
    same = tuple(slice((k - 1) // 2, (k - 1) // 2 + n) for n, k in zip(image.shape, psf.shape))

    def blurred(x: np.ndarray, by: np.ndarray) -> np.ndarray:
        spectrum = fft.rfftn(x, shape, axes=axes, workers=1)
        spectrum *= by
        return fft.irfftn(spectrum, shape, axes=axes, overwrite_x=True, workers=1)[same]

    estimate = np.full(image.shape, 0.5)
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(num_iter):
            ratio = blurred(estimate, transfer)
            ratio += 1e-12  # no division by 0 where all is dark
            dark = ratio < filter_epsilon if filter_epsilon else None
            np.divide(image, ratio, out=ratio)
            if dark is not None:
                ratio[dark] = 0
            estimate *= blurred(ratio, mirrored)
    return np.ascontiguousarray(estimate if core is None else estimate[tuple(core)], dtype=output)
