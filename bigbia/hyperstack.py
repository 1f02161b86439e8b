"""What an image is: an `xarray.DataArray` with dims among t c z y x.

Voxel sizes live in the coordinates, one evenly spaced physical coordinate a spatial axis, so that slices, strides,
transposes and arithmetic carry them along without our help. A coordinate's attributes hold `units` (an OME name such as
"micrometer") and `voxel_size`, which alone says how large a voxel is once an axis is one voxel long. Channel names are
the c coordinate.

Plain NumPy and Dask arrays are images too: all their axes are space, and they have no voxel size.
"""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from bigbia.errors import ParameterError, nearest
from bigbia.units import EXAMPLE, LENGTHS, TIMES, convert, known_unit, parse_lengths, rounded, unit_name

AXES = "tczyx"
SPACE = "zyx"
MOST_VOXELS = 2**31  # that a length in words may be: more than any axis has, so its unit is wrong


def lengths(value: Any, image: Any, what: str) -> tuple[float, ...]:
    """A length given by the user as one number an axis of the image, in voxels; 0.0 along t and c.

    `value`: a number (voxels, for every spatial axis), a sequence with one number a spatial axis, or a string with a
    unit ("0.5 um", "0.29, 0.26, 0.26 um"), divided by the voxel size. `what` is the argument's name, for the messages.

    Raises ParameterError: unit-less or unknown unit, an image without voxel size, a wrong count, negative, not finite.

    >>> lengths(2, np.zeros((3, 4)), "sigma")
    (2.0, 2.0)
    """
    space = spatial_axes(image)
    shown = f"{what}={value!r}"
    if isinstance(value, str) or _is_number(value):
        items = [value]
    elif isinstance(value, Sequence | np.ndarray):
        items = list(value)
    else:
        raise ParameterError(f'{shown}: is not a length: write a number (voxels), one a spatial axis, or "0.5 um"')
    if len(items) == 1 and isinstance(items[0], str):
        numbers_, physical = parse_lengths(items[0], what)
        given: list[tuple[float, str | None]] = [(n, physical) for n in numbers_]
    else:
        given = [_one_length(item, shown, what) for item in items]
    if len(given) == 1 and (isinstance(value, str) or _is_number(value)):
        given = given * len(space)
    names = axis_names(image)
    if len(given) != len(space):
        axes = ", ".join(names[i] for i in space)
        raise ParameterError(
            f"{shown}: {len(given)} numbers for {len(space)} spatial axes ({axes}): give 1 or {len(space)}"
        )
    out = [0.0] * len(names)
    for axis, (number, own) in zip(space, given):
        if number < 0:
            raise ParameterError(f"{shown}: must not be negative: give 0 or more")
        if not math.isfinite(number):
            raise ParameterError(
                f'{shown}: must be a finite number: give a length in voxels, or in words as in "0.5 um"'
            )
        out[axis] = number if own is None else _voxels(number, own, image, names[axis], shown)
    return tuple(out)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)


def _one_length(item: Any, shown: str, what: str) -> tuple[float, str | None]:
    if isinstance(item, str):
        values, physical = parse_lengths(item, what)
        if len(values) == 1:
            return values[0], physical
    elif _is_number(item):
        return float(item), None
    raise ParameterError(f'{shown}: {item!r} is not one length: write a number (voxels) or "0.5 um" for each axis')


def _voxels(number: float, physical: str, image: Any, axis: str, shown: str) -> float:
    if not is_hyperstack(image):
        raise ParameterError(
            f"{shown}: a plain array has no voxel size: give voxels, or an xarray.DataArray from bigbia.open or "
            "bigbia.hyperstack.hyperstack"
        )
    step, own = step_of(image, axis)
    if step is None:
        raise ParameterError(
            f'{shown}: the image has no voxel size along {axis}: give voxels, or open it with voxel_size="{EXAMPLE}"'
        )
    if own is None:
        raise ParameterError(
            f"{shown}: the image's voxel size along {axis} is {step:g} without a unit: "
            f'give voxels, or open it with voxel_size="{step:g} um"'
        )
    voxels = rounded(number / convert(step, own, physical))
    if voxels > MOST_VOXELS:
        raise ParameterError(
            f"{shown}: is {voxels:.3g} voxels along {axis}, where one is {step:g} {own}: check the unit, or give voxels"
        )
    return voxels


def is_hyperstack(image: Any) -> bool:
    """Is this a DataArray? Imports nothing: without xarray loaded there is none."""
    xarray = sys.modules.get("xarray")
    return xarray is not None and isinstance(image, xarray.DataArray)


