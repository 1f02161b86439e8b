"""What a TIFF file says about its voxels: axes, sizes, channels and their colours, names of its images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bigbia.errors import InputError
from bigbia.io.found import shown_as
from bigbia.io.places import Place, shown
from bigbia.units import LENGTHS, TIMES, convert, rounded, unit_name

_SAMPLES = {3: ("red", "green", "blue"), 4: ("red", "green", "blue", "alpha")}
_PAINT: tuple[dict[str, Any], ...] = ({"color": "FF0000"}, {"color": "00FF00"}, {"color": "0000FF"}, {})


@dataclass(frozen=True)
class TiffInfo:
    """What a TIFF file says about one of its images."""

    kind: str  # "OME-TIFF", "ImageJ TIFF", "TIFF"
    stored_axes: str  # as tifffile names them: "QYX"
    axes: tuple[str, ...] | None  # among t c z y x; None where it does not say
    levels: tuple[tuple[int, ...], ...]
    images: int
    sizes: dict[str, float] = field(default_factory=dict)  # of a voxel, and the time step
    unit: str | None = None
    time_unit: str | None = None
    channels: tuple[str, ...] | None = None
    bytes: int = 0
    scenes: tuple[str, ...] = ()  # names of the images, where there are several
    display: dict[str, dict[str, Any]] = field(default_factory=dict)
    origin: dict[str, float] = field(default_factory=dict)  # of the first voxel


def known_axes(axes: str) -> bool:
    """Are these, as tifffile names them, all among t c z y x?"""
    return len(set(axes)) == len(axes) and set(axes) <= set("TCZYX")


def scene_names(tif: Any) -> list[str]:
    """A name for each image of a file: what OME-XML or tifffile calls it, else its number."""
    images = _ome_images(tif) if tif.is_ome else []
    said = [image.get("Name") for image in images] if len(images) == len(tif.series) else []
    own = said or [series.name for series in tif.series]
    return [shown(name) if isinstance(name, str) and name.strip() else str(i) for i, name in enumerate(own)]


def what_it_says(tif: Any, scene: int, names: list[str], place: Place) -> TiffInfo:
    """What a file says about one of its images. InputError for channels that have colour samples too."""
    series = tif.series[scene]
    axes = series.axes
    about: dict[str, Any] = {}
    if "S" in axes and "C" in axes:
        raise InputError(
            f"{place}: has channels and colour samples (axes {axes}, shape {series.shape}): split the colours into "
            "channels first"
        )
    if "S" in axes:
        count = series.shape[axes.index("S")]
        about = {"channels": _SAMPLES.get(count), "display": shown_as(_PAINT[:count], _SAMPLES.get(count))}
        axes = axes.replace("S", "C")
    kind = "OME-TIFF" if tif.is_ome else "ImageJ TIFF" if tif.is_imagej else "TIFF"
    about |= _ome(tif, scene) if tif.is_ome else _imagej(tif, series) if tif.is_imagej else _plain(series)
    return TiffInfo(
        kind=kind,
        stored_axes=series.axes,
        axes=tuple(axes.lower()) if known_axes(axes) else None,
        levels=tuple(tuple(map(int, level.shape)) for level in series.levels),
        images=len(tif.series),
        scenes=tuple(names) if len(names) > 1 else (),
        **about,
    )


def _ome_images(tif: Any) -> list[Any]:
    from xml.etree import ElementTree

    try:
        return ElementTree.fromstring(tif.ome_metadata.encode()).findall("{*}Image")
    except (ElementTree.ParseError, AttributeError):
        return []


def _ome(tif: Any, scene: int) -> dict[str, Any]:
    """Physical sizes, channel names and colours from OME-XML."""
    images = _ome_images(tif)
    pixels = images[scene].find("{*}Pixels") if scene < len(images) else None
    if pixels is None or (scene and len(images) != len(tif.series)):  # which image is which cannot be told
        return {}
    units = {a: unit_name(pixels.get(f"PhysicalSize{a.upper()}Unit", "µm")) for a in "zyx"}
    sizes = {a: size for a in "zyx" if (size := _positive(pixels.get(f"PhysicalSize{a.upper()}")))}
    unit = next((units[a] for a in "xyz" if a in sizes and units[a] in LENGTHS), None)
    # "pixel" and "reference frame" are units in OME, and no lengths.
    sizes = {a: convert(s, str(units[a]), unit) for a, s in sizes.items() if unit and units[a] in LENGTHS}
    out: dict[str, Any] = {"sizes": sizes, "unit": unit}
    if step := _positive(pixels.get("TimeIncrement")):
        time_unit = unit_name(pixels.get("TimeIncrementUnit", "s"))
        out |= {"sizes": sizes | {"t": step}, "time_unit": time_unit if time_unit in TIMES else None}
    channels = pixels.findall("{*}Channel")
    named = [channel.get("Name") for channel in channels]
    names = tuple(shown(str(name)) for name in named) if named and all(named) else None
    display = shown_as([{"color": _ome_color(channel.get("Color"))} for channel in channels], names)
    return out | ({"channels": names} if names else {}) | ({"display": display} if display else {})


def _ome_color(text: str | None) -> str | None:
    """OME's colours are red, green, blue and alpha in a signed number of 32 bits: -16776961 is "FF0000"."""
    try:
        number = int(text or "")
    except ValueError:
        return None
    return f"{(number & 0xFFFFFFFF) >> 8:06X}" if -(2**31) <= number < 2**32 else None


