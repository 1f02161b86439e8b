"""Distances to the background."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bigbia import hyperstack
from bigbia.errors import BigbiaWarning, ParameterError
from bigbia.graph.footprints import brief, one_an_axis, plain_number, truth
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image, is_lazy, lazy
from bigbia.graph.sweep import Metric, Sweep, metric
from bigbia.graph.sweep_labels import LabelSweep
from bigbia.graph.window import window
from bigbia.kernels import distance as kernels
from bigbia.kernels import distance_labels
from bigbia.units import convert, parse_lengths


def distance_transform_edt(
    image: Image,
    sampling: float | str | Sequence[float] | None = None,
    *,
    max_distance: float | str | None = None,
    per_label: bool = False,
) -> Any:
    """Distance of every voxel to the nearest voxel that is 0, or of another label, exact over any number of blocks.

    Parameters
    ----------
    image : array of bool or integers, 1 to 5 axes of space
        Voxels other than 0 are foreground.
    sampling : number, one number a spatial axis, or a unit; default voxels
        Size of a voxel. ``"um"``: that of the image, and the distances are micrometres.
    max_distance : number, or a length with a unit; default none
        Distances are clipped to it, in the unit of `sampling`. Then a voxel looks no farther, and the operator is a
        window: one task a block.
    per_label : bool
        True: the image is a label image, and the distance is that to the nearest voxel of any other label, the background
        included, so that labels that touch end where they touch.

    Returns
    -------
    float64 array of the same kind and shape; 0 at the background, inf everywhere if there is none (`max_distance`, if
    given); with `per_label` inf if one label fills the image. A DataArray has the unit, if one was asked for, in
    ``attrs["units"]``.

    Raises
    ------
    InputError : floating-point or complex voxels, an empty axis
    ParameterError : voxel sizes that are not positive, a unit where the image has no voxel size, sizes so different
    that squared distances do not fit 61 bits

    Warns
    -----
    BigbiaWarning : the voxels of the image are longer along one axis than along another and `sampling` is not given;
    voxel sizes of so many digits that distances are only nearly right (by how much is said)

    Notes
    -----
    Squared distances are integers, so the result is the same to the bit for every chunking. It is that of
    ``scipy.ndimage.distance_transform_edt`` to the bit where sizes are whole numbers, halves, quarters, ..., or None, and
    squared distances below 2**53; for other sizes (taken as the decimal numbers they are written as) to 1e-15. Sizes
    whose common part is so small that squared distances pass 2**61 are rounded, for extents of 2000 voxels and sizes
    within a factor of 5 by less than 1e-10; more than 1e-9 is a warning. Where there is no background SciPy returns distances to a voxel outside the
    image.

    With `per_label` it is that of ``edt.edt(image, anisotropy=sampling)``, which is float32, inf included: beyond the border
    there is nothing. The pieces of a label are one label. About 1.3 times the time; in scratch 1 byte a voxel more, and the
    labels on the faces of blocks.

    Without `max_distance` the image is read once; each axis then is a pass over the blocks, which read others of their
    line only as far as the distances reach. About one task a block and axis, and one to read the result. In scratch: 4
    bytes a voxel and axis but one, 8 where the squared diagonal passes 2**31. With `max_distance` the halo is that
    distance. Felzenszwalb & Huttenlocher, Theory of Computing 8, 2012. Times and channels of a DataArray each by itself.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.morphology.distance_transform_edt(np.array([[0, 1, 1, 1], [0, 1, 1, 1], [1, 1, 1, 0]]))
    array([[0.        , 1.        , 2.        , 2.        ],
           [0.        , 1.        , 1.41421356, 1.        ],
           [1.        , 1.41421356, 1.        , 0.        ]])
    >>> bigbia.morphology.distance_transform_edt(np.array([0, 1, 1, 1, 2, 2, 2, 2]), per_label=True)
    array([0., 1., 2., 1., 1., 2., 3., 4.])
    """
    what = "morphology.distance_transform_edt"
    check_distances(image, what)
    per_label = truth(per_label, "per_label", what) and image.dtype != bool  # a mask is one label
    if isinstance(max_distance, str) and not isinstance(sampling, str):
        unit = unit_in(max_distance, "max_distance")
        raise ParameterError(
            f"{what}: max_distance={brief(max_distance)}, but distances are in voxels: pass a unit too, sampling={unit!r}"
        )
    sizes, unit = voxel_lengths(sampling, image, what, "sampling")
    shape = spatial_shape(image)
    if max_distance is not None:
        limit = length_in(max_distance, unit, what, "max_distance")
        if math.isfinite(limit):
            return _with_unit(
                _clipped(image, checked_metric(sizes, shape, what, "sampling", limit), limit, per_label), unit
            )
    how = checked_metric(sizes, shape, what, "sampling")
    if not is_lazy(image):
        square = _squared(image, how, how.far, per_label)
        return kernels.roots(square, how.far, how.numerator, how.denominator)
    source = lazy(image, what)
    stage = LabelSweep if per_label else Sweep
    nodes = [stage(part.node, part.grid, how).distance() for _, part in source.each()]
    return _with_unit(source.like(source.joined(nodes), source.joined_chunks() if source.over else None), unit)


def _with_unit(result: Any, unit: str) -> Any:
    if unit and hyperstack.is_hyperstack(result):
        result.attrs["units"] = unit
    return result


def _squared(
    block: np.ndarray, how: Metric, far: int, per_label: bool, core: Sequence[slice] | None = None
) -> np.ndarray:
    if per_label:
        return distance_labels.squared(block, how.weights, how.dtype, far, core)
    return kernels.squared(block != 0, how.weights, how.dtype, far, core)


def _clipped(image: Any, how: Metric, limit: float, per_label: bool) -> Any:
    most = how.within(limit)
    return window(
        _clip,
        image,
        halo=how.voxels(most),
        dtype=np.float64,
        cost=25.0,
        workspace=24.0,
        cropping=True,
        axes=hyperstack.spatial_axes(image),
        how=how,
        most=most,
        limit=limit,
        per_label=per_label,
    )


def _clip(
    block: np.ndarray,
    axes: tuple[int, ...],
    how: Metric,
    most: int,
    limit: float,
    per_label: bool,
    core: Sequence[slice] | None = None,
) -> np.ndarray:
    def clip(block: np.ndarray, core: Sequence[slice] | None) -> np.ndarray:
        square = _squared(block, how, most + 1, per_label, core)
        out = kernels.roots(square, most + 1, how.numerator, how.denominator)
        return np.minimum(out, limit, out=out)

    return on_space(clip, block, axes, core)


def on_space(
    function: Callable[[np.ndarray, Sequence[slice] | None], np.ndarray],
    block: np.ndarray,
    axes: tuple[int, ...],
    core: Sequence[slice] | None,
) -> np.ndarray:
    """A function of a block whose last axes are space, on a block that has its axes of space anywhere."""
    order = [a for a in range(block.ndim) if a not in axes] + list(axes)
    if core is not None:
        core = [core[a] for a in order]
    out = function(block.transpose(order), core)
    return np.ascontiguousarray(out.transpose(np.argsort(order)))


# ---- what operators on distances are told --------------------------------------------------------------------------
def check_distances(image: Any, what: str) -> None:
    """Refuse what is not an image of bool or integers with 1 to 5 axes of space."""
    check_image(image, what, "biu")
    ndim = len(hyperstack.spatial_axes(image))
    if not 1 <= ndim <= 5:
        raise ParameterError(f"{what}: an image of {ndim} axes of space: 1 to 5 have distances")


def spatial_shape(image: Any) -> tuple[int, ...]:
    return tuple(int(image.shape[a]) for a in hyperstack.spatial_axes(image))


def voxel_lengths(given: Any, image: Any, what: str, name: str, shown: str = "") -> tuple[tuple[float, ...], str]:
    """Size of a voxel along each spatial axis, and its unit where one was asked for.

    None is 1 for every axis, with a warning where the image says otherwise. `shown`: what the user typed.
    """
    shown = shown or f"{name}={brief(given)}"
    axes = hyperstack.spatial_axes(image)
    if given is None:
        warn_of_anisotropy(image, what, name)
        return (1.0,) * len(axes), ""
    if isinstance(given, str):
        return hyperstack.voxel_size_in(given, image, what, shown)
    sizes = [plain_number(s) for s in one_an_axis(given, image, what, name)]
    out = tuple(s for s in sizes if s is not None and 0 < s < math.inf)
    if len(out) != len(axes):
        raise ParameterError(f"{what}: {shown}: give 1 or {len(axes)} positive numbers, or a unit")
    return out, ""


def warn_of_anisotropy(image: Any, what: str, name: str) -> None:
    """Warn where voxels are not cubes and distances are counted in voxels all the same."""
    try:
        sizes = hyperstack.voxel_size(image)
    except ParameterError:  # a selection without one
        return
    if not sizes:
        return
    longest, shortest = max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)
    ratio = sizes[longest] / sizes[shortest]
    if ratio > 1 + 1e-6:
        unit = hyperstack.unit(image)
        way = f'{name}="{unit}" for lengths, ' if unit else f"{name}={tuple(sizes.values())} for lengths, "
        ones = (1,) * len(sizes) if len(sizes) > 1 else 1
        warnings.warn(
            f"{what}: a voxel is {ratio:.3g} times as long along {longest} as along {shortest}, and distances are counted "
            f"in voxels: pass {way}or {name}={ones} to say that voxels are meant",
            BigbiaWarning,
            stacklevel=_caller(),
        )


def length_in(value: Any, unit: str, what: str, name: str) -> float:
    """A length given as a number or as text with a unit, in a unit; 0 or more."""
    if isinstance(value, str):
        several, own = parse_lengths(value, name)
        if len(several) != 1:
            raise ParameterError(f'{what}: {name}={brief(value)}: {len(several)} lengths: give one, such as "2 um"')
        value_in = convert(several[0], own, unit)
    else:
        number = plain_number(value)
        value_in = math.nan if number is None else number
    if value_in != value_in:
        raise ParameterError(f'{what}: {name}={brief(value)} is not a length: give a number, or text such as "2 um"')
    if not value_in >= 0:
        raise ParameterError(f"{what}: {name}={brief(value)}: give a length of 0 or more")
    return value_in


def unit_in(text: str, name: str) -> str:
    """The unit of a length in words."""
    return parse_lengths(text, name)[1]


def radius_and_sizes(
    radius: Any, spacing: Any, image: Any, what: str, name: str = "radius"
) -> tuple[float, tuple[float, ...], str]:
    """A radius, the size of a voxel along each spatial axis, and their unit, "" for none: finite, for a halo.

    A radius with a unit takes the image's voxel size.
    """
    shown = ""
    if isinstance(radius, str):
        if spacing is not None and not isinstance(spacing, str):
            raise ParameterError(
                f"{what}: {name}={brief(radius)} goes by the image's own voxel size: leave out spacing={brief(spacing)}, or give a number"
            )
        if spacing is None:
            spacing, shown = unit_in(radius, name), f"{name}={brief(radius)}"
    sizes, unit = voxel_lengths(spacing, image, what, "spacing", shown)
    length = length_in(radius, unit, what, name)
    if not math.isfinite(length):
        raise ParameterError(
            f"{what}: {name}={brief(radius)}: must be a finite number: its size is what a block reads around it"
        )
    return length, sizes, unit


def checked_metric(
    sizes: tuple[float, ...], shape: tuple[int, ...], what: str, name: str, limit: float | None = None
) -> Metric:
    how = metric(sizes, shape, limit)
    if how is None:
        raise ParameterError(
            f"{what}: {name}={sizes}: one voxel size is {max(sizes) / min(sizes):.3g} times another, and squared distances "
            f"over {shape} voxels do not fit 61 bits: give sizes that are nearer to each other"
        )
    if how.slack > 1e-9:
        warnings.warn(
            f"{what}: {name}={sizes}: too many digits for exact distances over {shape} voxels; they are right to "
            f"{how.slack:.1g} of their length: fewer digits make them exact",
            BigbiaWarning,
            stacklevel=_caller(),
        )
    return how


def _caller() -> int:
    """The stack level, as `warnings.warn` counts in the function that asks, of the user's own line."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("bigbia."):
        level, frame = level + 1, frame.f_back
    return level
