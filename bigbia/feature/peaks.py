"""Peaks: voxels that are the highest of their neighbourhood, at a distance from each other."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, Literal

import numpy as np

from bigbia import hyperstack
from bigbia.errors import BigbiaWarning, ParameterError
from bigbia.feature.search import (
    Frame,
    Search,
    Threshold,
    candidates,
    count_by_label,
    dull,
    find,
    range_of,
    sums,
)
from bigbia.graph.boxes import slices, whole
from bigbia.graph.cost import worth_keeping
from bigbia.graph.footprints import brief, footprint_of, plain_number, several
from bigbia.graph.greedy import Again, Found, Spacing, of, steps_of
from bigbia.graph.group import Group
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import Lazy, check_image, is_lazy, lazy
from bigbia.graph.pairs import alike
from bigbia.graph.points import BestOfEach, Listed, Numbered, all_rows, by_order, first_of_each, marked, numbered
from bigbia.graph.reduce import Pass, Reduce, join_extremes
from bigbia.graph.regions import Literal as Value
from bigbia.graph.regions import Node
from bigbia.graph.values import Numbers, Values
from bigbia.graph.windows import Windows
from bigbia.measure.properties import channel_name
from bigbia.morphology.distance import length_in, voxel_lengths, warn_of_anisotropy
from bigbia.units import parse_lengths, rounded

WHAT = "feature.peak_local_max"
MARKERS = Numbers(np.dtype(np.uint32), 1, WHAT, 'ask for the table, output="coordinates", or for a larger min_distance')


def peak_local_max(
    image: Image,
    min_distance: float | str = 1,
    threshold_abs: float | None = None,
    threshold_rel: float | None = None,
    exclude_border: bool | int | Sequence[int] = True,
    num_peaks: float = np.inf,
    footprint: Any = None,
    labels: Image | None = None,
    num_peaks_per_label: float = np.inf,
    p_norm: float = np.inf,
    *,
    sampling: float | str | Sequence[float] | None = None,
    output: Literal["coordinates", "markers"] = "coordinates",
) -> Any:
    """Find the peaks of an image: the highest voxels of their neighbourhood, at least a distance from each other.

    Parameters
    ----------
    image : array of integers or floats, any number of axes
    min_distance : number, or a length with a unit
        In voxels, or in the unit of `sampling`; ``"2 um"`` goes by the image's own voxel size. A peak is a highest voxel
        of the box that reaches as far as this along every axis, rounded down to voxels; of two nearer than this to each
        other the higher one counts, of equal ones the first in raster order.
    threshold_abs, threshold_rel : number, optional
        Peaks are above it, and above this fraction of the highest voxel; by default above the lowest voxel.
    exclude_border : bool, int, or one int a spatial axis
        No peaks so near to the image's border, in voxels. True: as near as the box around a peak is wide.
    num_peaks : int, default all
        The highest only.
    footprint : array or int, optional
        The neighbourhood in place of the box: a mask with one axis for each spatial axis, or the length of its side.
    labels : array of integers or bool of the same shape, optional
        Peaks are looked for in each label by itself, as if there were no other voxels. 0 is background.
    num_peaks_per_label : int, default all
        The highest only, of each label.
    p_norm : number, 1 or more
        How distances between peaks are measured: inf along the axis along which they differ most, 2 Euclidean.
    sampling : number, one number a spatial axis, or a unit; default voxels
        Size of a voxel. ``"um"``: that of the image, and `min_distance` is in micrometres.
    output : {"coordinates", "markers"}
        The places, or an image of them, such as ``watershed`` takes.

    Returns
    -------
    coordinates : for a NumPy image an int64 array, one row a peak, highest first, equal ones in raster order; with
        `labels` label by label, unless `num_peaks` leaves some out. Otherwise a lazy dask.dataframe with the same rows in
        the same order: ``label`` (the peak's number in the markers), ``axis-0``, ``axis-1``, ... and ``intensity``. Images
        with t or c have rows for each of them and columns ``t``, ``c``.
    markers : uint32 array of the same kind and shape, the peaks numbered from 1 on in raster order, 0 elsewhere.

    Raises
    ------
    InputError : bool or complex voxels, labels that are not integers, an empty axis
    ParameterError : a negative distance, border or number of peaks, a threshold that is no number, a footprint of another
    number of axes, labels of another shape, a unit where the image has no voxel size
    BlockError : NaN, with the voxel; negative labels; when it is computed
    RunError : more than 2^32 - 1 markers; before any is made

    Warns
    -----
    BigbiaWarning : a voxel is longer along one axis than along another, and `min_distance` is a number of voxels; a
    distance below a voxel, so that every voxel above the threshold is a peak

    Notes
    -----
    Halo: the footprint. The rows of ``skimage.feature.peak_local_max`` in its order, for every chunking: each block
    finds its highest voxels, and they are taken best first, those of other blocks within reach in sight (rounds, until
    all are decided). An image, or a label, all of whose voxels are highest has no peaks; of a label then its voxels
    that an opening by faces takes away. With `sampling` the box and the distance are lengths: half the box is
    ``min_distance / size`` voxels along each axis, rounded down, and differences are multiplied by the sizes. With
    `labels` a footprint must have no gaps. Times and channels of a DataArray each by itself.

    A table and markers asked for with the same arguments are found once.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.array([0, 2, 0, 3, 0, 0, 1, 0])
    >>> peak_local_max(image).ravel()
    array([3, 1, 6])
    >>> peak_local_max(image, min_distance=2, exclude_border=False, output="markers")
    array([0, 0, 0, 1, 0, 0, 2, 0], dtype=uint32)
    """
    check_image(image, WHAT, "iuf")
    if not isinstance(output, str) or output not in ("coordinates", "markers"):
        raise ParameterError(f'{WHAT}: output={brief(output)}: "coordinates" or "markers"')
    labels = _checked_labels(labels, image)
    spacing, half = _distances(min_distance, sampling, p_norm, footprint, image)
    search = _search(image, footprint, half, spacing, exclude_border, labels is not None, min_distance)
    threshold = Threshold(
        _checked_threshold(threshold_abs, "threshold_abs"), _checked_threshold(threshold_rel, "threshold_rel")
    )
    most, each = _count(num_peaks, "num_peaks"), _count(num_peaks_per_label, "num_peaks_per_label")
    each = None if labels is None else each
    if not is_lazy(image) and not is_lazy(labels):
        return _at_once(image, labels, search, spacing, threshold, most, each, output)
    if labels is None:
        source = lazy(image, WHAT)
        pairs: list[Any] = [(where, part, None) for where, part in source.each()]
    else:
        source, second = alike(image, labels, WHAT)
        pairs = [(where, a, b) for (where, a), (_, b) in zip(source.each(), second.each())]
    found = [(w, *_numbering(a, b, search, spacing, threshold, most, each)) for w, a, b in pairs]
    if output == "markers":
        node = source.joined([marked(numbering) for _, _, numbering in found])
        return source.like(node, source.joined_chunks() if source.over else None)
    from bigbia.graph.table import Part, TableGraph

    frame = Frame(search.shape, str(np.dtype(image.dtype).newbyteorder("=")))
    parts = []
    for where, points, numbering in found:
        said = {k: channel_name(source.template, i) if k == "c" else i for k, i in where.items()}
        parts.append(Part(Listed("list peaks", Numbered(points, numbering), by_order, all_rows), frame, said, where))
    return TableGraph(parts, source.live, {}).as_dataframe()


# ---- lazily ----------------------------------------------------------------------------------------------------------
def _numbering(
    image: Lazy,
    labels: Lazy | None,
    search: Search,
    spacing: Spacing,
    threshold: Threshold,
    most: int | None,
    each: int | None,
) -> tuple[Any, Values]:
    """The peaks of an image, and their numbers."""
    looked = [image.node] + ([labels.node] if labels else [])
    cost = 60.0 if labels else 8.0 * len(search.shape)
    held = 3.5 * image.node.dtype.itemsize + 1.0
    state = Windows(candidates, tuple(looked), search.halo, np.dtype(np.uint8), {"search": search}, cost, held)
    points: Any = Found(
        "peaks",
        [image.node, state, *(_dull(labels, state, search) if labels else [])],
        _limits(image, threshold),
        image.grid,
        spacing,
        functools.partial(find, search=search),
        never_all=not search.anything and not labels,
    )
    if each is not None:
        points = BestOfEach(points, each)
    if labels is not None and most is not None:
        # scikit-image keeps those of different labels apart as soon as there are more than are asked for
        points = Again("peaks of all labels", points, numbered(points, MARKERS), most, spacing)
    return points, numbered(points, MARKERS, most)


def _limits(image: Lazy, threshold: Threshold) -> list[Node]:
    """What peaks are at least, and whether anything is so high."""
    if threshold.needs_range:
        stage = Reduce(
            "range", image.node, image.grid, [Pass(range_of, join_extremes)], threshold.of_range, read_again=True
        )
        return [stage.output("least", (), image.node.dtype), stage.output("some", (), np.dtype(bool))]
    return [Value(np.asarray(v)) for v in threshold(image.node.dtype, 0, 0)]


def _dull(labels: Lazy, state: Node, search: Search) -> list[Node]:
    """The labels, and of them only those all of whose voxels are the highest of their neighbourhood."""
    if search.anything:
        return [labels.node]
    count = functools.partial(count_by_label, search=search)
    keeps = [n for n in (state,) if worth_keeping(n)]
    counted = Group("count peaks of each label", [labels.node, state], [], labels.grid, count, sums, keeps)
    judged = Values(counted, counted, dull, Numbers(labels.node.dtype))
    return [labels.node, judged.renumbered(labels.node)]


# ---- at once ---------------------------------------------------------------------------------------------------------
def _at_once(
    image: np.ndarray,
    labels: np.ndarray | None,
    search: Search,
    spacing: Spacing,
    threshold: Threshold,
    most: int | None,
    each: int | None,
    output: str,
) -> np.ndarray:
    box, search = whole(image.shape), replace(search, ties=False)  # all is at hand, equal or not
    ends = range_of(image, box)
    limits = threshold(image.dtype, ends["low"], ends["high"])
    state = candidates([image] + ([] if labels is None else [labels]), box, slices(box), search)
    blocks = [image, state]
    if labels is not None:
        blocks.append(labels)
        if not search.anything:
            rows = count_by_label([labels, state], box, (), search=search)
            blocks.append(np.where(np.isin(labels, rows["label"][dull(rows)]), labels, labels.dtype.type(0)))
    points, _, everywhere = find(blocks, box, [np.asarray(v) for v in limits], search=search)
    if everywhere and not search.anything and labels is None:
        points = of(points, np.zeros(len(points["place"]), bool))
    points = spacing.spaced(points, image.shape)
    if labels is not None:
        points = first_of_each(points, points["group"], len(points["place"]) if each is None else each)
    if most is not None and len(points["place"]) > most:
        if labels is not None:
            points = spacing.spaced({**points, "group": np.zeros_like(points["group"])}, image.shape)
        points = of(points, np.arange(len(points["place"])) < most)
    at = steps_of(points["place"], image.shape)
    if output == "coordinates":
        return at
    MARKERS.check(len(at))
    out = np.zeros(image.shape, MARKERS.dtype)
    out[tuple(steps_of(np.sort(points["place"]), image.shape).T)] = np.arange(1, len(at) + 1)
    return out


# ---- what is asked for -----------------------------------------------------------------------------------------------
def _checked_labels(labels: Any, image: Any) -> Any:
    if labels is None:
        return None
    check_image(labels, f"{WHAT}: labels", "biu")
    shape = tuple(labels.shape)
    if hyperstack.is_hyperstack(image) and hyperstack.is_hyperstack(labels):
        if set(image.dims) != set(labels.dims):
            raise ParameterError(f"{WHAT}: labels have axes {labels.dims}, the image {image.dims}: they must be alike")
        labels = labels.transpose(*image.dims)
        shape = tuple(labels.shape)
    if shape != tuple(image.shape):
        raise ParameterError(f"{WHAT}: labels are {shape}, the image is {tuple(image.shape)}: they must be alike")
    kind = np.dtype(np.uint8) if labels.dtype == bool else labels.dtype.newbyteorder("=")
    return labels if labels.dtype == kind else labels.astype(kind)


def _distances(
    min_distance: Any, sampling: Any, p_norm: Any, footprint: Any, image: Any
) -> tuple[Spacing, tuple[int, ...]]:
    """How far apart peaks are, and half the box around one in voxels."""
    norm = plain_number(p_norm)
    if norm is None or not norm >= 1:
        raise ParameterError(f"{WHAT}: p_norm={brief(p_norm)}: must be a number, 1 or more, or inf")
    shown = ""
    if isinstance(min_distance, str):
        if sampling is not None and not isinstance(sampling, str):
            raise ParameterError(
                f"{WHAT}: min_distance={brief(min_distance)} goes by the image's own voxel size: leave out "
                f"sampling={brief(sampling)}, or give a number"
            )
        if sampling is None:
            sampling, shown = parse_lengths(min_distance, "min_distance")[1], f"min_distance={brief(min_distance)}"
    sizes, unit = (1.0,) * len(hyperstack.spatial_axes(image)), ""
    if sampling is not None:
        sizes, unit = voxel_lengths(sampling, image, WHAT, "sampling", shown)
    length = length_in(min_distance, unit, WHAT, "min_distance")
    if not math.isfinite(length):
        raise ParameterError(
            f"{WHAT}: min_distance={brief(min_distance)}: must be a finite number: for the highest voxel alone, num_peaks=1"
        )
    if sampling is None and (footprint is None or length > 1):
        warn_of_anisotropy(image, WHAT, "sampling")
    return Spacing(sizes, length, norm), tuple(math.floor(rounded(length / s)) for s in sizes)


def _search(
    image: Any,
    footprint: Any,
    half: tuple[int, ...],
    spacing: Spacing,
    exclude_border: Any,
    labelled: bool,
    min_distance: Any,
) -> Search:
    space = hyperstack.spatial_axes(image)
    shape = tuple(int(image.shape[a]) for a in space)
    border = _border(exclude_border, half)
    # points that are too near to each other lie in each other's box: only equal ones then can be
    near = [min(r, n - 1) for r, n in zip(spacing.reach, shape)]
    if footprint is None:
        box = tuple(min(h, n - 1) for h, n in zip(half, shape))
        search = Search(shape, None, box, box, border, labelled, any(near))
    else:
        mask = footprint_of(footprint, image, WHAT, full=True)
        mask = mask.reshape([mask.shape[a] for a in space])
        before, after = tuple(n // 2 for n in mask.shape), tuple(n - n // 2 - 1 for n in mask.shape)
        full = bool(mask.all())
        ties = full and any(near) and all(r <= min(b, a) for r, b, a in zip(near, before, after))
        search = Search(shape, None if full else mask, before, after, border, labelled, ties)
        if labelled and not _without_gaps(mask):
            raise ParameterError(
                f"{WHAT}: the footprint {mask.shape} has gaps: with labels it must hold its middle, and with every voxel those "
                "between it and the middle along each axis; fill it, or leave out labels"
            )
    if search.anything and not any(half) and math.prod(shape) > 1:
        warnings.warn(
            f"{WHAT}: min_distance={brief(min_distance)} is less than a voxel, so every voxel above the threshold is a peak: "
            "for markers give 1 or more, or use morphology.local_maxima",
            BigbiaWarning,
            stacklevel=3,
        )
    return search


def _without_gaps(mask: np.ndarray) -> bool:
    middle = tuple(n // 2 for n in mask.shape)
    good = bool(mask[middle])
    for axis, c in enumerate(middle):
        line = np.moveaxis(mask, axis, 0)
        good = good and bool(line[c:-1][line[c + 1 :]].all()) and bool(line[1 : c + 1][line[:c]].all())
    return good


def _border(given: Any, half: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(given, (bool, np.bool_)):
        return half if given else (0,) * len(half)
    listed = several(given)
    each = [given] * len(half) if listed is None else listed
    good = all(isinstance(n, Integral) and not isinstance(n, bool) and int(n) >= 0 for n in each)
    if len(each) != len(half) or not good:
        raise ParameterError(
            f"{WHAT}: exclude_border={brief(given)}: must be True, False, or whole numbers of voxels, 0 or more: 1 or {len(half)}"
        )
    return tuple(int(n) for n in each)


def _checked_threshold(value: Any, name: str) -> Any:
    if value is None:
        return None
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if is_lazy(value):
        raise ParameterError(f"{WHAT}: {name} is a lazy value: give a number, {name}=float({name}.compute())")
    number = plain_number(value)
    if number is None or number != number or (name != "threshold_abs" and not math.isfinite(number)):
        raise ParameterError(f"{WHAT}: {name}={brief(value)}: must be a number")
    return value


def _count(value: Any, name: str) -> int | None:
    """A number of peaks; None for all."""
    number = plain_number(value)
    if number == math.inf:
        return None
    if number is None or not number >= 0 or number != math.floor(number):
        raise ParameterError(f"{WHAT}: {name}={brief(value)}: must be a whole number, 0 or more, or inf for all")
    return int(number)
