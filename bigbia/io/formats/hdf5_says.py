"""What the attributes of an HDF5 data set say about its axes and voxels, in the ways that people write it.

axistags                JSON of vigra, as ilastik writes it: keys and resolutions of the axes
dimension labels        and dimension scales: coordinates along an axis, with units (netCDF, xarray)
axes, _ARRAY_DIMENSIONS names of the axes
element_size_um         of a voxel, z y x
voxel_size, resolution, spacing   with units beside them, or without
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from bigbia.io.formats.base import Told, axis_name, positive
from bigbia.io.places import brief
from bigbia.units import unit_name

_LONGEST = 1 << 22  # coordinates along an axis that are read


def attribute(thing: Any, name: str) -> Any:
    """An attribute as plain values: text, numbers, a list of them; None where there is none that can be read."""
    try:
        value = thing.attrs[name] if name in thing.attrs else None  # noqa: SIM401 - attrs.get hides no error either
    except Exception:  # an attribute of a kind that h5py does not read says nothing here
        return None
    return plain(value)


def plain(value: Any) -> Any:
    if isinstance(value, bytes | np.bytes_):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "S" and value.dtype.itemsize == 1:  # letter by letter, as Imaris writes it
            return b"".join(value.ravel().tolist()).decode("utf-8", "replace")
        items = [plain(v) for v in value.ravel().tolist()]
        return items[0] if value.shape == () and items else items
    return value.item() if isinstance(value, np.generic) else value


def told_by(data: Any) -> Told:
    """What a data set says about itself."""
    told = Told(levels=(tuple(data.shape),))
    count = len(data.shape)
    units: dict[str, str | None] = {}
    for source in (_axistags, _dimensions, _listed):
        names, sizes, own = source(data)
        if names and len(names) == count and not told.names:
            told.names, told.sizes, units = tuple(names), sizes, own
    _sizes(data, told, units)
    told.in_one_unit(units)
    return told


def _axistags(data: Any) -> tuple[list[str], dict[str, float], dict[str, str | None]]:
    text = attribute(data, "axistags")
    try:
        axes = json.loads(text)["axes"] if isinstance(text, str) else []
        names = [axis_name(axis["key"]) for axis in axes]
        # vigra writes 0 for a resolution that it does not know.
        sizes = {n: s for n, axis in zip(names, axes) if (s := positive(axis.get("resolution")))}
        units = {n: unit_name(axis.get("unit")) for n, axis in zip(names, axes)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [], {}, {}
    said = attribute(data, "axis_units")
    try:
        own = json.loads(said) if isinstance(said, str) else {}
        units |= {axis_name(a): unit_name(u) for a, u in own.items()}
    except (ValueError, AttributeError, RecursionError):
        pass
    return names, sizes, units


def _dimensions(data: Any) -> tuple[list[str], dict[str, float], dict[str, str | None]]:
    names: list[str] = []
    sizes: dict[str, float] = {}
    units: dict[str, str | None] = {}
    try:
        for dim, length in zip(data.dims, data.shape):
            word, scales = dim.label, [scale for scale in dim.values() if scale.shape == (length,)]
            if not word and scales:
                word = scales[0].name.rsplit("/", 1)[-1]
            if not word:
                return [], {}, {}
            name = axis_name(word)
            names.append(name)
            for scale in scales[:1]:
                if step := _step(scale):
                    sizes[name] = step
                    units[name] = unit_name(attribute(scale, "units") or attribute(scale, "unit"))
    except Exception:  # references to what is not there: the labels of a damaged file say nothing
        return [], {}, {}
    return names, sizes, units


def _step(scale: Any) -> float | None:
    """The distance of coordinates that are evenly spaced."""
    if scale.dtype.kind not in "iuf" or not 1 < scale.shape[0] <= _LONGEST:
        return None
    values = scale[()].astype(float)
    steps = np.diff(values)
    mean = float(values[-1] - values[0]) / len(steps)
    return positive(mean) if mean > 0 and np.allclose(steps, mean, rtol=1e-4, atol=0) else None


def _listed(data: Any) -> tuple[list[str], dict[str, float], dict[str, str | None]]:
    for key in ("axes", "_ARRAY_DIMENSIONS", "axis_names", "dimension_names"):
        said = attribute(data, key)
        if isinstance(said, str):
            words: Sequence[Any] = said.replace(",", " ").split() if "," in said or " " in said else list(said)
        else:
            words = said if isinstance(said, list) else []
        if words and len(words) == len(data.shape):
            return [axis_name(word) for word in words], {}, {}
    return [], {}, {}


def _sizes(data: Any, told: Told, units: dict[str, str | None]) -> None:
    """Sizes that stand in an attribute of their own, for z y x or for every axis."""
    count = len(data.shape)
    for key in ("element_size_um", "voxel_size", "resolution", "spacing"):
        said = attribute(data, key)
        values = [positive(v) for v in said] if isinstance(said, list) else []
        if not values:
            continue
        space = [a for a in told.names if a in "zyx"]
        if not told.names and len(values) == 3 and count >= 3:
            # It is by convention z y x; what comes before is not said.
            told.names = (*(f"axis{i}" for i in range(count - 3)), "z", "y", "x")
            space = ["z", "y", "x"]
        if len(values) == count and told.names and len(values) != len(space):
            by_axis = dict(zip(told.names, values))
        elif len(values) == 3 and space:
            by_axis = dict(zip("zyx", values))
        elif len(values) == len(space):
            by_axis = dict(zip(space, values))
        else:
            told.notes.append(f"{data.name}: {key} {brief(said)} does not fit {count} axes: left aside")
            continue
        unit = "micrometer" if key == "element_size_um" else _unit(data)
        for axis, value in by_axis.items():
            if axis in told.names and value and (axis not in told.sizes or (unit and not units.get(axis))):
                told.sizes[axis] = value
                units[axis] = unit if axis in "zyx" else None
        return


def _unit(data: Any) -> str | None:
    said = attribute(data, "units") or attribute(data, "unit")
    word = said[-1] if isinstance(said, list) and said else said
    return unit_name(word) if isinstance(word, str) else None
