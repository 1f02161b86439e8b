"""Contrast-limited adaptive histogram equalisation (CLAHE).

    extrema          of the image
    tiles            their histograms, with the image mirrored beyond its end; clipped and added up: a map a tile
    gray levels      each voxel through the maps of the tiles around it, weighted by its distance from them
    extrema          of the gray levels
    result           the gray levels stretched to 0..1

Tiles begin at the image's first voxel. Maps are small and every task reads them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bigbia import hyperstack
from bigbia.errors import BlockError, ParameterError
from bigbia.exposure.counting import found_extrema
from bigbia.exposure.rescaling import stretched
from bigbia.exposure.values import all_values, in_pieces, narrow
from bigbia.filters.smooth import linear_dtype
from bigbia.graph.boxes import Box
from bigbia.graph.footprints import brief, real_number, sides
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import Lazy, check_image, is_lazy, lazy
from bigbia.graph.mapped import Found, applied, for_each, mapped
from bigbia.graph.reduce import Pass, Summary, join_extremes
from bigbia.graph.regions import Node
from bigbia.kernels.histograms import between_tiles, looked_up, tile_counts, tile_maps
from bigbia.kernels.rows import outside

LEVELS = 2**14  # gray levels of scikit-image's
MOST = 2**25  # entries of all maps together


def equalize_adapthist(
    image: Image,
    kernel_size: int | str | Sequence[int] | None = None,
    clip_limit: float = 0.01,
    nbins: int = 256,
) -> Any:
    """Equalise the histogram of each neighbourhood, with a limit to how much contrast grows (CLAHE).

    Parameters
    ----------
    image : array of integers, or of floats between -1 and 1, any number of axes
    kernel_size : int, sequence, or length with a unit, default 1/8 of the image along each axis
        Sides of the tiles in voxels, one for all spatial axes or one each; or as text, ``"20 um"``.
    clip_limit : float
        The largest share of a tile's voxels in one bin; what is above it is spread over the others. 0: no limit.
    nbins : int
        Bins of the histograms, 1 to 16384.

    Returns
    -------
    float32 array of the same shape, 0 to 1; float64 for 32-bit and wider integers and for float64.

    Raises
    ------
    InputError : bool, complex or object voxels, an empty axis
    ParameterError : a side, limit or number of bins out of range; tiles too small for their number
    BlockError : NaN or infinity, naming the block; floats beyond -1 to 1; when it is computed

    Notes
    -----
    Equal to the bit to ``skimage.exposure.equalize_adapthist`` for every chunking, for 8- and 16-bit integers the float32
    nearest to it: tiles, their maps and the weights are the same. Negative values become 0 first, as there. An image is
    never taken for one of colours, whatever the length of its last axis. It is read three times. Times and channels of a
    DataArray each by itself. float16 is worked on as float32: scikit-image's 16-bit values of it overflow.

    Source: Zuiderveld, Graphics Gems IV, Academic Press (1994).

    Examples
    --------
    >>> import numpy as np
    >>> image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    >>> bigbia.exposure.equalize_adapthist(image, 4, clip_limit=0.5)[3, ::3].round(2)
    array([0.58, 0.68, 0.68], dtype=float32)
    """
    what = "exposure.equalize_adapthist"
    check_image(image, what, "iuf")
    if isinstance(nbins, bool) or not isinstance(nbins, (int, np.integer)) or not 1 <= nbins <= LEVELS:
        raise ParameterError(f"{what}: nbins={brief(nbins)} must be a whole number, 1 to {LEVELS}")
    clip_limit = real_number(clip_limit, "clip_limit", what, least=0)
    space = hyperstack.spatial_axes(image)
    if kernel_size is None:
        tile = [max(1, image.shape[a] // 8) if a in space else 1 for a in range(image.ndim)]
    else:
        tile = sides(kernel_size, image, what, "kernel_size")
    tile = [tile[a] for a in space]
    shape = [int(image.shape[a]) for a in space]
    counts = [-(-n // k) for n, k in zip(shape, tile)]
    if math.prod(counts) * int(nbins) > MOST:
        raise ParameterError(
            f"{what}: {math.prod(counts)} tiles of {tile} voxels with {nbins} bins are more than {MOST}: give a larger "
            f"kernel_size than {brief(kernel_size)}, or fewer bins"
        )
    dtype = linear_dtype(image.dtype)
    given: dict[str, Any] = {"shape": tuple(shape), "tile": tuple(tile), "nbins": int(nbins)}
    kind = np.dtype(image.dtype).newbyteorder("=")
    first = Found(
        what,
        [
            Pass(functools.partial(found_extrema, what=what), join_extremes),
            Pass(functools.partial(_tiles, **given), _add_tiles),
        ],
        functools.partial(_maps, clip_limit=clip_limit, **given),
        {"low": ((), kind), "high": ((), kind), "maps": ((math.prod(counts), int(nbins)), np.uint16)},
    )
    finish = functools.partial(
        _table, wide="float32" if kind.kind == "f" and kind.itemsize < 8 else "float64", dtype=str(dtype)
    )
    second = Found(f"{what}: range", [Pass(_levels_extremes, join_extremes)], finish, {"table": ((LEVELS,), dtype)})
    if not is_lazy(image):
        levels = applied(_gray_levels, image, first.at_once(image), given)
        return applied(_last, levels, second.at_once(levels), {})
    source = lazy(image, what)

    def one(part: Lazy) -> Node:
        levels = mapped(part.node, first.of(part.node, part.grid), _gray_levels, np.uint16, 15.0, **given)
        return mapped(levels, second.of(levels, part.grid), _last, dtype, 1.0)

    return for_each(source, one, "each")


def _check_range(low: np.ndarray, high: np.ndarray) -> None:
    if low.dtype.kind == "f" and not (low >= -1 and high <= 1):
        raise BlockError(
            f"exposure.equalize_adapthist: values from {low} to {high}: floats must be between -1 and 1: "
            "exposure.rescale_intensity(image, out_range=(0, 1)) first"
        )


# ---- gray levels and their bins --------------------------------------------------------------------------------------
def _bins(block: np.ndarray, low: np.ndarray, high: np.ndarray, nbins: int) -> np.ndarray:
    """The bin of each voxel's gray level."""
    dtype = block.dtype.newbyteorder("=")
    darkest, brightest = _uint(np.array([low[()], high[()]], dtype), high)
    ends = float(darkest), float(brightest)
    if narrow(dtype):
        return looked_up(block, np.iinfo(dtype).min, _bins_of_all(str(dtype), ends, nbins))
    return in_pieces(lambda x: _binned(x, high, ends, nbins), block, np.uint16)


