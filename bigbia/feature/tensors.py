"""The structure tensor, the Hessian matrix, and their eigenvalues."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Any, Literal

import numpy as np

from bigbia import hyperstack
from bigbia.errors import ParameterError
from bigbia.filters.smooth import gaussian, linear, linear_dtype
from bigbia.graph.boxes import Box
from bigbia.graph.footprints import brief, check_mode, check_reach, lengths, real_number, truth
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image
from bigbia.graph.several import check_same, combined
from bigbia.graph.window import MODES, Mode


def structure_tensor(
    image: Image,
    sigma: float | str | Sequence[float] | Sequence[str] = 1.0,
    *,
    mode: Mode = "constant",
    cval: float = 0.0,
    order: Literal["rc", "xy"] = "rc",
) -> list[Any]:
    """Products of the derivatives along every pair of axes, smoothed: how edges lie around each voxel.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    sigma, mode, cval : as in `gaussian`
        How far the products are smoothed.
    order : {"rc", "xy"}
        First axis first, or, in 2D, last axis first.

    Returns
    -------
    List of arrays: the upper diagonal of the tensor row by row, ``n * (n + 1) / 2`` for n axes of space. float32; float64
    for 32-bit and wider integers and for float64. Derivatives are by voxels.

    Raises
    ------
    ParameterError : what `gaussian` refuses, an unknown order
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Halo: that of the Gaussian and 1 voxel. Equal to the bit to ``skimage.feature.structure_tensor(image.astype(dtype), ...)`` for
    every chunking; integers are not rescaled to 0..1 first.

    Source: Bigun, Granlund, Proc. ICCV 433 (1987).

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((5, 5)); image[2, 2] = 1
    >>> bigbia.feature.structure_tensor(image, sigma=0.1)[0][1]
    array([0., 1., 4., 1., 0.])
    """
    what = "feature.structure_tensor"
    _check(image, what, mode, order)
    sigmas = lengths(sigma, image, what, "sigma")
    cval = real_number(cval, "cval", what, finite=False)
    along = [sigmas[a] for a in hyperstack.spatial_axes(image)]
    derivatives = _in_order([_sobel(image, a, what, mode, cval) for a in hyperstack.spatial_axes(image)], order)
    return [gaussian(a * b, along, mode=mode, cval=cval) for a, b in combinations_with_replacement(derivatives, 2)]


def hessian_matrix(
    image: Image,
    sigma: float | str | Sequence[float] | Sequence[str] = 1.0,
    *,
    mode: Mode = "constant",
    cval: float = 0.0,
    order: Literal["rc", "xy"] = "rc",
    use_gaussian_derivatives: bool = False,
) -> list[Any]:
    """Second derivatives of the smoothed image along every pair of axes.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    sigma, mode, cval : as in `gaussian`
    order : {"rc", "xy"}
        First axis first, or, in 2D, last axis first.
    use_gaussian_derivatives : bool
        Filter with derivatives of Gaussians, twice, instead of taking differences of the smoothed image twice.

    Returns
    -------
    List of arrays: the upper diagonal of the matrix row by row, ``n * (n + 1) / 2`` for n axes of space. float32; float64
    for 32-bit and wider integers and for float64. Derivatives are by voxels.

    Raises
    ------
    ParameterError : what `gaussian` refuses, an unknown order
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    Halo: that of the Gaussian and 2 voxels; with ``use_gaussian_derivatives`` ``2 * int(8 * sigma / sqrt(2) + 0.5)``, and
    100 instead of 8 where a sigma is 1 or less. Equal to the bit to ``skimage.feature.hessian_matrix(image.astype(dtype),
    ...)`` for every chunking; integers are not rescaled to 0..1 first. Along an axis of one voxel the differences are 0
    (scikit-image refuses it).

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((5, 5)); image[2, 2] = 4
    >>> bigbia.feature.hessian_matrix(image, sigma=0.1)[1][1]
    array([ 0.,  1.,  0., -1.,  0.])
    """
    what = "feature.hessian_matrix"
    _check(image, what, mode, order)
    sigmas = lengths(sigma, image, what, "sigma")
    cval = real_number(cval, "cval", what, finite=False)
    space = hyperstack.spatial_axes(image)
    if truth(use_gaussian_derivatives, "use_gaussian_derivatives", what):
        if any(sigmas[a] <= 0 for a in space):
            raise ParameterError(
                f"{what}: sigma={brief(sigma)} must be above 0 along every axis: there is no derivative else"
            )
        truncate = 8.0 if all(sigmas[a] > 1 for a in space) else 100.0
        check_reach([truncate * s for s in sigmas], what, f"sigma={brief(sigma)}")
        scaled = tuple(1 / math.sqrt(2) * s for s in sigmas)
        firsts = _in_order([_derived(image, scaled, a, truncate, what, mode, cval) for a in space], "rc")
        pairs = combinations_with_replacement(_in_order(list(range(len(space))), order), 2)
        return [_derived(firsts[i], scaled, space[j], truncate, what, mode, cval) for i, j in pairs]
    smooth = gaussian(image, [sigmas[a] for a in space], mode=mode, cval=cval)
    firsts = [_difference(smooth, a) for a in space]
    pairs = combinations_with_replacement(_in_order(list(range(len(space))), order), 2)
    return [_difference(firsts[i], space[j]) for i, j in pairs]


def structure_tensor_eigenvalues(A_elems: Sequence[Image]) -> Any:
    """Eigenvalues of the structure tensor at every voxel, largest first.

    Parameters
    ----------
    A_elems : list of arrays
        The upper diagonal, as `structure_tensor` gives it.

    Returns
    -------
    Array with a new first axis, one eigenvalue after the other; of DataArrays one whose channels they are, of every
    channel if there are several.

    Raises
    ------
    InputError, ParameterError : arrays of different shapes, or as many as no matrix has

    Notes
    -----
    Halo: none. Equal to the bit to scikit-image in 1D and 2D; in 3D by a formula in double precision (Smith, Comm. ACM
    4:168, 1961), within 1e-6 of the largest eigenvalue, as scikit-image's own are in float32; 15 times faster.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((5, 5)); image[2, 2] = 1
    >>> bigbia.feature.structure_tensor_eigenvalues(bigbia.feature.structure_tensor(image, sigma=0.1))[0][1]
    array([0., 2., 4., 2., 0.])
    """
    return _eigenvalues(A_elems, "feature.structure_tensor_eigenvalues", "A_elems")


def hessian_matrix_eigvals(H_elems: Sequence[Image]) -> Any:
    """Eigenvalues of the Hessian matrix at every voxel, largest first.

    Parameters
    ----------
    H_elems : list of arrays
        The upper diagonal, as `hessian_matrix` gives it.

    Returns
    -------
    Array with a new first axis, and its exactness: as `structure_tensor_eigenvalues`.

    Raises
    ------
    InputError, ParameterError : arrays of different shapes, or as many as no matrix has

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((5, 5)); image[2, 2] = 4
    >>> bigbia.feature.hessian_matrix_eigvals(bigbia.feature.hessian_matrix(image, sigma=0.1))[0][1]
    array([0., 1., 0., 1., 0.])
    """
    return _eigenvalues(H_elems, "feature.hessian_matrix_eigvals", "H_elems")


def _check(image: Any, what: str, mode: str, order: str) -> None:
    check_image(image, what)
    check_mode(mode, what, MODES)
    n = len(hyperstack.spatial_axes(image))
    if not isinstance(order, str) or order not in ("rc", "xy"):
        raise ParameterError(f'{what}: order={brief(order)} is not known: "rc" or "xy"')
    if order == "xy" and n > 2:
        raise ParameterError(f'{what}: order="xy" is for 2 axes of space, the image has {n}: leave it out')


def _in_order(items: list, order: str) -> list:
    return items[::-1] if order == "xy" else items


def _sobel(image: Any, axis: int, what: str, mode: str, cval: float) -> Any:
    from bigbia.kernels.tensors import sobel_along

    dtype = linear_dtype(image.dtype)
    space = hyperstack.spatial_axes(image)
    return linear(
        sobel_along,
        image,
        what,
        mode=mode,
        cval=cval,
        halo=1,
        cost=2.0 * len(space),
        workspace=2.0 * dtype.itemsize,
        axis=axis,
        axes=space,
    )


def _derived(image: Any, sigmas: Sequence[float], axis: int, truncate: float, what: str, mode: str, cval: float) -> Any:
    """The first derivative along an axis of the image smoothed along all."""
    from bigbia.kernels.gaussian import gaussian as kernel
    from bigbia.kernels.gaussian import radius

    dtype = linear_dtype(image.dtype)
    space = hyperstack.spatial_axes(image)
    return linear(
        kernel,
        image,
        what,
        mode=mode,
        cval=cval,
        halo=[radius(sigmas[a], truncate) for a in space],
        cost=3.0 * len(space),
        workspace=2.0 * dtype.itemsize,
        sigma=tuple(sigmas),
        order=tuple(int(a == axis) for a in range(image.ndim)),
        truncate=truncate,
    )


def _difference(image: Any, axis: int) -> Any:
    from bigbia.graph.window import window
    from bigbia.kernels.tensors import gradient

    space = hyperstack.spatial_axes(image)
    return window(gradient, image, halo=[int(a == axis) for a in space], cost=2.0, workspace=0.0, axis=axis)


def _eigenvalues(elements: Sequence[Any], what: str, name: str) -> Any:
    if not isinstance(elements, (list, tuple)) or not elements:
        raise ParameterError(
            f"{what}: {name}={brief(elements)} is empty or no list: give the list of arrays of the operator before"
        )
    for e in elements:
        check_image(e, f"{what}: {name}")
    check_same(elements, what, name)
    n = (math.isqrt(8 * len(elements) + 1) - 1) // 2
    if n * (n + 1) // 2 != len(elements):
        raise ParameterError(
            f"{what}: {name} has {len(elements)} arrays, a matrix has 1, 3, 6, 10 ...: give all of them"
        )
    if n > 1 and n != len(hyperstack.spatial_axes(elements[0])):
        raise ParameterError(
            f"{what}: {name} has {len(elements)} arrays, a matrix of {n} rows, the image "
            f"{len(hyperstack.spatial_axes(elements[0]))} axes of space: give the matrix of this image"
        )
    dtype = np.result_type(*(linear_dtype(e.dtype) for e in elements))
    return combined(
        _eigenvalues_of,
        elements,
        what,
        dtype=dtype,
        names=[f"eigenvalue {k}" for k in range(n)],
        cost=15.0 * n,
        workspace=1.2 * dtype.itemsize * len(elements),
        output=dtype,
    )


def _eigenvalues_of(blocks: Sequence[np.ndarray], box: Box, core: tuple, output: np.dtype) -> np.ndarray:
    from bigbia.kernels.tensors import eigenvalues

    return eigenvalues([b[core].astype(output, copy=False) for b in blocks])
