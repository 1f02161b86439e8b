"""Every neighbourhood operator with what its peers run for the same: bigbia, SciPy or scikit-image, dask-image.

An entry is three functions of an image: bigbia's, the reference's on a NumPy array, and dask-image's on a Dask array
where it has one. `heavy` ones are timed on an image of half the length; masks are tried on `image > its median`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Entry:
    mine: Callable[[Any], Any]
    reference: Callable[[np.ndarray], Any]
    peer: Callable[[Any], Any] | None = None
    mask: bool = False
    heavy: bool = False
    table: bool = False
    bar: float = 1.0  # times the reference's speed that are asked for, on one core


def entries() -> dict[str, Entry]:
    import dask_image.ndfilters as df
    import dask_image.ndinterp as di
    import dask_image.ndmorph as dm
    from scipy import ndimage as ndi
    from skimage import exposure as sx
    from skimage import feature as sf
    from skimage import filters as sk
    from skimage import morphology as sm
    from skimage import restoration as sr
    from skimage import transform as st

    import bigbia
    from bigbia import exposure as bx
    from bigbia import feature as bt
    from bigbia import filters as bf
    from bigbia import morphology as bm
    from bigbia import restoration as br
    from bigbia import transform as bn

    def floats(x: np.ndarray) -> np.ndarray:
        """scikit-image would rescale integers; bigbia filters them as they are."""
        return x.astype(np.float32)

    ball = sm.ball(3)
    weights = np.outer([1, 2, 1], [1, 0, -1])[:, :, None] * np.array([1, 2, 1])
    angle = np.array([[1, 0, 0], [0, 0.98, -0.17], [0, 0.17, 0.98]])
    psf = np.ones((3, 3, 3)) / 27
    found = {
        "gaussian sigma 2": Entry(
            lambda x: bf.gaussian(x, 2),
            lambda x: ndi.gaussian_filter(x, 2, mode="nearest", output=np.float32),
            lambda x: df.gaussian_filter(x.astype(np.float32), 2, mode="nearest"),
            bar=3,
        ),
        "gaussian sigma 8": Entry(
            lambda x: bf.gaussian(x, 8), lambda x: ndi.gaussian_filter(x, 8, mode="nearest", output=np.float32)
        ),
        "median 3": Entry(
            lambda x: bf.median(x),
            lambda x: ndi.median_filter(x, 3, mode="nearest"),
            lambda x: df.median_filter(x, 3),
            bar=5,
        ),
        "median 5": Entry(
            lambda x: bf.median(x, 5),
            lambda x: ndi.median_filter(x, 5, mode="nearest"),
            lambda x: df.median_filter(x, 5),
            heavy=True,
        ),
        "percentile 20 of 3": Entry(
            lambda x: bf.percentile(x, 20, 3),
            lambda x: ndi.percentile_filter(x, 20, 3),
            lambda x: df.percentile_filter(x, 20, 3),
        ),
        "uniform 5": Entry(
            lambda x: bf.uniform(x, 5),
            lambda x: ndi.uniform_filter(x, 5, output=np.float32),
            lambda x: df.uniform_filter(x.astype(np.float32), 5),
            bar=2,
        ),
        "minimum 5": Entry(
            lambda x: bf.minimum(x, 5), lambda x: ndi.minimum_filter(x, 5), lambda x: df.minimum_filter(x, 5), bar=2
        ),
        "maximum 5": Entry(
            lambda x: bf.maximum(x, 5), lambda x: ndi.maximum_filter(x, 5), lambda x: df.maximum_filter(x, 5), bar=2
        ),
        "variance 5": Entry(
            lambda x: bf.variance(x, 5),
            lambda x: ndi.uniform_filter(floats(x) ** 2, 5) - ndi.uniform_filter(floats(x), 5) ** 2,
        ),
        "std 5": Entry(
            lambda x: bf.std(x, 5),
            lambda x: np.sqrt(
                np.maximum(ndi.uniform_filter(floats(x) ** 2, 5) - ndi.uniform_filter(floats(x), 5) ** 2, 0)
            ),
        ),
        "correlate 3x3x3": Entry(
            lambda x: bf.correlate(x, weights),
            lambda x: ndi.correlate(x, weights, output=np.float32),
            lambda x: df.correlate(x.astype(np.float32), weights),
        ),
        "convolve 3x3x3": Entry(
            lambda x: bf.convolve(x, weights),
            lambda x: ndi.convolve(x, weights, output=np.float32),
            lambda x: df.convolve(x.astype(np.float32), weights),
        ),
        "sobel along one axis": Entry(
            lambda x: bf.sobel(x, axis=0),
            lambda x: ndi.sobel(x, axis=0, output=np.float32),
            lambda x: df.sobel(x.astype(np.float32), axis=0),
            bar=2,
        ),
        "sobel": Entry(lambda x: bf.sobel(x), lambda x: sk.sobel(floats(x)), bar=2),
        "prewitt": Entry(lambda x: bf.prewitt(x), lambda x: sk.prewitt(floats(x))),
        "scharr": Entry(lambda x: bf.scharr(x), lambda x: sk.scharr(floats(x))),
        "laplace": Entry(
            lambda x: bf.laplace(x),
            lambda x: ndi.laplace(x, output=np.float32),
            lambda x: df.laplace(x.astype(np.float32)),
        ),
        "gaussian_laplace sigma 2": Entry(
            lambda x: bf.gaussian_laplace(x, 2),
            lambda x: ndi.gaussian_laplace(x, 2, output=np.float32),
            lambda x: df.gaussian_laplace(x.astype(np.float32), 2),
        ),
        "gaussian_gradient_magnitude sigma 2": Entry(
            lambda x: bf.gaussian_gradient_magnitude(x, 2),
            lambda x: ndi.gaussian_gradient_magnitude(x, 2, output=np.float32),
            lambda x: df.gaussian_gradient_magnitude(x.astype(np.float32), 2),
        ),
        "difference_of_gaussians 1": Entry(
            lambda x: bf.difference_of_gaussians(x, 1), lambda x: sk.difference_of_gaussians(floats(x), 1)
        ),
        "unsharp_mask": Entry(
            lambda x: bf.unsharp_mask(x, 2), lambda x: sk.unsharp_mask(floats(x), 2, preserve_range=True)
        ),
        "erosion": Entry(lambda x: bm.erosion(x), lambda x: sm.erosion(x)),
        "erosion 5": Entry(lambda x: bm.erosion(x, 5), lambda x: ndi.grey_erosion(x, size=(5, 5, 5)), bar=2),
        "dilation ball 3": Entry(lambda x: bm.dilation(x, ball), lambda x: sm.dilation(x, ball)),
        "opening ball 3": Entry(lambda x: bm.opening(x, ball), lambda x: sm.opening(x, ball), heavy=True),
        "closing 3": Entry(lambda x: bm.closing(x, 3), lambda x: sm.closing(x, np.ones((3, 3, 3)))),
        "white_tophat 3": Entry(lambda x: bm.white_tophat(x, 3), lambda x: sm.white_tophat(x, np.ones((3, 3, 3)))),
        "black_tophat 3": Entry(lambda x: bm.black_tophat(x, 3), lambda x: sm.black_tophat(x, np.ones((3, 3, 3)))),
        "morphology.gradient 3": Entry(
            lambda x: bm.gradient(x, 3), lambda x: ndi.morphological_gradient(x, size=(3, 3, 3))
        ),
        "erosion of a mask": Entry(
            lambda x: bm.erosion(x), lambda x: ndi.binary_erosion(x), lambda x: dm.binary_erosion(x), mask=True
        ),
        "opening of a mask": Entry(
            lambda x: bm.opening(x), lambda x: ndi.binary_opening(x), lambda x: dm.binary_opening(x), mask=True
        ),
        "rolling_ball 5": Entry(
            lambda x: br.rolling_ball(x, 5), lambda x: sr.rolling_ball(x, radius=5, workers=1), heavy=True
        ),
        "subtract_background": Entry(
            lambda x: br.subtract_background(x, 8),
            lambda x: floats(x) - ndi.gaussian_filter(x, 8, mode="nearest", output=np.float32),
        ),
        "threshold_local 11": Entry(lambda x: bf.threshold_local(x, 11), lambda x: sk.threshold_local(floats(x), 11)),
        "threshold_niblack 15": Entry(
            lambda x: bf.threshold_niblack(x, 15), lambda x: sk.threshold_niblack(x, 15), heavy=True
        ),
        "threshold_sauvola 15": Entry(
            lambda x: bf.threshold_sauvola(x, 15, r=128), lambda x: sk.threshold_sauvola(x, 15, r=128), heavy=True
        ),
        "apply_hysteresis_threshold": Entry(
            lambda x: bf.apply_hysteresis_threshold(x, 32000, 36000),
            lambda x: sk.apply_hysteresis_threshold(x, 32000, 36000),
        ),
        "rescale_intensity": Entry(
            lambda x: bx.rescale_intensity(x, out_range=(0, 1)), lambda x: sx.rescale_intensity(x, out_range=(0, 1))
        ),
        "adjust_gamma": Entry(lambda x: bx.adjust_gamma(x, 0.7), lambda x: sx.adjust_gamma(x, 0.7)),
        "equalize_hist": Entry(lambda x: bx.equalize_hist(x), lambda x: sx.equalize_hist(x)),
        "downscale_local_mean 2": Entry(
            lambda x: bn.downscale_local_mean(x, 2), lambda x: st.downscale_local_mean(x, (2, 2, 2))
        ),
        "rescale 0.7": Entry(
            lambda x: bn.rescale(x, 0.7),
            lambda x: st.rescale(x, 0.7, order=1, preserve_range=True, anti_aliasing=True),
        ),
        "affine": Entry(
            lambda x: bn.affine(x, angle),
            lambda x: ndi.affine_transform(x, angle, order=1),
            lambda x: di.affine_transform(x, angle, order=1),
        ),
        "structure_tensor": Entry(
            lambda x: bt.structure_tensor(x, 1), lambda x: sf.structure_tensor(floats(x), 1), heavy=True
        ),
        "eigenvalues of the Hessian": Entry(
            lambda x: bt.hessian_matrix_eigvals(bt.hessian_matrix(x, 2)),
            lambda x: sf.hessian_matrix_eigvals(sf.hessian_matrix(floats(x), 2, use_gaussian_derivatives=False)),
            heavy=True,
        ),
        "multiscale_basic_features to sigma 4": Entry(
            lambda x: bt.multiscale_basic_features(x, sigma_max=4),
            lambda x: sf.multiscale_basic_features(floats(x), sigma_max=4, workers=1),
            heavy=True,
        ),
        "sato 2": Entry(lambda x: bf.sato(x, [2]), lambda x: sk.sato(floats(x), [2]), heavy=True),
        "meijering 2": Entry(lambda x: bf.meijering(x, [2]), lambda x: sk.meijering(floats(x), [2]), heavy=True),
        "frangi 2": Entry(lambda x: bf.frangi(x, [2]), lambda x: sk.frangi(floats(x), [2]), heavy=True),
        "blob_dog 2 to 5": Entry(
            lambda x: bt.blob_dog(x, 2, 5, threshold=2000),
            lambda x: sf.blob_dog(floats(x), 2, 5, threshold=2000),
            heavy=True,
            table=True,
        ),
        "richardson_lucy 5": Entry(
            lambda x: br.richardson_lucy(x, psf, 5),
            lambda x: sr.richardson_lucy(floats(x), psf, 5, clip=False),
            heavy=True,
        ),
        "denoise_tv_chambolle 10": Entry(
            lambda x: br.denoise_tv_chambolle(x, 0.1, max_num_iter=10),
            lambda x: sr.denoise_tv_chambolle(floats(x), 0.1, eps=0, max_num_iter=10),
            heavy=True,
        ),
    }
    return {name: entry for name, entry in found.items() if bigbia}
