"""What was found at a path, whatever the format: what each reader fills in, and `open` makes an image of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bigbia.errors import ParameterError
from bigbia.hyperstack import SPACE
from bigbia.io.multiscale import Multiscale, is_finite
from bigbia.io.places import Place, shown

GUESS = {2: ("y", "x"), 3: ("z", "y", "x")}
"""What axes are taken for where nothing says which they are."""

SHOWN = 8  # names of scenes, wells or files that a message lists


@dataclass
class Found:
    """What was found at a path."""

    place: Place
    kind: str
    source: Any
    names: tuple[str, ...]  # of the axes in the file, as far as it says; as many as the source has, or none
    axes: tuple[str, ...] | None  # the same, if they are all among t c z y x
    sizes: dict[str, float] = field(default_factory=dict)
    shrink: dict[str, float] = field(default_factory=dict)  # of this level against the finest, by axis
    origin: dict[str, float] = field(default_factory=dict)
    unit: str | None = None
    time_unit: str | None = None
    channels: tuple[str, ...] | None = None
    problem: str | None = None  # with sizes, that may be left aside
    mismatch: str | None = None  # between axes and array, that may not
    name: str = ""
    levels: tuple[tuple[int, ...], ...] = ()  # shapes, where they are known
    image: Multiscale | None = None  # what the group at `place` says
    images: int = 1  # that the file holds
    scenes: tuple[str, ...] = ()  # their names, where it holds several
    display: dict[str, dict[str, Any]] = field(default_factory=dict)  # channel -> {"color": "RRGGBB", "window": (a, b)}
    notes: list[str] = field(default_factory=list)  # to be said as warnings


def by_position(found: Found, dims: Sequence[str] | None, values: Mapping[str, float]) -> dict[str, float]:
    """Values by the file's axes, by those the user named instead; dropped where space became something else."""
    same = [
        (a, b) for a, b in zip(found.names, dims or ()) if (a in SPACE) == (b in SPACE) and (a == "t") == (b == "t")
    ]
    return {b: values[a] for a, b in same if a in values}


def unique_names(names: Sequence[str]) -> list[str]:
    """Channel names, a number behind those that come again.

    >>> unique_names(["GFP", "GFP"])
    ['GFP', 'GFP (2)']
    """
    out: list[str] = []
    for name in names:
        again, one = 1, name
        while one in out:
            again += 1
            one = f"{name} ({again})"
        out.append(one)
    return out


def shown_as(entries: Sequence[Mapping[str, Any]], channels: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    """How each channel is to be shown, by its name; by its number where channels have no names.

    What is no colour of six hexadecimal digits, and no window of two finite numbers in order, is left aside.
    """
    named = channels is not None and len(channels) == len(entries)
    keys = unique_names(channels or ()) if named else [str(i) for i in range(len(entries))]
    checked = {key: _display(entry) for key, entry in zip(keys, entries)}
    return {key: entry for key, entry in checked.items() if entry}


def _display(entry: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    color, window = entry.get("color"), entry.get("window")
    if isinstance(color, str):
        digits = color.removeprefix("#").upper()
        if len(digits) == 6 and set(digits) <= set("0123456789ABCDEF"):
            out["color"] = digits
    if isinstance(window, Sequence) and len(window) == 2 and all(map(is_finite, window)) and window[0] < window[1]:
        out["window"] = (float(window[0]), float(window[1]))
    return out


def listed(names: Sequence[str], most: int = SHOWN) -> str:
    """The first names of a list, for a message."""
    return ", ".join(map(shown, names[:most])) + (", ..." if len(names) > most else "")


def scene_number(scene: Any, names: Sequence[str], place: Place) -> int:
    """Which of a file's images is meant, by its name or its number; ParameterError where it is none of them.

    >>> scene_number("overview", ["overview", "detail"], Place("/x.tif"))
    0
    """
    words = f"scene={scene!r}"
    if scene is None:
        return 0
    if isinstance(scene, bool) or not isinstance(scene, int | str):
        raise ParameterError(f"{words}: is no scene: give its name, or its number from 0 to {len(names) - 1}")
    number = names.index(scene) if scene in names else scene
    if isinstance(number, str):
        number = int(number) if number.isdecimal() and len(number) < 10 else -1
    if isinstance(scene, str) and list(names).count(scene) > 1:
        raise ParameterError(f"{words}: {place} holds several images of this name: give a number from 0")
    if not 0 <= number < len(names):
        there = f"holds {len(names)} images ({listed(names)})" if len(names) > 1 else "holds one image"
        raise ParameterError(f"{words}: {place} {there}: give a name, or a number from 0 to {len(names) - 1}")
    return number
