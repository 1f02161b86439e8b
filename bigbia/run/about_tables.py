"""What a table of a run says of itself: the units of its columns, the step that made it, of what, with what versions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from bigbia.run.job import Job
from bigbia.units import _SYMBOLS

# scikit-image's names of columns -> the power of a length they are; AREA: as many as there are axes of space.
AREA = -1
POWERS = {
    "area": AREA, "area_bbox": AREA, "area_convex": AREA, "area_filled": AREA, "centroid": 1, "centroid_weighted": 1,
    "equivalent_diameter_area": 1, "axis_major_length": 1, "axis_minor_length": 1, "feret_diameter_max": 1,
    "perimeter": 1, "perimeter_crofton": 1, "inertia_tensor_eigvals": 2,
}  # fmt: skip
IN_VOXELS = ("bbox", "num_pixels")  # whatever the spacing


def table_metadata(job: Job, name: str, parts: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a table of a job, for `write_table`.

    Parameters
    ----------
    job : what is written
    name : of the table
    parts : of the run's fingerprint: pipeline, input, versions

    Returns
    -------
    dict
        what the table says itself (`unit`), `units` by column, `image` (the name of the input), `step` (its name in the
        pipeline, and what stands there), `inputs` (name -> digest), `versions`

    Examples
    --------
    >>> table_metadata(job, "nuclei", run.parts)["units"]["area"]  # doctest: +SKIP
    'um3'
    """
    graph, table = job.graphs.get(name), job.tables[name]
    found = dict(graph.attributes) if graph is not None else _plain(getattr(table, "attrs", {}))
    columns = [str(c) for c in table.columns]
    if graph is not None:
        ndim = len(graph.parts[0].stage.grid.shape)
        found["units"] = {**units_of(columns, found.get("unit"), ndim), **found.get("units", {})}
    inputs = {named(place): digest for place, digest in parts.get("input", {}).items()}
    given = job.origin.get("input")
    found["image"] = named(str(given)) if given else ", ".join(_group(name) for name in inputs)
    document = parts.get("pipeline")
    if isinstance(document, Mapping):
        found["step"] = _step(document, name)
    return {**found, "inputs": inputs, "versions": dict(parts.get("versions", {}))}


def units_of(columns: list[str], unit: str | None, ndim: int) -> dict[str, str]:
    """The units of the columns that are lengths, areas or volumes; voxels where no unit was asked for.

    >>> units_of(["label", "area", "bbox-0", "extent"], "micrometer", 3)
    {'area': 'um3', 'bbox-0': 'voxel'}
    """
    found = {}
    for column in columns:
        base = re.sub(r"[-_.]?\d+$", "", column)
        if base in IN_VOXELS or (base in POWERS and unit is None):
            found[column] = "voxel"
        elif base in POWERS and unit is not None:
            power = ndim if POWERS[base] == AREA else POWERS[base]
            found[column] = _symbol(unit) + (str(power) if power > 1 else "")
    return found


def _symbol(unit: str) -> str:
    return next((short for short, name in _SYMBOLS.items() if name == unit), unit)


def named(place: str) -> str:
    """An image without the folders in which it lies: from the Zarr store on, else its last name."""
    names = PurePath(place).parts
    start = next((i for i, name in enumerate(names) if name.endswith(".zarr")), len(names) - 1)
    return "/".join(names[start:])


def _group(name: str) -> str:
    """The image of which an array is a level."""
    return name.rpartition("/")[0] or name


def _step(document: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The step of a pipeline that makes a table, with what it is given."""
    saved = document.get("save")
    tables = saved.get("tables") if isinstance(saved, Mapping) else None
    step = tables.get(name) if isinstance(tables, Mapping) else None
    steps = document.get("steps")
    said = steps.get(step) if isinstance(steps, Mapping) else None
    return None if said is None else {"name": step, "is": said}


def _plain(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """What JSON can hold of the attributes that a table was given."""
    found = {}
    for key, value in attributes.items():
        try:
            found[str(key)] = json.loads(json.dumps(value))
        except (TypeError, ValueError):
            continue
    return found
