"""Values stretched or shrunk to a range."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from bigbia.errors import ParameterError, nearest
from bigbia.exposure.counting import found_extrema
from bigbia.exposure.values import all_values, check_over, in_pieces, narrow, saturated
from bigbia.filters.smooth import linear_dtype
from bigbia.graph.boxes import Box
from bigbia.graph.footprints import brief, dtype_of, plain_number, several
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image, native
from bigbia.graph.mapped import Found, by_values
from bigbia.graph.reduce import Pass, join_extremes
from bigbia.graph.window import window
from bigbia.kernels.histograms import looked_up

Range = str | Sequence[float]
_BITS = {"uint10": 10, "uint12": 12, "uint14": 14}
_NAMES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
_FLOATS = {"float": "float64", "float16": "float16", "float32": "float32", "float64": "float64"}


def rescale_intensity(
    image: Image, in_range: Range = "image", out_range: Range = "dtype", *, over: Literal["each", "all"] = "each"
) -> Any:
    """Stretch or shrink the values from one range to another.

    Parameters
    ----------
    image : array of integers or floats, any number of axes
    in_range : "image", "dtype", the name of a dtype, or (low, high)
        What becomes the ends of `out_range`: the smallest and the largest value of the image; the range of its dtype
        (floats: -1 to 1); of another one ("uint12" too); or two numbers. Values beyond are clipped to it first.
    out_range : as in_range
        With "image" and "dtype" the result keeps the dtype, with a name it has that one ("uint12": uint16), with two
        numbers it is float. For a dtype it begins at 0 where `in_range` has nothing negative.
    over : {"each", "all"}
        "image" is each time and channel of a DataArray, or all of it.

    Returns
    -------
    Array of the same kind and shape. For ``out_range=(low, high)`` float32, or float64 for 32-bit and wider integers and
    for float64.

    Raises
    ------
    ParameterError : a range that is not known, of other than two numbers, or of NaN
    InputError : bool, complex or object voxels, an empty axis
    BlockError : NaN or infinity where "image" is asked for, naming the block; when it is computed

    Notes
    -----
    Equal to the bit to ``skimage.exposure.rescale_intensity`` for every chunking; for two numbers the float32 nearest to
    it for 8- and 16-bit integers. Values of 64-bit integers never wrap. Where "image" is asked for, the image is read
    twice: for its extrema, and for the result; otherwise a voxel depends on nothing but itself. All values of 8- and
    16-bit integers are worked out once, in a table.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.exposure.rescale_intensity(np.array([51, 102, 153], np.uint8))
    array([  0, 127, 255], dtype=uint8)
    >>> bigbia.exposure.rescale_intensity(np.array([51, 102, 153], np.uint8), "uint8", (0, 1))
    array([0.2, 0.4, 0.6], dtype=float32)
    """
    what = "exposure.rescale_intensity"
    check_image(image, what, "iuf")
    check_over(over, what)
    image = native(image)
    source, _ = _range(in_range, image.dtype, "in_range", what)
    target, dtype = _range(out_range, image.dtype, "out_range", what)
    kind = np.dtype(image.dtype).newbyteorder("=")
    named = target is not None and not isinstance(out_range, (list, tuple, np.ndarray))
    given: dict[str, Any] = {
        "source": source,
        "target": target,
        "named": named,
        "dtype": str(dtype),
        "image": str(kind),
    }
    if source is not None and target is not None:
        return window(_by_ranges, image, dtype=dtype, cost=1.0 if narrow(kind) else 6.0, workspace=8.0, given=given)
    finish = functools.partial(_finish, **given)
    length = 2 ** (8 * kind.itemsize)
    leaves: dict[str, Any] = {"table": ((length,), dtype)} if narrow(kind) else {"low": ((), kind), "high": ((), kind)}
    found = Found(what, [Pass(functools.partial(found_extrema, what=what), join_extremes)], finish, leaves)
    return by_values(
        image, what, over, lambda _: found, _rescaled, dtype, cost=1.0 if narrow(kind) else 6.0, given=given
    )


def _range(value: Any, own: np.dtype, name: str, what: str) -> tuple[tuple[float, float] | None, np.dtype]:
    """Its two ends, None for those of the image; and the dtype of a result in this range."""
    own = np.dtype(own).newbyteorder("=")
    if isinstance(value, (list, tuple, np.ndarray)):
        ends = [plain_number(v) for v in several(value) or []]
        if len(ends) != 2 or any(v is None or v != v for v in ends):
            raise ParameterError(f"{what}: {name}={brief(value)} must be two numbers, (low, high)")
        low, high = (float(v) for v in ends if v is not None)
        return (low, high), linear_dtype(own)
    said = brief(value)
    if not isinstance(value, str):
        kind = dtype_of(value)
        value = said if kind is None else kind.name
    if value == "image":
        return None, own
    if value == "dtype":
        value = own.name
        dtype = own
    elif value in _BITS:
        return (0.0, 2.0 ** _BITS[value] - 1), np.dtype(np.uint16)
    elif value in _NAMES or value in _FLOATS:
        dtype = np.dtype(_FLOATS.get(value, value))
    else:
        known = ("image", "dtype", *_NAMES, *_FLOATS, *_BITS)
        raise ParameterError(f"{what}: {name}={said} is not known: two numbers, or {nearest(value, known)}")
    if dtype.kind == "f":
        return (-1.0, 1.0), dtype
    limits = np.iinfo(dtype)
    return (float(limits.min), float(limits.max)), dtype


def _ends(given: Mapping[str, Any], low: float, high: float) -> tuple[float, float, float, float]:
    """Both ranges, for an image from low to high."""
    a, b = given["source"] or (low, high)
    c, d = given["target"] or (low, high)
    return (a, b, 0.0 if given["named"] and a >= 0 else c, d)


def stretched(x: np.ndarray, ends: tuple[float, float, float, float], dtype: str) -> np.ndarray:
    """The steps of scikit-image's formula, in their order."""
    a, b, c, d = ends
    x = np.clip(x, a, b)
    if a == b:
        return saturated(np.clip(x, c, d), dtype)
    x = (x - a) / (b - a)
    return saturated(x * (d - c) + c, dtype)


@functools.lru_cache(maxsize=16)
def _table(image: str, ends: tuple[float, float, float, float], dtype: str) -> np.ndarray:
    return stretched(all_values(np.dtype(image)), ends, dtype)


def _finish(extrema: Mapping[str, np.ndarray], **given: Any) -> dict[str, np.ndarray]:
    low, high = extrema["low"], extrema["high"]
    kind = np.dtype(given["image"])
    if narrow(kind):
        return {"table": _table(given["image"], _ends(given, float(low), float(high)), given["dtype"])}
    return {"low": np.asarray(low, kind), "high": np.asarray(high, kind)}


def _rescaled(blocks: Sequence[np.ndarray], box: Box, core: Any, *, given: Mapping[str, Any]) -> np.ndarray:
    block, *values = blocks
    if len(values) == 1:
        return looked_up(block, np.iinfo(block.dtype).min, values[0])
    ends = _ends(given, float(values[0][()]), float(values[1][()]))
    return in_pieces(lambda x: stretched(x, ends, given["dtype"]), block, given["dtype"])


def _by_ranges(block: np.ndarray, given: Mapping[str, Any]) -> np.ndarray:
    ends = _ends(given, 0.0, 0.0)
    if narrow(block.dtype):
        return looked_up(block, np.iinfo(block.dtype).min, _table(given["image"], ends, given["dtype"]))
    return in_pieces(lambda x: stretched(x, ends, given["dtype"]), block, given["dtype"])
