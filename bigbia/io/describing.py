"""`describe`: what is at a path, and what would be wrong with it. No voxel is read."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from bigbia.errors import InputError
from bigbia.hyperstack import SPACE
from bigbia.io.found import GUESS, Found, by_position, listed
from bigbia.io.multiscale import labels_in, multiscale_of, tables_in
from bigbia.io.places import Place
from bigbia.io.zarr_source import ZarrNode, ZarrSource, find_node

LOOKED_AT = 3  # images of a plate that are opened to say what is common to them


def describe(
    path: str | os.PathLike[str], *, scene: int | str | None = None, well: str | None = None, field: Any = None
) -> dict[str, Any]:
    """What is at a path, for `bigbia info`: plain values, by name.

    Parameters
    ----------
    path : as `bigbia.open` takes it; also a plate or a well by itself, whose images are then listed
    scene, well, field : as `bigbia.open` takes them

    Returns
    -------
    dict; `problems` is a list of {"problem", "remedy"}: what would be wrong with the image

    Raises
    ------
    InputError, ParameterError : what `open` raises, where nothing can be said

    >>> describe("cells.ome.zarr")["axes"]  # doctest: +SKIP
    'zyx'
    """
    from bigbia.io.finding import find

    node = find_node(Place(path)) if isinstance(path, str | os.PathLike) and os.fspath(path) else None
    if node is not None and well is None and field is None:
        plate = _plate(node)
        if plate is not None:
            return plate
    try:
        found = find(path, 0, "fill", scene=scene, well=well, field=field)
    except InputError as error:
        said = _broken(node, error) if node is not None and well is None and field is None else None
        if said is None:
            raise
        return said
    return described(found)


def _broken(node: ZarrNode, error: InputError) -> dict[str, Any] | None:
    """What can be said of an image that cannot be opened; None for what claims to be none."""
    from bigbia.io.plates import ome_of
    from bigbia.io.problems import metadata_problems

    wrong = {"problem": str(error), "remedy": ""}
    if node.kind == "array":
        kind = {"path": str(node.place), "kind": f"Zarr {node.format} array that cannot be opened"}
        return {**kind, "opens": False, "problems": [wrong]}
    said = ome_of(node).get("multiscales")
    if not isinstance(said, list):
        return None
    out: dict[str, Any] = {"path": str(node.place), "kind": "OME-Zarr that cannot be opened", "opens": False}
    try:
        image = multiscale_of(node)
    except InputError:
        image = None
    if image is not None:
        arrays = [(path, find_node(node.place / path)) for path in image.paths]
        out |= {
            "axes": "".join(image.axes) if image.axes else None,
            "levels": [{"path": path, "shape": _shape(one)} for path, one in arrays],
            "voxel_size": {a: s for a, s in image.sizes[0].items() if a in SPACE} if image.sizes else None,
            "unit": image.unit,
            "channels": list(image.channels) if image.channels else None,
        }
    others = [{"problem": problem, "remedy": remedy} for problem, remedy in metadata_problems(node)]
    return {**out, "problems": [wrong, *others]}


def described(found: Found) -> dict[str, Any]:
    """What was found, as plain values."""
    from bigbia.io.problems import problems_of

    source, layout = found.source, getattr(found.source, "layout", None)
    dims = found.axes or GUESS.get(len(source.shape))
    sizes = by_position(found, dims, found.sizes) if dims else {}
    absent, total = source.missing_chunks()
    channels = list(found.channels) if found.channels and dims and "c" in dims else None
    out: dict[str, Any] = {
        "path": str(found.place),
        "kind": found.kind,
        "axes": "".join(dims) if dims else None,
        "shape": list(source.shape),
        "dtype": str(source.dtype),
        "chunks": list(layout.chunks if layout else source.chunks),
        "shards": list(layout.shards) if layout and layout.shards else None,
        "voxel_size": {a: s for a, s in sizes.items() if a in SPACE} or None,
        "unit": found.unit,
        "time_step": sizes.get("t"),
        "time_unit": found.time_unit,
        "channels": channels,
        "display": {name: dict(entry) for name, entry in found.display.items()},
        "levels": _levels(found),
        "labels": labels_in(found.place) if found.image else [],
        "tables": tables_in(found.place) if found.image else [],
        "scenes": list(found.scenes),
        "bytes": _bytes(source),
        "bytes_in_memory": math.prod(source.shape) * source.dtype.itemsize,
        "missing_chunks": {"absent": absent, "total": total},
    }
    notes = list(found.notes)
    if found.mismatch:
        notes.insert(0, found.mismatch)
    elif found.axes is None:
        taken = f"taken as {''.join(dims)}" if dims else 'pass axes, for instance axes="tczyx"'
        notes.insert(0, f"nothing says which axes these are: {taken}")
    elif found.problem:
        notes.insert(0, found.problem)
    if notes:
        out["note"] = "; ".join(notes)
    out["problems"] = problems_of(found, out)
    return out


def _plate(node: Any) -> dict[str, Any] | None:
    """A plate, or a well of several fields: what lies in it, and what is common to the images."""
    from bigbia.io.plates import Field, fields_of, images_of, plate_of

    plate = plate_of(node)
    if plate is not None:
        fields = fields_of(node.place.url)
        names = list(dict.fromkeys(field.well for field in fields))
        out: dict[str, Any] = {
            "path": str(node.place), "kind": f"OME-Zarr plate {plate.version}", "name": plate.name,
            "rows": len(plate.rows), "columns": len(plate.columns), "wells": names,
            "fields": sum(bool(field.field) for field in fields),
            "acquisitions": [f"{name} ({number})" for number, name in plate.acquisitions.items()],
        }  # fmt: skip
    else:
        images = images_of(node)
        if images is None or len(images) < 2:
            return None
        fields = [Field("", name, (node.place / name).url, "", "", run) for name, run in images]
        out = {"path": str(node.place), "kind": "OME-Zarr well", "fields": [field.field for field in fields]}
    out["images"], out["problems"] = _common(fields)
    return out


def _common(fields: Sequence[Any]) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """What the first, the middle and the last of many images have in common, and what is wrong with them."""
    from bigbia.errors import BigbiaError
    from bigbia.io.finding import find

    there = [field for field in fields if field.field]
    gone = [field.path for field in fields if not field.field]
    problems = []
    if gone:
        problems.append(
            {
                "problem": f"{len(gone)} well(s) listed that cannot be read ({listed(gone, 3)})",
                "remedy": "restore them, or take them off the plate's list",
            }
        )
    seen: list[dict[str, Any]] = []
    looked = sorted({0, len(there) // 2, len(there) - 1})[:LOOKED_AT] if there else []
    for place in looked:
        try:
            seen.append(described(find(there[place].path, 0, "fill")))
        except BigbiaError as error:
            problems.append({"problem": str(error), "remedy": "open the others by well and field, or restore this one"})
    keys = ("axes", "shape", "dtype", "voxel_size", "unit", "channels", "labels")
    common = {key: seen[0][key] for key in keys if seen and all(one[key] == seen[0][key] for one in seen)}
    differ = [key for key in keys if seen and key not in common]
    if differ:
        problems.append(
            {
                "problem": f"its images differ in {', '.join(differ).replace('_', ' ')} "
                f"({', '.join(one['path'] for one in seen[:2])})",
                "remedy": "work on those that are alike by themselves",
            }
        )
    said = {one["problem"]: one for found in seen for one in found["problems"]}
    return {"looked_at": len(seen), **common}, [*problems, *said.values()]


def _levels(found: Found) -> list[dict[str, Any]]:
    if found.image is None:
        return [{"shape": list(shape)} for shape in found.levels or [found.source.shape]]
    out = []
    for number, path in enumerate(found.image.paths):
        array = find_node(found.place / path)
        level: dict[str, Any] = {"path": path, "shape": _shape(array)}
        sizes = found.image.sizes[number] if number < len(found.image.sizes) else {}
        if number and (lengths := {a: s for a, s in sizes.items() if a in SPACE}):
            level["voxel_size"] = lengths
        out.append(level)
    return out


def _shape(array: ZarrNode | None) -> list[int] | None:
    """What an array says of its shape; None where there is no array, or where that is no shape."""
    said = None if array is None else array.meta.get("shape")
    return said if isinstance(said, list) and all(isinstance(n, int) for n in said) else None


def _bytes(source: Any) -> int | None:
    if isinstance(source, ZarrSource):
        listing = source.place.listing()
        return None if listing is None else sum(size for size, _ in listing.values())
    return sum(size for _, size, _ in source.files)
