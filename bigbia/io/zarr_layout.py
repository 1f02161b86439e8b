"""What the metadata of a Zarr node say, and what is refused before anything is read.

ZarrNode    the metadata of a Zarr group or array, as it stands in the files
Layout      shape, dtype, chunks and keys of an array, checked: what it says may have been written by anyone
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from bigbia.errors import InputError
from bigbia.graph.boxes import Box
from bigbia.io.places import Place, brief

MAX_CHUNKS = 10**9  # files of one array: a listing of more does not end
MAX_AXIS = 2**24  # voxels along one axis: every axis has a coordinate in memory
MAX_CHUNK_BYTES = 2**34
MAX_INNER = 10**7  # chunks of one shard: its index is read as a whole
MAX_BYTES = 2**60  # of an array
_DTYPES = {"bool", *(f"{k}int{n}" for k in ("", "u") for n in (8, 16, 32, 64)), "float16", "float32", "float64"}


@dataclass(frozen=True)
class ZarrNode:
    """A Zarr group or array: its metadata document, and its attributes."""

    place: Place
    kind: str  # "array" or "group"
    meta: Mapping[str, Any]
    attributes: Mapping[str, Any]
    raw: bytes  # the documents as they stand, for the token

    @property
    def format(self) -> int:
        return int(self.meta["zarr_format"])


def find_node(place: Place) -> ZarrNode | None:
    """The Zarr node at a place, None where there is none. InputError where its metadata cannot be read."""
    raw = place.read("zarr.json")
    if raw is not None:
        meta = _document(raw, f"{place}/zarr.json")
        if meta.get("zarr_format") != 3 or meta.get("node_type") not in ("array", "group"):
            raise InputError(f"{place}/zarr.json: is not Zarr metadata: it names no node_type of zarr_format 3")
        return ZarrNode(place, meta["node_type"], meta, _mapping(meta.get("attributes")), raw)
    for name, kind in ((".zarray", "array"), (".zgroup", "group")):
        raw = place.read(name)
        if raw is not None:
            meta, extra = _document(raw, f"{place}/{name}"), place.read(".zattrs") or b"{}"
            if meta.get("zarr_format") != 2:
                raise InputError(
                    f"{place}/{name}: zarr_format is {brief(meta.get('zarr_format'), repr)}, 2 was expected"
                )
            return ZarrNode(place, kind, meta, _document(extra, f"{place}/.zattrs"), raw + extra)
    return None


def _document(raw: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is not JSON: {error}: the file is damaged, restore it") from None
    if not isinstance(found, dict):
        raise InputError(f"{where}: is not Zarr metadata: a mapping was expected, found {type(found).__name__}")
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


@dataclass(frozen=True)
class Layout:
    """Shape, dtype, chunks and keys of a Zarr array, checked."""

    shape: tuple[int, ...]
    dtype: np.dtype  # native byte order
    chunks: tuple[int, ...]  # what is decoded at once
    shards: tuple[int, ...] | None
    prefix: str
    separator: str

    @property
    def unit(self) -> tuple[int, ...]:
        """What one file holds."""
        return self.shards or self.chunks

    @property
    def grid(self) -> tuple[int, ...]:
        return tuple(-(-n // u) for n, u in zip(self.shape, self.unit))

    def key(self, index: tuple[int, ...]) -> str:
        return self.prefix + self.separator.join(map(str, index))

    def is_key(self, key: str) -> bool:
        """Is this the key of a chunk within the array?"""
        parts = key[len(self.prefix) :].split(self.separator) if key.startswith(self.prefix) else []
        return len(parts) == len(self.grid) and all(p.isdecimal() and int(p) < n for p, n in zip(parts, self.grid))

    def box(self, index: tuple[int, ...]) -> Box:
        """The voxels of the image that one file holds."""
        return tuple((i * u, min((i + 1) * u, n)) for i, u, n in zip(index, self.unit, self.shape))

    def touched(self, box: Box) -> Iterator[tuple[int, ...]]:
        """Which files hold voxels of a box."""
        return product(*(range(a // u, -(-b // u)) for (a, b), u in zip(box, self.unit)))

    @classmethod
    def of(cls, node: ZarrNode) -> Layout:
        """Checks an array's metadata. InputError for what no image is, and for what would fill memory or never end."""
        meta, where = node.meta, str(node.place)
        shape = _whole_numbers(meta.get("shape"), "shape", where)
        check_shape(shape, where)
        shards = None
        try:
            if node.format == 2:
                chunks, name = meta["chunks"], meta["dtype"]
                prefix, separator = "", meta.get("dimension_separator", ".")
            else:
                chunks, name = meta["chunk_grid"]["configuration"]["chunk_shape"], meta["data_type"]
                first = meta["codecs"][0]
                if first["name"] == "sharding_indexed":
                    shards, chunks = chunks, first["configuration"]["chunk_shape"]
                encoding = meta["chunk_key_encoding"]
                plain = encoding["name"] == "v2"
                separator = encoding.get("configuration", {}).get("separator", "." if plain else "/")
                prefix = "" if plain else "c" + separator
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise InputError(f"{where}: its Zarr metadata is not complete ({error!r}): the file is damaged") from None
        if separator not in (".", "/"):  # it is part of the files' names, so it must not lead anywhere
            raise InputError(
                f"{where}: dimension separator {brief(separator, repr)} is not '.' or '/': its metadata is damaged"
            )
        dtype = _dtype(name, node.format, where)
        chunks = _positive(chunks, "chunks", where, len(shape))
        if shards is not None:
            shards = _positive(shards, "shards", where, len(shape))
            if any(n % c for n, c in zip(shards, chunks)):
                raise InputError(f"{where}: shards {shards} are not whole chunks of {chunks}: its metadata is damaged")
            if math.prod(n // c for n, c in zip(shards, chunks)) > MAX_INNER:
                raise InputError(
                    f"{where}: a shard of {shards} in chunks of {chunks} is {math.prod(shards) // math.prod(chunks):.3g} "
                    f"chunks, at most {MAX_INNER:.0e} are opened: its metadata is wrong, or it needs larger chunks"
                )
        found = cls(shape, dtype, chunks, shards, prefix, separator)
        if math.prod(found.grid) > MAX_CHUNKS:
            raise InputError(
                f"{where}: shape {shape} in chunks of {found.unit} is {math.prod(found.grid):.3g} files, "
                f"at most {MAX_CHUNKS:.0e} are opened: its metadata is wrong, or it needs larger chunks"
            )
        if math.prod(shape) * dtype.itemsize > MAX_BYTES:
            raise InputError(
                f"{where}: shape {shape} of {dtype} is {math.prod(shape) * dtype.itemsize / 2**60:.3g} EiB, at most 1 EiB "
                "is opened: its metadata is wrong, or it needs to be cut"
            )
        if math.prod(chunks) * dtype.itemsize > MAX_CHUNK_BYTES:
            raise InputError(
                f"{where}: one chunk of {chunks} {dtype} is {math.prod(chunks) * dtype.itemsize / 2**30:.3g} GiB, "
                f"at most {MAX_CHUNK_BYTES >> 30} GiB are opened: write it again in smaller chunks"
            )
        return found


def check_shape(shape: tuple[int, ...], where: str) -> None:
    """InputError for an empty axis, too many axes, an axis too long."""
    if not shape:
        raise InputError(f"{where}: is a single value, not an image: 2 to 5 axes were expected")
    if 0 in shape:
        raise InputError(f"{where}: axis {shape.index(0)} of shape {shape} is empty: there is nothing to read")
    if len(shape) > 5:
        raise InputError(
            f"{where}: has {len(shape)} axes {brief(shape)}, an image has at most t c z y x: store a part of it"
        )
    if max(shape) > MAX_AXIS:
        raise InputError(
            f"{where}: axis {shape.index(max(shape))} of shape {brief(shape)} is longer than {MAX_AXIS} voxels: its metadata "
            "is wrong, or it is no image"
        )


def check_dtype(dtype: np.dtype, where: str) -> np.dtype:
    """The dtype in native byte order. InputError unless it is bool, integer or float."""
    if dtype.kind == "c":
        raise InputError(
            f"{where}: its voxels are {dtype}: store their magnitude, or real and imaginary part as channels"
        )
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise InputError(f"{where}: its values are {dtype}: bigbia reads bool, integers and floats of up to 64 bit")
    return dtype.newbyteorder("=")


def _dtype(name: Any, zarr_format: int, where: str) -> np.dtype:
    if zarr_format == 3 and not (isinstance(name, str) and name in _DTYPES | {"complex64", "complex128"}):
        word = name if isinstance(name, str) else _mapping(name).get("name", name)
        raise InputError(
            f"{where}: its values are {brief(word, repr)}: bigbia reads bool, integers and floats of up to 64 bit"
        )
    try:
        return check_dtype(np.dtype(name if isinstance(name, str) else "V1"), where)
    except TypeError:
        raise InputError(
            f"{where}: its values are {brief(name, repr)}, which is no data type: the file is damaged"
        ) from None


def _whole_numbers(value: Any, what: str, where: str) -> tuple[int, ...]:
    def is_length(n: Any) -> bool:
        return isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**63

    if not isinstance(value, list) or not all(map(is_length, value)):
        raise InputError(f"{where}: {what} {brief(value, repr)} is not a list of lengths: its metadata is damaged")
    return tuple(value)


def _positive(value: Any, what: str, where: str, ndim: int) -> tuple[int, ...]:
    found = _whole_numbers(value, what, where)
    if len(found) != ndim or 0 in found:
        raise InputError(f"{where}: {what} {brief(list(found))} do not fit {ndim} axes: its metadata is damaged")
    return found
