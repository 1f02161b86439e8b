"""Histograms made even, or like those of another image."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from bigbia.errors import BlockError, InputError, ParameterError
from bigbia.exposure.counting import WIDEST, add_counts, centred, narrow_counts, passes_for
from bigbia.exposure.values import check_over, narrow
from bigbia.filters.smooth import linear_dtype
from bigbia.graph.boxes import Box, Grid, whole
from bigbia.graph.footprints import whole_number
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import Lazy, check_image, is_lazy, lazy, native
from bigbia.graph.mapped import Found, Leaves, applied, by_values, mapped
from bigbia.graph.pairs import alike
from bigbia.graph.reduce import Pass, Summary
from bigbia.graph.regions import Node, Voxelwise, stack
from bigbia.kernels.histograms import interpolated, looked_up

NOTHING: Summary = {"nothing": np.array(True)}


def equalize_hist(
    image: Image, nbins: int = 256, mask: Image | None = None, *, over: Literal["each", "all"] = "each"
) -> Any:
    """Replace each value by the share of the image that is not brighter.

    Parameters
    ----------
    image : array of integers or floats, any number of axes
    nbins : int
        Bins of the histogram of a floating-point image; integers have one bin a value.
    mask : bool array of the image's shape, optional
        Only what is in it is counted; all of the image is replaced.
    over : {"each", "all"}
        One histogram for each time and channel of a DataArray, or one for all.

    Returns
    -------
    float32 array of the same shape, above 0 and up to 1; float64 for 32-bit and wider integers and for float64.

    Raises
    ------
    InputError : bool, complex or object voxels, an empty axis
    BlockError : NaN or infinity, naming the block; a mask that is empty; when it is computed
    ParameterError : wrong `nbins`, a mask of another shape; 32-bit or wider integers with more than 2**20 values between
        the smallest and the largest

    Notes
    -----
    Equal to the bit to ``skimage.exposure.equalize_hist`` for every chunking; for 8- and 16-bit integers the float32
    nearest to it. float16 is counted as float32. The image is read twice, floats and 32-bit integers three times.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.exposure.equalize_hist(np.array([1, 1, 3, 9], np.uint8))
    array([0.5 , 0.5 , 0.75, 1.  ], dtype=float32)
    """
    what = "exposure.equalize_hist"
    check_image(image, what, "iuf")
    check_over(over, what)
    whole_number(nbins, "nbins", what, 1)
    image = native(image)
    dtype = linear_dtype(image.dtype)
    passes = passes_for(image.dtype, int(nbins), what)
    if image.dtype.kind in "iu":
        length = 2 ** (8 * image.dtype.itemsize) if narrow(image.dtype) else WIDEST  # or fewer
        leaves: Leaves = {"low": ((), np.int64), "cdf": ((length,), dtype)}
    else:
        leaves = {"centers": ((int(nbins),), np.float64), "cdf": ((int(nbins),), dtype)}
    finish = functools.partial(_shares, what=what, nbins=int(nbins), dtype=str(dtype))
    params: dict[str, Any] = {"output": str(dtype), "cost": 1.0 if image.dtype.kind in "iu" else 5.0}
    if mask is None:
        found = Found(what, passes, finish, leaves)
        return by_values(image, what, over, lambda _: found, _equalized, dtype, **params)
    check_image(mask, f"{what}: mask", "biu")
    if tuple(mask.shape) != tuple(image.shape):
        raise ParameterError(
            f"{what}: the mask is {tuple(mask.shape)}, the image {tuple(image.shape)}: they must be alike"
        )
    found = Found(what, [_masked(p) for p in passes], functools.partial(_some, finish=finish, what=what), leaves)
    if not is_lazy(image) and not is_lazy(mask):
        both = np.stack([image, (mask != 0).astype(image.dtype)])
        return applied(_equalized, image, found.at_once(both), {"output": str(dtype)})
    source, marks = alike(image, mask, what)
    inside = replace(marks, node=Voxelwise(_marked, (_marked, str(image.dtype)), (marks.node,), source.node.dtype))

    def one(part: Lazy, chosen: Lazy) -> Node:
        both, grid = stack([part.node, chosen.node]), Grid(((2,), *part.grid.chunks))
        return mapped(part.node, found.of(both, grid), _equalized, dtype, **params)

    if over == "all" or not source.over:
        return source.like(one(source, inside))
    nodes = [one(part, chosen) for (_, part), (_, chosen) in zip(source.each(), inside.each())]
    return source.like(source.joined(nodes), source.joined_chunks())


def _marked(mask: np.ndarray) -> np.ndarray:
    return mask != 0


def _shares(*results: Summary, what: str, nbins: int, dtype: str) -> Mapping[str, np.ndarray]:
    """The cumulative histogram."""

    def done(counts: np.ndarray, centers: np.ndarray) -> Mapping[str, np.ndarray]:
        cdf = counts.cumsum()
        cdf = (cdf / float(cdf[-1])).astype(dtype)
        if centers.dtype.kind in "iu":
            return {"low": np.array(_signed(int(centers[0]))), "cdf": cdf}
        return {"centers": centers.astype(np.float64), "cdf": cdf}

    return centred(*results, what=what, nbins=nbins, finalise=done)


def _signed(value: int) -> int:
    """A value of uint64 too, as int64: only differences from it count."""
    return (value + 2**63) % 2**64 - 2**63


def _equalized(blocks: Sequence[np.ndarray], box: Box, core: Any, *, output: str) -> np.ndarray:
    block, first, cdf = blocks
    if block.dtype.kind in "iu":
        return looked_up(block, int(first[()]), cdf)
    return interpolated(block, first, cdf, np.dtype(output))


# ---- what a mask leaves to count -------------------------------------------------------------------------------------
def _masked(step: Pass) -> Pass:
    return Pass(
        functools.partial(_summarised, summarise=step.summarise), functools.partial(_joined, combine=step.combine)
    )


def _summarised(both: np.ndarray, box: Box, *earlier: Summary, summarise: Callable[..., Summary]) -> Summary:
    inside = both[0][both[1] != 0]
    if not len(inside) or any("nothing" in e for e in earlier):
        return NOTHING
    return summarise(inside, whole(inside.shape), *earlier)


def _joined(parts: Sequence[Summary], combine: Callable[[Sequence[Summary]], Summary]) -> Summary:
    some = [p for p in parts if "nothing" not in p]
    return combine(some) if some else NOTHING


def _some(*results: Summary, finish: Callable[..., Summary], what: str) -> Summary:
    if any("nothing" in r for r in results):
        raise BlockError(f"{what}: the mask is empty: nothing to count; leave it out to count all of the image")
    return finish(*results)


# ---- like another image ----------------------------------------------------------------------------------------------
def match_histograms(image: Image, reference: Image, *, over: Literal["each", "all"] = "each") -> Any:
    """Change the values so that the image has the histogram of another one.

    Parameters
    ----------
    image : array of 8- or 16-bit integers, any number of axes
    reference : array of 8- or 16-bit integers with as many axes
        It need not have the image's shape. With t or c it has as many of them as the image, unless ``over="all"``.
    over : {"each", "all"}
        Each time and channel of a DataArray is matched to that of the reference, or all to all.

    Returns
    -------
    float32 array of the image's shape. Values lie between those of the reference.

    Raises
    ------
    InputError : bool, complex or object voxels, an empty axis; floats and wider integers, whose many values cannot be
        counted one by one: convert them, for instance ``image.astype("uint16")`` after a `rescale_intensity`
    ParameterError : a reference of another number of axes, or of other times and channels

    Notes
    -----
    The float32 nearest to ``skimage.exposure.match_histograms`` (which returns float64) for every chunking. Both images
    are read once to be counted.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.exposure.match_histograms(np.array([1, 1, 3, 9], np.uint8), np.array([10, 20, 30, 40], np.uint8))
    array([20., 20., 30., 40.], dtype=float32)
    """
    what = "exposure.match_histograms"
    check_over(over, what)
    for name, given in (("image", image), ("reference", reference)):
        check_image(given, f"{what}: {name}", "iuf")
        if not narrow(given.dtype):
            raise InputError(
                f"{what}: {name}: {given.dtype} has too many values to count one by one: convert it, for instance "
                'exposure.rescale_intensity(image, out_range="uint16")'
            )
    if image.ndim != reference.ndim:
        raise ParameterError(
            f"{what}: the image has {image.ndim} axes, the reference {reference.ndim}: they must have as many"
        )
    mine, other = _counting(image.dtype, what), _counting(reference.dtype, what)
    if not is_lazy(image) and not is_lazy(reference):
        return applied(_matched, image, [*mine.at_once(image), *other.at_once(reference)], {})
    one, two = lazy(image, what), lazy(reference, what)
    source = replace(one, live={**one.live, **two.live})
    if over == "all":
        return source.like(_like(source, two, mine, other))
    theirs = [part for _, part in two.each()]
    ours = [part for _, part in source.each()]
    if len(theirs) not in (1, len(ours)):
        raise ParameterError(
            f'{what}: the image holds {len(ours)} times and channels, the reference {len(theirs)}: select some, or over="all"'
        )
    nodes = [_like(a, b, mine, other) for a, b in zip(ours, theirs * (len(ours) // len(theirs)))]
    return source.like(source.joined(nodes), source.joined_chunks() if source.over else None)


def _counting(dtype: np.dtype, what: str) -> Found:
    leaves = {"low": ((), np.int64), "counts": ((2 ** (8 * dtype.itemsize),), np.int64)}  # or fewer
    return Found(what, [Pass(narrow_counts, add_counts)], _as_they_are, leaves)


def _as_they_are(found: Summary) -> Summary:
    return found


def _like(image: Lazy, reference: Lazy, mine: Found, other: Found) -> Node:
    values = [*mine.of(image.node, image.grid), *other.of(reference.node, reference.grid)]
    return mapped(image.node, values, _matched, np.float32, 1.0)


def _matched(blocks: Sequence[np.ndarray], box: Box, core: Any) -> np.ndarray:
    block, low, counts, least, others = blocks
    there = np.flatnonzero(others)
    share = np.cumsum(counts) / counts.sum()
    target = np.cumsum(others[there]) / others.sum()
    return looked_up(block, int(low[()]), np.interp(share, target, there + int(least[()])).astype(np.float32))
