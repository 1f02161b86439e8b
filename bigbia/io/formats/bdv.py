"""BigDataViewer's HDF5: t00000/s00/0/cells, one data set a time point, setup and level.

A setup is a channel, an angle or a tile, and the file does not say which: each is a scene, its times are stacked. Names
and voxel sizes stand in the XML file beside it. Voxels are written as int16 and meant as uint16.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from bigbia.errors import InputError
from bigbia.io.formats.base import Told, check_level, found_of, pick, positive, size_text, stem
from bigbia.io.formats.hdf5 import Hdf5Source, follow
from bigbia.io.places import DOCUMENT, Place, shown
from bigbia.units import LENGTHS, unit_name

_TIME, _SETUP = re.compile(r"t\d{5,}"), re.compile(r"s\d{2,}")


def is_layout(file: Any) -> bool:
    return "t00000" in file and any(_SETUP.fullmatch(name) for name in file)


def open_layout(place: Place, file: Any, level: int, scene: Any, on_missing: str | None) -> Any:
    setups = sorted(n for n in file if _SETUP.fullmatch(n) and n in follow(file, "t00000", place))
    times = sorted(n for n in file if _TIME.fullmatch(n))
    said = _xml(place)
    names = [said.get(int(s[1:]), {}).get("name") or s for s in setups]
    shapes = [follow(file, f"t00000/{s}/0/cells", place).shape for s in setups]
    number = pick(place, scene, names, lambda i: size_text(("z", "y", "x"), shapes[i]))
    setup = setups[number]
    factors = np.atleast_2d(follow(file, f"{setup}/resolutions", place)[()]).astype(float)[:, ::-1]  # stored x y z
    check_level(place, level, len(factors))
    for time in times:
        if setup not in follow(file, time, place):
            raise InputError(f"{place}: {time} does not hold {setup}: the file is not complete, restore it")
    lead = (len(times),) if len(times) > 1 else ()
    paths: dict[tuple[int, ...], str] = {
        ((t,) if lead else ()): f"{time}/{setup}/{level}/cells" for t, time in enumerate(times)
    }
    first = follow(file, next(iter(paths.values())), place)
    kind = np.dtype("u2") if first.dtype == np.dtype("i2") else None
    source = Hdf5Source(place, file, paths, lead, kind=kind, on_missing=on_missing)
    levels = [follow(file, f"{times[0]}/{setup}/{k}/cells", place).shape for k in range(len(factors))]
    told = Told(
        names=(*("t" for _ in lead), "z", "y", "x"),
        shrink=dict(zip("zyx", (factors[level] / factors[0]).tolist())),
        levels=tuple((*lead, *shape) for shape in levels),
    )
    own = said.get(int(setup[1:]), {})
    if sizes := own.get("sizes"):
        told.sizes = {a: s * told.shrink[a] for a, s in sizes.items()}
        told.unit = own["unit"] if own["unit"] in LENGTHS else None
    found = found_of(place, "BigDataViewer HDF5", source, told, stem(place, ".h5"), names)
    if len(names) > 1:
        found.name = f"{found.name} {names[number]}"
    return found


def _xml(place: Place) -> Mapping[int, dict[str, Any]]:
    """What the XML file beside says of each setup. Nothing where there is none, or it names another file."""
    from xml.etree import ElementTree

    beside = place.url.rpartition(".")[0] + ".xml"
    if not place.local or not os.path.isfile(beside) or os.path.getsize(beside) > DOCUMENT:
        return {}
    with open(beside, "rb") as file:
        text = file.read()
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        return {}
    try:
        root = ElementTree.fromstring(text)
        out: dict[int, dict[str, Any]] = {}
        for setup in root.iter("ViewSetup"):
            size = setup.find("voxelSize")
            words = (size.findtext("size") or "").split() if size is not None else []
            values = [positive(word) for word in words]
            out[int(setup.findtext("id") or "")] = {
                "name": shown((setup.findtext("name") or "").strip()),
                "sizes": dict(zip("xyz", values)) if len(values) == 3 and all(values) else {},
                "unit": unit_name(size.findtext("unit")) if size is not None else None,
            }
    except (ElementTree.ParseError, ValueError):
        return {}
    return out