def hyperstack(
    array: Any,
    axes: str | Sequence[str],
    voxel_size: Any = None,
    unit: str | None = None,
    channels: Sequence[str] | None = None,
    name: str | None = None,
    *,
    origin: Mapping[str, float] | None = None,
    time_step: float | None = None,
    time_unit: str | None = None,
) -> Any:
    """A NumPy or Dask array as an image: dims, physical coordinates, channel names. The array itself is not touched.

    Parameters
    ----------
    array : NumPy or Dask array, 1 to 5 axes
    axes : "zyx", ("t", "z", "y", "x"): one name an axis of the array, in its order, among t c z y x
    voxel_size : "0.29, 0.26, 0.26 um", a number, a sequence with one number a spatial axis, or a dict by axis
    unit : "um", "nanometer", ...: of voxel sizes that are plain numbers. Without it they have none.
    channels : one name a channel
    origin : where the first voxel lies, by axis, in the same unit
    time_step, time_unit : between two frames

    Returns
    -------
    xarray.DataArray

    Raises
    ------
    ParameterError : axes that do not fit, a voxel size that is not positive, channel names that do not fit

    >>> image = hyperstack(np.zeros((2, 3, 4)), "zyx", voxel_size="0.29, 0.26, 0.26 um")
    >>> image.dims, float(image.x[2])
    (('z', 'y', 'x'), 0.52)
    """
    import xarray

    if not hasattr(array, "shape") or not hasattr(array, "dtype"):
        raise ParameterError(f"hyperstack: needs a NumPy or Dask array, got {type(array).__name__}: np.asarray(...) it")
    dims = parse_axes(axes, array.shape)
    starts = _origins(origin, dims)
    if time_step is not None and (not _is_number(time_step) or not 0 < time_step < math.inf):
        raise ParameterError(f"time_step={time_step!r}: must be a positive number")
    sizes, physical = parse_voxel_size(voxel_size, [d for d in dims if d in SPACE], unit)
    coords: dict[str, Any] = {}
    for axis, length in zip(dims, array.shape):
        if axis in sizes:
            coords[axis] = _coordinate(axis, length, sizes[axis], physical, starts.get(axis, 0.0))
        elif axis == "t" and time_step is not None:
            coords[axis] = _coordinate(axis, length, time_step, unit_name(time_unit), starts.get(axis, 0.0))
        elif axis == "c" and channels is not None:
            coords[axis] = (axis, np.array(_channel_names(channels, length), dtype=object).astype(str))
    if channels is not None and "c" not in dims:
        raise ParameterError(f"channels={channels!r}: the image has no axis c, only {', '.join(dims)}: leave it out")
    return xarray.DataArray(array, dims=dims, coords=coords, name=name)


def _origins(origin: Any, dims: Sequence[str]) -> dict[str, float]:
    if origin is None:
        return {}
    shown = f"origin={origin!r}"
    if not isinstance(origin, Mapping):
        raise ParameterError(f'{shown}: must say where the first voxel lies by axis: write {{"z": 12.5}}')
    for axis, start in origin.items():
        if axis not in dims:
            raise ParameterError(f"{shown}: {axis!r} is no axis of the image, {nearest(str(axis), dims)}")
        if not _is_number(start) or not math.isfinite(start):
            raise ParameterError(f"{shown}: {start!r} is no place along {axis}: give a finite number")
    return {axis: float(start) for axis, start in origin.items()}


def _coordinate(axis: str, length: int, step: float, physical: str | None, start: float) -> tuple[str, Any, dict]:
    attrs: dict[str, Any] = {"voxel_size": step}
    if physical is not None:
        attrs["units"] = physical
    return axis, start + step * np.arange(length, dtype=np.float64), attrs


def _channel_names(channels: Sequence[str], length: int) -> list[str]:
    if not isinstance(channels, Sequence | np.ndarray):
        raise ParameterError(f"channels={channels!r}: must be {length} names, one a channel")
    names = [channels] if isinstance(channels, str) else [str(c) for c in channels]
    if len(names) != length:
        raise ParameterError(f"channels={names}: {len(names)} names for {length} channels: give one a channel")
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise ParameterError(f"channels={names}: {twice!r} is there twice: every channel needs its own name")
    return names


