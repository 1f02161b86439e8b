"""Binary morphology with a ball, by distances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bigbia import hyperstack
from bigbia.graph.kinds import Image
from bigbia.graph.sweep import Metric
from bigbia.graph.window import window
from bigbia.kernels import distance as kernels
from bigbia.morphology.distance import check_distances, checked_metric, on_space, radius_and_sizes, spatial_shape


def isotropic_erosion(image: Image, radius: float | str, spacing: float | str | Sequence[float] | None = None) -> Any:
    """Erosion by a ball: what is farther than a radius from the background.

    Parameters
    ----------
    image : array of bool or integers, 1 to 5 axes of space
        Voxels other than 0 are foreground.
    radius : number, or a length with a unit
        Radius of the ball. ``"2 um"`` goes by the image's voxel size: a ball in space, whatever the shape of a voxel.
    spacing : number, one number a spatial axis, or a unit; default voxels
        Size of a voxel, in the unit of `radius`. ``"um"``: that of the image.

    Returns
    -------
    bool array of the same kind and shape.

    Raises
    ------
    InputError : floating-point or complex voxels, an empty axis
    ParameterError : a negative or infinite radius, voxel sizes that are not positive, a unit where the image has no
    voxel size

    Warns
    -----
    BigbiaWarning : a radius in voxels, for voxels that are longer along one axis than along another

    Notes
    -----
    Halo: the radius; twice that for opening and closing. One task a block. Exactly where ``distance_transform_edt(image,
    spacing) > radius``; equal to ``skimage.morphology.isotropic_erosion`` for whole-number spacing, for every chunking.
    For other spacing a distance that equals the radius counts as such: three voxels of 0.1 are within 0.3. An image
    without background stays as it is (scikit-image erodes it from a voxel outside it). Times and channels of a DataArray
    each by itself.

    Examples
    --------
    >>> import numpy as np
    >>> isotropic_erosion(np.array([0, 1, 1, 1, 1, 1, 0], bool), 1).astype(int)
    array([0, 0, 1, 1, 1, 0, 0])
    """
    return _apply("erosion", image, radius, spacing)


def isotropic_dilation(image: Image, radius: float | str, spacing: float | str | Sequence[float] | None = None) -> Any:
    """Dilation by a ball: what is within a radius of the foreground. Arguments and exactness as in `isotropic_erosion`.

    Examples
    --------
    >>> import numpy as np
    >>> isotropic_dilation(np.array([0, 0, 1, 0, 0, 0], bool), 1).astype(int)
    array([0, 1, 1, 1, 0, 0])
    """
    return _apply("dilation", image, radius, spacing)


def isotropic_opening(image: Image, radius: float | str, spacing: float | str | Sequence[float] | None = None) -> Any:
    """Erosion, then dilation: removes what is thinner than the ball. Arguments as in `isotropic_erosion`.

    Examples
    --------
    >>> import numpy as np
    >>> isotropic_opening(np.array([0, 1, 0, 1, 1, 1, 0], bool), 1).astype(int)
    array([0, 0, 0, 1, 1, 1, 0])
    """
    return _apply("opening", image, radius, spacing)


def isotropic_closing(image: Image, radius: float | str, spacing: float | str | Sequence[float] | None = None) -> Any:
    """Dilation, then erosion: fills what is thinner than the ball. Arguments as in `isotropic_erosion`.

    Examples
    --------
    >>> import numpy as np
    >>> isotropic_closing(np.array([0, 0, 1, 0, 1, 0, 0], bool), 1).astype(int)
    array([0, 0, 1, 1, 1, 0, 0])
    """
    return _apply("closing", image, radius, spacing)


_STEPS = {"erosion": "e", "dilation": "d", "opening": "ed", "closing": "de"}


def _apply(name: str, image: Any, radius: Any, spacing: Any) -> Any:
    what = f"morphology.isotropic_{name}"
    check_distances(image, what)
    length, sizes, _ = radius_and_sizes(radius, spacing, image, what)
    how = checked_metric(sizes, spatial_shape(image), what, "spacing", length)
    most = how.within(length)
    steps = _STEPS[name]
    return window(
        _isotropic,
        image,
        halo=[len(steps) * h for h in how.voxels(most)],
        dtype=bool,
        cost=20.0 * len(steps),
        workspace=16.0,
        cropping=True,
        axes=hyperstack.spatial_axes(image),
        how=how,
        most=most,
        steps=steps,
    )


def _isotropic(
    block: np.ndarray, axes: tuple[int, ...], how: Metric, most: int, steps: str, core: Sequence[slice] | None = None
) -> np.ndarray:
    def apply(block: np.ndarray, core: Sequence[slice] | None) -> np.ndarray:
        mask = block != 0
        for i, step in enumerate(steps):
            part = core if i == len(steps) - 1 else None
            square = kernels.squared(mask if step == "e" else ~mask, how.weights, how.dtype, most + 1, part)
            mask = square > most if step == "e" else square <= most
        return mask

    return on_space(apply, block, axes, core)
