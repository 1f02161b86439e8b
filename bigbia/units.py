"""Units of length and time by their OME names, and lengths in words: "0.5 um", "0.29, 0.26, 0.26 um"."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

from bigbia.errors import ParameterError, nearest

EXAMPLE = "0.29, 0.26, 0.26 um"

_PREFIXES = {
    "yotta": ("Y", 24), "zetta": ("Z", 21), "exa": ("E", 18), "peta": ("P", 15), "tera": ("T", 12), "giga": ("G", 9),
    "mega": ("M", 6), "kilo": ("k", 3), "hecto": ("h", 2), "": ("", 0), "deci": ("d", -1), "centi": ("c", -2),
    "milli": ("m", -3), "micro": ("u", -6), "nano": ("n", -9), "pico": ("p", -12), "femto": ("f", -15),
    "atto": ("a", -18), "zepto": ("z", -21), "yocto": ("y", -24),
}  # fmt: skip
# OME name -> how many metres, or seconds, one of it is. Fractions, so that a conversion rounds once.
LENGTHS = {prefix + "meter": Fraction(10) ** power for prefix, (_, power) in _PREFIXES.items()} | {
    "angstrom": Fraction(1, 10**10),
    "inch": Fraction(254, 10**4),
    "foot": Fraction(3048, 10**4),
    "yard": Fraction(9144, 10**4),
    "mile": Fraction(1609344, 1000),
    "parsec": Fraction(30856775814913673),
}
TIMES = {prefix + "second": Fraction(10) ** power for prefix, (_, power) in _PREFIXES.items()} | {
    "minute": Fraction(60),
    "hour": Fraction(3600),
    "day": Fraction(86400),
}
_SYMBOLS = {symbol + "m": prefix + "meter" for prefix, (symbol, _) in _PREFIXES.items()}
_SYMBOLS |= {symbol + "s": prefix + "second" for prefix, (symbol, _) in _PREFIXES.items()}
_SYMBOLS |= {"micron": "micrometer", "Å": "angstrom", "in": "inch", "in.": "inch", "ft": "foot", "min": "minute"}
_SYMBOLS |= {"sec": "second", "msec": "millisecond", "h": "hour", "hr": "hour", "d": "day"}


def unit_name(text: str | None) -> str | None:
    """The OME name of a unit of length or time, None where the text is none.

    >>> unit_name("µm"), unit_name("Micrometres"), unit_name("nm"), unit_name("pixel")
    ('micrometer', 'micrometer', 'nanometer', None)
    """
    if not isinstance(text, str):
        return None
    # Two signs look like a micro (U+00B5, U+03BC), and ImageJ writes the first one as an escape.
    text = text.strip().replace("\\u00B5", "u").replace("\u00b5", "u").replace("\u03bc", "u").replace("\u212b", "Å")
    if text in _SYMBOLS:
        return _SYMBOLS[text]
    name = text.lower().replace("metre", "meter")
    if name == "um":
        return "micrometer"
    for known in (name, name.removesuffix("s")):
        if known in LENGTHS or known in TIMES:
            return known
    return _SYMBOLS.get(name.removesuffix("s"))


def convert(value: float, unit: str, to: str) -> float:
    """A length (or a time) in another unit, right to 12 digits: convert(290, "nanometer", "micrometer") -> 0.29."""
    table = LENGTHS if unit in LENGTHS else TIMES
    return rounded(float(Fraction(value) * (table[unit] / table[to])))


def rounded(value: float) -> float:
    """To 12 digits, which hide what subtracting coordinates did to the last bits: 0.29 comes back as 0.29."""
    return float(f"{value:.12g}")


_ITEM = re.compile(
    r"\s*(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"\s*(?P<unit>(?!x\s*[\d.])[A-Za-zÅ\u00b5\u03bc\u212b]+\.?)?\s*(?P<comma>[,;x\u00d7]?)"
)


def parse_lengths(text: str, what: str = "length", *, unit: str | None = None) -> tuple[tuple[float, ...], str]:
    """The numbers and the OME unit of `"0.5 um"`, `"0.29, 0.26, 0.26 um"`, `"0.29 um x 260 nm x 260 nm"`.

    `unit` is what to take where the text has none. Numbers with units of their own are turned into the last one's.
    Raises ParameterError, naming `what`, for a text without unit, an unknown unit and anything else.
    """
    shown = f"{what}={text!r}"
    if re.fullmatch(r"\s*\d+,\d+\s*[^\d\s,;x\u00d7]*\s*", text):
        point = text.strip().replace(",", ".")
        raise ParameterError(
            f'{shown}: a decimal comma or two numbers? Write "{point}", or "{text.strip().replace(",", ", ")}"'
        )
    values: list[float] = []
    units: list[str | None] = []
    start, comma = 0, ""
    while start < len(text.rstrip()):
        item = _ITEM.match(text, start)
        if item is None:
            break
        values.append(float(item["number"]))
        units.append(item["unit"])
        start, comma = item.end(), item["comma"]
    if not values or comma or start < len(text.rstrip()) or not all(map(math.isfinite, values)):
        raise ParameterError(f'{shown}: is not a length: write for instance "0.5 um" or "{EXAMPLE}"')
    if not any(units):
        if unit is None:
            raise ParameterError(
                f'{shown}: a length in words needs a unit: "{text.strip()} um", or a plain number for voxels'
            )
        return tuple(values), unit
    if units[-1] is None or (None in units and any(units[:-1])):
        raise ParameterError(f'{shown}: give every number a unit, or the last one for all: "{EXAMPLE}"')
    names = [known_unit(u or units[-1], shown) for u in units]
    return tuple(convert(v, n, names[-1]) for v, n in zip(values, names)), names[-1]


def known_unit(text: Any, shown: str) -> str:
    """The OME name of a unit of length; ParameterError, beginning with what the user typed, where it is none."""
    name = unit_name(text)
    if name in LENGTHS:
        return str(name)
    if str(text).lower() in ("px", "pixel", "pixels", "voxel", "voxels", "vx"):
        raise ParameterError(f"{shown}: {text!r} is not a physical unit: voxels are plain numbers, without quotes")
    known = ["um", "nm", "mm", "cm", "pm", "m", "micrometer", "nanometer", "millimeter", "angstrom", "micron"]
    raise ParameterError(f"{shown}: unknown unit {str(text)!r}, {nearest(str(text), known)}")
