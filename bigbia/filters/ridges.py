"""Ridges: vessels, neurites, filaments, by the eigenvalues of the Hessian at several scales."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement
from numbers import Real
from typing import Any

import numpy as np

from bigbia import hyperstack
from bigbia.errors import ParameterError
from bigbia.feature.tensors import hessian_matrix
from bigbia.filters.smooth import linear_dtype
from bigbia.graph.boxes import Box
from bigbia.graph.footprints import brief, check_mode, check_reach, lengths, real_number, several, truth
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image, is_lazy, lazy
from bigbia.graph.reduce import Pass, Reduce, Summary, extremes, join_extremes
from bigbia.graph.several import combined
from bigbia.graph.window import MODES, Mode

SIGMAS = (1, 3, 5, 7, 9)
PIECE = 1 << 15  # voxels worked on together


def sato(
    image: Image,
    sigmas: Sequence[float] | Sequence[str] = SIGMAS,
    *,
    black_ridges: bool = True,
    mode: Mode = "reflect",
    cval: float = 0.0,
) -> Any:
    """Tubeness by Sato: the geometric mean of the curvatures across a ridge, the greatest over all scales.

    Parameters
    ----------
    image : array of bool, integers or floats, 2 or 3 axes of space
    sigmas : sequence of numbers, or of lengths with a unit
        Standard deviations of the Gaussians, in voxels. With a unit, ``["0.5 um", "1 um"]``, the ridges may run in any
        direction through voxels that are longer along one axis: curvatures are then by voxels of the last axis.
    black_ridges : bool
        Look for dark ridges; for bright ones if False.
    mode, cval : as in `gaussian`

    Returns
    -------
    float32 array of the same shape; float64 for 32-bit and wider integers and for float64.

    Raises
    ------
    ParameterError : no sigma, one that is not above 0, an image of 1 or more than 3 axes of space, unknown mode
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Halo: ``2 * int(8 * sigma / sqrt(2) + 0.5)`` for the largest sigma, 11 times it, and as much as for 12 where a sigma is 1 or
    less: large blocks are worth their memory. As ``skimage.filters.sato(image.astype(dtype), ...)`` for every chunking: to the
    bit in 2D, in 3D as near as the eigenvalues (`bigbia.feature.hessian_matrix_eigvals`). Integers are not rescaled.

    Source: Sato et al., Medical Image Analysis 2:143 (1998).

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((9, 9)); image[4] = 8
    >>> bigbia.filters.sato(image, [1], black_ridges=False)[2:7, 4].round(1)
    array([0. , 0.3, 2.8, 0.3, 0. ])
    """
    what = "filters.sato"
    floats, scales = _prepared(image, sigmas, black_ridges, mode, what)
    cval = real_number(cval, "cval", what, finite=False)
    each = [_voxelwise(_tubeness, _hessian(floats, s, mode, cval), what, sigma=s[-1]) for s in scales]
    return _greatest(each)


def meijering(
    image: Image,
    sigmas: Sequence[float] | Sequence[str] = SIGMAS,
    alpha: float | None = None,
    *,
    black_ridges: bool = True,
    mode: Mode = "reflect",
    cval: float = 0.0,
) -> Any:
    """Neuriteness by Meijering: the greatest curvature less that along the ridge, 1 at its greatest in the image.

    Parameters
    ----------
    image : array of bool, integers or floats, 2 or 3 axes of space
    sigmas, black_ridges, mode, cval : as in `sato`
    alpha : float, default ``1 / (axes of space + 1)``
        How much of the other curvatures is added.

    Returns
    -------
    As `sato`, from 0 to 1: every scale is divided by its greatest value in the image, or in each time and channel of a
    DataArray.

    Raises
    ------
    What `sato` raises.

    Notes
    -----
    Halo: that of `sato`. The greatest values are found before, block by block, so that the image is read more than once;
    what is computed is kept in scratch meanwhile. As ``skimage.filters.meijering(image.astype(dtype), ...)`` within 1e-5.

    Source: Meijering et al., Cytometry A 58:167 (2004).

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((9, 9)); image[4] = 8
    >>> bigbia.filters.meijering(image, [1], black_ridges=False)[2:7, 4].round(1)
    array([0. , 0.1, 1. , 0.1, 0. ])
    """
    what = "filters.meijering"
    floats, scales = _prepared(image, sigmas, black_ridges, mode, what)
    cval = real_number(cval, "cval", what, finite=False)
    part = 1 / (len(hyperstack.spatial_axes(image)) + 1) if alpha is None else real_number(alpha, "alpha", what)
    each = []
    for s in scales:
        found = _voxelwise(_neuriteness, _hessian(floats, s, mode, cval), what, alpha=part)
        most = _most(found, what)
        each.append(found / (most + (most == 0)))  # nothing is divided where nothing is found
    return _greatest(each)


def frangi(
    image: Image,
    sigmas: Sequence[float] | Sequence[str] = SIGMAS,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    gamma: float | None = None,
    black_ridges: bool = True,
    mode: Mode = "reflect",
    cval: float = 0.0,
) -> Any:
    """Vesselness by Frangi: how much a ridge is a tube, not a plate, not a blob, and not noise.

    Parameters
    ----------
    image : array of bool, integers or floats, 2 or 3 axes of space
    sigmas, black_ridges, mode, cval : as in `sato`
    alpha, beta : float
        How strictly plates and blobs are told from tubes.
    gamma : float, default half of the greatest norm of the Hessian in the image, at the first of the sigmas
        How strong a ridge must be. The default is of each time and channel of a DataArray by itself.

    Returns
    -------
    As `sato`, from 0 to 1.

    Raises
    ------
    ParameterError : alpha, beta or gamma that is not above 0; and what `sato` raises

    Notes
    -----
    Halo: that of `sato`. Without `gamma` the Hessian is computed at the first sigma for all blocks before anything else. As
    ``skimage.filters.frangi(image.astype(dtype), ...)`` for every chunking: to the bit in 2D; in 3D as near as the
    eigenvalues, but where two of them are of nearly one size and of opposite sign, which of them counts as the smaller one
    is decided by their last digits, here and there.

    Source: Frangi et al., MICCAI 1998, 130.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((9, 9)); image[4] = 8
    >>> bigbia.filters.frangi(image, [1], black_ridges=False)[2:7, 4].round(1)
    array([0.4, 0. , 0.9, 0. , 0.4])
    """
    what = "filters.frangi"
    alpha, beta = (real_number(v, n, what, above=0, finite=False) for n, v in (("alpha", alpha), ("beta", beta)))
    if gamma is not None:
        gamma = real_number(gamma, "gamma", what, above=0, finite=False)
    floats, scales = _prepared(image, sigmas, black_ridges, mode, what)
    cval = real_number(cval, "cval", what, finite=False)
    each = []
    strength: Any = gamma
    for s in scales:
        elements = _hessian(floats, s, mode, cval)
        norm = _voxelwise(_norm, elements, what)
        if strength is None:
            strength = _most(norm, what) / 2
            strength = strength + (strength == 0)
        shape = _voxelwise(_vessel, elements, what, alpha=alpha, beta=beta)
        each.append(shape * (1 - np.exp(-(norm**2) / (2 * strength**2))))
    return _greatest(each)


def _prepared(image: Any, sigmas: Any, black_ridges: bool, mode: str, what: str) -> tuple[Any, list[list[float]]]:
    """The image as floats, with ridges that are dark, and the sigmas along the axes of space, scale by scale."""
    check_image(image, what)
    check_mode(mode, what, MODES)
    space = hyperstack.spatial_axes(image)
    if len(space) not in (2, 3):
        raise ParameterError(f"{what}: the image has {len(space)} axes of space: ridges are found in 2 or 3")
    scales = []
    black_ridges = truth(black_ridges, "black_ridges", what)
    each = several(sigmas)
    for sigma in [sigmas] if each is None else each:
        if not isinstance(sigma, (Real, str)):
            raise ParameterError(f"{what}: sigmas={brief(sigmas)}: one number, or a length with a unit, for each scale")
        along = lengths(sigma, image, what, "sigmas")
        scales.append([along[a] for a in space])
        check_reach([16 * s / 2**0.5 for s in along], what, f"sigmas={brief(sigmas)}")
    if not scales:
        raise ParameterError(f"{what}: sigmas={brief(sigmas)}: give at least one")
    if min(min(s) for s in scales) <= 0:
        raise ParameterError(f"{what}: sigmas={brief(sigmas)} must all be above 0")
    floats = image.astype(linear_dtype(image.dtype))
    return (floats if black_ridges else -floats), scales


def _hessian(image: Any, sigmas: Sequence[float], mode: Any, cval: float) -> list[Any]:
    """The Hessian by voxels of the last axis."""
    elements = hessian_matrix(image, sigmas, mode=mode, cval=cval, use_gaussian_derivatives=True)
    steps = [s / sigmas[-1] for s in sigmas]
    pairs = combinations_with_replacement(range(len(steps)), 2)
    return [e if steps[i] * steps[j] == 1 else e * (steps[i] * steps[j]) for e, (i, j) in zip(elements, pairs)]


def _voxelwise(function: Callable, elements: Sequence[Any], what: str, **how: Any) -> Any:
    return combined(
        _of_eigenvalues,
        elements,
        what,
        dtype=elements[0].dtype,
        cost=80.0,
        workspace=2.0 * elements[0].dtype.itemsize,
        function=function,
        **how,
    )


def _of_eigenvalues(
    blocks: Sequence[np.ndarray], box: Box, core: tuple[slice, ...], function: Callable, **how: Any
) -> np.ndarray:
    """Slab by slab, so that what the formulas make on their way stays in the cache."""
    from bigbia.kernels.tensors import eigenvalues

    parts = [b[core] for b in blocks]
    out = np.empty(parts[0].shape, parts[0].dtype)
    thick = max(1, PIECE // max(1, out[:1].size))
    for a in range(0, len(out), thick):
        out[a : a + thick] = function(eigenvalues([p[a : a + thick] for p in parts]), **how)
    return out


def _tubeness(values: np.ndarray, sigma: float) -> np.ndarray:
    across = np.maximum(values[:-1], 0)
    return sigma**2 * np.prod(across, 0) ** (1 / len(across))


def _neuriteness(values: np.ndarray, alpha: float) -> np.ndarray:
    best = np.zeros(values.shape[1:], values.dtype)
    for k in range(len(values)):
        others = sum(values[j] for j in range(len(values)) if j != k)
        mixed = values[k] + values.dtype.type(alpha) * others
        np.copyto(best, mixed, where=np.abs(mixed) > np.abs(best))
    return np.maximum(best, 0, out=best)


def _norm(values: np.ndarray) -> np.ndarray:
    ordered = np.take_along_axis(values, np.abs(values).argsort(0), 0)
    return np.sqrt((ordered**2).sum(0))


def _vessel(values: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """How little of a plate and of a blob there is, where the curvatures across are those of a ridge."""
    dtype = values.dtype
    values = np.take_along_axis(values, np.abs(values).argsort(0), 0)
    least = np.abs(values[0])
    across = np.maximum(values[1:], 1e-10)
    if len(across) == 1:
        blob = least / across[0]
        return np.exp(-(blob**2) / (2 * beta**2), dtype=dtype)
    blob = least / np.sqrt(across[0] * across[1])
    out = 1.0 - np.exp(-((across[0] / across[1]) ** 2) / (2 * alpha**2), dtype=dtype)
    out *= np.exp(-(blob**2) / (2 * beta**2), dtype=dtype)
    return out


def _greatest(each: Sequence[Any]) -> Any:
    found = each[0]
    for other in each[1:]:
        found = np.maximum(found, other)
    return np.maximum(found, 0)


def _most(image: Any, what: str) -> Any:
    """The greatest value of an image, of each time and channel of a DataArray."""
    if not is_lazy(image):
        return image.max()
    source = lazy(image, what)
    stages = [
        Reduce(what, part.node, part.grid, [Pass(extremes, join_extremes)], _high, read_again=True)
        for _, part in source.each()
    ]
    return source.like_over(source.joined([s.output("high", (), image.dtype) for s in stages]))


def _high(found: Summary) -> Summary:
    return {"high": np.asarray(found["high"])}