def parse_axes(axes: str | Sequence[str], shape: tuple[int, ...]) -> tuple[str, ...]:
    """The axes the user named, checked against a shape: lower case, one an axis, each once."""
    if not isinstance(axes, str | Sequence):
        raise ParameterError(
            f'axes={axes!r}: must name each axis once: write for instance axes="{AXES[-len(shape) :]}"'
        )
    dims = tuple(str(a).strip().lower() for a in (axes.replace(",", "") if isinstance(axes, str) else axes))
    shown = f"axes={axes!r}"
    for axis in dims:
        if len(axis) != 1 or axis not in AXES:
            raise ParameterError(
                f'{shown}: {axis!r} is not one of t c z y x: write for instance axes="{AXES[-len(shape) :]}"'
            )
        if dims.count(axis) > 1:
            raise ParameterError(f"{shown}: {axis} is there twice: name every axis once")
    if len(dims) != len(shape):
        raise ParameterError(
            f"{shown}: {len(dims)} names for the {len(shape)} axes of shape {tuple(shape)}: "
            f"name each of them once, from t c z y x"
        )
    return dims


def parse_voxel_size(given: Any, space: Sequence[str], unit: str | None = None) -> tuple[dict[str, float], str | None]:
    """Voxel size by spatial axis, and its unit (None for plain numbers without `unit`), from what the user wrote."""
    if given is None:
        return {}, None
    shown = f"voxel_size={given!r}"
    physical = None if unit is None else known_unit(unit, f"unit={unit!r}")
    if isinstance(given, str):
        values, physical = parse_lengths(given, "voxel_size", unit=physical)
        sizes: Any = dict.fromkeys(space, values[0]) if len(values) == 1 else values
    elif _is_number(given):
        sizes = dict.fromkeys(space, given)
    else:
        sizes = given
    if not isinstance(sizes, Mapping):
        if not isinstance(sizes, Sequence | np.ndarray) or np.ndim(sizes) != 1:
            raise ParameterError(f'{shown}: is not a voxel size: write "{EXAMPLE}", a number, or a dict by axis')
        if len(sizes) != len(space):
            raise ParameterError(
                f"{shown}: {len(sizes)} numbers for {len(space)} spatial axes ({', '.join(space)}): "
                f"give 1 or {len(space)}"
            )
        sizes = dict(zip(space, sizes))
    out: dict[str, float] = {}
    for axis, size in sizes.items():
        if axis not in space:
            raise ParameterError(f"{shown}: {axis!r} is no spatial axis of the image, {nearest(axis, space)}")
        if isinstance(size, str):
            (size, *more), own = parse_lengths(size, "voxel_size", unit=physical)
            physical = physical or own
            size = size if own == physical else convert(size, own, physical)
            if more:
                raise ParameterError(f"{shown}: more than one number for axis {axis}: give one")
        if not _is_number(size) or not 0 < size < math.inf:
            raise ParameterError(f"{shown}: a voxel is {size} long along {axis}: give a positive number")
        out[axis] = float(size)
    return out, physical


def axis_names(image: Any) -> tuple[str, ...]:
    """Names of the axes, for messages: the dims of a DataArray, else "axis 0", "axis 1", ..."""
    return tuple(map(str, image.dims)) if is_hyperstack(image) else tuple(f"axis {i}" for i in range(image.ndim))


def check_axes(image: Any) -> None:
    """Refuses a DataArray whose dims are not among t c z y x, with the way out (ParameterError). Other arrays pass."""
    strange = [dim for dim in image.dims if dim not in tuple(AXES)] if is_hyperstack(image) else []
    if not strange:
        return
    guess = {dim: str(dim).lower()[:1] for dim in strange}
    after = [guess.get(dim, dim) for dim in image.dims]
    if set(after) <= set(AXES) and len(set(after)) == len(after):
        way_out = "image.rename({" + ", ".join(f"{str(a)!r}: {b!r}" for a, b in guess.items()) + "})"
    elif image.ndim <= 3:
        way_out = f'hyperstack(image.data, "{SPACE[3 - image.ndim :]}") from bigbia.hyperstack, if that is their order'
    else:
        way_out = "image.rename({...}) with one of t c z y x for each"
    raise ParameterError(f"dims ({', '.join(map(str, image.dims))}) are not among t c z y x: {way_out}")


def spatial_axes(image: Any) -> tuple[int, ...]:
    """Indices of the axes that are space: those named z, y, x; every axis of a plain array."""
    if not is_hyperstack(image):
        return tuple(range(image.ndim))
    check_axes(image)
    return tuple(i for i, dim in enumerate(image.dims) if dim in SPACE)


