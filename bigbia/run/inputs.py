"""The words that say how an input is opened -> the image: what the command line takes, and what an output remembers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bigbia.errors import ParameterError, nearest

OPENING = ("axes", "voxel_size", "level", "channels", "region", "block", "on_missing", "scene", "well", "field")
"""The options that say how the input is read."""

_SPAN = re.compile(r"\s*([a-z]+)\s*=\s*(?:(-?\d+)|(\d*)\s*:\s*(\d*))\s*")


def open_input(
    path: str,
    *,
    axes: str | None = None,
    voxel_size: str | None = None,
    level: int = 0,
    channels: str | None = None,
    region: str | None = None,
    block: str = "auto",
    on_missing: str | None = None,
    scene: str | int | None = None,
    well: str | None = None,
    field: str | int | None = None,
) -> Any:
    """The image at a path, lazily, cut to the region."""
    from bigbia.io import opening

    names = None if channels is None else [_number_or_name(c) for c in channels.split(",")]
    image = opening.open(
        path,
        level,
        axes=axes,
        voxel_size=voxel_size,
        channels=names,
        block=parse_block(block),
        on_missing=on_missing,
        scene=scene,
        well=well,
        field=field,
    )
    chosen = ",".join(str(max(c)) for c in image.chunks)
    image = image if region is None else cut(image, region)
    image.encoding["block"] = chosen  # "auto" depends on the memory of the moment
    return image


def absolute(path: str) -> str:
    """An input's place as it is remembered: another process may be at home in another folder."""
    return path if "://" in path else str(Path(path).resolve())


def parse_block(text: str) -> Any:
    """ "auto", "64" or "16,64,64"."""
    return text if text == "auto" else sizes(text, "--block", "128 or 32,128,128")


def sizes(text: str, option: str, example: str) -> int | tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ParameterError(f"{option} {text}: must be sizes in voxels, at least 1 each: {example}")
    return int(words[0]) if len(words) == 1 else tuple(map(int, words))


def cut(image: Any, region: str) -> Any:
    """A part of an image by `z=0:64,y=0:512`; `c=0` takes one place and drops the axis."""
    chosen: dict[str, int | slice] = {}
    for part in region.split(","):
        match = _SPAN.fullmatch(part)
        if not match:
            raise ParameterError(
                f"--region {region}: {part.strip()!r} is not a span of voxels: write z=0:64,y=0:512 or c=0"
            )
        axis, place, start, stop = match.groups()
        if axis not in image.dims:
            raise ParameterError(f"--region {region}: there is no axis {axis!r}: {nearest(axis, image.dims)}")
        if axis in chosen:
            raise ParameterError(f"--region {region}: axis {axis} stands there twice")
        chosen[axis] = _span(region, axis, place, start, stop, image.sizes[axis])
    return image.isel(chosen)


def _span(region: str, axis: str, place: str | None, start: str, stop: str, size: int) -> int | slice:
    """Refuses what Python's slicing would quietly shorten."""
    if place is not None:
        if not 0 <= int(place) < size:
            raise ParameterError(f"--region {region}: {axis}={place} is outside: {axis} runs from 0 to {size - 1}")
        return int(place)
    first, last = int(start or 0), int(stop or size)
    if not 0 <= first < last <= size:
        raise ParameterError(
            f"--region {region}: {axis}={first}:{last} is outside or empty: {axis} has {size} voxels, 0:{size}"
        )
    return slice(first, last)


def _number_or_name(word: str) -> int | str:
    word = word.strip()
    return int(word) if word.isdecimal() else word
