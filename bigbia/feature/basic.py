"""The feature images of pixel classification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bigbia import hyperstack
from bigbia.errors import ParameterError
from bigbia.filters.edges import sobel
from bigbia.filters.smooth import gaussian
from bigbia.graph.boxes import Box
from bigbia.graph.footprints import brief, lengths, truth, whole_number
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image
from bigbia.graph.several import combined

MOST = 200  # scales


def multiscale_basic_features(
    image: Image,
    intensity: bool = True,
    edges: bool = True,
    texture: bool = True,
    sigma_min: float | str = 0.5,
    sigma_max: float | str = 16.0,
    num_sigma: int | None = None,
) -> Any:
    """Brightness, edges and texture around each voxel at several scales: the features of pixel classification.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    intensity, edges, texture : bool
        Which features there are for each scale: the smoothed image; its Sobel magnitude; the eigenvalues of its Hessian,
        one a spatial axis, largest first.
    sigma_min, sigma_max : number, or length with a unit
        Standard deviations of the weakest and the strongest Gaussian, in voxels; with a unit by the voxel size along
        each axis.
    num_sigma : int
        How many scales, evenly spaced in logarithm; default each twice the one before.

    Returns
    -------
    float32 array with a new last axis, the features, scale by scale. Of a DataArray one whose channels the features are,
    by names, those of every channel one after the other.

    Raises
    ------
    ParameterError : no feature asked for, sigma_min that is not above 0 and below sigma_max, a unit where the image has
    no voxel size
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Halo: that of the strongest Gaussian and 2 voxels. One task a block gives all features; each Gaussian is taken once.
    As ``skimage.feature.multiscale_basic_features(image.astype("float32"))``: intensity, edges, and in 1D and 2D texture to the
    bit, in 3D texture within 1e-6 of the largest value. Integers are not rescaled to 0..1 first; wider ones lose digits
    in float32, as there.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.feature.multiscale_basic_features(np.zeros((20, 30)), sigma_max=2).shape
    (20, 30, 12)
    """
    what = "feature.multiscale_basic_features"
    check_image(image, what)
    intensity, edges, texture = (
        truth(v, n, what) for v, n in ((intensity, "intensity"), (edges, "edges"), (texture, "texture"))
    )
    if not (intensity or edges or texture):
        raise ParameterError(f"{what}: intensity, edges and texture are all False: ask for one of them")
    low, high = (lengths(s, image, what, n) for s, n in ((sigma_min, "sigma_min"), (sigma_max, "sigma_max")))
    space = hyperstack.spatial_axes(image)
    if not all(0 < low[a] <= high[a] for a in space):
        raise ParameterError(
            f"{what}: sigma_min={brief(sigma_min)} must be above 0 and not above sigma_max={brief(sigma_max)}"
        )
    if num_sigma is not None and whole_number(num_sigma, "num_sigma", what, 1) > MOST:
        raise ParameterError(f"{what}: num_sigma={brief(num_sigma)} are too many scales: give {MOST} at most")
    floats = image.astype(np.float32)
    images: list[Any] = []
    names: list[str] = []
    scales = _scales(low, high, space, num_sigma)
    if len(scales) > MOST:
        raise ParameterError(
            f"{what}: sigma_min={brief(sigma_min)}, sigma_max={brief(sigma_max)} make more than {MOST} scales: give num_sigma"
        )
    for sigmas in scales:
        smooth = gaussian(floats, sigmas)
        shown = f"{sigmas[-1]:.3g}" if len(set(sigmas)) == 1 else ", ".join(f"{s:.3g}" for s in sigmas)
        images.append(smooth)
        names += [f"intensity {shown}"] * intensity
        if edges:
            images.append(sobel(smooth))
            names.append(f"edges {shown}")
        names += [f"texture {k} {shown}" for k in range(len(space))] if texture else []
    return combined(
        _features,
        images,
        what,
        halo=2 if texture else 0,
        dtype=np.float32,
        names=names,
        last=True,
        cost=40.0 * len(names),
        workspace=4.0 * (len(space) ** 2 + 4 * len(space)),
        intensity=bool(intensity),
        edges=bool(edges),
        texture=bool(texture),
        space=space,
    )


def _scales(low: Sequence[float], high: Sequence[float], space: Sequence[int], count: int | None) -> list[list[float]]:
    """Sigmas along the spatial axes, scale by scale."""
    if count is None:
        count = min(MOST + 1, int(np.log2(high[space[-1]]) - np.log2(low[space[-1]]) + 1))
    lines = [np.logspace(np.log2(low[a]), np.log2(high[a]), num=count, base=2, endpoint=True) for a in space]
    return [[float(s) for s in at] for at in zip(*lines)]


def _features(
    blocks: Sequence[np.ndarray],
    box: Box,
    core: tuple[slice, ...],
    intensity: bool,
    edges: bool,
    texture: bool,
    space: Sequence[int],
) -> np.ndarray:
    from bigbia.kernels.tensors import eigenvalues, second_differences

    each = 2 if edges else 1
    count = intensity + edges + (len(space) if texture else 0)
    first = blocks[0][core]
    out = np.empty((len(blocks) // each * count, *first.shape), np.float32)
    k = 0
    for i in range(0, len(blocks), each):
        if intensity:
            out[k] = blocks[i][core]
            k += 1
        if edges:
            out[k] = blocks[i + 1][core]
            k += 1
        if texture:
            out[k : k + len(space)] = eigenvalues(second_differences(blocks[i], space, core))
            k += len(space)
    return out
