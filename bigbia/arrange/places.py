"""The words that name a part of an axis -> places on it: `3`, `"100:200"`, `"10 um:50 um"`, a channel, several channels."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from bigbia import hyperstack
from bigbia.errors import ParameterError, nearest
from bigbia.graph.footprints import brief, several
from bigbia.units import LENGTHS, TIMES, convert, unit_name

_SPAN = re.compile(r"\s*(\d{0,18})\s*:\s*(\d{0,18})\s*(?::\s*(\d{0,18})\s*)?")
_LENGTH = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\d\s.+:-][^\s:]*)\s*")
_SLACK = 1e-6
"""Of a voxel: a place in words that falls on a voxel up to rounding is that voxel."""


@dataclass(frozen=True)
class Asked:
    """What was asked of one axis, and the words for an error about it."""

    axis: str
    given: Any
    size: int
    image: Any

    def refused(self, problem: str) -> ParameterError:
        return ParameterError(f"select: {self.axis}={brief(self.given)}: {problem}")

    @property
    def there(self) -> str:
        return f"{self.axis} has {self.size} voxels, 0 to {self.size - 1}"


def names_of(image: Any) -> tuple[str, ...]:
    """Names of the axes; a plain array of up to three has those of space."""
    if hyperstack.is_hyperstack(image):
        return tuple(map(str, image.dims))
    return tuple(hyperstack.SPACE[3 - image.ndim :]) if image.ndim <= 3 else ()


def place_of(asked: Asked) -> int | range | list[int]:
    """The place, the run of places or the list of channels that was asked for."""
    given = asked.given
    if isinstance(given, slice):
        return _sliced(asked, given)
    if isinstance(given, (int, np.integer)) and not isinstance(given, (bool, np.bool_)):
        return _number(asked, int(given))
    if isinstance(given, str):
        return _words(asked, given)
    if asked.axis == "c" and (items := several(given)) is not None:
        return _channels(asked, items)
    kinds = 'a channel by name or number, a list of them, or "0:2"' if asked.axis == "c" else '3, "100:200" or a slice'
    raise asked.refused(f"must be {kinds}")


def _number(asked: Asked, place: int) -> int:
    if 0 <= place < asked.size:
        return place
    names = hyperstack.channels(asked.image) if asked.axis == "c" else None
    if names and str(place) in names:  # a channel called "488"
        return names.index(str(place))
    way = ": places count from 0" if place < 0 else ""
    raise asked.refused(f"is outside{way}; {asked.there}{_known(names)}")


def _known(names: Sequence[str] | None) -> str:
    return f", the channels {', '.join(names)}" if names else ""


def _sliced(asked: Asked, given: slice) -> range:
    for part in (given.start, given.stop, given.step):
        if isinstance(part, str):
            raise asked.refused(f'write lengths in one text: "{given.start}:{given.stop}"')
        if not (part is None or (isinstance(part, (int, np.integer)) and not isinstance(part, bool))):
            raise asked.refused("a slice here is of whole numbers of voxels")
    start = 0 if given.start is None else int(given.start)
    stop = asked.size if given.stop is None else int(given.stop)
    return _run(asked, start, stop, 1 if given.step is None else int(given.step))


def _run(asked: Asked, start: int, stop: int, step: int = 1) -> range:
    """Refuses what Python's slicing would quietly shorten."""
    if step < 1:
        raise asked.refused("steps are 1 or more")
    if not 0 <= start < stop <= asked.size:
        what = "is empty" if 0 <= stop <= start <= asked.size else "is outside"
        raise asked.refused(f"{what}; {asked.axis} has {asked.size} voxels, 0:{asked.size}")
    return range(start, stop, step)


