"""What N5 attributes say about axes and voxels, in the ways that people write it.

axes, units, resolution          one entry an axis, the fastest first (N5 viewers, ImageJ)
pixelResolution                  numbers, or {dimensions, unit}; of the finest level where downsamplingFactors stand
                                 beside it (N5 viewers), else of the level itself (COSEM)
downsamplingFactors, scales      of a level, or a list of them in the group of the levels (BigDataViewer)
transform, multiscales           axes, scale, translate, units; the slowest first (COSEM)
axistags                         JSON of vigra, the slowest first (ilastik)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bigbia.io.formats.base import Told, axis_name, positive
from bigbia.units import rounded, unit_name

Said = Mapping[str, Any]


def told_by(own: Said, base: Said, groups: Sequence[Said], level: int, name: str) -> Told:
    """What a level's attributes say, with those of the finest one and of the groups around."""
    count = len(own.get("dimensions") or ())
    factors = _factors(own, base, groups, level, count)
    told = Told()
    transform = _transform(own, groups, name, count)
    units: list[Any] = []
    if transform is not None:
        told.names = tuple(axis_name(a) for a in transform["axes"])
        sizes = [positive(s) for s in transform["scale"]]
        units = [unit_name(u) for u in transform.get("units") or [None] * count]
        shift = transform.get("translate")
        if isinstance(shift, list) and len(shift) == count and all(isinstance(s, int | float) for s in shift):
            told.origin = dict(zip(told.names, map(float, shift)))
    else:
        told.names = _names(own, base, groups, count)
        sizes, units = _sizes(own, base, groups, factors, count)
        if not told.names and any(sizes):
            # The first three axes of an N5 are x y z by convention; what follows is not said.
            told.names = (*(f"axis{i}" for i in range(count - 3)), *"zyx"[-min(3, count) :])
    told.shrink = {a: f for a, f in zip(told.names, factors) if a in "zyx"}
    told.sizes = {a: s for a, s in zip(told.names, sizes) if s}
    by_axis = dict(zip(told.names, units))
    told.in_one_unit(by_axis)
    if told.time_unit is None:
        told.sizes.pop("t", None)
    if transform is None:
        # A voxel of a coarser level stands in the middle of those it was made of.
        told.origin = {
            a: told.sizes[a] * (f - 1) / (2 * f) for a, f in told.shrink.items() if a in told.sizes and f > 1
        }
    return told


def _numbers(value: Any, count: int) -> list[float | None]:
    """A list of positive numbers, in NumPy's order; empty where it is none."""
    if not isinstance(value, list) or len(value) not in (count, min(3, count)):
        return []
    return [None] * (count - len(value)) + [positive(v) for v in reversed(value)]


def _factors(own: Said, base: Said, groups: Sequence[Said], level: int, count: int) -> list[float]:
    """By how much a level is coarser than the finest one, in NumPy's order."""
    candidates = [own.get("downsamplingFactors")]
    for group in groups:
        for key in ("downsamplingFactors", "scales"):
            listed = group.get(key)
            if isinstance(listed, list) and level < len(listed):
                candidates.append(listed[level])
    for candidate in candidates:
        found = _numbers(candidate, count)
        if found and all(found[-min(3, count) :]):
            return [f or 1.0 for f in found]
    shapes = [said.get("dimensions") or [] for said in (base, own)]
    whole = all(isinstance(s, list) and len(s) == count and all(type(n) is int for n in s) for s in shapes)
    if whole and level > 0:
        return [float(round(a / b)) if b else 1.0 for a, b in zip(*map(reversed, shapes))]
    return [1.0] * count


def _transform(own: Said, groups: Sequence[Said], name: str, count: int) -> Said | None:
    """COSEM's transform of this level, where it is complete."""
    candidates = [own.get("transform")]
    for group in groups:
        listed = group.get("multiscales")
        for scale in listed if isinstance(listed, list) else []:
            entries = scale.get("datasets") if isinstance(scale, Mapping) else None
            for entry in entries if isinstance(entries, list) else []:
                if isinstance(entry, Mapping) and entry.get("path") == name:
                    candidates.append(entry.get("transform"))
    for found in candidates:
        if not isinstance(found, Mapping):
            continue
        axes, scale, units = (found.get(key) for key in ("axes", "scale", "units"))
        if units is not None and (not isinstance(units, list) or len(units) != count):
            continue
        if all(isinstance(v, list) and len(v) == count for v in (axes, scale)):
            return found
    return None


def _names(own: Said, base: Said, groups: Sequence[Said], count: int) -> tuple[str, ...]:
    for said in (own, base, *groups):
        listed = said.get("axes")
        if isinstance(listed, list) and len(listed) == count:
            return tuple(axis_name(a) for a in reversed(listed))
        tags = said.get("axistags")
        try:
            tags = json.loads(tags) if isinstance(tags, str) else tags
            names = tuple(axis_name(a["key"]) for a in tags["axes"]) if isinstance(tags, Mapping) else ()
        except (ValueError, KeyError, TypeError, RecursionError):
            names = ()
        if names and len(names) == count:
            return names
    return ()


def _sizes(
    own: Said, base: Said, groups: Sequence[Said], factors: list[float], count: int
) -> tuple[list[float | None], list[Any]]:
    """Voxel sizes of this level and their units, in NumPy's order."""
    finest = own is base or own == base or all(f == 1 for f in factors)
    for said, of_level in (
        (own, finest or "downsamplingFactors" not in own),
        (base, finest),
        *((g, finest) for g in groups),
    ):
        for key in ("pixelResolution", "resolution"):
            value: Any = said.get(key)
            unit: Any = said.get("units") or said.get("unit")
            if isinstance(value, Mapping):
                value, unit = value.get("dimensions"), value.get("unit") or unit
            found = _numbers(value, count)
            if not any(found):
                continue
            if isinstance(unit, list):
                words = [None] * (count - len(unit)) + list(reversed(unit))
            else:
                words = [unit] * count
            sizes = found if of_level else [s and rounded(s * f) for s, f in zip(found, factors)]
            return sizes, [unit_name(w) if isinstance(w, str) else None for w in words]
    return [], []
