"""Blobs: bright spots of any size, found as peaks of a scale space."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from bigbia import hyperstack
from bigbia.errors import ParameterError
from bigbia.feature.search import Threshold
from bigbia.filters.gaussians import gaussian_laplace
from bigbia.filters.smooth import gaussian, linear_dtype
from bigbia.graph.boxes import Grid, slices, whole
from bigbia.graph.dask import Chunks
from bigbia.graph.footprints import brief, check_reach, lengths, one_an_axis, plain_number, real_number, truth
from bigbia.graph.greedy import of, steps_of
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image, is_lazy, lazy
from bigbia.graph.overlaps import InScales, Overlaps, Scales, by_response, ends_of, find, range_of, raster
from bigbia.graph.points import Listed, all_rows
from bigbia.graph.reduce import extremes
from bigbia.graph.regions import Literal, Node
from bigbia.measure.properties import channel_name

MOST = 1000  # scales


def blob_log(
    image: Image,
    min_sigma: float | str | Sequence[float] | Sequence[str] = 1,
    max_sigma: float | str | Sequence[float] | Sequence[str] = 50,
    num_sigma: int = 10,
    threshold: float | None = 0.2,
    overlap: float = 0.5,
    log_scale: bool = False,
    *,
    threshold_rel: float | None = None,
    exclude_border: bool | int | Sequence[int] = False,
) -> Any:
    """Find bright blobs and how large they are, by the Laplacian of Gaussians.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    min_sigma, max_sigma : numbers, sequences, or lengths with a unit
        The smallest and the largest blobs: standard deviations of the Gaussians in voxels, one for all spatial axes or
        one each; or as text, ``"0.5 um"``, by the voxel size.
    num_sigma : int
        How many sigmas from one to the other, both included.
    threshold : number or None
        Blobs are above it: least response, in the values of the image. None: above the lowest response.
    overlap : number from 0 to 1
        Of two blobs that share more than this of the smaller one's volume only one stays.
    log_scale : bool
        The sigmas grow by equal factors in place of equal steps.
    threshold_rel : number, optional
        Blobs are also above this fraction of the highest response of the image.
    exclude_border : False, int, or one int a spatial axis
        No blobs whose centre is so near to the image's border, in voxels.

    Returns
    -------
    For a NumPy image a float64 array, one row a blob: its place along each axis, then its sigma; one sigma an axis unless
    `min_sigma` and `max_sigma` are single numbers. Highest response first, equal ones in raster order. Otherwise a lazy
    dask.dataframe with the same rows in the same order: ``axis-0``, ``axis-1``, ..., ``sigma`` (or ``sigma-0``, ...) and
    ``response``. Images with t or c have rows for each of them and columns ``t``, ``c``. Sigmas are in voxels.

    Raises
    ------
    ParameterError : sigmas that are not above 0, max_sigma below min_sigma, an overlap that is not 0 to 1, a negative
    border, a threshold that is no number, a unit where the image has no voxel size
    InputError : complex or object voxels, an empty axis
    BlockError : NaN or infinite voxels, with the first; when it is computed

    Notes
    -----
    The response to a sigma is ``-gaussian_laplace(image, sigma) * mean(sigma)**2``; a blob is a voxel whose response is
    that of none of its neighbours, diagonal ones and those of the next smaller and larger sigma included, exceeded. These are
    the blobs of ``skimage.feature.blob_log(image.astype(dtype))`` before it drops overlapping ones, to the bit: `dtype`
    is that of `gaussian`, and integers are not rescaled to 0..1, so `threshold` is in the image's own values.

    Overlaps: a blob has the radius ``sigma * sqrt(axes)``. The blob of the largest sigma is taken first, of equal ones that
    of the higher response, of those the first in raster order; a blob stays unless it shares more than `overlap` of its
    area (2 axes), volume (3) or length (1) with one that stays. Above 3 axes none goes. scikit-image drops one of each
    pair in an order that is not defined, also for the sake of blobs that it drops itself, and so can leave fewer.

    Halo: that of `gaussian_laplace` for `max_sigma`, and a voxel: four times `max_sigma`, so give the largest that there
    is. Where margins that wide would be most of the work, each second derivative is taken axis by axis through scratch,
    with the same bits. A task holds its block once for each sigma, an image that is given as NumPy array as well. A block
    finds its blobs, and these are dropped in rounds between blocks; with `threshold_rel`, or `threshold` None, the responses
    are computed twice. Times and channels of a DataArray each by itself.

    Source: Lindeberg, Int. J. Comput. Vis. 30:79 (1998).

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[:40, :40]
    >>> image = 9 * np.exp(-((y - 12) ** 2 + (x - 25) ** 2) / (2 * 3.0**2))
    >>> blob_log(image, min_sigma=1, max_sigma=5, num_sigma=5, threshold=2)
    array([[12., 25.,  3.]])
    """
    what = "feature.blob_log"
    check_image(image, what)
    low, high, each = _range(min_sigma, max_sigma, image, what)
    if not isinstance(num_sigma, Integral) or isinstance(num_sigma, bool) or not 1 <= num_sigma <= MOST:
        raise ParameterError(f"{what}: num_sigma={brief(num_sigma)} must be a whole number from 1 to {MOST}")
    if truth(log_scale, "log_scale", what):
        sigmas = np.logspace(np.log10(low), np.log10(high), int(num_sigma))
    else:
        sigmas = np.linspace(low, high, int(num_sigma))
    scales = Scales(
        what,
        _shape(image),
        tuple(tuple(map(float, s)) for s in sigmas),
        tuple(-float(np.mean(s) ** 2) for s in sigmas),
        False,
        _border(exclude_border, image, what),
        linear_dtype(image.dtype).str,
    )
    pruning = _pruning(scales, overlap)
    limit = Threshold(_number(threshold, "threshold", what), _number(threshold_rel, "threshold_rel", what))
    filters = [functools.partial(_laplace, image, s, what) for s in scales.sigmas]
    return _blobs(image, filters, scales, pruning, limit, each)


def blob_dog(
    image: Image,
    min_sigma: float | str | Sequence[float] | Sequence[str] = 1,
    max_sigma: float | str | Sequence[float] | Sequence[str] = 50,
    sigma_ratio: float = 1.6,
    threshold: float | None = 0.5,
    overlap: float = 0.5,
    *,
    threshold_rel: float | None = None,
    exclude_border: bool | int | Sequence[int] = False,
) -> Any:
    """Find bright blobs and how large they are, by differences of Gaussians.

    Parameters
    ----------
    image, min_sigma, max_sigma, threshold, overlap, threshold_rel, exclude_border : as in `blob_log`
    sigma_ratio : number above 1
        Each sigma is this many times the one before, from `min_sigma` on as long as it is not above `max_sigma`.

    Returns
    -------
    As of `blob_log`.

    Raises
    ------
    ParameterError : a sigma_ratio that is not above 1, and what `blob_log` refuses
    InputError : complex or object voxels, an empty axis
    BlockError : NaN or infinite voxels, with the first; when it is computed

    Notes
    -----
    The response to a sigma is ``(gaussian(image, sigma) - gaussian(image, sigma * ratio)) / (ratio - 1)``, with
    ``mode="reflect"``; a Gaussian is needed of one sigma more than blobs have. All else as in `blob_log`, with scikit-image's
    ``blob_dog`` in place of its ``blob_log``; faster, as a Gaussian is less work than a Laplacian.

    Source: Lowe, Int. J. Comput. Vis. 60:91 (2004).

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[:40, :40]
    >>> image = 9 * np.exp(-((y - 12) ** 2 + (x - 25) ** 2) / (2 * 3.0**2))
    >>> blob_dog(image, min_sigma=1, max_sigma=5, threshold=2)
    array([[12.  , 25.  ,  2.56]])
    """
    what = "feature.blob_dog"
    check_image(image, what)
    low, high, each = _range(min_sigma, max_sigma, image, what)
    ratio = real_number(sigma_ratio, "sigma_ratio", what, above=1)
    count = int(np.mean(np.log(high / low) / np.log(ratio) + 1))
    if count > MOST:
        raise ParameterError(
            f"{what}: sigma_ratio={brief(sigma_ratio)} makes {count} sigmas, at most {MOST}: give a larger one"
        )
    sigmas = [low * (ratio**i) for i in range(count + 1)]
    said = f"sigma_ratio={brief(sigma_ratio)}, max_sigma={brief(max_sigma)}"
    check_reach([4 * float(s) for s in sigmas[-1]], what, said)
    scales = Scales(
        what,
        _shape(image),
        tuple(tuple(map(float, s)) for s in sigmas[:-1]),
        (1 / (ratio - 1),) * count,
        True,
        _border(exclude_border, image, what),
        linear_dtype(image.dtype).str,
    )
    pruning = _pruning(scales, overlap)
    limit = Threshold(_number(threshold, "threshold", what), _number(threshold_rel, "threshold_rel", what))
    filters = [functools.partial(gaussian, image, [float(v) for v in s], mode="reflect") for s in sigmas]
    return _blobs(image, filters, scales, pruning, limit, each)


def _blobs(
    image: Any,
    filters: Sequence[Callable[[], Any]],
    scales: Scales,
    pruning: Overlaps,
    threshold: Threshold,
    each: bool,
) -> Any:
    if not is_lazy(image):
        if image.dtype.kind == "f":
            scales.check(image, whole(image.shape))
        return _at_once([f() for f in filters], scales, pruning, threshold, each)
    from bigbia.graph.table import Part, TableGraph

    source = lazy(image, scales.what)
    several = [lazy(f(), scales.what) for f in filters]
    live = functools.reduce(lambda a, b: a | dict(b.live), several, dict(source.live))
    frame = BlobFrame(scales, each)
    parts = []
    for (where, alone), *responses in zip(source.each(), *(s.each() for s in several)):
        images = [r.node for _, r in responses]
        if alone.node.dtype.kind == "f":
            images.append(alone.node)  # NaN is looked for in it
        grid = Grid(((len(scales.sigmas),), *alone.grid.chunks))
        values = _limits(images, scales, threshold, grid.chunks)
        finder = functools.partial(find, scales=scales)
        points = InScales("blobs", images, values, grid, pruning, finder, never_all=math.prod(grid.shape) > 1)
        rows = functools.partial(by_response, shape=grid.shape)
        said = {k: channel_name(source.template, i) if k == "c" else i for k, i in where.items()}
        parts.append(Part(Listed("list blobs", points, rows, all_rows), frame, said, where))
    return TableGraph(parts, live, {}).as_dataframe()


def _at_once(
    filtered: Sequence[np.ndarray],
    scales: Scales,
    pruning: Overlaps,
    threshold: Threshold,
    each: bool,
) -> np.ndarray:
    """The blobs of an image that is at hand, as rows of places and sigmas."""
    box, shape = whole(scales.shape), (len(scales.sigmas), *scales.shape)
    if threshold.needs_range:
        ends = extremes(ends_of(filtered, box, slices(box), scales=scales), box)
        values = threshold(scales.dtype, ends["low"], ends["high"])
    else:
        values = threshold(scales.dtype, 0, 0)
    points, _, everywhere = find(filtered, box, [np.asarray(v) for v in values], scales=scales)
    if everywhere and math.prod(shape) > 1:
        points = of(points, np.zeros(len(points["place"]), bool))
    points = pruning.spaced(points, shape)
    points = of(points, np.lexsort((raster(points["place"], shape), points["order"])))
    return np.hstack(_places_and_sigmas(points["place"], scales, each)).astype(np.float64)


def _laplace(image: Any, sigmas: Sequence[float], what: str) -> Any:
    """`gaussian_laplace`; where the margins would be most of the work axis by axis, as `gaussian` does it."""
    from bigbia.filters.wide import axis_by_axis, is_wide
    from bigbia.kernels.gaussian import gaussian as kernel
    from bigbia.kernels.gaussian import radius

    space = hyperstack.spatial_axes(image)
    full = [0.0] * image.ndim
    for a, s in zip(space, sigmas):
        full[a] = s
    halo = [radius(s, 4.0) for s in full]
    if not is_lazy(image) or not is_wide(image, halo, what):
        return gaussian_laplace(image, list(sigmas))
    dtype = linear_dtype(image.dtype)
    how: dict[str, Any] = {"halo": halo, "sigma": full, "dtype": dtype, "truncate": 4.0, "mode": "reflect", "cval": 0.0}
    seconds = [tuple(2 if b == a else 0 for b in range(image.ndim)) for a in space]
    parts = [axis_by_axis(kernel, image, what, order=order, **how) for order in seconds]
    return functools.reduce(lambda a, b: a + b, parts)


# ---- how high --------------------------------------------------------------------------------------------------------
def _limits(images: Sequence[Node], scales: Scales, threshold: Threshold, chunks: Chunks) -> list[Node]:
    """What blobs respond at least, and whether anything does."""
    if not threshold.needs_range:
        return [Literal(np.asarray(v)) for v in threshold(scales.dtype, 0, 0)]
    stage = range_of(images, scales, chunks, threshold.of_range)
    return [stage.output("least", (), scales.dtype), stage.output("some", (), np.dtype(bool))]


# ---- rows ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class BlobFrame:
    """Rows -> the frame of blobs."""

    scales: Scales
    each: bool

    def __call__(self, rows: Any) -> Any:
        import pandas as pd

        from bigbia.kernels.peaks import values_of

        if rows is None:
            rows = {"place": np.zeros(0, np.int64), "order": np.zeros(0, np.uint64)}
        at, sigmas = _places_and_sigmas(rows["place"], self.scales, self.each)
        columns = {f"axis-{a}": column for a, column in enumerate(at.T)}
        columns |= {f"sigma-{a}" if self.each else "sigma": column for a, column in enumerate(sigmas.T)}
        columns["response"] = values_of(~rows["order"], self.scales.dtype)
        return pd.DataFrame(columns)


def _places_and_sigmas(place: np.ndarray, scales: Scales, each: bool) -> tuple[np.ndarray, np.ndarray]:
    at = steps_of(place, (len(scales.sigmas), *scales.shape))
    shown = np.array([[float(str(scales.dtype.type(s))) for s in several] for several in scales.sigmas])
    sigmas = shown[at[:, 0]]  # 1.6, of a float32 also
    return at[:, 1:], sigmas if each else sigmas[:, :1]


# ---- what is asked for -----------------------------------------------------------------------------------------------
def _shape(image: Any) -> tuple[int, ...]:
    return tuple(int(image.shape[a]) for a in hyperstack.spatial_axes(image))


def _range(min_sigma: Any, max_sigma: Any, image: Any, what: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """The least and the largest sigmas, of the dtype that is computed in; whether each axis has its own."""
    space = hyperstack.spatial_axes(image)
    ends = []
    for given, name in ((min_sigma, "min_sigma"), (max_sigma, "max_sigma")):
        along = lengths(given, image, what, name)
        ends.append(np.array([along[a] for a in space], linear_dtype(image.dtype)))
    if not (ends[0] > 0).all():
        raise ParameterError(f"{what}: min_sigma={brief(min_sigma)} must be above 0 along every axis: give 0.5 or more")
    if (ends[1] < ends[0]).any():
        raise ParameterError(
            f"{what}: max_sigma={brief(max_sigma)} is below min_sigma={brief(min_sigma)}: exchange them"
        )
    each = not all(isinstance(s, Real) for s in (min_sigma, max_sigma))
    return ends[0], ends[1], each


def _pruning(scales: Scales, overlap: Any) -> Overlaps:
    share = plain_number(overlap)
    if share is None or not 0 <= share <= 1:
        raise ParameterError(f"{scales.what}: overlap={brief(overlap)} must be a number from 0 to 1")
    return Overlaps((), 0.0, sigmas=scales.sigmas, overlap=float(share))


def _border(given: Any, image: Any, what: str) -> tuple[int, ...]:
    ndim = len(hyperstack.spatial_axes(image))
    if given is False:
        return (0,) * ndim
    several = one_an_axis(given, image, what, "exclude_border")
    if not all(isinstance(n, Integral) and not isinstance(n, bool) and int(n) >= 0 for n in several):
        raise ParameterError(
            f"{what}: exclude_border={brief(given)} must be False, or whole numbers of voxels, 0 or more: 1 or {ndim}"
        )
    return tuple(int(n) for n in several)


def _number(value: Any, name: str, what: str) -> float | None:
    return None if value is None else real_number(value, name, what)
