"""How a viewer shows an image at first: a colour and a range of values for each channel (the `omero` block).

A window is taken from the voxels of the coarsest level, at places that depend on the image's shape alone: it is the
same for every chunking, and for a run that was stopped in between.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, product
from typing import Any

import numpy as np

from bigbia.hyperstack import SPACE

Window = tuple[float, float]

CYCLE = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF", "FFFFFF")
WHITE = "FFFFFF"
KNOWN = (  # the first that is found in a channel's name counts
    (r"bright ?field|phase|\bdic\b|\bbf\b|\bpol\b|transmi", WHITE),
    (r"dapi|hoechst|\bbfp\b|\bcfp\b|alexa ?405|\baf ?405|\b405\b", "0000FF"),
    (r"cy ?5|alexa ?6\d\d|\baf ?6\d\d|\b6[34]\d\b|draq|far ?red|irfp|atto ?6\d\d", "FF00FF"),
    (r"cy ?3|tritc|\baf ?5[456]\d|alexa ?5[456]\d|\b5[56]\d\b|dsred|orange", "FF8000"),
    (r"m?cherry|texas|\brfp\b|rhodamine|alexa ?5[79]\d|\baf ?5[79]\d|\b59\d\b|propidium|\bpi\b|\bred\b", "FF0000"),
    (r"gfp|fitc|alexa ?488|\baf ?488|\b488\b|fluo-?4|gcamp|\bgreen\b", "00FF00"),
    (r"yfp|venus|citrine", "FFFF00"),
)
LOW, HIGH = 0.001, 0.999  # of the voxels lie below a window's start, and below its end
SIDE = 128  # voxels along an axis that are looked at in one place; two places along a longer axis
FRAMES = 8  # times that are looked at
SAMPLE = 1 << 22  # values of which the percentiles are taken, at most


def colors_of(names: Sequence[str], given: Mapping[str, Mapping[str, Any]] | None = None) -> list[str]:
    """A colour "RRGGBB" for each channel: the given one, else by well-known names of stains, else one of a cycle.

    >>> colors_of(["DAPI", "a membrane"]), colors_of(["whatever"])
    (['0000FF', '00FF00'], ['FFFFFF'])
    """
    found = [_color((given or {}).get(name, {}).get("color")) or _known(name) for name in names]
    if len(names) == 1:
        return [found[0] or WHITE]
    others = [c for c in CYCLE if c not in found] or list(CYCLE)
    rest = cycle(others)
    return [color or next(rest) for color in found]


def _color(value: Any) -> str | None:
    """Six hexadecimal digits; None for anything else, which files of others may hold."""
    text = value.removeprefix("#").upper() if isinstance(value, str) else ""
    return text if re.fullmatch("[0-9A-F]{6}", text) else None


def _known(name: str) -> str | None:
    name = re.sub(r"[_\-.]+", " ", name.lower())
    return next((color for pattern, color in KNOWN if re.search(pattern, name)), None)


def window_given(given: Mapping[str, Any] | None) -> Window | None:
    """The window that a file had for a channel, if it can be shown: two finite numbers, the first one smaller."""
    window = (given or {}).get("window")
    try:
        start, end = map(float, window or ())
    except (TypeError, ValueError, OverflowError):
        return None
    return (start, end) if math.isfinite(start) and math.isfinite(end) and start < end else None


def windows_of(array: Any, axes: Sequence[str]) -> list[tuple[Window, Window]]:
    """For each channel of a level, how to show it (start, end), and the least and the greatest value (min, max).

    array : zarr or NumPy array of integers or floats; it is read in boxes of at most 128 voxels an axis
    axes : its axes, in its order

    Raises OSError for what cannot be read.

    >>> windows_of(np.arange(100, dtype="u1").reshape(10, 10), "yx")
    [((0.0, 99.0), (0.0, 255.0))]
    """
    axes = list(axes)
    count = array.shape[axes.index("c")] if "c" in axes else 1
    return [_window(_sample(array, axes, c), np.dtype(array.dtype)) for c in range(count)]


def _sample(array: Any, axes: Sequence[str], channel: int) -> np.ndarray:
    """Values of a channel from places spread over the image."""
    boxes = list(_boxes(array.shape, axes, channel))
    total = sum(math.prod(s.stop - s.start for s in box) for box in boxes)
    step, at, found = -(-total // SAMPLE), 0, []
    for box in boxes:
        flat = np.asarray(array[box]).ravel()
        found.append(flat[-at % step :: step])
        at += flat.size
    return np.concatenate(found)


def _boxes(shape: Sequence[int], axes: Sequence[str], channel: int) -> Iterator[tuple[slice, ...]]:
    places: list[list[slice]] = []
    for axis, n in zip(axes, shape):
        if axis == "c":
            places.append([slice(channel, channel + 1)])
        elif axis not in SPACE:
            chosen = sorted({round(i * (n - 1) / max(1, min(n, FRAMES) - 1)) for i in range(min(n, FRAMES))})
            places.append([slice(i, i + 1) for i in chosen])
        elif n <= 2 * SIDE:
            places.append([slice(a, min(a + SIDE, n)) for a in range(0, n, SIDE)])
        else:
            starts = (n // 4 - SIDE // 2, n - n // 4 - SIDE // 2)
            places.append([slice(a, a + SIDE) for a in starts])
    yield from product(*places)


def _window(values: np.ndarray, dtype: np.dtype) -> tuple[Window, Window]:
    if dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        return (0.0, 1.0), (0.0, 1.0)
    order = np.partition(values, [k := int(LOW * (values.size - 1)), m := math.ceil(HIGH * (values.size - 1))])
    start, end = float(order[k]), float(order[m])
    least, most = float(values.min()), float(values.max())
    if not start < end:  # little but background: show all there is
        start, end = least, most
    if not start < end:  # one value: it is shown bright, or black where it is 0
        start, end = (min(0.0, start), max(0.0, end)) if start else (0.0, 1.0)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        least, most = float(info.min), float(info.max)
    return (start, end), (min(least, start), max(most, end))


def with_windows(attributes: Mapping[str, Any], windows: Sequence[tuple[Window, Window] | None]) -> dict[str, Any]:
    """The attributes of an image's group with the windows of its channels; those given as None stay as they are."""
    found = dict(attributes)
    holder = found["ome"] = dict(found["ome"]) if "ome" in found else {}
    within = holder or found
    omero = within.get("omero")
    if not isinstance(omero, Mapping):
        return dict(attributes)
    channels = [dict(channel) for channel in omero["channels"]]
    for channel, window in zip(channels, windows):
        if window is not None:
            (start, end), (least, most) = window
            channel["window"] = {"min": least, "max": most, "start": start, "end": end}
    within["omero"] = {**omero, "channels": channels}
    if not holder:
        del found["ome"]
    return found