def each(image: Any) -> Iterator[dict[str, int]]:
    """The images within a hyperstack, in the order of its own axes: {"t": 0, "c": 0}, ..., for `image.isel`.

    One empty dict for a plain array, or where there is neither t nor c.
    """
    if not is_hyperstack(image):
        yield {}
        return
    check_axes(image)
    over = [str(dim) for dim in image.dims if dim not in SPACE]
    for index in np.ndindex(*(image.sizes[dim] for dim in over)):
        yield dict(zip(over, map(int, index)))


def channels(image: Any) -> tuple[str, ...] | None:
    """Channel names, None where the image has no axis c or its channels have no names."""
    if not is_hyperstack(image) or "c" not in image.dims or "c" not in image.coords:
        return None
    return tuple(map(str, image.coords["c"].values))


def voxel_size(image: Any) -> dict[str, float] | None:
    """Size of a voxel by spatial axis, in `unit(image)`; None unless every spatial axis has one.

    Raises ParameterError where a selection left coordinates that are not evenly spaced.
    """
    if not is_hyperstack(image):
        return None
    target, out = unit(image), {}
    for index in spatial_axes(image):
        axis = str(image.dims[index])
        step, own = step_of(image, axis)
        if step is None:
            return None
        out[axis] = convert(step, own, target) if own and target and own != target else step
    return out or None


def voxel_size_in(name: str, image: Any, what: str, shown: str) -> tuple[tuple[float, ...], str]:
    """Size of a voxel along each spatial axis in a unit that was asked for, and the unit. `shown`: as the user typed."""
    wanted = known_unit(name, shown)
    sizes, own = voxel_size(image), unit(image)
    if sizes is None or own is None:
        raise ParameterError(
            f"{what}: {shown}: the image has no voxel size: "
            'open it with voxel_size="0.29, 0.26, 0.26 um", or give numbers'
        )
    names = axis_names(image)
    return tuple(convert(sizes[names[a]], own, wanted) for a in spatial_axes(image)), wanted


def unit(image: Any) -> str | None:
    """The unit of the voxel size, by its OME name ("micrometer"); that of the last axis where they differ."""
    if not is_hyperstack(image):
        return None
    for index in reversed(spatial_axes(image)):
        own = step_of(image, str(image.dims[index]))[1]
        if own is not None:
            return own
    return None


def time_step(image: Any) -> tuple[float, str | None] | None:
    """Time between two frames and its OME unit; None without axis t or its coordinate."""
    if not is_hyperstack(image) or "t" not in image.dims:
        return None
    step, own = step_of(image, "t", TIMES)
    return None if step is None else (step, own)


def origin(image: Any) -> dict[str, float]:
    """Where the first voxel lies, by axis (t, z, y, x) in the axis's own unit, as far as there are coordinates."""
    if not is_hyperstack(image):
        return {}
    known = [str(d) for d in image.dims if d != "c" and image.sizes[d] and step_of(image, str(d), TIMES | LENGTHS)[0]]
    return {axis: rounded(float(image.coords[axis].values[0])) for axis in known}


def step_of(image: Any, axis: str, units: Mapping[str, Fraction] = LENGTHS) -> tuple[float | None, str | None]:
    """Size of a voxel along one axis and its unit, from the coordinate; (None, None) without one."""
    if axis not in image.coords or image.coords[axis].dims != (axis,) or image.coords[axis].dtype.kind not in "iuf":
        return None, None
    coord = image.coords[axis]
    own = unit_name(coord.attrs.get("units"))
    own = own if own in units else None
    first = coord.attrs.get("voxel_size")
    first = float(first) if _is_number(first) and 0 < first < math.inf else None
    if coord.size < 2:
        return (None, None) if first is None else (first, own)
    values = coord.values.astype(np.float64)
    step = float(values[-1] - values[0]) / (values.size - 1)
    steps = np.diff(values)
    kind = coord.dtype if coord.dtype.kind == "f" else np.dtype(float)
    slack = 1e-6 * abs(step) + 4 * float(np.spacing(np.abs(coord.values).max().astype(kind)))
    if not (np.isfinite(step) and step and np.abs(steps - step).max() <= slack):
        raise ParameterError(
            f"axis {axis}: its coordinates are not evenly spaced (steps {steps.min():g} to {steps.max():g}), so there "
            f"is no voxel size: select evenly, or forget them with image.drop_vars({axis!r})"
        )
    # Far from the origin the last digits of a coordinate are gone; the size it was made with still has them.
    times = 0 if first is None else round(abs(step) / first)
    if first and times and abs(abs(step) / (times * first) - 1) < 1e-6:
        return rounded(times * first), own
    return rounded(abs(step)), own
