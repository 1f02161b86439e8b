"""A new OME-Zarr image (0.4 or 0.5) with its pyramid, written in blocks that no two tasks share.

create_image    metadata and the empty arrays of every level
write_block     one block of a level, refused unless it is whole shards
downsample      a block of the next level from its voxels
register_label  the list of label images
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bigbia.errors import ParameterError, RunError, StorageError
from bigbia.graph.boxes import Box, describe, shape_of, slices
from bigbia.hyperstack import AXES, SPACE
from bigbia.io.display import Window, colors_of
from bigbia.io.durable import put
from bigbia.io.encoding import Encoder
from bigbia.io.places import Place
from bigbia.io.pyramid import Level, downsample, level_shapes
from bigbia.io.zarr_source import Layout, ZarrNode, find_node
from bigbia.units import rounded

__all__ = ["create_group", "create_image", "downsample", "level_shapes", "register_label", "write_block"]


def create_group(folder: Any, version: str = "0.5") -> Any:
    """The Zarr group at a folder, made where there is none."""
    import zarr

    if version not in ("0.4", "0.5"):
        raise ParameterError(f"version={version!r}: OME-Zarr is written as 0.4 or 0.5")
    place = Place(folder)
    try:
        return zarr.open_group(place.store(read_only=False), mode="a", zarr_format=3 if version == "0.5" else 2)
    except OSError as error:
        raise StorageError(f"{place}: cannot be written: {error.strerror or error}") from None


def create_image(
    folder: Any,
    *,
    shape: Sequence[int],
    dtype: Any,
    axes: Sequence[str],
    voxel_size: Mapping[str, float] | None,
    unit: str | None,
    channels: Sequence[str] | None,
    name: str | None,
    chunks: Sequence[int],
    shards: Sequence[int] | None = None,
    version: str = "0.5",
    levels: int | None = None,
    labels: bool = False,
    first_level: int = 0,
    colors: Sequence[Any] | None = None,
    origin: Mapping[str, float] | None = None,
    time_step: float | None = None,
    time_unit: str | None = None,
    windows: Sequence[Window | None] | None = None,
    limits: Window | None = None,
    pyramid: Sequence[Level] | None = None,
) -> list[Any]:
    """A new OME-Zarr image without voxels: its metadata, and the array of every level, to be filled by `write_block`.

    Parameters
    ----------
    folder : path or URL of the image's own group, for instance `x.zarr` or `x.zarr/labels/nuclei`
    shape, dtype, axes : of the full resolution; axes in the order t c z y x
    voxel_size, unit, origin : by spatial axis, from `hyperstack.voxel_size`, `unit`, `origin`; None: voxels have size 1
    channels : names, one where there is no axis c; None: numbers
    chunks, shards : voxels an axis; a shard is whole chunks (0.5 only). Cut to a level's shape where that is smaller.
    version : "0.5" (Zarr 3; blosc or, of single bytes, zstd; crc32c) or "0.4" (Zarr 2; blosc)
    levels : how many, None until the longest spatial axis has at most 256 voxels
    labels : a label image: adds `image-label`, whose source is the image two folders up; call `register_label` too
    first_level : leave out the finest ones: level 0 in the file is this one
    colors : labels: (label, (r, g, b, a)) pairs; images: one "RRGGBB" a channel, by default after the channels' names
    windows : (start, end) a channel, how a viewer shows it at first; None: all of `limits`
    limits : (min, max) of the values that there may be; by default of the dtype, 0 and 1 for floats
    pyramid : shape and factors of every level, in place of `levels` and `first_level`

    Returns
    -------
    the levels' zarr arrays, named "0", "1", ..., the finest first

    Raises
    ------
    ParameterError : axes out of order, shards that are not whole chunks, labels that are not integers
    RunError : there is an image already
    """
    axes, dtype = tuple(axes), np.dtype(dtype)
    _check_new(axes, shape, dtype, chunks, shards, version, labels)
    if pyramid is None:
        pyramid = level_shapes(shape, axes, voxel_size, None if levels is None else levels + first_level)
        if first_level and len(pyramid) <= first_level:
            pyramid = level_shapes(shape, axes, voxel_size, first_level + 1)
        pyramid = pyramid[first_level:] or pyramid[-1:]
    group = create_group(folder, version)
    if "0" in group or "multiscales" in group.attrs.get("ome", group.attrs):
        raise RunError(f"{Place(folder)}: already holds an image: remove it, or write elsewhere")
    steps = {**dict.fromkeys(axes, 1.0), **dict(voxel_size or {})}
    if time_step is not None:
        steps["t"] = time_step
    scales = [[rounded(steps[a] * f) for a, f in zip(axes, factors)] for _, factors in pyramid]
    shifts = [
        [rounded((origin or {}).get(a, 0.0) + (f - 1) / 2 * steps[a]) for a, f in zip(axes, factors)]
        for _, factors in pyramid
    ]
    units = {**dict.fromkeys(SPACE, unit), "t": time_unit, "c": None}
    attributes = _attributes(version, axes, units, scales, shifts, name, labels, colors)
    if not labels:
        count = shape[axes.index("c")] if "c" in axes else 1
        names = list(channels) if channels is not None else list(map(str, range(count)))
        attributes["omero"] = _omero(names, count, dtype, colors, windows, limits)
    try:
        arrays = [
            _create_array(group, str(i), level, dtype, axes, chunks, shards, version)
            for i, (level, _) in enumerate(pyramid)
        ]
        # The description comes last: before it stands nothing takes the arrays for an image.
        group.attrs.update(attributes if version == "0.4" else {"ome": attributes})
    except OSError as error:
        raise StorageError(f"{Place(folder)}: cannot be written: {error.strerror or error}") from None
    return arrays


def _check_new(axes: Any, shape: Any, dtype: np.dtype, chunks: Any, shards: Any, version: str, labels: bool) -> None:
    order = tuple(a for a in AXES if a in axes)
    if axes != order:
        way_out = (
            f"image.transpose({', '.join(map(repr, order))})" if set(axes) == set(order) else "axes among t c z y x"
        )
        raise ParameterError(f"axes {' '.join(axes)}: OME-Zarr wants them in the order t c z y x: {way_out}")
    for what, values in (("shape", shape), ("chunks", chunks), ("shards", shards)):
        if values is not None and (len(values) != len(axes) or min(values) < 1):
            raise ParameterError(f"{what}={tuple(values)}: one length of 1 or more for each axis {' '.join(axes)}")
    if shards is not None and version == "0.4":
        raise ParameterError(f"shards={tuple(shards)}: OME-Zarr 0.4 has none: leave them out, or write version 0.5")
    for axis, c, s in zip(axes, chunks, shards or chunks):
        if s % c:
            raise ParameterError(f"axis {axis}: shard {s} is not a whole number of chunks ({c}): use {-(-s // c) * c}")
    if labels and dtype.kind not in "iu":
        raise ParameterError(f"labels of {dtype}: labels are integers: convert them, for instance to uint32")
    if dtype.kind not in "biuf":
        raise ParameterError(f"an image of {dtype}: OME-Zarr is written as bool, integers or floats: convert it")


def _create_array(
    group: Any, name: str, shape: Any, dtype: np.dtype, axes: Any, chunks: Any, shards: Any, version: str
) -> Any:
    chunks = tuple(min(c, n) for c, n in zip(chunks, shape))
    if shards is not None:
        shards = tuple(min(-(-s // c), -(-n // c)) * c for s, c, n in zip(shards, chunks, shape))
    # An absent chunk reads as zeros, silently; so every chunk is written, also one of zeros.
    common: dict[str, Any] = {"shape": shape, "dtype": dtype, "chunks": chunks, "config": {"write_empty_chunks": True}}
    if version == "0.4":
        from numcodecs import Blosc

        separator = {"name": "v2", "separator": "/"}
        codec = Blosc(cname="zstd", clevel=1, shuffle=Blosc.SHUFFLE)
        attributes = {"_ARRAY_DIMENSIONS": list(axes)}
        return group.create_array(
            name, **common, compressors=codec, fill_value=0, chunk_key_encoding=separator, attributes=attributes
        )
    from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

    # The bytes of one weight side by side pack twice as fast, and into a fifth less. Neither codec notices a flipped bit:
    # crc32c does.
    width = dtype.itemsize
    blosc = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=width)
    codecs = [blosc if width > 1 else ZstdCodec(level=1), Crc32cCodec()]
    return group.create_array(name, **common, shards=shards, compressors=codecs, fill_value=0, dimension_names=axes)


def _attributes(
    version: str,
    axes: Sequence[str],
    units: Mapping[str, str | None],
    scales: list[list[float]],
    shifts: list[list[float]],
    name: str | None,
    labels: bool,
    colors: Sequence[Any] | None,
) -> dict[str, Any]:
    """The `multiscales` and `image-label` of a new image, validated by ome-zarr-models."""
    from ome_zarr_models.v05.axes import Axis
    from ome_zarr_models.v05.image_label_types import Color, Label, Source
    from ome_zarr_models.v05.multiscales import Dataset
    from ome_zarr_models.v05.multiscales import Multiscale as Model

    kinds = {"t": "time", "c": "channel"}
    model: Any = Model(
        axes=tuple(Axis(name=a, type=kinds.get(a, "space"), unit=units[a]) for a in axes),
        datasets=tuple(
            Dataset.build(path=str(i), scale=s, translation=t if any(t) else None)
            for i, (s, t) in enumerate(zip(scales, shifts))
        ),
        name=name,
    )
    out: dict[str, Any] = {"version": version} if version == "0.5" else {}
    if version == "0.4":
        model = model.to_version("0.4")
    out["multiscales"] = [model.model_dump(mode="json", exclude_none=True)]
    if version == "0.4":
        out["multiscales"][0]["version"] = "0.4"
    if labels:
        painted: Any = [{"label-value": int(v), "rgba": tuple(map(int, c))} for v, c in colors or []]
        label = Label(
            colors=tuple(map(Color.model_validate, painted)) or None, source=Source(image="../../")
        ).model_dump(mode="json", exclude_none=True, by_alias=True)
        out["image-label"] = {"version": version, **label}
    return out


def _omero(
    names: Sequence[str],
    count: int,
    dtype: np.dtype,
    colors: Sequence[Any] | None,
    windows: Sequence[Window | None] | None,
    limits: Window | None,
) -> dict[str, Any]:
    from ome_zarr_models.common.omero import Channel, Omero
    from ome_zarr_models.common.omero import Window as Model

    paint = list(colors) if colors is not None else colors_of(names)
    low, high = limits or _range(dtype)
    shown = [(low, high) if w is None else w for w in windows] if windows is not None else [(low, high)] * count
    if not len(names) == len(paint) == len(shown) == count:
        raise ParameterError(
            f"{count} channels, but {len(names)} names, {len(paint)} colours, {len(shown)} windows: one each is needed"
        )
    found = []
    for label, color, (start, end) in zip(names, paint, shown):
        window = Model(min=min(low, start), max=max(high, end), start=start, end=end)
        found.append(Channel(label=label, color=color, active=True, window=window))  # type: ignore[call-arg]
    return Omero(channels=found).model_dump(mode="json", exclude_none=True)


def _range(dtype: np.dtype) -> Window:
    return (0.0, 1.0) if dtype.kind in "fb" else (float(np.iinfo(dtype).min), float(np.iinfo(dtype).max))


def register_label(root_group: Any, name: str) -> None:
    """Adds a name to the list that `labels/` of an image keeps; `root_group` is the image's zarr group, path or URL."""
    import zarr

    if not isinstance(root_group, zarr.Group):
        node = find_node(Place(root_group))
        root_group = create_group(root_group, "0.4" if node is not None and node.format == 2 else "0.5")
    version = "0.5" if root_group.metadata.zarr_format == 3 else "0.4"
    labels = root_group.require_group("labels")
    known = labels.attrs.get("ome", {}).get("labels", []) if version == "0.5" else labels.attrs.get("labels", [])
    names = [*known, *([] if name in known else [name])]
    labels.attrs.update({"ome": {"version": "0.5", "labels": names}} if version == "0.5" else {"labels": names})


