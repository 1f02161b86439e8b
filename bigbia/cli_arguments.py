"""The words of a command line -> sizes, regions, the opened input."""

from __future__ import annotations

import re
from typing import Any

from bigbia.errors import ParameterError, nearest

OPENING = ("axes", "voxel_size", "level", "channels", "region", "block")
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
) -> Any:
    """The image at a path, lazily, cut to the region."""
    import bigbia

    names = None if channels is None else [_number_or_name(c) for c in channels.split(",")]
    image = bigbia.open(path, level, axes=axes, voxel_size=voxel_size, channels=names, block=parse_block(block))
    return image if region is None else cut(image, region)


def parse_block(text: str) -> Any:
    """ "auto", "64" or "16,64,64"."""
    return text if text == "auto" else _sizes(text, "--block", "128 or 32,128,128")


def parse_shape(text: str) -> tuple[int, ...]:
    """ "256,256,256"."""
    sizes = _sizes(text, "--shape", "256,256,256")
    return sizes if isinstance(sizes, tuple) else (sizes,)


def _sizes(text: str, option: str, example: str) -> int | tuple[int, ...]:
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


def synthetic(
    *,
    kind: str,
    shape: str,
    seed: int | None,
    touch: bool,
    settings: tuple[str, ...],
    voxel_size: str | None,
    block: str,
    **_: Any,
) -> dict[str, Any]:
    """A synthetic volume as arguments for `bigbia.save`: the image, and its answer as labels/truth where it has one."""
    from bigbia.io import synthetic as volumes
    from bigbia.run import pipeline_file

    parameters: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ParameterError(f"--set {setting}: write KEY=VALUE, for instance --set fill=0.5")
        parsed = pipeline_file.loads(value, f"--set {setting}")
        parameters[key.strip()] = tuple(parsed) if isinstance(parsed, list) else parsed
    if seed is not None:
        parameters["seed"] = seed
    if touch:
        parameters["touch"] = True
    source = volumes.source(kind, parse_shape(shape), **parameters)
    size = parse_block(block)
    truth = getattr(source, "labels", None)
    labels = {} if truth is None else {"truth": _lazy(truth, size, voxel_size)}
    return {"image": _lazy(source, size, voxel_size), "labels": labels}


def _lazy(source: Any, block: Any, voxel_size: str | None) -> Any:
    from bigbia.graph.dask import from_source
    from bigbia.hyperstack import hyperstack

    return hyperstack(from_source(source, block), "zyx"[-len(source.shape) :], voxel_size=voxel_size)


def _number_or_name(word: str) -> int | str:
    word = word.strip()
    return int(word) if word.isdecimal() else word
