"""Zarr arrays as sources: where they lie, what is refused before anything is read, and reading a box.

    ZarrNode    the metadata of a Zarr group or array, as it stands in the files
    Layout      shape, dtype, chunks and keys of an array, checked: what it says may have been written by anyone
    ZarrSource  the array as a source (docs/design/001): shape, dtype, chunks, token, read(box)

Opening reads metadata and lists the array's folder; it never touches voxels.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from bigbia.errors import InputError, StorageError
from bigbia.graph.boxes import Box, describe, shape_of, slices
from bigbia.io.chunks import ABSENT, Decoder, Shards, decoder_of
from bigbia.io.places import Place

MAX_CHUNKS = 10**9  # files of one array: a listing of more does not end
MAX_AXIS = 2**24  # voxels along one axis: every axis has a coordinate in memory
MAX_CHUNK_BYTES = 2**34
WHOLE_SHARD = 64 << 20  # bytes up to which a shard is read at once
MANIFEST = "_bigbia/manifest.json"
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
                raise InputError(f"{place}/{name}: zarr_format is {meta.get('zarr_format')!r}, 2 was expected")
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
        dtype = _dtype(name, node.format, where)
        chunks = _positive(chunks, "chunks", where, len(shape))
        if shards is not None:
            shards = _positive(shards, "shards", where, len(shape))
        found = cls(shape, dtype, chunks, shards, prefix, separator)
        if math.prod(found.grid) > MAX_CHUNKS:
            raise InputError(
                f"{where}: shape {shape} in chunks of {found.unit} is {math.prod(found.grid):.3g} files, "
                f"at most {MAX_CHUNKS:.0e} are opened: its metadata is wrong, or it needs larger chunks"
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
        raise InputError(f"{where}: has {len(shape)} axes {shape}, an image has at most t c z y x: store a part of it")
    if max(shape) > MAX_AXIS:
        raise InputError(
            f"{where}: axis {shape.index(max(shape))} of shape {shape} is longer than {MAX_AXIS} voxels: its metadata "
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
        shown = name if isinstance(name, str) else _mapping(name).get("name", name)
        raise InputError(f"{where}: its values are {shown!r}: bigbia reads bool, integers and floats of up to 64 bit")
    try:
        return check_dtype(np.dtype(name if isinstance(name, str) else "V1"), where)
    except TypeError:
        raise InputError(f"{where}: its values are {name!r}, which is no data type: the file is damaged") from None


def _whole_numbers(value: Any, what: str, where: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in value):
        raise InputError(f"{where}: {what} {value!r} is not a list of lengths: its metadata is damaged")
    return tuple(value)


def _positive(value: Any, what: str, where: str, ndim: int) -> tuple[int, ...]:
    found = _whole_numbers(value, what, where)
    if len(found) != ndim or 0 in found:
        raise InputError(f"{where}: {what} {list(found)} do not fit {ndim} axes: its metadata is damaged")
    return found


class ZarrSource:
    """A Zarr array as a source.

    `chunks` is the unit that is cheap to read: the chunk, or the whole shard where it decodes to at most 64 MiB.
    `on_missing="fill"` reads an absent chunk as the fill value, as the Zarr specification says; "error" stops there.
    Picklable (the other side opens the store again) and thread-safe.
    """

    def __init__(self, node: ZarrNode, *, axes: str | None = None, on_missing: str = "fill") -> None:
        self.place, self.meta, self.axes, self.on_missing = node.place, dict(node.meta), axes, on_missing
        self.layout = Layout.of(node)
        self.shape, self.dtype = self.layout.shape, self.layout.dtype
        unit = self.layout.unit
        small = math.prod(unit) * self.dtype.itemsize <= WHOLE_SHARD
        self.chunks = unit if small else self.layout.chunks
        self._start()
        self.fill = _fill_value(node.meta.get("fill_value"), self.dtype)
        if self.fill is None or decoder_of(node.meta) is None:
            try:  # what zarr cannot read is refused here, not in the thousandth task
                fill = self._array.fill_value
            except Exception as error:
                raise InputError(f"{self.place}: zarr cannot open it: {_reason(error)}") from None
            self.fill = self.dtype.type(0 if fill is None else fill)
        self.token = _token(node, on_missing)

    def __repr__(self) -> str:
        return f"ZarrSource({self.place}, {self.shape}, {self.dtype})"

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_lock", "_opened", "_decoder")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._opened: tuple[int, Any] | None = None
        self._decoder = decoder_of(self.meta) if self.place.local else None

    @property
    def _array(self) -> Any:
        """The zarr array, opened once a process."""
        with self._lock:
            if self._opened is None or self._opened[0] != os.getpid():
                import zarr

                self._opened = os.getpid(), zarr.open_array(store=self.place.store(), mode="r")
            return self._opened[1]

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box, contiguous, in native byte order.

        Raises InputError for a damaged chunk, and for an absent one if so asked; StorageError for what the disk says.
        """
        box = tuple((int(a), int(b)) for a, b in box)
        ranges = [range(a // u, -(-b // u)) for (a, b), u in zip(box, self.layout.unit)]
        if self._decoder is None:
            return self._read_zarr(box, ranges)
        out: np.ndarray | None = None
        for index in product(*ranges):
            region = self.layout.box(index)
            part = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(box, region))
            try:
                found = self._read_file(index, region, part)
            except FileNotFoundError:
                if os.path.lexists(os.path.join(self.place.url, self.layout.key(index))):
                    # What git-annex leaves of a file it has not fetched. It holds voxels, so it is not absent.
                    raise self._damaged(index, ValueError("it is a link to nothing")) from None
                self._missing(index)
                found = None
            except ValueError as error:
                raise self._damaged(index, error) from None
            except OSError as error:
                raise StorageError(
                    f"{self.place}: chunk {self.layout.key(index)} cannot be read: {error.strerror or error}"
                ) from None
            if part == box and found is not None:
                return np.ascontiguousarray(found)
            if out is None:
                out = np.empty(shape_of(box), self.dtype)
            out[slices(part, box)] = self.fill if found is None else found
        return np.empty(shape_of(box), self.dtype) if out is None else out

    def _read_file(self, index: tuple[int, ...], region: Box, part: Box) -> np.ndarray:
        """The voxels of `part` from the file of one chunk or shard, whose place in the image is `region`."""
        name = os.path.join(self.place.url, self.layout.key(index))
        if isinstance(self._decoder, Decoder):
            with open(name, "rb", buffering=0) as file:
                data = file.read()
            return self._decoder.decode(data)[slices(part, region)]
        assert isinstance(self._decoder, Shards)
        with open(name, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            return self._read_shard(file, size, region, part)

    def _read_shard(self, file: Any, size: int, region: Box, part: Box) -> np.ndarray:
        shards: Any = self._decoder
        start = size - shards.index_bytes if shards.at_end else 0
        table = shards.index(os.pread(file.fileno(), shards.index_bytes, max(0, start)))
        out = np.empty(shape_of(part), self.dtype)
        within = [(a - r, b - r) for (a, b), (r, _) in zip(part, region)]
        for inner in product(*(range(a // c, -(-b // c)) for (a, b), c in zip(within, shards.inner.shape))):
            origin = tuple((i * c, (i + 1) * c) for i, c in zip(inner, shards.inner.shape))
            piece = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(within, origin))
            offset, length = map(int, table[inner])
            if offset == length == ABSENT:  # legal within a shard: a chunk of fill values is not stored
                out[slices(piece, tuple(within))] = self.fill
                continue
            if offset + length > size:
                raise ValueError(f"its index points to byte {offset + length} of {size}")
            chunk = shards.inner.decode(os.pread(file.fileno(), length, offset))
            out[slices(piece, tuple(within))] = chunk[slices(piece, origin)]
        return out

    def _read_zarr(self, box: Box, ranges: list[range]) -> np.ndarray:
        if self.on_missing == "error":
            for index in product(*ranges):
                if not self.place.has(self.layout.key(index)):
                    self._missing(index)
        try:
            found = self._array[slices(box)]
        except Exception as error:
            # zarr does not say which chunk it was: look for it.
            for index in product(*ranges):
                try:
                    self._array[slices(self.layout.box(index))]
                except Exception as one:
                    if isinstance(one, OSError):
                        raise StorageError(f"{self.place}: chunk {self.layout.key(index)}: {_reason(one)}") from None
                    raise self._damaged(index, one) from None
            raise StorageError(
                f"{self.place}: {describe(box, self.axes)} could not be read: {_reason(error)}"
            ) from None
        return np.ascontiguousarray(found, dtype=self.dtype)

    def _missing(self, index: tuple[int, ...]) -> None:
        if self.on_missing == "error":
            region = self.layout.box(index)
            voxels = " x ".join(map(str, shape_of(region)))
            raise InputError(
                f"{self.place}: chunk {self.layout.key(index)} is missing ({voxels} voxels at "
                f'{describe(region, self.axes)}): restore it, or pass on_missing="fill" to read fill values there'
            )

    def _damaged(self, index: tuple[int, ...], error: Exception) -> InputError:
        return InputError(
            f"{self.place}: chunk {self.layout.key(index)} ({describe(self.layout.box(index), self.axes)}) cannot be "
            f"decoded: {_reason(error)}: the file is damaged, restore it"
        )

    def missing_chunks(self) -> tuple[int | None, int]:
        """Files (chunks, or shards) that are absent, and how many there should be; None where they cannot be listed."""
        total, listing = math.prod(self.layout.grid), self.place.listing()
        return (None if listing is None else total - sum(map(self.layout.is_key, listing))), total


def _fill_value(value: Any, dtype: np.dtype) -> Any:
    """The value of absent chunks, None where it is written in a way that zarr had better read."""
    try:
        if isinstance(value, str):  # "NaN", "-Infinity", and bioformats2raw's "0"; never a large integer
            value = float(value)
        fill = dtype.type(0 if value is None else value)
    except (TypeError, ValueError, OverflowError):
        return None
    return fill if value is None or fill == value or (fill != fill and value != value) else None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _token(node: ZarrNode, on_missing: str) -> str:
    """Identity of an array with its content, as far as names, sizes and times of files can tell it.

    Where bigbia wrote the store, its manifest, a list of hashes, stands for the times, unless a chunk is newer than it.
    """
    place, listing = node.place, node.place.listing()
    # A voxel is the same under both settings, but a chunk cache must not hand the strict one what the other filled in.
    parts: list[Any] = [node.raw, on_missing]
    if listing is None or not all(stamp for _, stamp in listing.values()):
        parts.append(os.urandom(16))  # nobody can say that it has not changed
    else:
        manifest = _manifest(place, listing) if place.local else None
        if manifest is None:
            parts += [place.url, *sorted(listing.items())]
        else:
            parts += [*manifest, *sorted((key, size) for key, (size, _) in listing.items())]
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
    return digest.hexdigest()


def _manifest(place: Place, listing: Mapping[str, tuple[int, str]]) -> tuple[bytes, str] | None:
    """The manifest of the store that holds this array, and the array's path in it; None where files are newer."""
    folder: Place | None = place
    for _ in range(5):
        if folder is None or not any(folder.has(name) for name in ("zarr.json", ".zgroup", ".zarray")):
            return None
        raw = folder.read(MANIFEST)
        if raw is not None:
            written = os.stat(os.path.join(folder.url, MANIFEST)).st_mtime_ns
            newest = max((int(time) for _, time in listing.values()), default=0)
            return (raw, place.url.removeprefix(folder.url)) if newest <= written else None
        folder = folder.parent
    return None
