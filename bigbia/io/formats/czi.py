"""CZI, Zeiss's format, through pylibCZIrw.

    CziSource  one scene as a source
    open_czi   what is in a file

A region is read from the tiles (subblocks) it touches; a chunk is as large as a tile. Zoom levels are not exact levels of
the image, so there is level 0 alone. What no tile covers is zero: a mosaic has gaps; only where a whole plane has no tile
is it missing. The reader is not made for threads, so one reads at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bigbia.errors import InputError
from bigbia.graph.boxes import Box, shape_of
from bigbia.io.formats.base import (
    ForeignSource,
    Told,
    check_level,
    found_of,
    imported,
    local_only,
    pick,
    positive,
    reading,
    samples,
    size_text,
    stats,
    stem,
)
from bigbia.io.formats.czi_guard import Guard
from bigbia.io.places import Place, shown
from bigbia.units import convert

# Name of a pixel's type -> dtype, samples. Colours are stored blue first.
_TYPES = {
    "Gray8": ("u1", 1), "Gray16": ("u2", 1), "Gray32Float": ("f4", 1),
    "Bgr24": ("u1", 3), "Bgr48": ("u2", 3), "Bgr96Float": ("f4", 3),
}  # fmt: skip
_KINDS = {
    0: "Gray8", 1: "Gray16", 2: "Gray32Float", 3: "Bgr24", 4: "Bgr48", 8: "Bgr96Float", 9: "Bgra32",
    10: "Gray64ComplexFloat", 11: "Bgr192ComplexFloat", 12: "Gray32", 13: "Gray64Float",
}  # fmt: skip
_OTHER = {"R": "rotation", "I": "illumination", "H": "phase", "V": "view", "B": "block"}


@dataclass
class Scene:
    """What the directory of a file says about one scene."""

    number: int | None  # None: the file has no scenes
    name: str
    rect: tuple[int, int, int, int]  # x, y, width, height
    starts: dict[str, int] = field(default_factory=dict)  # of T, C, Z
    counts: dict[str, int] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)
    tile: tuple[int, int] = (1, 1)  # y, x
    planes: set[tuple[int, int, int]] = field(default_factory=set)  # t, c, z that have a tile
    lengths: dict[str, int] = field(default_factory=dict)  # of the other dimensions


def _reader(place: Place) -> Any:
    czi = imported("pylibCZIrw", f"{place}: reading CZI")
    with reading(place, "CZI"):
        return czi.CziReader(place.url)


class CziSource(ForeignSource):
    """A scene of a CZI file as a source, axes t c z y x as far as it has them."""

    format = "czi"

    def __init__(self, place: Place, scene: Scene, names: tuple[str, ...], on_missing: str | None) -> None:
        super().__init__(place, on_missing, stats([place.url], place))
        self.scene = scene
        (kind,) = scene.kinds
        dtype, self.samples = _TYPES[kind]
        self.kind, self.names = kind, names
        sizes = {"t": scene.counts["T"], "z": scene.counts["Z"], "y": scene.rect[3], "x": scene.rect[2]}
        sizes["c"] = self.samples if self.samples > 1 else scene.counts["C"]
        tile = {"y": scene.tile[0], "x": scene.tile[1], "c": self.samples}
        self._describe([sizes[a] for a in names], np.dtype(dtype), [tile.get(a, 1) for a in names], scene.number)

    def _opened(self) -> Any:
        return Guard(self.place), _reader(self.place)

    def _voxels(self, handle: Any, box: Box) -> np.ndarray:
        out = np.empty(shape_of(box), self.dtype)
        x, y, _, _ = self.scene.rect
        (y0, y1), (x0, x1) = box[-2:]
        lead = box[:-2]
        for place in self._planes(lead):
            index = tuple(i + a for i, (a, _) in zip(place, lead))
            at = dict(zip(self.names, index))
            colour = at.pop("c", 0) if self.samples > 1 else None
            plane = {d: self.scene.starts[d] + at.get(d.lower(), 0) for d in "TCZ"}
            at_plane = (plane["T"], plane["C"], plane["Z"])
            if at_plane not in self.scene.planes:
                if self.on_missing == "error":
                    raise self._absent((*((i, i + 1) for i in index), *box[-2:]), "the plane")
                found = None
            else:
                guard, reader = handle
                guard.check(at_plane, ((y + y0, y + y1), (x + x0, x + x1)))
                with self._lock:
                    found = reader.read(
                        roi=(x + x0, y + y0, x1 - x0, y1 - y0),
                        plane={d: n for d, n in plane.items() if d in self.scene.lengths},
                        scene=self.scene.number,
                        pixel_type=self.kind,
                    )
                if found.shape != (y1 - y0, x1 - x0, self.samples) or found.dtype != self.dtype:
                    raise ValueError(f"{found.dtype} {found.shape} came, {self.dtype} was expected")
            if colour is None:
                out[place] = 0 if found is None else found[..., 0]
            else:
                (first, last), c = lead[self.names.index("c")], self.names.index("c")
                for s in range(first, last):
                    where = (*place[:c], s - first, *place[c + 1 :])
                    out[where] = 0 if found is None else found[..., self.samples - 1 - s]
        return out

    def _planes(self, lead: Box) -> Iterator[tuple[int, ...]]:
        """The planes of a box; the colours of a pixel come together."""
        counts = shape_of(lead)
        if self.samples > 1:
            c = self.names.index("c")
            counts = (*counts[:c], 1, *counts[c + 1 :])
        return np.ndindex(*counts)

    def missing_chunks(self) -> tuple[int | None, int]:
        """Planes without a tile, in chunks."""
        each = math.prod(-(-n // c) for n, c in zip(self.shape[-2:], self.chunks[-2:]))
        planes = math.prod(self.scene.counts[d] for d in "TCZ")
        return (planes - len(self.scene.planes)) * each, planes * each


def open_czi(place: Place, level: int, scene: str | int | None, on_missing: str | None) -> Any:
    """What is in a CZI file."""
    local_only(place, "CZI")
    guard = Guard(place)
    guard.file.close()
    reader = _reader(place)
    try:
        with reading(place, "CZI"):
            scenes, text = _scenes(reader, guard), reader.raw_metadata
    finally:
        reader.close()
    if not scenes:
        raise InputError(f"{place}: is a CZI file without an image")
    about = _metadata(text, place)
    for one in scenes:
        one.name = about.get("scenes", {}).get(one.number) or (
            f"scene {one.number}" if one.number is not None else "image"
        )
    names = [one.name for one in scenes]
    chosen = scenes[pick(place, scene, names, lambda i: _size(scenes[i]))]
    check_level(place, level, 1)
    _check(place, chosen)
    colours = _TYPES[next(iter(chosen.kinds))][1]
    channels = samples(colours) if colours > 1 else _channels(about, chosen)
    axes = tuple(
        a for a in "tczyx"
        if a in "yx" or (a == "c" and (colours > 1 or channels)) or chosen.counts[a.upper()] > 1
    )  # fmt: skip
    source = CziSource(place, chosen, axes, on_missing)
    told = Told(names=axes, channels=channels, unit="micrometer", time_unit="second")
    told.sizes = {a: convert(s, "meter", "micrometer") for a, s in about.get("sizes", {}).items()}
    if about.get("step"):
        told.sizes["t"] = about["step"]
    if colours == 1:
        told.display = _display(about, chosen, channels, source.dtype)
    name = stem(place, ".czi") + (f" {chosen.name}" if len(scenes) > 1 else "")
    return found_of(place, "CZI", source, told, name, names)


def _scenes(reader: Any, guard: Guard) -> list[Scene]:
    """The scenes of a file, by its directory of tiles."""
    rects = {n: tuple(r) for n, r in reader.scenes_bounding_rectangle_no_pyramid.items()}
    scenes: dict[int | None, Scene] = {n: Scene(n, "", r) for n, r in sorted(rects.items())}
    if not scenes:
        rect = tuple(reader.total_bounding_rectangle_no_pyramid)
        scenes = {None: Scene(None, "", rect)} if rect[2] > 0 and rect[3] > 0 else {}
    ends: dict[int | None, dict[str, list[int]]] = {n: {} for n in scenes}

    for tile in (tile for tiles in guard.tiles.values() for tile in tiles if tile.fine):
        at = dict(tile.at)
        number = at.get("S") if None not in scenes else None
        if number not in scenes:
            continue
        scene, (width, height) = scenes[number], tile.stored
        scene.kinds.add(_KINDS.get(tile.pixel, f"of kind {tile.pixel}"))
        scene.tile = max(scene.tile[0], height), max(scene.tile[1], width)
        scene.planes.add(tile.plane)
        for axis, n in at.items():
            low, high = ends[number].setdefault(axis, [n, n])
            ends[number][axis] = [min(low, n), max(high, n)]
    for number, scene in scenes.items():
        for axis, (low, high) in ends[number].items():
            if axis != "S":
                scene.lengths[axis] = high - low + 1
        for axis in "TCZ":
            low, high = ends[number].get(axis, [0, 0])
            scene.starts[axis], scene.counts[axis] = low, high - low + 1
        scene.tile = min(scene.tile[0], scene.rect[3]), min(scene.tile[1], scene.rect[2])
    return [scene for scene in scenes.values() if scene.kinds]


def _size(scene: Scene) -> str:
    sizes = [("t", scene.counts["T"]), ("c", scene.counts["C"]), ("z", scene.counts["Z"])]
    sizes = [(a, n) for a, n in sizes if n > 1] + [("y", scene.rect[3]), ("x", scene.rect[2])]
    return size_text([a for a, _ in sizes], [n for _, n in sizes])


def _check(place: Place, scene: Scene) -> None:
    """Refuses what no image with axes t c z y x of one kind is."""
    for axis, n in scene.lengths.items():
        if axis in _OTHER and n > 1:
            raise InputError(
                f"{place}: has {n} along {axis} ({_OTHER[axis]}), an image has at most t c z y x: split it with the "
                "microscope's software"
            )
    if len(scene.kinds) > 1:
        raise InputError(
            f"{place}: its channels are of several kinds ({', '.join(sorted(scene.kinds))}): split them with the microscope's "
            "software"
        )
    kind = next(iter(scene.kinds))
    if kind not in _TYPES:
        raise InputError(f"{place}: its pixels are {kind}: bigbia reads {', '.join(_TYPES)}")
    if _TYPES[kind][1] > 1 and scene.counts["C"] > 1:
        raise InputError(
            f"{place}: has {scene.counts['C']} channels of colours ({kind}): split the colours into channels first"
        )


def _metadata(text: str, place: Place) -> dict[str, Any]:
    """What the XML says: sizes in metres, channels, scenes. Nothing where it cannot be read."""
    from xml.etree import ElementTree

    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError(f"{place}: its XML declares entities, which no microscope writes: refused")
    try:
        root = ElementTree.fromstring(text.encode())
    except ElementTree.ParseError:
        return {}
    out: dict[str, Any] = {"sizes": {}, "channels": [], "display": {}, "scenes": {}}
    for item in root.iterfind(".//Scaling/Items/Distance"):
        if (size := positive(item.findtext("Value"))) and item.get("Id", "") in ("X", "Y", "Z"):
            out["sizes"][item.get("Id", "").lower()] = size
    dims = root.find(".//Information/Image/Dimensions")
    if dims is not None:
        out["channels"] = [
            (c.get("Id", ""), shown((c.get("Name") or "").strip())) for c in dims.iterfind("Channels/Channel")
        ]
        out["step"] = positive(dims.findtext("T/Positions/Interval/Increment"))
        for one in dims.iterfind("S/Scenes/Scene"):
            if one.get("Index", "").isdecimal() and one.get("Name"):
                out["scenes"][int(one.get("Index", ""))] = shown(one.get("Name", ""))
    for place_in_file, one in enumerate(root.iterfind(".//DisplaySetting/Channels/Channel")):
        said = (one.findtext("Color"), one.findtext("Low"), one.findtext("High"))
        out["display"][one.get("Id") or place_in_file] = said
        out["display"].setdefault(place_in_file, said)
    return out


def _channels(about: dict[str, Any], scene: Scene) -> tuple[str, ...] | None:
    """Names of the channels of a scene, None where one has none."""
    first, count = scene.starts["C"], scene.counts["C"]
    names = tuple(name for _, name in about.get("channels", []))[first : first + count]
    return names if len(names) == count and all(names) else None


def _display(
    about: dict[str, Any], scene: Scene, channels: tuple[str, ...] | None, dtype: np.dtype
) -> dict[str, dict[str, Any]]:
    """Colour and contrast of the channels. Contrast is written as a part of the values' range."""
    out: dict[str, dict[str, Any]] = {}
    said, listed = about.get("display", {}), about.get("channels", [])
    top = float(np.iinfo(dtype).max) if dtype.kind == "u" else None
    for c in range(scene.counts["C"]):
        number = scene.starts["C"] + c
        key = listed[number][0] if 0 <= number < len(listed) else None
        color, low, high = said.get(key, said.get(number, (None, None, None)))
        look: dict[str, Any] = {}
        text = (color or "").lstrip("#")
        if len(text) in (6, 8) and all(d in "0123456789abcdefABCDEF" for d in text):
            look["color"] = text[-6:].upper()
        start, stop = 0.0 if low in (None, "0") else positive(low), positive(high)
        if top and start is not None and stop is not None and start < stop <= 1:
            look["window"] = (start * top, stop * top)
        if look and (channels or scene.counts["C"] == 1):
            out[channels[c] if channels else ""] = look
    return out