@functools.lru_cache(maxsize=16)
def _bins_of_all(dtype: str, ends: tuple[float, float], nbins: int) -> np.ndarray:
    return _binned(all_values(np.dtype(dtype)), 0, ends, nbins)


def _binned(x: np.ndarray, high: Any, ends: tuple[float, float], nbins: int) -> np.ndarray:
    level = np.round(stretched(_uint(x, high), (*ends, 0.0, LEVELS - 1.0), "float64")).astype(np.uint16)
    return level // np.uint16(1 + LEVELS // nbins)


def _uint(x: np.ndarray, high: Any) -> np.ndarray:
    """scikit-image's 16-bit values of an image whose largest value is `high`."""
    from skimage.util import img_as_uint

    if x.dtype.kind == "f" or x.dtype.itemsize <= 2:
        return img_as_uint(x.astype(np.float32) if x.dtype.kind == "f" and x.dtype.itemsize == 2 else x)
    bits = 8 * x.dtype.itemsize - (x.dtype.kind == "i") - 16  # those that go, unless nothing is in them
    return np.maximum(x >> (bits if high >= 2**16 else 0), 0).astype(np.uint16)


# ---- tiles and maps --------------------------------------------------------------------------------------------------
def _counted_for(n: int, k: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Which places from start to stop of a line of n count for which tile of k; some do twice, mirrored at its end."""
    place = outside(np.arange(-(-n // k) * k), n, "mirror")
    at = np.flatnonzero((place >= start) & (place < stop))
    return at // k, place[at] - start


def _tiles(
    block: np.ndarray, box: Box, extrema: Summary, *, shape: Sequence[int], tile: Sequence[int], nbins: int
) -> Summary:
    _check_range(extrema["low"], extrema["high"])
    bins = _bins(block, extrema["low"], extrema["high"], nbins)
    each = [_counted_for(n, k, a, b) for n, k, (a, b) in zip(shape, tile, box)]
    here = [np.unique(t, return_inverse=True) for t, _ in each]
    counts = tile_counts(bins, [h[1] for h in here], [p for _, p in each], [len(h[0]) for h in here], nbins)
    number = np.zeros(1, np.int64)
    for (which, _), n, k in zip(here, shape, tile):
        number = (number[:, None] * -(-n // k) + which).reshape(-1)
    return {"tile": number, "counts": counts}


def _add_tiles(parts: Sequence[Summary]) -> Summary:
    tile, index = np.unique(np.concatenate([p["tile"] for p in parts]), return_inverse=True)
    counts = np.zeros((len(tile), parts[0]["counts"].shape[1]), np.int64)
    at = 0
    for p in parts:  # a tile is in a part at most once
        counts[index[at : at + len(p["tile"])]] += p["counts"]
        at += len(p["tile"])
    return {"tile": tile, "counts": counts}


def _maps(
    extrema: Summary, found: Summary, *, clip_limit: float, shape: Sequence[int], tile: Sequence[int], nbins: int
) -> Mapping[str, np.ndarray]:
    voxels = math.prod(tile)
    limit = int(max(clip_limit * voxels, 1)) if clip_limit > 0 else voxels
    maps = tile_maps(found["counts"], limit, voxels, LEVELS - 1)
    return {"low": extrema["low"], "high": extrema["high"], "maps": maps}


# ---- voxels ----------------------------------------------------------------------------------------------------------
def _gray_levels(
    blocks: Sequence[np.ndarray], box: Box, core: Any, *, shape: Sequence[int], tile: Sequence[int], nbins: int
) -> np.ndarray:
    block, low, high, maps = blocks
    tiles, shares, counts = [], [], [-(-n // k) for n, k in zip(shape, tile)]
    for (a, b), k, n in zip(box, tile, counts):
        at = np.arange(a, b) + k // 2
        after = at % k / k
        tiles.append(np.clip(np.stack([at // k - 1, at // k], axis=1), 0, n - 1))
        shares.append(np.stack([1 - after, after], axis=1))
    return between_tiles(_bins(block, low, high, nbins), tiles, shares, counts, maps)


def _levels_extremes(block: np.ndarray, box: Box) -> Summary:
    return found_extrema(block, box, "levels")


def _table(extrema: Summary, *, wide: str, dtype: str) -> Mapping[str, np.ndarray]:
    ends = (float(extrema["low"]), float(extrema["high"]), 0.0, 1.0)
    return {"table": stretched(np.arange(LEVELS).astype(wide), ends, wide).astype(dtype)}


def _last(blocks: Sequence[np.ndarray], box: Box, core: Any) -> np.ndarray:
    return looked_up(blocks[0], 0, blocks[1])
