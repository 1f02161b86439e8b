"""Imaris files (.ims): DataSet/ResolutionLevel k/TimePoint t/Channel c/Data, with sizes and names in DataSetInfo.

Data are padded to whole chunks; ImageSizeX, Y, Z of a channel say how much of them is image. Attributes are written
letter by letter.
"""

from __future__ import annotations

import datetime
import re
from itertools import pairwise
from typing import Any

from bigbia.errors import InputError, ParameterError
from bigbia.io.formats.base import Told, check_level, found_of, positive, stem
from bigbia.io.formats.hdf5 import Hdf5Source, follow, inside
from bigbia.io.formats.hdf5_says import attribute
from bigbia.io.places import Place, shown
from bigbia.units import LENGTHS, unit_name

_NUMBERED = re.compile(r"(\w+) (\d+)")


def is_layout(file: Any) -> bool:
    return "DataSet" in file and "DataSetInfo" in file


def open_layout(place: Place, file: Any, level: int, scene: Any, on_missing: str | None) -> Any:
    if scene not in (None, 0, "0"):
        raise ParameterError(f"{place}: scene={scene!r}: an Imaris file holds one image: leave scene out")
    root = follow(file, "DataSet", place)
    levels = _numbered(root, "ResolutionLevel", place)
    check_level(place, level, levels)
    at = f"DataSet/ResolutionLevel {level}"
    times = _numbered(follow(file, at, place), "TimePoint", place)
    channels = _numbered(follow(file, f"{at}/TimePoint 0", place), "Channel", place)
    shapes = tuple(_size(file, f"DataSet/ResolutionLevel {k}", place) for k in range(levels))
    names = (*("t" for _ in range(times > 1)), "c", "z", "y", "x")
    lead = (*(times for _ in range(times > 1)), channels)
    paths = {
        (*((t,) if times > 1 else ()), c): f"{at}/TimePoint {t}/Channel {c}/Data"
        for t in range(times)
        for c in range(channels)
    }
    source = Hdf5Source(place, file, paths, lead, shapes[level], on_missing=on_missing)
    told = _told(place, file, times, channels, shapes[0], shapes[level])
    told.names, told.levels = names, tuple((*lead, *shape) for shape in shapes)
    return found_of(place, "Imaris", source, told, stem(place, ".ims", ".h5"))


def _numbered(group: Any, word: str, place: Place) -> int:
    """How many groups "WORD 0", "WORD 1", ... there are."""
    numbers = {int(found[2]) for name in group if (found := _NUMBERED.fullmatch(name)) and found[1] == word}
    if not numbers or numbers != set(range(len(numbers))):
        raise InputError(
            f"{place}: {shown(group.name)} holds {word} {', '.join(map(str, sorted(numbers)[:8])) or '(none)'}, all from 0 on "
            "were expected: the file is not complete, restore it"
        )
    return len(numbers)


def _size(file: Any, path: str, place: Place) -> tuple[int, ...]:
    """Sizes z y x of the image within the data of a resolution level."""
    channel = follow(file, f"{path}/TimePoint 0/Channel 0", place)
    data = follow(file, f"{path}/TimePoint 0/Channel 0/Data", place)
    said = [attribute(channel, f"ImageSize{axis}") for axis in "ZYX"]
    if len(data.shape) != 3:
        raise InputError(f"{place}: {shown(data.name)} has shape {data.shape}, z y x was expected: the file is damaged")
    if None in said:  # files of other writers; then data are not padded
        return tuple(data.shape)
    try:
        size = tuple(int(str(word)) for word in said)
    except ValueError:
        size = (0, 0, 0)
    if any(not 0 < n <= m for n, m in zip(size, data.shape)):
        raise InputError(
            f"{place}: {shown(channel.name)} says its image is {' x '.join(map(str, said))}, its data are {data.shape}: the file "
            "is damaged"
        )
    return size


def _told(place: Place, file: Any, times: int, channels: int, finest: tuple[int, ...], shape: tuple[int, ...]) -> Told:
    told = Told(shrink={a: n / m for a, n, m in zip("zyx", finest, shape)})
    image = inside(file, "DataSetInfo/Image", place)
    unit = unit_name(attribute(image, "Unit")) if image is not None else None
    if image is not None and unit in LENGTHS:
        for i, axis in enumerate("xyz"):
            start, stop = (_number(attribute(image, f"Ext{end}{i}")) for end in ("Min", "Max"))
            extent = None if start is None or stop is None else positive(stop - start)
            if extent is None or start is None:
                continue
            told.sizes[axis] = extent / shape["zyx".index(axis)]
            # The extent goes from border to border, coordinates are those of the voxels' centres.
            told.origin[axis] = start + (told.sizes[axis] - extent / finest["zyx".index(axis)]) / 2
        told.unit = unit
    step = _time_step(inside(file, "DataSetInfo/TimeInfo", place), times)
    if step:
        told.sizes["t"], told.time_unit = step, "second"
    every = [inside(file, f"DataSetInfo/Channel {c}", place) for c in range(channels)]
    found = [str(attribute(g, "Name") or "").strip() if g is not None else "" for g in every]
    if all(found):
        told.channels = tuple(map(shown, found))
    for c, group in enumerate(every):
        if group is not None and told.channels and (look := _look(group)):
            told.display[told.channels[c]] = look
    return told


def _look(channel: Any) -> dict[str, Any]:
    """Colour and contrast of a channel."""
    look: dict[str, Any] = {}
    color, window = (
        [_number(word) for word in str(attribute(channel, key) or "").split()] for key in ("Color", "ColorRange")
    )
    if len(color) == 3 and all(v is not None and 0 <= v <= 1 for v in color):
        look["color"] = "".join(f"{round(255 * v):02X}" for v in color if v is not None)
    if len(window) == 2 and None not in window and window[0] < window[1]:  # type: ignore[operator]
        look["window"] = (window[0], window[1])
    return look


def _time_step(info: Any, times: int) -> float | None:
    """Seconds between time points that are evenly spaced."""
    stamps = []
    for t in range(1, times + 1):
        said = attribute(info, f"TimePoint{t}") if info is not None else None
        try:
            stamps.append(datetime.datetime.fromisoformat(str(said).strip()))
        except ValueError:
            return None
    if times < 2:
        return None
    steps = [(b - a).total_seconds() for a, b in pairwise(stamps)]
    mean = sum(steps) / len(steps)
    return positive(mean) if all(abs(s - mean) <= 0.01 * abs(mean) for s in steps) else None


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