def _words(asked: Asked, given: str) -> int | range:
    names = hyperstack.channels(asked.image) if asked.axis == "c" else None
    if names and given in names:
        return names.index(given)
    if match := _SPAN.fullmatch(given):
        start, stop, step = match.groups()
        return _run(asked, int(start or 0), int(stop or asked.size), int(step or 1))
    if re.fullmatch(r"\s*\d{1,18}\s*", given):
        return _number(asked, int(given))
    if asked.axis == "c":
        if names is None:
            raise asked.refused(f"the channels have no names: give a number; {asked.there}")
        same = [n for n in names if n.casefold() == given.strip().casefold()]
        way = f"did you mean {same[0]!r}?" if same else nearest(given, names)
        raise asked.refused(f"there is no such channel: {way}")
    ends = given.split(":")
    if len(ends) > 2:
        raise asked.refused('is no part of an axis: write 3, "100:200" or "10 um:50 um"')
    return _nearest(asked, ends[0]) if len(ends) == 1 else _between(asked, *ends)


def _nearest(asked: Asked, text: str) -> int:
    place = _physical(asked, text)
    first, step, _ = _steps(asked)
    place = (place - first) / step
    if not -0.5 - _SLACK <= place <= asked.size - 0.5 + _SLACK:
        raise asked.refused(f"is outside; {_extent(asked)}")
    return min(max(round(place), 0), asked.size - 1)


def _between(asked: Asked, low: str, high: str) -> range:
    """The voxels whose coordinates are at least the one and less than the other."""
    ends = [_physical(asked, end) if end.strip() else None for end in (low, high)]
    first, step, _ = _steps(asked)
    at = first + step * np.arange(asked.size)
    slack = _SLACK * abs(step)
    inside = np.ones(asked.size, bool)
    if ends[0] is not None:
        inside &= at >= ends[0] - slack
    if ends[1] is not None:
        inside &= at < ends[1] - slack
    places = np.flatnonzero(inside)
    if not places.size:
        raise asked.refused(f"holds no voxel; {_extent(asked)}")
    return range(int(places[0]), int(places[-1]) + 1)


def _physical(asked: Asked, text: str) -> float:
    """A coordinate in words, in the unit of the axis."""
    match = _LENGTH.fullmatch(text)
    if not match:
        raise asked.refused('is no part of an axis: write 3, "100:200" or, with a unit at both ends, "10 um:50 um"')
    unit = unit_name(match[2])
    table, kind = _table(asked)
    if unit is None or unit not in table:
        raise asked.refused(f"{match[2]!r} is no unit of {kind}")
    number = float(match[1])
    if not math.isfinite(number):
        raise asked.refused("is no place: give a finite number")
    return convert(number, unit, _steps(asked)[2])


def _table(asked: Asked) -> tuple[Mapping[str, Fraction], str]:
    return (TIMES, "time") if asked.axis == "t" else (LENGTHS, "length")


def _steps(asked: Asked) -> tuple[float, float, str]:
    """Where the axis begins, its step with its sign, and its unit."""
    table, kind = _table(asked)
    step, own = (None, None)
    if hyperstack.is_hyperstack(asked.image):
        step, own = hyperstack.step_of(asked.image, asked.axis, table)
    if step is None or own is None:
        raise asked.refused(f"the image has no {kind} along {asked.axis}: give voxels, as in 100:200")
    values = asked.image.coords[asked.axis].values
    return float(values[0]), -step if values.size > 1 and values[-1] < values[0] else step, own


def _extent(asked: Asked) -> str:
    first, step, own = _steps(asked)
    return f"{asked.axis} has voxels from {first:g} to {first + step * (asked.size - 1):g} {own}"


def _channels(asked: Asked, items: Sequence[Any]) -> list[int]:
    if not items:
        raise asked.refused("is empty: name one channel or more")
    out: list[int] = []
    for item in items:
        plain = isinstance(item, (int, np.integer, str)) and not isinstance(item, (bool, np.bool_))
        place = place_of(Asked(asked.axis, item, asked.size, asked.image)) if plain else None
        if not isinstance(place, int):
            raise asked.refused("must be a list of channels, by name or number")
        if place in out:
            raise asked.refused(f"channel {brief(item)} is there twice")
        out.append(place)
    return out
