"""What a TIFF that bigbia wrote says beyond its format, read again: `tiff_write_words.py` says what and why.

Channel names of ImageJ (one label a plane) and its unit of time are read of any ImageJ TIFF.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bigbia.graph.boxes import Box, shape_of
from bigbia.io.found import shown_as
from bigbia.io.places import shown
from bigbia.io.tiff_says import TiffInfo
from bigbia.io.tiff_write_words import NAMESPACE, kept_words, ramp
from bigbia.units import TIMES, unit_name


def with_kept(source: Any, info: TiffInfo, tif: Any, scene: int) -> tuple[Any, TiffInfo]:
    """A source and what its file says, with what else it keeps: axes of length 1, names, the place of the first voxel."""
    meta: Mapping[str, Any] = tif.imagej_metadata or {} if tif.is_imagej and not tif.is_ome else {}
    if info.axes is None:
        return source, info
    if color := _only_color(meta):
        info = replace(info, display=shown_as([{**next(iter(info.display.values()), {}), "color": color}], None))
    names = info.channels or _labels(meta, info)
    if meta and names and names != info.channels:
        display = {names[int(number)]: one for number, one in info.display.items()}  # by number, without names
        info = replace(info, channels=names, display=display)
    if meta and "t" in info.sizes and (unit := unit_name(str(meta.get("tunit", "")))) in TIMES:
        info = replace(info, time_unit=unit)
    kept = kept_words(meta if meta else _annotated(tif, scene))
    info = _with_words(info, kept)
    axes = kept.get("axes")
    if axes is None or len(info.levels) != 1 or not _fits(axes, info, source.shape):
        return source, info
    own = dict(zip(info.axes or (), source.shape))
    shape = tuple(own.get(a, 1) for a in axes)
    return Restored(source, info.axes or (), axes), replace(
        info, axes=axes, stored_axes="".join(axes).upper(), levels=(shape,)
    )


def _only_color(meta: Mapping[str, Any]) -> str | None:
    """The colour of one channel, whose colour table stands there alone and not in a list."""
    table = meta.get("LUTs")
    if not isinstance(table, np.ndarray) or table.shape != (3, 256):
        return None
    color = "".join(f"{int(v):02X}" for v in table[:, -1])
    return color if np.array_equal(table, ramp(color)) else None


def _labels(meta: Mapping[str, Any], info: TiffInfo) -> tuple[str, ...] | None:
    """Names of channels, where every plane of a channel has the same label and no two channels share one."""
    labels, axes = meta.get("Labels"), info.axes or ()
    labels = [labels] if isinstance(labels, str) else labels  # of one plane
    if not isinstance(labels, list | tuple) or not all(isinstance(name, str) and name.strip() for name in labels):
        return None
    count = info.levels[0][axes.index("c")] if "c" in axes else 1
    names = list(labels[:count])
    # One channel alone is not told from a stack of planes whose labels are names of slices.
    named = len(set(names)) == count and labels == names * (len(labels) // count) and len(labels) % count == 0
    return tuple(shown(name) for name in names) if named and ("c" in axes or "bigbia_axes" in meta) else None


def _annotated(tif: Any, scene: int) -> dict[str, str]:
    """The pairs of our annotation of an image of an OME-TIFF."""
    from xml.etree import ElementTree

    if not tif.is_ome or "MapAnnotation" not in (tif.ome_metadata or ""):
        return {}
    try:
        root = ElementTree.fromstring(tif.ome_metadata.encode())
    except ElementTree.ParseError:
        return {}
    images = root.findall("{*}Image")
    own = images[scene].findall("{*}AnnotationRef") if scene < len(images) else []
    wanted = {reference.get("ID") for reference in own}
    for one in root.findall("{*}StructuredAnnotations/{*}MapAnnotation"):
        if one.get("Namespace") == NAMESPACE and one.get("ID") in wanted:
            return {str(pair.get("K")): pair.text or "" for pair in one.findall("{*}Value/{*}M")}
    return {}


def _with_words(info: TiffInfo, kept: Mapping[str, Any]) -> TiffInfo:
    """What the format itself says goes before what was kept beside it."""
    sizes = dict(info.sizes)
    if "size" in kept and info.unit is None:
        sizes = {**{a: s for a, s in sizes.items() if a == "t"}, **kept["size"]}
    if "step" in kept and ("t" not in sizes or sizes["t"] == kept["step"]):
        sizes["t"] = kept["step"]
        info = replace(info, time_unit=None)
    display = info.display
    windows = kept.get("window", ())
    axes = kept.get("axes", info.axes or ())
    count = info.levels[0][info.axes.index("c")] if info.axes and "c" in info.axes else 1
    if any(windows) and len(windows) == count:
        names = info.channels if "c" in axes else None
        keys = list(names) if names is not None and len(names) == count else [str(i) for i in range(count)]
        before = [display.get(key, {}) for key in keys]
        display = shown_as([{**one, **({"window": w} if w else {})} for one, w in zip(before, windows)], names)
    return replace(info, sizes=sizes, display=display, origin=dict(kept.get("origin", {})))


def _fits(axes: Sequence[str], info: TiffInfo, shape: Sequence[int]) -> bool:
    """Whether axes differ from those of the file by some of length 1 alone: another program may have changed the image."""
    own = dict(zip(info.axes or (), shape))
    long = [a for a, n in own.items() if n > 1]
    return tuple(axes) != info.axes and [a for a in axes if own.get(a, 1) > 1] == long


class Restored:
    """A source with axes of length 1 put back, or left out: the same voxels."""

    def __init__(self, source: Any, before: Sequence[str], axes: Sequence[str]) -> None:
        self.source, self.before, self.axes = source, tuple(before), "".join(axes)
        lengths, chunks = dict(zip(before, source.shape)), dict(zip(before, source.chunks))
        self.shape = tuple(lengths.get(a, 1) for a in axes)
        self.chunks = tuple(chunks.get(a, 1) for a in axes)
        self.dtype, self.token = source.dtype, f"{source.token}-{self.axes}"

    def __getattr__(self, name: str) -> Any:
        if name == "source" or name.startswith("__"):  # while it is unpickled, there is none yet
            raise AttributeError(name)
        return getattr(self.source, name)

    def __repr__(self) -> str:
        return f"Restored({self.source!r}, {self.axes})"

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box."""
        known = dict(zip(self.axes, box))
        return self.source.read(tuple(known.get(a, (0, 1)) for a in self.before)).reshape(shape_of(box))
