"""LIF and LOF, Leica's formats: liffile reads their structure; voxels lie in the file unpacked and are mapped.

    LifSource  one image as a source
    open_lif   what is in a file

An image may have axes beside t c z y x (mosaic tiles, wavelengths, rotations): each place along them is a scene.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from bigbia.errors import InputError
from bigbia.graph.boxes import Box, shape_of, slices
from bigbia.io.formats.base import (
    ForeignSource,
    Told,
    check_level,
    found_of,
    imported,
    local_only,
    pick,
    piece_of,
    reading,
    samples,
    size_text,
    stats,
    stem,
)
from bigbia.io.places import DOCUMENT, Place, brief, shown
from bigbia.units import LENGTHS, TIMES, convert, unit_name

_AXES = {1: "x", 2: "y", 3: "z", 4: "t"}
_OTHER = {5: "wavelength", 6: "rotation", 7: "slice", 8: "t slice", 9: "excitation", 10: "tile", 11: "loop"}
MOST = 100_000  # places along axes beside t c z y x
_COLORS = {
    "red": "FF0000", "green": "00FF00", "blue": "0000FF", "cyan": "00FFFF", "magenta": "FF00FF", "yellow": "FFFF00",
    "gray": "FFFFFF", "grey": "FFFFFF",
}  # fmt: skip


@dataclass
class Layout:
    """Where the voxels of one image lie in the file: axes t c z y x with their lengths and steps in bytes."""

    name: str
    dtype: np.dtype
    sizes: dict[str, int]
    steps: dict[str, int]
    shifts: list[int]  # of the channels, in bytes
    offset: int = 0  # of the image's block in the file
    size: int = 0  # of that block
    spacing: dict[str, tuple[float, str | None]] = field(default_factory=dict)
    channels: tuple[str, ...] | None = None
    colors: dict[str, str] = field(default_factory=dict)

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(a for a in "tczyx" if a in self.sizes)


class LifSource(ForeignSource):
    """An image of a LIF file as a source."""

    format = "lif"

    def __init__(self, place: Place, layout: Layout, number: int, on_missing: str | None) -> None:
        super().__init__(place, on_missing, stats([place.url], place))
        self.layout_in_file = layout
        shape = [layout.sizes[a] for a in layout.axes]
        self._describe(shape, layout.dtype, piece_of(shape, layout.dtype.itemsize), number)
        last = max(layout.shifts) + sum((layout.sizes[a] - 1) * layout.steps[a] for a in layout.axes if a != "c")
        if min(layout.steps.values(), default=0) < 0 or last + layout.dtype.itemsize > layout.size:
            raise InputError(
                f"{place}: {shown(layout.name)}: its {size_text(layout.axes, shape)} do not fit the {layout.size} bytes stored for "
                "them: the file is damaged"
            )
        end = layout.offset + layout.size
        if end > self.files[0][1]:
            raise InputError(
                f"{place}: is cut off: {shown(layout.name)} ends at byte {end}, the file has {self.files[0][1]}: restore it, or "
                "copy it again"
            )

    def _opened(self) -> None:
        return None

    def _voxels(self, handle: Any, box: Box) -> np.ndarray:
        layout = self.layout_in_file
        # Mapped for the moment of a read, so that pages of a large file do not stay in memory.
        held = np.memmap(self.place.url, "u1", "r", layout.offset, (layout.size,))
        out = np.empty(shape_of(box), self.dtype)
        axes = [a for a in layout.axes if a != "c"]
        shape, steps = [layout.sizes[a] for a in axes], [layout.steps[a] for a in axes]
        c = layout.axes.index("c") if "c" in layout.axes else None
        rest = box if c is None else (*box[:c], *box[c + 1 :])
        for number in range(*(box[c] if c is not None else (0, 1))):
            view: np.ndarray = np.ndarray(shape, layout.dtype, held, layout.shifts[number], steps)
            into = out if c is None else out[(slice(None),) * c + (number - box[c][0],)]
            into[...] = view[slices(rest)]
        return out


def open_lif(place: Place, level: int, scene: str | int | None, on_missing: str | None) -> Any:
    """What is in a LIF or LOF file."""
    local_only(place, "LIF")
    _check_header(place)
    liffile = imported("liffile", f"{place}: reading LIF")
    with reading(place, "LIF"), liffile.LifFile(place.url) as file:
        if file.type.name not in ("LIF", "LOF"):
            raise InputError(f"{place}: is a {file.type.name} file, which points to others: open the LIF or LOF file")
        layouts = [layout for image in file.images for layout in _layouts(image, place)]
    if not layouts:
        raise InputError(f"{place}: is a LIF file without an image")
    names = [layout.name for layout in layouts]
    number = pick(
        place, scene, names, lambda i: size_text(layouts[i].axes, [layouts[i].sizes[a] for a in layouts[i].axes])
    )
    check_level(place, level, 1)
    chosen = layouts[number]
    if chosen.size == 0:
        raise InputError(
            f"{place}: the voxels of {shown(chosen.name)} are not in the file: it is cut off, copy it again"
        )
    source = LifSource(place, chosen, number, on_missing)
    told = _told(chosen)
    name = stem(place, ".lif", ".lof") + (f" {chosen.name}" if len(names) > 1 else "")
    return found_of(place, "LIF", source, told, name, names)


def _check_header(place: Place) -> None:
    """Refuses XML that is too long, cut off, or declares entities, before it is parsed."""
    with open(place.url, "rb") as file:
        text = _text(place, file)
        if text == "LMS_Object_File".encode("utf-16-le"):  # a LOF: the voxels come first
            size = int.from_bytes(file.read(19)[11:], "little")
            file.seek(min(size, os.path.getsize(place.url)), os.SEEK_CUR)
            text = _text(place, file)
    if any(word.encode("utf-16-le") in text for word in ("<!DOCTYPE", "<!ENTITY")):
        raise InputError(f"{place}: its XML declares entities, which no microscope writes: refused")


def _text(place: Place, file: Any) -> bytes:
    """The text that stands here, behind its length."""
    length, size = 2 * int.from_bytes(file.read(13)[9:], "little"), os.path.getsize(place.url)
    if length > DOCUMENT:
        raise InputError(f"{place}: its header is {length} bytes long, which none is: the file is damaged")
    if length == 0 or file.tell() + length > size:
        raise InputError(
            f"{place}: is cut off: its header ends at byte {file.tell() + length}, the file has {size}: restore it, or copy it "
            "again"
        )
    return bytes(file.read(length))


def _layouts(image: Any, place: Place) -> list[Layout]:
    """The images t c z y x that an image of the file holds: one for each place along other axes."""
    description = image.xml_element.find("./Data/Image/ImageDescription")
    if description is None or image.is_flim:
        return []
    axes = [(int(d.get("DimID", 0)), d) for d in description.iterfind("Dimensions/DimensionDescription")]
    axes = [(number, d) for number, d in axes if int(d.get("NumberOfElements", 0)) != 1]
    channels = list(description.iterfind("Channels/ChannelDescription"))
    if not axes or not channels:
        return []
    known = [_AXES.get(number, "") for number, _ in axes]
    if len({a for a in known if a}) != sum(map(bool, known)):
        raise InputError(f"{place}: {shown(image.path)} has an axis twice: the file is damaged")
    kinds = {(c.get("DataType"), _bytes(c)) for c in channels}
    if len(kinds) > 1:
        raise InputError(f"{place}: the channels of {shown(image.path)} are of several kinds: split them first")
    floating, width = kinds.pop()
    if width is None or floating not in ("0", "1") or (floating == "1" and width < 2):
        raise InputError(f"{place}: {shown(image.path)}: {brief(channels[0].attrib)} is no kind of voxel that is known")
    dtype = np.dtype(f"<{'f' if floating == '1' else 'u'}{width}")
    sizes = {a: int(d.get("NumberOfElements", 0)) for a, (_, d) in zip(known, axes) if a}
    steps = {a: int(d.get("BytesInc", 0)) for a, (_, d) in zip(known, axes) if a}
    for axis in "yx":  # a line, or a point in time, is an image of one row
        sizes.setdefault(axis, 1)
        steps.setdefault(axis, 0)
    channels, names, colors = _channels(channels)
    if names or len(channels) > 1:
        sizes["c"] = len(channels)
    shifts = [int(c.get("BytesInc", 0)) for c in channels]
    spacing = {a: s for a, (_, d) in zip(known, axes) if a and (s := _spacing(d))}
    try:
        block = image.memory_block
        offset, size = (int(block.offset), int(block.size)) if block.offset > 0 else (0, 0)
    except (KeyError, ValueError, IndexError):
        offset, size = 0, 0
    others = [(number, d) for number, d in axes if number not in _AXES]
    places = math.prod(int(d.get("NumberOfElements", 0)) for _, d in others)
    if not 0 < places <= MOST:
        raise InputError(f"{place}: {shown(image.path)} has {places} places beside t c z y x: the file is damaged")
    out = []
    for index in product(*(range(int(d.get("NumberOfElements", 0))) for _, d in others)):
        shift = sum(i * int(d.get("BytesInc", 0)) for i, (_, d) in zip(index, others))
        words = ", ".join(f"{_OTHER.get(n, f'axis {n}')} {i}" for i, (n, _) in zip(index, others))
        name = f"{image.path} ({words})" if words else str(image.path)
        out.append(Layout(name, dtype, sizes, steps, [s + shift for s in shifts], offset, size, spacing, names, colors))
    return out


def _bytes(channel: Any) -> int | None:
    """Bytes of a voxel, by the bits that mean something."""
    bits = int(channel.get("Resolution", 0))
    return next((n for n in (1, 2, 4, 8) if 0 < bits <= 8 * n), None)


def _channels(channels: Sequence[Any]) -> tuple[list[Any], tuple[str, ...] | None, dict[str, str]]:
    """The channels in order, their names where they have any, and the colours of those."""
    tags = [c.get("ChannelTag") for c in channels]
    if sorted(map(str, tags)) == ["1", "2", "3"]:  # the colours of a pixel, often blue first
        return sorted(channels, key=lambda c: str(c.get("ChannelTag"))), samples(3), {}
    names = []
    for channel in channels:
        said = {p.findtext("Key"): p.findtext("Value") for p in channel.iterfind("ChannelProperty")}
        words = (said.get("DyeName"), channel.get("NameOfMeasuredQuantity"), channel.get("LUTName"))
        names.append(next((shown(w.strip()) for w in words if w and w.strip()), ""))
    colors = [_COLORS.get((c.get("LUTName") or "").strip().lower(), "") for c in channels]
    if len(channels) == 1 and names[0] == (channels[0].get("LUTName") or "").strip():
        names = [""]  # a colour alone is no reason for an axis of channels
    if not all(names):
        return list(channels), None, {"": colors[0]} if len(channels) == 1 and colors[0] else {}
    return list(channels), tuple(names), {n: c for n, c in zip(names, colors) if c}


def _spacing(dimension: Any) -> tuple[float, str | None] | None:
    """The distance of two elements: the length goes from the first to the last."""
    try:
        length, count = abs(float(dimension.get("Length", 0))), int(dimension.get("NumberOfElements", 0))
    except ValueError:
        return None
    if count < 2 or not 0 < length < math.inf:
        return None
    return length / (count - 1), unit_name(dimension.get("Unit"))


def _told(layout: Layout) -> Told:
    told = Told(names=layout.axes, channels=layout.channels)
    spacing: Mapping[str, tuple[float, str | None]] = layout.spacing
    for axis, (size, unit) in spacing.items():
        if axis == "t" and unit in TIMES:
            told.sizes["t"], told.time_unit = convert(size, str(unit), "second"), "second"
        elif axis in "zyx" and unit in LENGTHS:
            told.sizes[axis], told.unit = convert(size, str(unit), "micrometer"), "micrometer"
    told.display = {name: {"color": color} for name, color in layout.colors.items()}
    return told
