"""Other sizes: downscale_local_mean, resize, rescale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from bigbia import hyperstack
from bigbia.errors import ParameterError
from bigbia.filters.smooth import gaussian, linear_dtype
from bigbia.graph.footprints import (
    LONGEST,
    brief,
    check_mode,
    check_size,
    lengths,
    one_an_axis,
    plain_number,
    real_number,
    several,
    truth,
)
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image, is_lazy, lazy, native

Mode = Literal["constant", "edge", "symmetric", "reflect", "wrap"]
MODES = {"constant": "constant", "edge": "nearest", "symmetric": "reflect", "reflect": "mirror", "wrap": "wrap"}
MOST_BLOCKS = 2**31  # tasks that a run counts


def downscale_local_mean(image: Image, factors: int | Sequence[int], cval: float = 0.0, clip: bool = True) -> Any:
    """Make an image smaller by whole factors: every box of voxels becomes their mean.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    factors : int or sequence
        How many voxels become one, for all spatial axes or one number each; 1 leaves an axis as it is.
    cval : float
        The voxels that fill up the last boxes where an axis is no multiple of its factor.
    clip : bool
        Without effect, as in scikit-image: a mean lies within the range of its values.

    Returns
    -------
    float32 array, each axis ceil(length / factor) long; float64 for 32-bit and wider integers and for float64. The
    voxels of a DataArray become larger by the factors, and each lies in the middle of its box.

    Raises
    ------
    ParameterError : factors that are no whole numbers of 1 or more, or not one an axis
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Boxes are counted from the image's first voxel, whatever the blocks are, and lie on both sides of a cut. Integers of
    up to 32 bits are summed exactly and the mean is rounded once more to float32: equal to the bit to
    ``skimage.transform.downscale_local_mean`` in that type. Others are summed as float64, plane by plane, row by row
    and then along the rows: within 1e-6 of scikit-image, which sums float32 as float32. `cval` is not rounded to an
    integer. NaN makes its box NaN. One task a block.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.transform.downscale_local_mean(np.arange(15).reshape(3, 5), (2, 3))
    array([[3.5, 4. ],
           [5.5, 4.5]])
    """
    from bigbia.graph.resampled import Means, resampled

    what = "transform.downscale_local_mean"
    check_image(image, what)
    image = native(image)
    steps = [1] * image.ndim
    for axis, f in zip(hyperstack.spatial_axes(image), one_an_axis(factors, image, what, "factors")):
        if isinstance(f, (bool, np.bool_)) or not isinstance(f, (int, np.integer)) or not 1 <= f <= LONGEST:
            raise ParameterError(
                f"{what}: factors={brief(factors)} must be whole numbers, 1 or more, at most {LONGEST}: transform.rescale takes others"
            )
        steps[axis] = int(f)
    truth(clip, "clip", what)
    cval = real_number(cval, "cval", what, finite=False)
    make = partial(Means, factors=tuple(steps), cval=cval, kind=linear_dtype(image.dtype))
    return resampled(image, what, make)


def resize(
    image: Image,
    output_shape: Sequence[int],
    order: int | None = None,
    mode: Mode = "reflect",
    cval: float = 0.0,
    clip: bool = True,
    preserve_range: bool = True,
    anti_aliasing: bool | None = None,
    anti_aliasing_sigma: float | Sequence[float] | None = None,
) -> Any:
    """Interpolate an image to another shape.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    output_shape : sequence
        The length of each spatial axis; or, for an image with time or channels, of every axis.
    order : {0, 1}, default 1, 0 for bool
        0 takes the nearest voxel, 1 interpolates linearly.
    mode : {"constant", "edge", "symmetric", "reflect", "wrap"}
        What lies beyond the image, by the names of `numpy.pad`, as in scikit-image. Only the outermost half voxel of an
        enlarged image can tell, and the smoothing before one is made smaller.
    cval : float
        The voxels beyond it for ``mode="constant"``.
    clip : bool
        Without effect: what lies between two values is not beyond them.
    preserve_range : bool
        Always True: values are never rescaled (scikit-image's default is False).
    anti_aliasing : bool
        Smooth before making an image smaller, so that fine patterns do not make coarse ones. By default so if an axis
        becomes shorter, but not for bool nor for integers with ``order=0``.
    anti_aliasing_sigma : float or sequence
        Of that Gaussian in voxels, by default (factor - 1) / 2 along an axis that becomes shorter by a factor.

    Returns
    -------
    Array of that shape: float32, or float64 for 32-bit and wider integers and for float64; with ``order=0`` of the
    image's dtype (of the smoothed image, if it was smoothed). The voxel size of a DataArray follows.

    Raises
    ------
    ParameterError : another order, an output shape that does not fit, an unknown mode, a negative sigma
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    A voxel of the result finds its place in the image from its own index, in float64, whatever the blocks are. Equal to
    the bit to ``scipy.ndimage.zoom(image, ..., grid_mode=True, output=dtype)``, with which scikit-image resizes;
    with anti-aliasing after `filters.gaussian`, which rounds to the result's type: within 1e-6 of scikit-image. An axis
    that keeps its length, or becomes shorter by an odd factor, meets voxels alone: NaN does not spread along it. Halo: 1
    voxel, and with anti-aliasing 4 sigma.
    Orders 2 to 5 first solve for spline coefficients along whole lines of the image and are refused.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.transform.resize(np.array([[0, 4], [8, 12]], np.uint8), (2, 4))
    array([[ 1.,  1.,  3.,  3.],
           [ 9.,  9., 11., 11.]], dtype=float32)
    """
    return _resize("transform.resize", **locals())


def rescale(
    image: Image,
    scale: float | Sequence[float],
    order: int | None = None,
    mode: Mode = "reflect",
    cval: float = 0.0,
    clip: bool = True,
    preserve_range: bool = True,
    anti_aliasing: bool | None = None,
    anti_aliasing_sigma: float | Sequence[float] | None = None,
) -> Any:
    """Interpolate an image to a multiple of its size.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    scale : float or sequence
        Lengths of the result over those of the image, for all spatial axes or one number each: 2 doubles them.
    order, mode, cval, clip, preserve_range, anti_aliasing, anti_aliasing_sigma : as in `resize`

    Returns
    -------
    Array as of `resize`; each axis ``round(scale * length)`` long, halves to even, and at least 1.

    Notes
    -----
    `resize` to that shape, as in scikit-image: a voxel becomes by the ratio of the lengths larger, not by `scale`
    itself. Exact as `resize` is.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.transform.rescale(np.array([0, 4, 8, 12], np.uint8), 0.5, anti_aliasing=False)
    array([ 2., 10.], dtype=float32)
    """
    what = "transform.rescale"
    check_image(image, what)
    shape = []
    space = hyperstack.spatial_axes(image)
    for axis, s in zip(space, one_an_axis(scale, image, what, "scale")):
        number = plain_number(s)
        if number is None or not 0 < number < math.inf:
            raise ParameterError(
                f"{what}: scale={brief(scale)} must be positive numbers: 2 doubles an axis, 0.5 halves it"
            )
        check_size([number * image.shape[axis]], what, f"scale={brief(scale)}")
        shape.append(max(1, int(np.round(number * image.shape[axis]))))
    given = {k: v for k, v in locals().items() if k in _GIVEN}
    check_blocks(image, shape, what, f"scale={brief(scale)}")
    return _resize(what, image, tuple(shape), **given)


_GIVEN = ("order", "mode", "cval", "clip", "preserve_range", "anti_aliasing", "anti_aliasing_sigma")


def _resize(
    what: str,
    image: Any,
    output_shape: Sequence[int],
    order: int | None,
    mode: str,
    cval: float,
    clip: bool,
    preserve_range: bool,
    anti_aliasing: bool | None,
    anti_aliasing_sigma: Any,
) -> Any:
    from bigbia.graph.resampled import Resized, resampled

    check_image(image, what)
    check_mode(mode, what, tuple(MODES))
    shape = _shape(output_shape, image, what)
    check_blocks(image, [shape[a] for a in hyperstack.spatial_axes(image)], what, f"output_shape={brief(output_shape)}")
    image = native(image)
    order = (0 if image.dtype == bool else 1) if order is None else order
    if not isinstance(order, (int, np.integer)) or isinstance(order, bool) or order not in (0, 1):
        raise ParameterError(
            f"{what}: order={brief(order)}: only 0 (nearest) and 1 (linear) depend on the voxels around a place alone: give one of them"
        )
    truth(clip, "clip", what)
    cval = real_number(cval, "cval", what, finite=False)
    if not truth(preserve_range, "preserve_range", what):
        raise ParameterError(
            f"{what}: preserve_range={brief(preserve_range)} would rescale the values; bigbia never does: divide the image yourself"
        )
    factors = [n / m for n, m in zip(image.shape, shape)]
    if anti_aliasing is None:
        anti_aliasing = (
            image.dtype != bool and not (image.dtype.kind in "iu" and order == 0) and any(f > 1 for f in factors)
        )
    anti_aliasing = truth(anti_aliasing, "anti_aliasing", what)
    if anti_aliasing and image.dtype == bool:
        raise ParameterError(
            f"{what}: anti_aliasing=True is not for a mask: leave it out, or give numbers: image.astype('uint8')"
        )
    space = hyperstack.spatial_axes(image)
    if anti_aliasing:
        if anti_aliasing_sigma is None:
            sigma = [max(0.0, (factors[a] - 1) / 2) for a in space]
        else:
            along = lengths(anti_aliasing_sigma, image, what, "anti_aliasing_sigma")
            sigma = [along[a] for a in space]
        image = gaussian(image, sigma, mode=MODES[mode], cval=cval)  # type: ignore[arg-type]
    if shape == tuple(image.shape) and order == 0:
        return image.copy()
    kind = image.dtype if order == 0 else linear_dtype(image.dtype)
    return resampled(image, what, partial(Resized, size=shape, order=order, mode=MODES[mode], cval=cval, kind=kind))


def check_blocks(image: Any, lengths: Sequence[int], what: str, said: str) -> None:
    """A result can be cut into the image's blocks: each is a task, and all are counted."""
    check_size(lengths, what, said)
    if not is_lazy(image):
        return
    space = hyperstack.spatial_axes(image)
    blocks = math.prod(n / max(lazy(image, what).chunks[a]) for a, n in zip(space, lengths))
    if blocks > MOST_BLOCKS:
        raise ParameterError(
            f"{what}: {said}: makes {blocks:.3g} blocks, {MOST_BLOCKS} at most can be planned: give smaller lengths, or open the "
            "image in larger blocks"
        )


def is_length(n: Any) -> bool:
    """Whether a number of the user's can be the length of an axis."""
    number = plain_number(n)
    return number is not None and number.is_integer() and number >= 1


def _shape(given: Any, image: Any, what: str) -> tuple[int, ...]:
    """The shape of the result: the user's lengths along the spatial axes, the image's own along t and c."""
    space = hyperstack.spatial_axes(image)
    listed = several(given)
    along = [given] if listed is None else listed
    if not all(is_length(n) for n in along):
        raise ParameterError(f"{what}: output_shape={brief(given)} must be whole numbers of voxels, 1 or more")
    check_size(along, what, f"output_shape={brief(given)}")
    if len(along) == image.ndim:
        other = [i for i in range(image.ndim) if i not in space and along[i] != image.shape[i]]
        if other:
            names = hyperstack.axis_names(image)
            raise ParameterError(
                f"{what}: output_shape={brief(given)} changes {names[other[0]]}, which is not space and "
                f"{image.shape[other[0]]} long: give the spatial axes alone"
            )
        return tuple(map(int, along))
    if len(along) != len(space):
        raise ParameterError(
            f"{what}: output_shape={brief(given)}: {len(along)} lengths for {len(space)} spatial axes: give {len(space)}"
        )
    shape = list(image.shape)
    for axis, n in zip(space, along):
        shape[axis] = int(n)
    return tuple(shape)
