"""`open`: a path becomes a lazy image. `describe`: what is at a path. Neither reads a voxel."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from bigbia import config
from bigbia.errors import BigbiaWarning, InputError, ParameterError, nearest
from bigbia.hyperstack import EXAMPLE, SPACE, hyperstack, parse_axes, parse_voxel_size
from bigbia.io.finding import find
from bigbia.io.found import Found
from bigbia.io.multiscale import labels_in, tables_in
from bigbia.io.zarr_source import ZarrSource, find_node
from bigbia.units import convert, rounded

_GUESS = {2: ("y", "x"), 3: ("z", "y", "x")}


def open(  # the name users type, as bigbia.open
    path: str | os.PathLike[str],
    level: int = 0,
    *,
    axes: str | Sequence[str] | None = None,
    voxel_size: Any = None,
    channels: str | Sequence[str | int] | None = None,
    block: Any = "auto",
    on_missing: str | None = None,
) -> Any:
    """A lazy image from OME-Zarr (0.4, 0.5), Zarr (2, 3), TIFF, OME-TIFF or ImageJ TIFF.

    Parameters
    ----------
    path : file, folder or URL; also within a store: `x.zarr/labels/nuclei`, `x.zarr/0`
    level : of the pyramid, 0 is the full resolution
    axes : "zyx", "tczyx": overrides what the file says. 4 axes and more must be told where it says nothing.
    voxel_size : "0.29, 0.26, 0.26 um", a dict by axis, or one number a spatial axis: of the full resolution. Plain
        numbers have no unit. Overrides what the file says.
    channels : which channels, by name or number from 0; or, where the file has no names or others, a name for each
    block : voxels a compute block: "auto", one number, or one an axis
    on_missing : a chunk that is absent reads as its fill value ("fill"), as the Zarr specification says, or is an
        "error". By default an error in what bigbia wrote, where every chunk is there, and "fill" in what others wrote.

    Returns
    -------
    xarray.DataArray over a Dask array, dims among t c z y x in the file's order, physical coordinates with units

    Raises
    ------
    InputError : nothing there, not an image, damaged, complex or object values, an empty axis, absurd shapes
    ParameterError : level, axes, voxel size or channels that do not fit

    >>> image = open("cells.ome.zarr", voxel_size="0.29, 0.26, 0.26 um")  # doctest: +SKIP
    """
    from bigbia.graph.dask import from_source

    if on_missing not in (None, "fill", "error"):
        raise ParameterError(f"on_missing={on_missing!r}: {nearest(str(on_missing), ['fill', 'error'])}")
    found = find(path, level, on_missing)
    _check_unit(found)
    dims = _dims(found, axes, voxel_size)
    sizes, unit = _sizes(found, dims, voxel_size)
    old = _by_position(found, dims, found.sizes)
    origin = {
        a: rounded(shift * (sizes[a] / old[a] if a in old else 1.0))
        for a, shift in _by_position(found, dims, found.origin).items()
        if a in sizes
    }
    if found.images > 1:
        found.notes.append(
            f"{found.place}: holds {found.images} images: the first one is opened, of shape {found.source.shape}"
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


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What is at a path, for `bigbia info`: plain values, by name. Raises what `open` raises."""
    found = find(path, 0, "fill")
    source, layout = found.source, getattr(found.source, "layout", None)
    dims = found.axes or _GUESS.get(len(source.shape))
    sizes = _by_position(found, dims, found.sizes) if dims else {}
    absent, total = source.missing_chunks()
    out: dict[str, Any] = {
        "path": str(found.place),
        "kind": found.kind,
        "axes": "".join(dims) if dims else None,
        "shape": list(source.shape),
        "dtype": str(source.dtype),
        "chunks": list(layout.chunks if layout else source.chunks),
        "shards": list(layout.shards) if layout and layout.shards else None,
        "voxel_size": {a: s for a, s in sizes.items() if a in SPACE} or None,
        "unit": found.unit,
        "time_step": sizes.get("t"),
        "time_unit": found.time_unit,
        "channels": list(found.channels) if found.channels and dims and "c" in dims else None,
        "levels": _levels(found),
        "labels": labels_in(found.place) if found.image else [],
        "tables": tables_in(found.place) if found.image else [],
        "bytes": _bytes(source),
        "bytes_in_memory": math.prod(source.shape) * source.dtype.itemsize,
        "missing_chunks": {"absent": absent, "total": total},
    }
    if found.mismatch:
        out["note"] = found.mismatch
    elif found.axes is None:
        taken = f"taken as {''.join(dims)}" if dims else 'pass axes, for instance axes="tczyx"'
        out["note"] = f"nothing says which axes these are: {taken}"
    elif found.problem:
        out["note"] = found.problem
    return out


def _levels(found: Found) -> list[dict[str, Any]]:
    if found.image is None:
        return [{"shape": list(shape)} for shape in found.levels or [found.source.shape]]
    arrays = [(path, find_node(found.place / path)) for path in found.image.paths]
    return [{"path": path, "shape": None if array is None else array.meta.get("shape")} for path, array in arrays]


def _bytes(source: Any) -> int | None:
    if isinstance(source, ZarrSource):
        listing = source.place.listing()
        return None if listing is None else sum(size for size, _ in listing.values())
    return sum(size for _, size, _ in source.files)


def _dims(found: Found, axes: Any, voxel_size: Any) -> tuple[str, ...]:
    shape = found.source.shape
    if axes is not None:
        return parse_axes(axes, shape)
    if found.mismatch:
        raise InputError(found.mismatch)
    if found.axes is not None:
        return found.axes
    taken = _GUESS.get(len(shape))
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


def _by_position(found: Found, dims: Sequence[str] | None, values: Mapping[str, float]) -> dict[str, float]:
    """Values by the file's axes, by those the user named instead; dropped where space became something else."""
    same = [
        (a, b) for a, b in zip(found.names, dims or ()) if (a in SPACE) == (b in SPACE) and (a == "t") == (b == "t")
    ]
    return {b: values[a] for a, b in same if a in values}


def _sizes(found: Found, dims: Sequence[str], given: Any) -> tuple[dict[str, float], str | None]:
    """Voxel size (and time step) by axis, and the unit."""
    sizes, unit = _by_position(found, dims, found.sizes), found.unit
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
    shrink = _by_position(found, dims, found.shrink)
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
    """The file's channel names; a number behind those that come again, None where there are too few or too many."""
    if found.channels is None or len(found.channels) != count:
        return None
    names: list[str] = []
    for name in found.channels:
        again, shown = 1, name
        while shown in names:
            again += 1
            shown = f"{name} ({again})"
        names.append(shown)
    return names
