"""What an OME-Zarr group says about its image: axes, levels, voxel sizes, channels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from bigbia.errors import InputError
from bigbia.hyperstack import AXES, SPACE
from bigbia.io.places import Place, brief, shown
from bigbia.io.zarr_source import ZarrNode, find_node
from bigbia.units import LENGTHS, TIMES, convert, rounded, unit_name


@dataclass(frozen=True)
class Multiscale:
    """What an OME-Zarr group says about its image."""

    version: str
    axes: tuple[str, ...] | None  # None where their names are not among t c z y x
    paths: tuple[str, ...]  # of the levels' arrays, from the finest
    sizes: tuple[dict[str, float], ...] = ()  # of a voxel (and time step) by axis, a dict a level
    origins: tuple[dict[str, float], ...] = ()
    unit: str | None = None
    time_unit: str | None = None
    channels: tuple[str, ...] | None = None
    name: str | None = None
    problem: str | None = field(default=None, compare=False)  # why there are no sizes, if there should be
    display: tuple[dict[str, Any], ...] = field(default=(), compare=False)  # what `omero` says of each channel
    notes: tuple[str, ...] = field(default=(), compare=False)  # about axes that were taken for others


def multiscale_of(node: ZarrNode) -> Multiscale | None:
    """The image a group describes, None where it describes none. InputError for a description that cannot be true."""
    ome = node.attributes.get("ome", node.attributes)
    found = ome.get("multiscales") if isinstance(ome, Mapping) else None
    if not isinstance(found, list) or not found or not isinstance(found[0], Mapping):
        return None
    first, where = found[0], str(node.place)
    datasets = first.get("datasets")
    if not isinstance(datasets, list) or not datasets or not all(isinstance(d, Mapping) for d in datasets):
        raise InputError(f"{where}: its multiscales name no datasets: the metadata are damaged, restore them")
    paths = tuple(inside(d.get("path"), where, "dataset") for d in datasets)
    version = brief(ome.get("version") or first.get("version") or ("0.5" if "ome" in node.attributes else "0.4"))
    names, units, taken = _axes(first.get("axes"), version)
    channels, display = _channels(ome.get("omero"))
    if names is None:
        return Multiscale(version, None, paths, channels=channels, name=_text(first.get("name")), display=display)
    shared = first.get("coordinateTransformations")
    sizes, origins, problem = [], [], None
    for dataset in datasets:
        scale, shift, wrong = _transform(dataset.get("coordinateTransformations"), len(names))
        if shared:
            outer, far, other = _transform(shared, len(names))
            shift = [s * o + f for s, o, f in zip(shift, outer or [1.0] * len(names), far)]
            scale = [s * o for s, o in zip(scale, outer)] if scale and outer else scale or outer
            wrong = wrong or other
        problem = problem or wrong
        sizes.append(dict(zip(names, map(rounded, scale))) if scale else {})
        origins.append(dict(zip(names, map(rounded, shift))))
    unit = _one_unit(names, units, [*sizes, *origins])
    time_unit = units[names.index("t")] if "t" in names else None
    return Multiscale(
        version, names, paths, tuple(sizes), tuple(origins), unit, time_unit if time_unit in TIMES else None, channels,
        _text(first.get("name")), problem and f"{where}: {problem}", display,
        tuple(f"{where}: {one}" for one in taken),
    )  # fmt: skip


def inside(path: Any, where: str, what: str) -> str:
    """The path of a dataset, label or image as metadata name it; refused where it leaves the group it stands in."""
    if not isinstance(path, str) or not path.strip("/") or not path.isprintable():
        raise InputError(f"{where}: a {what}'s path is {brief(path, repr)}: the metadata are damaged, restore them")
    if ".." in path.replace("\\", "/").split("/") or path.startswith(("/", "\\", "~")) or ":" in path:
        raise InputError(
            f"{where}: {what} path {path!r} leaves the store: refused, name that image itself if you trust it"
        )
    return str(PurePosixPath(path))


def _axes(found: Any, version: str) -> tuple[tuple[str, ...] | None, list[str | None], list[str]]:
    """The axes among t c z y x (None where they cannot be told), their units, and what was taken for what."""
    if found is None and version in ("0.1", "0.2"):
        return tuple(AXES), [None] * 5, []
    names, kinds, units = [], [], []
    for axis in found if isinstance(found, list) else []:
        entry = axis if isinstance(axis, Mapping) else {"name": axis}
        names.append(str(entry.get("name")).lower())
        kinds.append(entry.get("type"))
        units.append(unit_name(entry.get("unit")))
    taken = []
    for axis in "tc":
        strange = [i for i, name in enumerate(names) if name not in tuple(AXES) and _meant(name, kinds[i]) == axis]
        if axis not in names and len(strange) == 1:
            (i,) = strange
            taken.append(f"its axis {shown(names[i])!r} of type {brief(kinds[i], repr)} is taken for {axis}")
            names[i] = axis
    known = names and all(len(n) == 1 and n in AXES for n in names) and len(set(names)) == len(names)
    return (tuple(names), units, taken) if known else (None, units, [])


def _meant(name: str, kind: Any) -> str | None:
    """The axis that a name not among t c z y x stands for: 0.4 and 0.5 allow any, and one axis of any type beside."""
    if kind == "space":
        return None
    return "t" if kind == "time" or (kind is None and name == "time") else "c"


def _transform(found: Any, ndim: int) -> tuple[list[float], list[float], str | None]:
    """Scale (empty: none given), translation, and what is wrong with them."""
    scale: list[float] = []
    shift = [0.0] * ndim
    for one in found if isinstance(found, list) else []:
        kind = one.get("type") if isinstance(one, Mapping) else None
        values = one.get(kind) if isinstance(kind, str) else None
        if kind in ("scale", "translation"):
            values = values if isinstance(values, list) else []
            good = len(values) == ndim and all(map(is_finite, values))
            if not good or (kind == "scale" and min(values) <= 0):
                return [], shift, f"its {kind} {brief(one.get(kind), repr)} does not fit {ndim} axes"
            if kind == "scale":
                scale = [float(v) for v in values]
            else:
                shift = [float(v) for v in values]
        elif kind != "identity":
            return [], shift, f"its coordinate transformation {brief(kind, repr)} is neither scale nor translation"
    return scale, shift, None


def _one_unit(names: Sequence[str], units: Sequence[str | None], values: list[dict[str, float]]) -> str | None:
    """The unit of space; lengths along axes that have another one are turned into it, in place."""
    own = {n: u for n, u in zip(names, units) if n in SPACE}
    if not own or any(u not in LENGTHS for u in own.values()):
        return None
    unit = str(list(own.values())[-1])
    for lengths in values:
        for axis in set(lengths) & set(own):
            if own[axis] != unit:
                lengths[axis] = convert(lengths[axis], str(own[axis]), unit)
    return unit


def _channels(omero: Any) -> tuple[tuple[str, ...] | None, tuple[dict[str, Any], ...]]:
    """Names of the channels, where all have one, and how each is to be shown."""
    found = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(found, list) or not found or not all(isinstance(c, Mapping) for c in found):
        return None, ()
    display = []
    for one in found:
        window = one.get("window")
        span = (window.get("start"), window.get("end")) if isinstance(window, Mapping) else None
        display.append({"color": one.get("color"), "window": span})
    names = tuple(shown(str(c["label"])) for c in found) if all("label" in c for c in found) else None
    return names, tuple(display)


def is_finite(value: Any) -> bool:
    """A number, and a finite one."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # JSON's whole numbers have no end
        return False


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def labels_in(place: Place) -> list[str]:
    """Names of the label images of an image group."""
    node = find_node(place / "labels")
    if node is None:
        return []
    ome = node.attributes.get("ome", node.attributes)
    found = ome.get("labels") if isinstance(ome, Mapping) else None
    return [inside(name, str(node.place), "label") for name in found] if isinstance(found, list) else []


def tables_in(place: Place) -> list[str]:
    """Names of what lies in the folder `tables` of an image group."""
    return [shown(n) for n in (place / "tables").names() if not n.startswith((".", "_")) and n != "zarr.json"]
