"""Counting values over all blocks: the passes behind histograms and global thresholds.

8- and 16-bit integers   one pass: counts from the smallest to the largest value
wider integers           extrema, then counts between them
floats                   extrema, then the counts of NumPy's evenly spaced bins between them
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bigbia.errors import BlockError, ParameterError
from bigbia.exposure.values import check_over
from bigbia.graph.boxes import Box, describe
from bigbia.graph.footprints import whole_number
from bigbia.graph.lazy import Lazy, is_lazy, lazy
from bigbia.graph.mapped import passed
from bigbia.graph.reduce import Pass, Reduce, join_extremes
from bigbia.kernels import histograms

Counts = Mapping[str, np.ndarray]
WIDEST = 2**20


def counted(
    image: Any,
    what: str,
    nbins: int,
    over: str,
    finalise: Callable[..., Counts],
    outputs: Sequence[str],
    dtype: np.dtype,
) -> Any:
    """`finalise(counts, centers)` of an image.

    0-d values, for each time and channel or for all. One output, or a tuple of them.
    """
    whole_number(nbins, "nbins", what, 1)
    check_over(over, what)
    finish = functools.partial(centred, what=what, nbins=int(nbins), finalise=finalise)
    passes = passes_for(image.dtype, int(nbins), what)
    if not is_lazy(image):
        found = passed(image, passes, finish)
        return found[outputs[0]][()] if len(outputs) == 1 else tuple(found[o][()] for o in outputs)
    source = lazy(image, what)
    results = []
    for name in outputs:
        if over == "all":
            stage = Reduce(what, source.node, source.grid, passes, finish, read_again=True)
            results.append(_without_template(source).like_over(stage.output(name, (), dtype)))
        else:
            stages = [Reduce(what, part.node, part.grid, passes, finish, read_again=True) for _, part in source.each()]
            results.append(source.like_over(source.joined([s.output(name, (), dtype) for s in stages])))
    return results[0] if len(results) == 1 else tuple(results)


def value_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of a bin's centre."""
    if dtype.kind in "iu":
        return np.dtype(np.int64)
    return np.dtype(np.float32) if dtype.itemsize == 2 else dtype.newbyteorder("=")


def _without_template(source: Lazy) -> Lazy:
    return Lazy(source.node, source.chunks, source.live)


def passes_for(dtype: np.dtype, nbins: int, what: str) -> list[Pass]:
    if dtype.kind in "iu" and dtype.itemsize <= 2:
        return [Pass(narrow_counts, add_counts)]
    extrema = Pass(functools.partial(found_extrema, what=what), join_extremes)
    if dtype.kind in "iu":
        return [extrema, Pass(functools.partial(_wide_counts, what=what), add_counts)]
    return [extrema, Pass(functools.partial(_float_counts, nbins=nbins), _add)]


def narrow_counts(block: np.ndarray, box: Box) -> Counts:
    limits = np.iinfo(block.dtype)
    counts = histograms.integer_counts(block, limits.min, limits.max)
    seen = np.flatnonzero(counts)
    return {"low": np.array(limits.min + seen[0]), "counts": counts[seen[0] : seen[-1] + 1]}


def found_extrema(block: np.ndarray, box: Box, what: str) -> Counts:
    low, high, bad = histograms.extrema(block)
    if bad:
        place = np.argwhere(~np.isfinite(block))[0] + [a for a, _ in box]
        value = block[tuple(place - [a for a, _ in box])]
        raise BlockError(
            f"{what}: the image holds {value} at voxel {tuple(int(p) for p in place)}, in the block {describe(box)}: replace it first, for instance "
            "image.fillna(0) or np.nan_to_num"
        )
    return {"low": np.asarray(low), "high": np.asarray(high)}


def _wide_counts(block: np.ndarray, box: Box, extrema: Counts, what: str) -> Counts:
    low, high = int(extrema["low"]), int(extrema["high"])
    if high - low >= WIDEST:
        raise ParameterError(
            f"{what}: values from {low} to {high} are {high - low + 1} bins, more than {WIDEST}: divide them, or convert to float32"
        )
    return {"low": np.array(low), "counts": histograms.integer_counts(block, low, high)}


def _float_counts(block: np.ndarray, box: Box, extrema: Counts, nbins: int) -> Counts:
    edges = histograms.bin_edges(extrema["low"][()], extrema["high"][()], nbins)
    return {"counts": histograms.counts(block, edges)}


def _add(parts: Sequence[Counts]) -> Counts:
    return {"counts": np.sum([p["counts"] for p in parts], axis=0)}


def add_counts(parts: Sequence[Counts]) -> Counts:
    low = min(int(p["low"]) for p in parts)
    high = max(int(p["low"]) + len(p["counts"]) for p in parts)
    total = np.zeros(high - low, np.int64)
    for p in parts:
        at = int(p["low"]) - low
        total[at : at + len(p["counts"])] += p["counts"]
    return {"low": np.array(low), "counts": total}


def centred(*results: Counts, what: str, nbins: int, finalise: Callable[..., Counts]) -> Counts:
    """Counts and the centres of their bins, as `skimage.exposure.histogram` has them."""
    last = results[-1]
    if "low" in last:
        low = int(last["low"])
        return finalise(last["counts"], np.arange(low, low + len(last["counts"]), dtype=np.int64))
    least, most = (results[0][k][()] for k in ("low", "high"))
    if least == most and what == "threshold_otsu":
        return finalise(last["counts"].sum(keepdims=True), np.array([least]))  # one value: there is nothing to part
    edges = histograms.bin_edges(least, most, nbins)
    return finalise(last["counts"], (edges[:-1] + edges[1:]) / 2)