def _imagej(tif: Any, series: Any) -> dict[str, Any]:
    meta: Mapping[str, Any] = tif.imagej_metadata or {}
    unit = unit_name(str(meta.get("unit", "")))
    sizes: dict[str, float] = {}
    # ImageJ takes "inch" from the printing resolution of whatever the image was made of.
    if unit in LENGTHS and unit != "inch":
        sizes = _resolution(series)
        if step := _positive(abs(float(meta.get("spacing", 0)))):
            sizes["z"] = step
    time = {"t": step} if (step := _positive(meta.get("finterval"))) else {}
    out = {"sizes": sizes | time, "unit": unit if sizes else None, "time_unit": "second" if time else None}
    display = _imagej_display(meta, series)
    return out | ({"display": display} if display else {})


def _imagej_display(meta: Mapping[str, Any], series: Any) -> dict[str, dict[str, Any]]:
    """Contrast and colours as ImageJ last showed them; a colour table that is no ramp from black has no one colour."""
    count = series.shape[series.axes.index("C")] if "C" in series.axes else 1
    ranges, tables = meta.get("Ranges"), meta.get("LUTs")
    spans: list[Any] = list(zip(ranges[::2], ranges[1::2])) if isinstance(ranges, tuple | list) else []
    if not spans and count == 1 and "min" in meta and "max" in meta:
        spans = [(meta["min"], meta["max"])]
    colors: list[Any] = [_ramp(table) for table in tables] if isinstance(tables, list) else []
    if spans and len(spans) != count:
        spans = []
    if len(colors) != count:
        colors = []
    entries = [{"window": s, "color": c} for s, c in zip(spans or [None] * count, colors or [None] * count)]
    return shown_as(entries, None) if spans or colors else {}


def _ramp(table: Any) -> str | None:
    values = np.asarray(table)
    if values.shape != (3, 256) or values[:, 0].any():
        return None
    straight = values[:, -1:] * np.arange(256) / 255
    return "".join(f"{int(v):02X}" for v in values[:, -1]) if np.abs(values - straight).max() <= 1 else None


def _plain(series: Any) -> dict[str, Any]:
    """Pixels per centimetre, where that is the size of a microscope's pixel rather than of a printer's."""
    if int(series.keyframe.resolutionunit) != 3:
        return {}
    sizes = {axis: convert(size, "centimeter", "micrometer") for axis, size in _resolution(series).items()}
    small = sizes and max(sizes.values()) < 100
    return {"sizes": sizes, "unit": "micrometer"} if small else {}


def _resolution(series: Any) -> dict[str, float]:
    """Size of a pixel from the tags XResolution and YResolution, in the file's unit."""
    sizes = {}
    for axis, tag in (("y", "YResolution"), ("x", "XResolution")):
        found = series.keyframe.tags.get(tag)
        if found is not None and np.ndim(found.value) == 1 and all(found.value):
            pixels, units = map(int, found.value)
            sizes[axis] = _shortest(units / pixels, 0.6 / max(units, pixels))
    return sizes


def _shortest(value: float, slack: float) -> float:
    """The shortest decimal a rational can stand for: ImageJ writes 0.26 um as 3846154 pixels in 1000000 um."""
    for digits in range(1, 13):
        short = float(f"{value:.{digits}g}")
        if abs(short / value - 1) <= min(slack, 2e-7):
            return short
    return rounded(value)


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < math.inf else None
