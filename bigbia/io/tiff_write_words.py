"""What a TIFF file says about its image: in ImageJ's lines, in OME-XML, and in a few words of our own.

ImageJ and OME have no word for an axis of length 1, the place of the first voxel in a unit, a size without a unit, or (OME)
the contrast. These stand beside theirs as `bigbia_NAME=value` lines (ImageJ) or as a MapAnnotation (OME), so that a file
that went through here comes back as it was; `kept_words` reads them, and other programs pass over them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from bigbia import hyperstack
from bigbia.units import LENGTHS, TIMES, convert, rounded

NAMESPACE = "bigbia"
_PREFIX = "bigbia_"
_MOST = 2**32 - 1  # of either number of a TIFF rational
_COLOR = re.compile(r"[0-9A-Fa-f]{6}")
_SHORT = {"micro": "µ", "milli": "m", "nano": "n", "pico": "p", "femto": "f", "atto": "a", "zepto": "z", "yocto": "y"}
_SHORT |= {"centi": "c", "deci": "d", "": "", "hecto": "h", "kilo": "k", "mega": "M", "giga": "G", "tera": "T"}
_SHORT |= {"peta": "P", "exa": "E", "zetta": "Z", "yotta": "Y"}


@dataclass(frozen=True)
class About:
    """An image as its metadata describe it: everything but the voxels."""

    axes: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    sizes: dict[str, float] = field(default_factory=dict)  # of a voxel, by axis of space
    unit: str | None = None
    origin: dict[str, float] = field(default_factory=dict)
    time_step: float | None = None
    time_unit: str | None = None
    channels: tuple[str, ...] | None = None
    colors: tuple[str | None, ...] = ()  # one a channel, "RRGGBB"; one in all without axis c
    windows: tuple[tuple[float, float] | None, ...] = ()
    name: str = ""

    @classmethod
    def of(cls, image: Any) -> About:
        """What is known of a DataArray."""
        axes = tuple(map(str, image.dims))
        step = hyperstack.time_step(image)
        names = hyperstack.channels(image)
        colors, windows = _display(image, names)
        return cls(
            axes=axes,
            shape=tuple(map(int, image.shape)),
            dtype=np.dtype(image.dtype),
            sizes=hyperstack.voxel_size(image) or {},
            unit=hyperstack.unit(image),
            origin={a: o for a, o in hyperstack.origin(image).items() if o},
            time_step=step[0] if step else None,
            time_unit=step[1] if step else None,
            channels=names,
            colors=colors,
            windows=windows,
            name=str(image.name or ""),
        )

    def length(self, axis: str) -> int:
        """Of an axis; 1 where the image has none of that name."""
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1


def _display(image: Any, names: tuple[str, ...] | None) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Colour and contrast by channel, as far as the reader found any (`encoding["display"]`)."""
    known: Mapping[str, Any] = image.encoding.get("display") or {}
    if "c" not in image.dims:
        picked = str(image.coords["c"].item()) if "c" in image.coords and not image.coords["c"].ndim else ""
        keys = [picked if picked in known else ""]  # one channel that was taken of several keeps its colour
    else:
        keys = list(names) if names is not None else [str(i) for i in range(image.sizes["c"])]
    found = [known.get(key) or {} for key in keys]
    colors = tuple(c if isinstance(c := d.get("color"), str) and _COLOR.fullmatch(c) else None for d in found)
    windows = tuple(_window(d.get("window")) for d in found)
    return colors, windows


def _window(given: Any) -> tuple[float, float] | None:
    try:
        start, end = map(float, given)
    except (TypeError, ValueError):
        return None
    return (start, end) if math.isfinite(start) and math.isfinite(end) and end > start else None


# ---- ours ------------------------------------------------------------------------------------------------------------
def own_words(about: About, file_axes: str, *, windows: bool) -> dict[str, str]:
    """What neither ImageJ nor OME can say of this image: name -> plain text. Mostly nothing."""
    out: dict[str, str] = {}
    told = [a for a in file_axes if a in "yx" or about.length(a) > 1]
    if told != (own := [a for a in file_axes if a in about.axes]):
        out["axes"] = "".join(own)
    if about.origin:
        out["origin"] = _numbers(about.origin)
    if about.sizes and about.unit is None:
        out["size"] = _numbers(about.sizes)
    if about.time_step is not None and about.time_unit is None:
        out["step"] = repr(about.time_step)
    if windows and any(about.windows):
        out["window"] = " ".join("-" if w is None else f"{w[0]!r}:{w[1]!r}" for w in about.windows)
    return out


def _numbers(values: Mapping[str, float]) -> str:
    return " ".join(f"{axis}:{float(value)!r}" for axis, value in values.items())


def kept_words(words: Mapping[str, Any]) -> dict[str, Any]:
    """Our own words as values: what `own_words` wrote, as far as it can be read.

    words : the lines of an ImageJ description (`tifffile`'s `imagej_metadata`), or the pairs of the MapAnnotation

    Returns
    -------
    dict with any of: axes (tuple), origin (by axis), size (by axis), step (a number), window (one or None a channel)
    """
    own = {str(k).removeprefix(_PREFIX): str(v) for k, v in words.items()}
    out: dict[str, Any] = {}
    axes = tuple(own.get("axes", ""))
    if axes and len(set(axes)) == len(axes) and set(axes) <= set(hyperstack.AXES):
        out["axes"] = axes
    for key in ("origin", "size"):
        pairs = [word.split(":") for word in own.get(key, "").split()]
        found = {p[0]: n for p in pairs if len(p) == 2 and p[0] in hyperstack.AXES and (n := _number(p[1])) is not None}
        if found:
            out[key] = {a: n for a, n in found.items() if key == "origin" or n > 0}
    if (step := _number(own.get("step", ""))) is not None and step > 0:
        out["step"] = step
    if "window" in own:
        out["window"] = tuple(_window(word.split(":")) for word in own["window"].split())
    return out


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


