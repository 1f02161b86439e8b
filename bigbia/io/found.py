"""What was found at a path, whatever the format: what each reader fills in, and `open` makes an image of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bigbia.io.multiscale import Multiscale
from bigbia.io.places import Place


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
