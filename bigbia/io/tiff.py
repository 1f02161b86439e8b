"""TIFF, OME-TIFF and ImageJ TIFF as sources.

Voxels that lie in the file one after the other are mapped for the moment of a read, so that pages of a large file do
not stay in memory. Otherwise a page is decoded at once in the thread that asked, and tiles of pages too large for that
are read through tifffile's Zarr store. Nothing that is open is pickled.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from dataclasses import replace
from typing import Any

import numpy as np

from bigbia.errors import BigbiaError, InputError, MissingExtraError, ParameterError, StorageError, reason
from bigbia.graph.boxes import Box, describe, shape_of, slices
from bigbia.io.found import scene_number
from bigbia.io.places import Place, stats, storage_errors
from bigbia.io.tiff_guard import check_extent, check_ome, check_segments, guard, whole_chain
from bigbia.io.tiff_says import TiffInfo, known_axes, scene_names, what_it_says
from bigbia.io.zarr_layout import MAX_BYTES, check_dtype, check_shape

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
WHOLE_PAGE = 64 << 20  # bytes up to which a page is decoded at once
PIECE = 1 << 20  # bytes of a mapped file that are read at once
LONG_RUN = 16 << 10  # bytes from which on a run is read, and not mapped


def is_tiff(place: Place) -> bool:
    """Does the file begin as a TIFF does?"""
    if place.local:
        with storage_errors(place.url), open(place.url, "rb") as file:
            return file.read(4) in MAGIC
    fs, path = place.remote
    with storage_errors(place.url):
        return fs.cat_file(path, start=0, end=4)[:4] in MAGIC


def open_tiff(
    place: Place, level: int = 0, on_missing: str = "fill", scene: Any = None, *, kept: bool = True
) -> tuple[Any, TiffInfo]:
    """The source of one pyramid level of one image in a file (the first), and what the file says about it.

    `kept=False` leaves aside what bigbia writes into a TIFF beyond its format, axes of length 1 above all.
    """
    from bigbia.io.tiff_write_kept import with_kept

    try:
        with whole_chain(place), _opened(place) as tif:
            check_ome(tif, place)
            if not tif.series:
                raise InputError(f"{place}: is a TIFF file without an image")
            names = scene_names(tif)
            number = scene_number(scene, names, place)
            series = tif.series[number]
            info = what_it_says(tif, number, names, place)
            if not 0 <= level < len(series.levels):
                raise ParameterError(
                    f"{place}: level={level}: has {len(series.levels)} level(s), 0 to {len(series.levels) - 1}"
                )
            source = TiffSource(place, tif, level, on_missing, number)
            info = replace(info, bytes=sum(size for _, size, _ in source.files))
            return with_kept(source, info, tif, number) if kept else (source, info)
    except BigbiaError:
        raise
    except OSError as error:
        raise StorageError(f"{place}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # tifffile raises whatever its parsing of a damaged file led to
        raise InputError(f"{place}: is not a TIFF file that can be read: {reason(error)}") from None


def _opened(place: Place) -> Any:
    import tifffile

    if place.local:
        return tifffile.TiffFile(place.url)
    fs, path = place.remote
    return tifffile.TiffFile(fs.open(path, "rb"), name=place.name)


class TiffSource:
    """One level of an image in a TIFF as a source: shape, dtype, chunks, token, read(box). Picklable, thread-safe."""

    def __init__(self, place: Place, tif: Any, level: int, on_missing: str, scene: int = 0) -> None:
        self.place, self.level, self.on_missing, self.scene = place, level, on_missing, scene
        series = tif.series[scene].levels[level]
        page = series.keyframe
        self.shape = tuple(map(int, series.shape))
        check_shape(self.shape, str(place))
        self.dtype = check_dtype(np.dtype(series.dtype), str(place))
        if math.prod(self.shape) * self.dtype.itemsize > MAX_BYTES:
            raise InputError(f"{place}: shape {self.shape} of {self.dtype} is more than 1 EiB: its metadata is wrong")
        _check_codec(page, place)
        self.axes = series.axes.lower() if known_axes(series.axes) else None
        # Where the voxels lie one after the other: (offset, dtype as stored).
        mapped = place.local and series.dataoffset is not None and series.transform is None
        self.mapped = (int(series.dataoffset), self.dtype.newbyteorder(tif.byteorder).str) if mapped else None
        if self.mapped is not None:
            check_extent(self.shape, self.dtype.itemsize, self.mapped[0], place)
        else:
            for one in (series[0], series[-1]):  # the others when they are read
                check_segments(one, place)
        lead = _leading_axes(series)
        small = page.nbytes <= (PIECE if page.is_tiled else WHOLE_PAGE)
        # Whole pages: how many axes count them. None: tiles or strips through tifffile's Zarr store.
        alone = series.transform is None and not series.is_multifile  # tifffile's store keeps few files open at once
        self.paged = lead if lead is not None and small and alone else None
        self._start()
        if self.mapped:
            self.chunks = _piece(self.shape, series.axes, self.dtype.itemsize)
        elif self.paged is not None:
            self.chunks = (1,) * self.paged + self.shape[self.paged :]
        else:
            self.chunks = tuple(map(int, self._store(tif).chunks))
        self.missing = sum(page is None for page in series) if tif.is_ome and not mapped else 0
        if self.missing and self.paged is None and on_missing == "error":
            raise InputError(
                f"{place}: {self.missing} of {len(series)} pages are missing: restore them, or pass "
                'on_missing="fill" to read zeros there'
            )
        self.files = _files(place, series)
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr(("tiff", level, scene, on_missing, place.url, self.files or os.urandom(16))).encode())
        self.token = digest.hexdigest()

    def __repr__(self) -> str:
        return f"TiffSource({self.place}, {self.shape}, {self.dtype})"

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_lock", "_tif")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def _start(self) -> None:
        self._lock = threading.RLock()
        self._tif: tuple[int, Any, Any] | None = None

    def _store(self, tif: Any) -> Any:
        import zarr

        guard(tif.series[self.scene].levels[self.level].keyframe)
        return zarr.open_array(tif.series[self.scene].aszarr(level=self.level, maxworkers=2), mode="r")

    def _handle(self) -> Any:
        """The file, opened once a process (a fork would share its position), and what is read from it."""
        with self._lock:
            if self._tif is None or self._tif[0] != os.getpid():
                self._check_unchanged()
                tif = _opened(self.place)
                tif.filehandle.set_lock(True)
                self._tif = (
                    os.getpid(),
                    tif,
                    tif.series[self.scene].levels[self.level] if self.paged is not None else self._store(tif),
                )
            return self._tif[2]

    def _check_unchanged(self) -> None:
        """What was planned for one file must not be read from another that took its place."""
        if self.files and stats([name for name, *_ in self.files], self.place) != self.files:
            raise InputError(f"{self.place}: has changed since it was opened: open it again")

    def close(self) -> None:
        """Closes the file; the next read opens it again. Nobody may be reading."""
        with self._lock:
            if self._tif is not None and self._tif[0] == os.getpid():
                self._tif[1].close()
            self._tif = None

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box, contiguous, in native byte order.

        Raises InputError for what cannot be decoded, and where the file is no longer the one that was opened.
        """
        box = tuple((int(a), int(b)) for a, b in box)
        try:
            if self.place.local:
                self._check_unchanged()
            if self.mapped:
                return self._read_mapped(box, *self.mapped)
            if self.paged is None:
                return np.ascontiguousarray(self._handle()[slices(box)], dtype=self.dtype)
            return self._read_pages(box, self.paged)
        except BigbiaError:
            raise
        except OSError as error:
            raise StorageError(f"{self.place}: cannot be read: {error.strerror or error}") from None
        except Exception as error:
            raise InputError(
                f"{self.place}: {describe(box, self.axes)} cannot be decoded: {reason(error)}: the file is damaged, "
                "restore it"
            ) from None

    def _read_mapped(self, box: Box, offset: int, dtype: str) -> np.ndarray:
        """Voxels that lie one after the other.

        Long runs are read into place: of a mapped file every page costs a fault, and counts as memory. Short ones are copied
        from the mapped file.
        """
        lead = len(box)
        while lead and box[lead - 1] == (0, self.shape[lead - 1]):
            lead -= 1
        lead = max(0, lead - 1)  # the axes that count runs
        out = np.empty(shape_of(box), dtype)
        if math.prod(out.shape[lead:]) * out.itemsize < LONG_RUN:
            out[...] = np.memmap(self.place.url, mode="r", dtype=dtype, offset=offset, shape=self.shape)[slices(box)]
            return out.astype(self.dtype, copy=False)
        strides = [math.prod(self.shape[a + 1 :]) for a in range(len(box))]
        first = sum(start * stride for (start, _), stride in zip(box, strides))
        with open(self.place.url, "rb", buffering=0) as file:
            for index in np.ndindex(*out.shape[:lead]):
                at = offset + (first + sum(i * stride for i, stride in zip(index, strides))) * out.itemsize
                left = memoryview(out[index].reshape(-1).view(np.uint8).data)
                file.seek(at)
                while len(left):
                    got = file.readinto(left)
                    if not got:
                        raise InputError(
                            f"{self.place}: is cut off at byte {file.tell()}: restore it, or copy it again"
                        )
                    left = left[got:]
        return out.astype(self.dtype, copy=False)

    def _read_pages(self, box: Box, lead: int) -> np.ndarray:
        out = np.empty(shape_of(box), self.dtype)
        within = slices(box[lead:])
        for place in np.ndindex(*out.shape[:lead]):
            index = tuple(i + start for i, (start, _) in zip(place, box))
            with self._lock:  # pages are looked up by following the chain through the file
                number = int(np.ravel_multi_index(index, self.shape[:lead])) if lead else 0
                page = self._handle()[number]
            if page is None:
                if self.on_missing == "error":
                    here = tuple((i, i + 1) for i in index) + box[lead:]
                    raise InputError(
                        f"{self.place}: the page of {describe(here, self.axes)} is missing: restore it, or pass "
                        'on_missing="fill" to read zeros there'
                    )
                out[place] = 0
                continue
            guard(page)
            check_segments(page, self.place)
            out[place] = page.asarray(maxworkers=1).reshape(self.shape[lead:])[within]
        return out

    def missing_chunks(self) -> tuple[int, int]:
        """Pages that the file announces and does not hold, and how many there should be."""
        return self.missing, math.prod(-(-n // c) for n, c in zip(self.shape, self.chunks))


def _check_codec(page: Any, place: Place) -> None:
    import tifffile

    for codecs, code in ((tifffile.TIFF.DECOMPRESSORS, page.compression), (tifffile.TIFF.UNPREDICTORS, page.predictor)):
        try:
            codecs[code]
        except KeyError:
            name = getattr(code, "name", str(code))
            raise MissingExtraError(
                f"{place}: is packed as {name}, which needs the package imagecodecs: pip install imagecodecs"
            ) from None


def _leading_axes(series: Any) -> int | None:
    """How many axes count pages, where every page holds all of the other ones."""
    shape, count, size = series.shape, len(series), series.keyframe.size
    return next(
        (k for k in range(len(shape) + 1) if math.prod(shape[:k]) == count and math.prod(shape[k:]) == size), None
    )


def _piece(shape: tuple[int, ...], axes: str, itemsize: int) -> tuple[int, ...]:
    """A unit of a mapped file: full rows, some 64 of them, of as many planes as make a mebibyte."""
    rows = axes.index("Y") if "Y" in axes else max(0, len(shape) - 2)
    piece = [min(n, 64) if i == rows else n if i > rows else 1 for i, n in enumerate(shape)]
    if rows and axes[rows - 1] not in "TC":  # times and channels are worked on one by one
        piece[rows - 1] = max(1, min(shape[rows - 1], 16, PIECE // (math.prod(piece) * itemsize)))
    return tuple(piece)


def _files(place: Place, series: Any) -> list[tuple[str, int, str]]:
    """Name, size and time of every file that holds pages of a series. Empty where they cannot be told."""
    names = [place.url]
    if series.is_multifile:
        names = sorted({page.parent.filehandle.path for page in series if page is not None})
    return stats(names, place)
