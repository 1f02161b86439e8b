"""A part of an image: channels, times, regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bigbia import hyperstack
from bigbia.arrange.places import Asked, names_of, place_of
from bigbia.errors import ParameterError
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import check_image, is_lazy, lazy

Place = int | str | slice | None


def select(
    image: Image,
    *,
    t: Place = None,
    c: int | str | slice | Sequence[int | str] | None = None,
    z: Place = None,
    y: Place = None,
    x: Place = None,
) -> Any:
    """Take a part of an image: channels by name, times, regions by voxel or by length.

    Parameters
    ----------
    image : array of bool, integers or floats, any number of axes
    t, z, y, x : int, str or slice, optional
        Along this axis one place, ``3``, after which the axis is gone; or a run of places, ``"100:200"`` or
        ``slice(100, 200)``, the last one not among them; ``"0:100:2"`` takes every second. With a unit, ``"10 um:50 um"``,
        the voxels whose coordinates lie there, and ``"12 um"`` the nearest. None: all of it.
    c : int, str, slice or a list, optional
        A channel by its name or by its number from 0, after which the axis is gone; a list of them, in its order, or
        a run, ``"0:2"``, which keep the axis.

    Returns
    -------
    Array of the same kind and dtype. What is left keeps its coordinates, so a region stays at its place in the whole.
    The axes of a plain array of up to three are z, y, x.

    Raises
    ------
    ParameterError : an axis, channel or place that the image does not have; an empty part; a length along an axis
        without a unit; nothing asked for
    InputError : complex or object voxels, an empty axis

    Notes
    -----
    A view: one task a block, which reads the part and nothing around it. A filter after it reads no voxels beyond its
    border, as of an image that ends there.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.arange(12).reshape(3, 4)
    >>> bigbia.select(image, y=1, x="1:3")
    array([5, 6])
    >>> stack = bigbia.hyperstack.hyperstack(np.zeros((2, 3, 4)), "cyx", channels=["DAPI", "GFP"])
    >>> bigbia.select(stack, c="GFP").dims
    ('y', 'x')
    """
    check_image(image, "select")
    asked = {axis: given for axis, given in zip("tczyx", (t, c, z, y, x)) if given is not None}
    names = names_of(image)
    if not names:
        raise ParameterError(
            f"select: a plain array of {image.ndim} axes has no names for them: "
            'make it an image first, bigbia.hyperstack.hyperstack(array, "czyx")'
        )
    known = ", ".join(names)
    if not asked:
        raise ParameterError(f"select: nothing is asked for: say a part of an axis, z=3 or z='0:10'; there are {known}")
    chosen: dict[int, int | range | list[int]] = {}
    for axis, given in asked.items():
        if axis not in names:
            from bigbia.graph.footprints import brief

            raise ParameterError(f"select: {axis}={brief(given)}: the image has no axis {axis}: it has {known}")
        at = names.index(axis)
        chosen[at] = place_of(Asked(axis, given, image.shape[at], image))
    if not is_lazy(image):
        index = tuple(_index(chosen[a]) if a in chosen else slice(None) for a in range(image.ndim))
        return np.asarray(image[index])  # one list at most: the channels, which a plain array does not have
    return _lazily(image, chosen)


def _index(place: int | range | list[int]) -> Any:
    return slice(place.start, place.stop, place.step) if isinstance(place, range) else place


def _lazily(image: Any, chosen: dict[int, int | range | list[int]]) -> Any:
    from bigbia.graph.arranged import selected
    from bigbia.graph.dask import as_array

    source = lazy(image, "select")
    node, chunks = selected(source.node, source.chunks, chosen)
    array = as_array(node, chunks, source.live)
    if source.template is None:
        return array
    import xarray as xr

    template = source.template
    index = {str(template.dims[axis]): _index(place) for axis, place in chosen.items()}
    kept = template.coords.to_dataset().isel(index, missing_dims="ignore")
    dims = [d for a, d in enumerate(template.dims) if not isinstance(chosen.get(a), int)]
    out = xr.DataArray(array, dims=dims, coords=kept.coords, name=template.name)
    _keep_display(template, out)
    return out


def _keep_display(before: Any, after: Any) -> None:
    """Colours and contrast of the channels that are left; a channel alone goes by no name."""
    display = before.encoding.get("display")
    if not display:
        return
    names = hyperstack.channels(after)
    if names is None and "c" in after.coords and not after.coords["c"].ndim and "c" in before.dims:
        one = display.get(str(after.coords["c"].values))
        after.encoding["display"] = {} if one is None else {"": one}
    else:
        after.encoding["display"] = {k: v for k, v in display.items() if names is None or k in names}