# ---- ImageJ ----------------------------------------------------------------------------------------------------------
def imagej_words(about: About, axes: str) -> tuple[dict[str, Any], tuple[tuple[int, int], tuple[int, int]] | None]:
    """The metadata of an ImageJ TIFF as tifffile takes them, and the resolution (x, y) as whole numbers."""
    words: dict[str, Any] = {"axes": axes.upper()}
    resolution = None
    if about.sizes and about.unit is not None:
        words["unit"] = "micron" if about.unit == "micrometer" else _ascii(about.unit)
        if "z" in about.sizes:
            words["spacing"] = repr(about.sizes["z"])
        x, y = about.sizes.get("x"), about.sizes.get("y")
        resolution = (rational(x or y or 1.0), rational(y or x or 1.0))
        # ImageJ counts the origin in voxels: the one that lies at 0.
        words |= {f"{a}origin": rounded(-o / about.sizes[a]) for a, o in about.origin.items() if a in about.sizes}
    if about.time_step is not None:
        words["finterval"] = repr(about.time_step)
        if about.time_unit not in (None, "second"):
            words["tunit"] = _ascii(str(about.time_unit))
    count = about.length("c")
    words["mode"] = "composite" if "c" in about.axes and count > 1 else "grayscale"
    if about.channels is not None:
        words["Labels"] = list(about.channels) * (about.length("z") * about.length("t"))  # one a plane, c the fastest
    if about.windows and all(about.windows):
        words["Ranges"] = [float(v) for window in about.windows if window for v in window]
        if count == 1:
            words["min"], words["max"] = words["Ranges"]
    if about.colors and all(about.colors):
        words["LUTs"] = [ramp(color) for color in about.colors if color]
    own = own_words(about, axes, windows=any(about.windows) and not all(about.windows))
    return words | {_PREFIX + key: value for key, value in own.items()}, resolution


def _ascii(unit: str) -> str:
    """The symbol of a unit; ImageJ's lines are ASCII."""
    return symbol(unit, unit).replace("µ", "u").replace("Å", "angstrom")


def ramp(color: str) -> np.ndarray:
    """A colour table from black to a colour, as ImageJ keeps one a channel."""
    ends = np.array([int(color[i : i + 2], 16) for i in (0, 2, 4)])
    return np.rint(np.arange(256) * ends[:, None] / 255).astype(np.uint8)


def rational(size: float) -> tuple[int, int]:
    """Voxels a unit, the inverse of a size, as the two numbers of a TIFF tag: as exact as they can be.

    >>> rational(0.26)
    (4294967250, 1116691485)
    """
    value = 1 / Fraction(repr(float(size)))
    if value.numerator > _MOST or value.denominator > _MOST:
        # The larger one of the two is bounded: the denominator alone would let the numerator grow too long.
        most = _MOST if value <= 1 else max(1, int(_MOST / value))
        value = value.limit_denominator(most)
        value = min(max(value, Fraction(1, _MOST)), Fraction(_MOST))
    times = max(1, _MOST // max(value.numerator, value.denominator))
    return value.numerator * times, value.denominator * times


# ---- OME -------------------------------------------------------------------------------------------------------------
def ome_words(about: About, axes: str) -> dict[str, Any]:
    """The metadata of an OME-TIFF as tifffile takes them."""
    words: dict[str, Any] = {"axes": axes.upper(), "Name": about.name or "image", "Creator": "bigbia"}
    if about.sizes and about.unit is not None:
        short = symbol(about.unit, "")
        for axis, size in about.sizes.items():
            words[f"PhysicalSize{axis.upper()}"] = size if short else convert(size, about.unit, "meter")
            words[f"PhysicalSize{axis.upper()}Unit"] = short or "m"
    if about.time_step is not None and about.time_unit is not None:
        words["TimeIncrement"] = about.time_step
        words["TimeIncrementUnit"] = symbol(about.time_unit, about.time_unit)
    channels: dict[str, Any] = {}
    if about.channels is not None:
        channels["Name"] = list(about.channels)
    if about.colors and all(about.colors):
        channels["Color"] = [ome_color(color) for color in about.colors if color]
    if channels:
        words["Channel"] = channels
    own = own_words(about, axes, windows=True)
    return words | ({"MapAnnotation": {"Namespace": NAMESPACE, **own}} if own else {})


def ome_color(color: str) -> int:
    """ "FF0000" as OME writes it: red, green, blue and opaque in one signed number."""
    number = int(color, 16) << 8 | 0xFF
    return number - 2**32 if number >= 2**31 else number


def symbol(unit: str, otherwise: str) -> str:
    """The symbol of an OME unit: "µm"."""
    special = {"angstrom": "Å", "inch": "in", "foot": "ft", "minute": "min", "hour": "h", "day": "d"}
    if unit in special:
        return special[unit]
    for ending, letter, table in (("meter", "m", LENGTHS), ("second", "s", TIMES)):
        if unit in table and unit.endswith(ending):
            return _SHORT[unit.removesuffix(ending)] + letter
    return otherwise
