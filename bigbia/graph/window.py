"""A voxel and its neighbourhood: one task a block.

    |hhhh|bbbbbbbb|hhhh|     a task reads its block b and a halo h on each side, straight from the store,
         |bbbbbbbb|          runs the function, and drops the halo

At the image's own border there is no halo, and the function's own rule for the border acts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np

from bigbia import hyperstack
from bigbia.errors import BlockError, ParameterError
from bigbia.graph.footprints import (
    LONGEST,
    brief,
    check_mode,
    dtype_of,
    lengths,
    one_an_axis,
    plain_number,
    real_number,
    several,
    truth,
)
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image, is_lazy, lazy, native
from bigbia.graph.regions import Window

Mode = Literal["nearest", "reflect", "mirror", "constant", "wrap"]  # what lies beyond an image, by SciPy's names
MODES: tuple[str, ...] = get_args(Mode)


def window(
    function: Callable[..., np.ndarray],
    image: Image,
    *,
    halo: float | str | Sequence = 0,
    dtype: Any = None,
    boundary: str = "function",
    cost: float = 10.0,
    workspace: float = 16.0,
    cropping: bool = False,
    **params: Any,
) -> Any:
    """Make a lazy, chunk-invariant operator of any function of a block.

    Parameters
    ----------
    function : callable, ``function(block, **params) -> block``
        Takes a NumPy array and returns one of the same shape. A voxel of the result may depend on voxels at most
        `halo` away and on nothing else: not on the block's shape or place. It must be importable (or picklable by
        cloudpickle) for schedulers with processes. Near the image's border the block ends there, and the function
        decides what lies beyond.
    image : array, any number of axes
        NumPy: the function is called at once. Dask or DataArray: the result is lazy, of the same kind.
    halo : int, sequence, or length with a unit
        How far a voxel looks, in voxels: one number, one a spatial axis, or (before, after) pairs. ``"2 um"`` is
        rounded up. Zero along the t and c of a DataArray.
    dtype : dtype, default that of the image
        What the function returns; checked in every block.
    boundary : {"function", "wrap"}
        ``"wrap"``: the image is periodic and the halo at its border is read from the far side.
    cost, workspace : float
        Estimates for planning: nanoseconds and temporary bytes a voxel.
    cropping : bool
        The function takes ``core=`` (slices) and returns only that part, sparing itself the halo.
    **params
        Passed to the function.

    Returns
    -------
    Array of the same kind and shape.

    Notes
    -----
    Exact if the halo is: the result is then the same for every chunking, to the bit. A halo that is too small is a
    wrong result that depends on the blocks; test with ``np.testing.assert_array_equal`` over two chunkings.

    Examples
    --------
    >>> import dask.array as da, numpy as np
    >>> from scipy import ndimage as ndi
    >>> image = da.from_array(np.arange(25.0).reshape(5, 5), chunks=2)
    >>> bigbia.window(ndi.maximum_filter, image, halo=1, size=3).compute()[0]
    array([6., 7., 8., 9., 9.])
    """
    check_image(image, "window", "biufc")
    if not callable(function):
        raise ParameterError(
            f"window: function={brief(function)} cannot be called: give a function of a block, such as scipy.ndimage.median_filter"
        )
    if not isinstance(boundary, str) or boundary not in ("function", "wrap"):
        raise ParameterError(f'window: boundary={brief(boundary)} is not known: "function" or "wrap"')
    image = native(image)
    kind = _kind(image.dtype if dtype is None else dtype)
    margins = halos(halo, image)
    cost, workspace = (real_number(v, n, "window", least=0) for v, n in ((cost, "cost"), (workspace, "workspace")))
    cropping = truth(cropping, "cropping", "window")
    if not is_lazy(image):
        return _at_once(function, image, margins, kind, boundary == "wrap", params)
    source = lazy(image, "window")
    node = Window(function, source.node, margins, kind, params, boundary == "wrap", cropping, cost, workspace)
    return source.like(node)


def neighbourhood(
    kernel: Callable[..., np.ndarray],
    image: Image,
    what: str,
    *,
    mode: str,
    modes: Sequence[str] = MODES,
    kinds: str = "biuf",
    cval: float = 0.0,
    halo: Any = 0,
    **given: Any,
) -> Any:
    """`window` for our own operators: the image and the mode checked, and a kernel that takes `core`, `mode`, `cval`.

    A periodic image is read on from its far side, so that the kernel never sees its border.
    """
    check_image(image, what, kinds)
    check_mode(mode, what, modes)
    wrap = mode == "wrap"
    if mode == "mirror" and np.ndim(halo) > 0:  # what lies as far beyond the border is as far away on this side of it
        halo = [max(side) if np.ndim(side) else side for side in halo]
    return window(
        kernel,
        image,
        halo=halo,
        boundary="wrap" if wrap else "function",
        cropping=True,
        mode=next(m for m in modes if m != "wrap") if wrap else mode,
        cval=cval,
        **given,
    )


def over_others(function: Any, block: np.ndarray, space: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """A function of images of space, applied at every time and channel of a block."""
    others = [a for a in range(block.ndim) if a not in space]
    if not others:
        return function(block)
    out = np.empty(block.shape, dtype)
    for place in np.ndindex(*(block.shape[a] for a in others)):
        index: list[Any] = [slice(None)] * block.ndim
        for a, i in zip(others, place):
            index[a] = i
        out[tuple(index)] = function(block[tuple(index)])
    return out


def halos(halo: Any, image: Any) -> tuple[tuple[int, int], ...]:
    """(before, after) for every axis of the image."""
    space = hyperstack.spatial_axes(image)
    out = [(0, 0)] * image.ndim
    if isinstance(halo, str):
        return tuple((math.ceil(h), math.ceil(h)) for h in lengths(halo, image, "window", "halo"))
    given = list(halo) if isinstance(halo, np.ndarray) and halo.ndim == 2 else halo
    for axis, h in zip(space, one_an_axis(given, image, "window", "halo", "lengths")):
        pair = several(h)
        sides = [plain_number(n) for n in ([h, h] if pair is None else pair)]
        if len(sides) != 2 or any(n is None or not 0 <= n <= LONGEST or n != int(n) for n in sides):
            raise ParameterError(
                f"window: halo={brief(halo)}: must be whole numbers of voxels, 0 or more and {LONGEST} at most: one, one a "
                "spatial axis, or (before, after) for each"
            )
        before, after = (int(n) for n in sides if n is not None)
        out[axis] = (before, after)
    return tuple(out)


def _kind(dtype: Any) -> np.dtype:
    kind = dtype_of(dtype)
    if kind is None:
        raise ParameterError(f'window: dtype={brief(dtype)} is no dtype: give one such as "float32"')
    return kind.newbyteorder("=")


def _at_once(
    function: Callable, image: np.ndarray, halo: Sequence, dtype: np.dtype, wrap: bool, params: dict
) -> np.ndarray:
    data = np.pad(image, halo, mode="wrap") if wrap else image
    data = data.view()
    data.flags.writeable = False  # as in a block task
    out, expected = function(data, **params), data.shape
    if getattr(out, "shape", None) != expected:
        raise BlockError(
            f"{function.__name__} returned {getattr(out, 'shape', type(out).__name__)} for an image of {expected}"
        )
    if out.dtype != dtype:
        raise BlockError(f"{function.__name__} returned {out.dtype}, declared {dtype}: pass dtype={str(out.dtype)!r}")
    return np.ascontiguousarray(out[tuple(slice(b, b + n) for (b, _), n in zip(halo, image.shape))]) if wrap else out
