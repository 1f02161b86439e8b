"""`open`: a path becomes a lazy image. No voxel is read."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from typing import Any

from bigbia import config
from bigbia.errors import BigbiaWarning, InputError, ParameterError, nearest
from bigbia.hyperstack import EXAMPLE, SPACE, hyperstack, parse_axes, parse_voxel_size
from bigbia.io.describing import describe
from bigbia.io.finding import find
from bigbia.io.found import GUESS, Found, by_position, listed, unique_names
from bigbia.units import convert, rounded

__all__ = ["describe", "open"]


def open(  # the name users type, as bigbia.open
    path: str | os.PathLike[str],
    level: int = 0,
    *,
    axes: str | Sequence[str] | None = None,
    voxel_size: Any = None,
    channels: str | Sequence[str | int] | None = None,
    block: Any = "auto",
    on_missing: str | None = None,
    scene: int | str | None = None,
    well: str | None = None,
    field: int | str | None = None,
) -> Any:
    """A lazy image from OME-Zarr (0.4, 0.5), Zarr (2, 3), TIFF, OME-TIFF, ImageJ TIFF, HDF5, N5, CZI, ND2 or LIF.

    Parameters
    ----------
    path : file, folder or URL; also within a store: `x.zarr/labels/nuclei`, `x.zarr/0`. A series of TIFF files by a
        pattern: `scan/img_t{t}_c{c}_z{z}.tif`, where {t}, {c} and {z} stand for a number or a word and * for anything;
        the words of {c} become the names of the channels.
    level : of the pyramid, 0 is the full resolution
    axes : "zyx", "tczyx": overrides what the file says. 4 axes and more must be told where it says nothing.
    voxel_size : "0.29, 0.26, 0.26 um", a dict by axis, or one number a spatial axis: of the full resolution. Plain
        numbers have no unit. Overrides what the file says.
    channels : which channels, by name or number from 0; or, where the file has no names or others, a name for each
    block : voxels a compute block: "auto", one number, or one an axis
    on_missing : a chunk that is absent reads as its fill value ("fill"), as the Zarr specification says, or is an
        "error". By default an error in what bigbia wrote, where every chunk is there, and in a series of files; "fill" in
        what others wrote.
    scene : which image of a file that holds several, by its name or its number from 0
    well, field : which image of an OME-Zarr plate: "B03" (or "B3", "B/3"), and the field's name or its number from 0,
        which may be left out where the well has one

    Returns
    -------
    xarray.DataArray over a Dask array, dims among t c z y x in the file's order, physical coordinates with units.
    `image.encoding["display"]` has colour and contrast of the channels as the file gives them, by channel name ("" where
    there are no channels): {"DAPI": {"color": "0000FF", "window": (100.0, 4000.0)}}.

    Raises
    ------
    InputError : nothing there, not an image, damaged, complex or object values, an empty axis, absurd shapes; a plate
        without `well`, a well of several fields without `field`; files of a series that are missing or not alike
    ParameterError : level, axes, voxel size, channels, scene, well or field that do not fit
    MissingExtraError : a format, or a place, that needs a package which is not installed

    >>> image = open("cells.ome.zarr", voxel_size="0.29, 0.26, 0.26 um")  # doctest: +SKIP
    >>> image = open("plate.zarr", well="B03", field=0)  # doctest: +SKIP
    >>> image = open("scan/img_t{t}_{c}_z{z}.tif", channels="DAPI")  # doctest: +SKIP
    """
    from bigbia.graph.dask import from_source

    if on_missing not in (None, "fill", "error"):
        raise ParameterError(f"on_missing={on_missing!r}: {nearest(str(on_missing), ['fill', 'error'])}")
    found = find(path, level, on_missing, scene=scene, well=well, field=field)
    _check_unit(found)
    dims = _dims(found, axes, voxel_size)
    sizes, unit = _sizes(found, dims, voxel_size)
    old = by_position(found, dims, found.sizes)
    origin = {
        a: rounded(shift * (sizes[a] / old[a] if a in old else 1.0))
        for a, shift in by_position(found, dims, found.origin).items()
        if a in sizes
    }
    if found.images > 1 and scene is None:
        way_out = (
            f"scene=1 opens the next (they are {listed(found.scenes)})" if found.scenes else "scene=1 opens the next"
        )
        found.notes.append(
            f"{found.place}: holds {found.images} images: the first one is opened, of shape {found.source.shape}; {way_out}"
        )
    names, chosen = _channels(found, dims, channels)
    image = hyperstack(
        from_source(found.source, block),
        dims,
        voxel_size={a: s for a, s in sizes.items() if a in SPACE} or None,
        unit=unit,
        channels=names,
        name=found.name,
        origin=origin,
        time_step=sizes.get("t"),
        time_unit=found.time_unit,
    )
    image.encoding["source"] = found.place.url
    image.encoding["display"] = _display(found, dims, names, chosen)
    for note in found.notes:
        warnings.warn(note, BigbiaWarning, stacklevel=2)
    return image if chosen is None else image.isel(c=chosen)


def _check_unit(found: Found) -> None:
    """The smallest part that can be read must fit the memory that may be used."""
    layout = getattr(found.source, "layout", None)
    unit = layout.chunks if layout else found.source.chunks
    need, may = math.prod(unit) * found.source.dtype.itemsize, config.memory()
    if need > may:
        raise InputError(
            f"{found.place}: one chunk of {tuple(unit)} {found.source.dtype} is {need / 2**30:.3g} GiB and is read as a "
            f"whole, {may / 2**30:.3g} GiB may be used: give more memory (bigbia.memory), or write it again in smaller "
            "chunks"
        )


def _dims(found: Found, axes: Any, voxel_size: Any) -> tuple[str, ...]:
    shape = found.source.shape
    if axes is not None:
        return parse_axes(axes, shape)
    if found.mismatch:
        raise InputError(found.mismatch)
    if found.axes is not None:
        return found.axes
    taken = GUESS.get(len(shape))
    if taken is None:
        example = {1: "x", 4: "tzyx", 5: "tczyx"}[len(shape)]
        raise ParameterError(
            f'{found.place}: nothing says which axes shape {shape} has: pass axes, for instance axes="{example}"'
        )
    sizes = "" if voxel_size is not None or found.sizes else f', and voxels have no size (voxel_size="{EXAMPLE}")'
    found.notes.append(
        f"{found.place}: nothing says which axes shape {shape} has: taken as {''.join(taken)} "
        f'(axes="{"".join(taken)}" if that is right){sizes}'
    )
    return taken


def _sizes(found: Found, dims: Sequence[str], given: Any) -> tuple[dict[str, float], str | None]:
    """Voxel size (and time step) by axis, and the unit."""
    sizes, unit = by_position(found, dims, found.sizes), found.unit
    if given is None:
        if found.problem:
            found.notes.append(f"{found.problem}: left aside, voxels have no size")
        return sizes, unit
    own, own_unit = parse_voxel_size(given, [d for d in dims if d in SPACE])
    rest = {a: s for a, s in sizes.items() if a in SPACE and a not in own}
    if rest and unit is not None:
        if own_unit is None:
            axis = next(iter(own))
            raise ParameterError(
                f'voxel_size={given!r}: the other axes are in {unit}: give a unit, as in {{"{axis}": "{own[axis]} um"}}'
            )
        rest = {a: convert(s, unit, own_unit) for a, s in rest.items()}
    shrink = by_position(found, dims, found.shrink)
    own = {a: rounded(s * shrink.get(a, 1.0)) for a, s in own.items()}
    return {**{a: s for a, s in sizes.items() if a == "t"}, **rest, **own}, own_unit


def _channels(found: Found, dims: Sequence[str], given: Any) -> tuple[list[str] | None, Any]:
    """Names of all channels, and the ones the user chose (None: all)."""
    if "c" not in dims:
        if given is not None:
            raise ParameterError(f"channels={given!r}: the image has no axis c, only {' '.join(dims)}: leave it out")
        return None, None
    count = found.source.shape[list(dims).index("c")]
    names = _unique(found, count)
    if given is None:
        return names, None
    shown = f"channels={given!r}"
    if not isinstance(given, str | int | Sequence):
        raise ParameterError(f"{shown}: give names, or numbers from 0 to {count - 1}")
    wanted = [given] if isinstance(given, str | int) else list(given)
    known = {name: i for i, name in enumerate(names or [])}
    numbers = [known.get(w) if isinstance(w, str) else w for w in wanted]
    chosen = [n for n in numbers if isinstance(n, int) and not isinstance(n, bool)]
    if len(chosen) == len(wanted):
        for c in chosen:
            if not 0 <= c < count:
                raise ParameterError(f"{shown}: the image has {count} channels, 0 to {count - 1}")
        if len(set(chosen)) != len(chosen) or not chosen:
            raise ParameterError(f"{shown}: name every channel once, and at least one")
        return names, _as_slice(chosen)
    if len(wanted) == count and all(isinstance(w, str) for w in wanted) and not set(wanted) & set(known):
        return [str(w) for w in wanted], None
    strange = next(w for w, n in zip(wanted, numbers) if not isinstance(n, int) or isinstance(n, bool))
    if names is None:
        raise ParameterError(
            f"{shown}: the file has {count} channels without names: give their numbers, or {count} names"
        )
    raise ParameterError(f"{shown}: there is no channel {strange!r}, {nearest(str(strange), names)}")


def _as_slice(chosen: list[int]) -> list[int] | slice:
    """Evenly spaced numbers as a slice, which stays a view."""
    step = chosen[1] - chosen[0] if len(chosen) > 1 else 1
    even = step > 0 and chosen == list(range(chosen[0], chosen[-1] + 1, step))
    return slice(chosen[0], chosen[-1] + 1, step) if even else chosen


def _unique(found: Found, count: int) -> list[str] | None:
    """The file's channel names, each once; None where there are too few or too many."""
    return unique_names(found.channels) if found.channels is not None and len(found.channels) == count else None


def _display(found: Found, dims: Sequence[str], names: list[str] | None, chosen: Any) -> dict[str, dict[str, Any]]:
    """How the channels of the image are to be shown, by the names they have now; "" for an image without channels."""
    if "c" not in dims:
        only = list(found.display.values())
        return {"": only[0]} if len(only) == 1 else {}
    count = found.source.shape[list(dims).index("c")]
    before, after = _unique(found, count) or [str(i) for i in range(count)], names
    kept = list(range(count)) if chosen is None else list(range(count))[chosen] if isinstance(chosen, slice) else chosen
    entries = {(after[i] if after else str(k)): found.display.get(before[i]) for k, i in enumerate(kept)}
    return {name: entry for name, entry in entries.items() if entry}
