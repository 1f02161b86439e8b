"""Zarr arrays as sources: reading a box, whatever wrote the chunks, and who the array is.

    ZarrSource  the array as a source (docs/design/001): shape, dtype, chunks, token, read(box)

Opening reads metadata and lists the array's folder; it never touches voxels. What the metadata may say stands in
`zarr_layout`, which codecs they may name in `codecs`.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np

from bigbia.errors import BigbiaError, InputError, StorageError, reason
from bigbia.graph.boxes import Box, describe, shape_of, slices
from bigbia.io.chunks import ABSENT, Decoder, Shards, decoder_of
from bigbia.io.codecs import Guard, check_codecs, guarded
from bigbia.io.places import Place, open_file
from bigbia.io.zarr_layout import Layout, ZarrNode, check_dtype, check_shape, find_node

__all__ = ["Layout", "ZarrNode", "ZarrSource", "check_dtype", "check_shape", "find_node"]

WHOLE_SHARD = 64 << 20  # bytes up to which a shard is read at once
MANIFEST = "_bigbia/manifest.json"


class ZarrSource:
    """A Zarr array as a source.

    `chunks` is the unit that is cheap to read: the chunk, or the whole shard where it decodes to at most 64 MiB.
    `on_missing="fill"` reads an absent chunk as the fill value, as the Zarr specification says; "error" stops there. By
    default (None) it is "error" in a store that bigbia wrote, where every chunk is there, and "fill" elsewhere.
    Picklable (the other side opens the store again) and thread-safe.
    """

    def __init__(self, node: ZarrNode, *, axes: str | None = None, on_missing: str | None = None) -> None:
        self.place, self.meta, self.axes = node.place, dict(node.meta), axes
        # In a foreign shard an absent chunk is a chunk of fill values, whatever is asked for: nothing else says so.
        self.whole_shards = on_missing != "fill" and _written_by_us(node.place) is not None
        self.on_missing = on_missing or ("error" if self.whole_shards else "fill")
        self.root = node.place.root
        self.layout = Layout.of(node)
        self.shape, self.dtype = self.layout.shape, self.layout.dtype
        unit = self.layout.unit
        small = math.prod(unit) * self.dtype.itemsize <= WHOLE_SHARD
        self.chunks = unit if small else self.layout.chunks
        check_codecs(self.meta, str(self.place))
        self._start()
        self.fill = _fill_value(node.meta.get("fill_value"), self.dtype)
        if self.fill is None or decoder_of(node.meta) is None:
            try:  # what zarr cannot read is refused here, not in the thousandth task
                fill = self._array.fill_value
            except Exception as error:
                raise InputError(f"{self.place}: zarr cannot open it: {reason(error)}") from None
            self.fill = self.dtype.type(0 if fill is None else fill)
        self.token = _token(node, self.on_missing)

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

                layout = self.layout
                guard = Guard(self.meta, layout.chunks, layout.shards, self.dtype.itemsize)
                store = guarded(self.place.store(), guard, self.place.url if self.place.local else None, self.root)
                self._opened = os.getpid(), zarr.open_array(store=store, mode="r")
            return self._opened[1]

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box, contiguous, in native byte order.

        Raises InputError for a damaged chunk, and for an absent one if so asked; StorageError for what the disk says.
        """
        box = tuple((int(a), int(b)) for a, b in box)
        if self._decoder is None:
            return self._read_zarr(box)
        out: np.ndarray | None = None
        for index in self.layout.touched(box):
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
            except BigbiaError:
                raise
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
            with os.fdopen(open_file(name, self.root), "rb", buffering=0) as file:
                self._decoder.check_stored(os.fstat(file.fileno()).st_size)
                data = file.read()
            return self._decoder.decode(data)[slices(part, region)]
        assert isinstance(self._decoder, Shards)
        with os.fdopen(open_file(name, self.root), "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            return self._read_shard(file, size, region, part)

    def _read_shard(self, file: Any, size: int, region: Box, part: Box) -> np.ndarray:
        shards: Any = self._decoder
        if size < shards.index_bytes:
            raise ValueError(f"{size} bytes do not hold the index of a shard, {shards.index_bytes} do")
        start = size - shards.index_bytes if shards.at_end else 0
        table = shards.index(os.pread(file.fileno(), shards.index_bytes, max(0, start)))
        out = np.empty(shape_of(part), self.dtype)
        within = [(a - r, b - r) for (a, b), (r, _) in zip(part, region)]
        for inner in product(*(range(a // c, -(-b // c)) for (a, b), c in zip(within, shards.inner.shape))):
            origin = tuple((i * c, (i + 1) * c) for i, c in zip(inner, shards.inner.shape))
            piece = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(within, origin))
            offset, length = map(int, table[inner])
            if offset == length == ABSENT:  # legal within a shard: a chunk of fill values is not stored
                if self.whole_shards:
                    self._missing_within(region, origin)
                out[slices(piece, tuple(within))] = self.fill
                continue
            if offset + length > size:
                raise ValueError(f"its index points to byte {offset + length} of {size}")
            shards.inner.check_stored(length)
            chunk = shards.inner.decode(os.pread(file.fileno(), length, offset))
            out[slices(piece, tuple(within))] = chunk[slices(piece, origin)]
        return out

    def _read_zarr(self, box: Box) -> np.ndarray:
        if self.on_missing == "error":
            for index in self.layout.touched(box):
                if not self.place.has(self.layout.key(index)):
                    self._missing(index)
        try:
            found = self._array[slices(box)]
        except BigbiaError:
            raise
        except Exception as error:
            # zarr does not say which chunk it was: look for it.
            for index in self.layout.touched(box):
                try:
                    self._array[slices(self.layout.box(index))]
                except Exception as one:
                    if isinstance(one, OSError):
                        raise StorageError(f"{self.place}: chunk {self.layout.key(index)}: {reason(one)}") from None
                    raise self._damaged(index, one) from None
            raise StorageError(f"{self.place}: {describe(box, self.axes)} could not be read: {reason(error)}") from None
        return np.ascontiguousarray(found, dtype=self.dtype)

    def _missing(self, index: tuple[int, ...]) -> None:
        if self.on_missing == "error":
            raise self._absent(f"chunk {self.layout.key(index)}", self.layout.box(index))

    def _missing_within(self, region: Box, inner: Box) -> None:
        """A chunk that a shard of ours does not hold: all of them were written."""
        index = tuple(a // u for (a, _), u in zip(region, self.layout.unit))
        place = tuple((a + c, min(a + d, b)) for (a, b), (c, d) in zip(region, inner))
        raise self._absent(f"a chunk of the shard {self.layout.key(index)}", place)

    def _absent(self, what: str, box: Box) -> InputError:
        voxels = " x ".join(map(str, shape_of(box)))
        return InputError(
            f"{self.place}: {what} is missing ({voxels} voxels at {describe(box, self.axes)}): restore it, or pass "
            'on_missing="fill" to read fill values there'
        )

    def _damaged(self, index: tuple[int, ...], error: Exception) -> InputError:
        return InputError(
            f"{self.place}: chunk {self.layout.key(index)} ({describe(self.layout.box(index), self.axes)}) cannot be "
            f"decoded: {reason(error)}: the file is damaged, restore it"
        )

    def missing_chunks(self) -> tuple[int | None, int]:
        """Files (chunks, or shards) that are absent, and how many there should be; None where they cannot be listed."""
        total, listing = math.prod(self.layout.grid), self.place.listing()
        return (None if listing is None else total - sum(map(self.layout.is_key, listing))), total


def _fill_value(value: Any, dtype: np.dtype) -> Any:
    """The value of absent chunks, None where it is written in a way that zarr had better read."""
    if isinstance(value, list | dict):
        return None
    try:
        if isinstance(value, str):  # "NaN", "-Infinity", and bioformats2raw's "0"; never a large integer
            value = float(value)
        fill = dtype.type(0 if value is None else value)
    except (TypeError, ValueError, OverflowError):
        return None
    return fill if value is None or fill == value or (fill != fill and value != value) else None


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
    found = _written_by_us(place)
    if found is None:
        return None
    folder, raw = found
    written = os.stat(os.path.join(folder.url, MANIFEST)).st_mtime_ns
    newest = max((int(time) for _, time in listing.values()), default=0)
    return (raw, place.url.removeprefix(folder.url)) if newest <= written else None


def _written_by_us(place: Place) -> tuple[Place, bytes] | None:
    """The folder of the run that wrote this array, and its manifest; None for what others wrote."""
    for folder in place.outward():
        raw = folder.read(MANIFEST)
        if raw is not None:
            return folder, raw
    return None