def write_block(array: Any, box: Box, data: np.ndarray, *, root: Path | None = None, read_back: bool = False) -> None:
    """Writes one block of a level, whole shards (or chunks) of it: each file whole or absent, and on the disk.

    array : zarr array in a local folder, for instance one of those that `create_image` returned
    box : where, as (start, stop) an axis; it begins and ends on shards, or at the array's end
    data : the voxels, of the box's shape and the array's dtype
    root : the run's folder, in which the ledger names the files; by default the array's own
    read_back : read each file again and compare

    Raises ParameterError for a box that shares a file with another task, and for voxels that would be cast or
    broadcast; StorageError, with its errno, for what the disk says.
    """
    unit = array.shards or array.chunks
    names = _names(array)
    if len(box) != array.ndim:
        raise ParameterError(f"a box of {len(box)} axes for an array of {array.ndim}: give (start, stop) for each axis")
    what = "shards" if array.shards else "chunks"
    for axis, (start, stop), u, n in zip(names, box, unit, array.shape):
        if not 0 <= start < stop <= n:
            raise ParameterError(
                f"{axis}: {start} to {stop} is not within the array's {n} voxels: give a box inside it"
            )
        length = stop - start
        if start % u or (stop % u and stop != n):
            if length % u:
                wrong, use = f"block {length} is not a whole number of {what} ({u})", f"use {-(-length // u) * u}"
            else:
                wrong, use = f"block {start} to {stop} does not begin on {what} ({u})", f"begin at {start // u * u}"
            raise ParameterError(f"{axis}: {wrong}: two tasks would write one file and lose each other's voxels; {use}")
    place = describe(box, [n.removeprefix("axis ") for n in names])
    if data.shape != shape_of(box):
        raise ParameterError(
            f"block {place}: holds {data.shape} voxels, the box is {shape_of(box)}: nothing is broadcast"
        )
    if data.dtype != array.dtype:
        raise ParameterError(
            f"block {place}: is {data.dtype}, the array is {array.dtype}: convert it, nothing is cast here"
        )
    folder = Path(array.store.root) / array.path
    root = folder if root is None else root
    meta = _metadata(array)
    encoder, layout = Encoder(meta), _layout(meta, folder)
    for index in layout.touched(box):
        part = layout.box(index)
        name = str((folder / layout.key(index)).relative_to(root))
        try:
            put(root, name, encoder.encode(data[slices(part, box)]), read_back=read_back)
        except StorageError as error:
            raised = StorageError(f"block {place}: {error}")
            raised.errno = error.errno
            raise raised from None


def layout_of(array: Any, folder: Path) -> Layout:
    """How an array is cut into files."""
    return _layout(_metadata(array), folder)


def _layout(meta: dict[str, Any], folder: Path) -> Layout:
    return Layout.of(ZarrNode(Place(folder), "array", meta, {}, b""))


def _metadata(array: Any) -> dict[str, Any]:
    """An array's metadata document, as it stands in its folder."""
    from zarr.core.buffer import default_buffer_prototype

    documents = array.metadata.to_buffer_dict(default_buffer_prototype())
    return json.loads(documents["zarr.json" if "zarr.json" in documents else ".zarray"].to_bytes())


def _names(array: Any) -> list[str]:
    dims = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    return [f"axis {d}" for d in dims] if dims else [f"axis {i}" for i in range(array.ndim)]
