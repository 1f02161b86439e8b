"""A series of TIFF files as one image: a pattern says which files, and what their numbers mean.

    img_t{t}_c{c}_z{z}.tif    {t}, {c}, {z} are a number or a word, * is anything

The axes of the pattern are stacked in front of those of the files. Files are opened when they are read, a few at once.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from bigbia.errors import InputError
from bigbia.graph.boxes import Box, describe, shape_of
from bigbia.hyperstack import SPACE
from bigbia.io.found import GUESS, Found, listed
from bigbia.io.places import Place, shown
from bigbia.io.series_files import Index, SeriesFiles, files_of, name_for
from bigbia.io.tiff import TiffSource, open_tiff
from bigbia.io.tiff_says import TiffInfo
from bigbia.io.zarr_layout import check_shape
from bigbia.units import rounded

OPEN = 96  # files of a series that are open at once, beside those that are being read
CHECKED = 32  # files up to which all are looked at when a series is opened


def open_series(place: Place, level: int, on_missing: str | None, scene: Any = None) -> Found:
    """The image that the files of a pattern make.

    Raises InputError for a pattern that matches nothing, for combinations that have no file (unless
    `on_missing="fill"`), and for files that are not alike.
    """
    series = files_of(place)
    if series.absent and on_missing != "fill":
        raise InputError(
            f"{place}: {series.absent} of {math.prod(series.shape)} files are missing ({listed(series.missing(9), 8)}): "
            'restore them, or pass on_missing="fill" to read zeros there'
        )
    first, info = open_tiff(Place(next(iter(series.files.values()))[0]), level, on_missing or "fill", scene, kept=False)
    axes, notes = _axes(series, info, first)
    source = SeriesSource(series, first, level=level, on_missing=on_missing or "error", scene=scene, axes=axes)
    if len(series.files) <= CHECKED:
        source.check_all()
    names = axes or ()
    shrink = {a: n / m for a, n, m in zip(info.axes or (), info.levels[0], info.levels[level]) if a in SPACE}
    lead = series.shape
    if info.images > 1 and scene is None:
        notes.append(f"{place}: each file holds {info.images} images: the first one is read; scene=1 takes another")
    return Found(
        place, f"{info.kind} series", source, names, axes,
        sizes={a: rounded(s * shrink.get(a, 1.0)) for a, s in info.sizes.items() if a in names},
        shrink=shrink, unit=info.unit, time_unit=info.time_unit,
        channels=_channels(series) if "c" in series.axes else info.channels,
        display={} if "c" in series.axes else info.display,
        name=name_for(place.url), levels=tuple(lead + shape for shape in info.levels), notes=[*notes, *_gaps(series)],
    )  # fmt: skip


def _axes(series: SeriesFiles, info: TiffInfo, first: TiffSource) -> tuple[tuple[str, ...] | None, list[str]]:
    """The axes of the pattern and of the files; None where nothing says which those of the files are."""
    own, notes = info.axes, []
    if own is None:
        own = GUESS.get(len(first.shape))
        if own is None or set(own) & set(series.axes):
            return None, []
        notes.append(
            f"{first.place}: nothing says which axes shape {first.shape} has: taken as {''.join(own)} "
            f'(axes="{"".join((*series.axes, *own))}" if that is right)'
        )
    both = [axis for axis in own if axis in series.axes]
    if both:
        raise InputError(
            f"{series.pattern}: its files have an axis {both[0]} of their own ({first.place.name} is "
            f"{' x '.join(map(str, first.shape))}, axes {''.join(own)}): leave {{{both[0]}}} out of the pattern, or open "
            "one file"
        )
    return (*series.axes, *own), notes


def _channels(series: SeriesFiles) -> tuple[str, ...] | None:
    """Words are the channels' names; numbers are, unless they only count."""
    names = series.values[series.axes.index("c")]
    numbers = [int(name) if name.isdecimal() else -1 for name in names]
    counted = any(numbers == list(range(start, start + len(names))) for start in (0, 1))
    return None if counted else tuple(map(shown, names))


def _gaps(series: SeriesFiles) -> list[str]:
    """A number that nothing has, between others: the steps are taken as even all the same."""
    out = []
    for axis, names in zip(series.axes, series.values):
        if axis == "c" or not all(name.isdecimal() for name in names):
            continue
        numbers = list(map(int, names))
        steps = {b - a for a, b in pairwise(numbers)}
        if len(steps) > 1:
            a, b = next((a, b) for a, b in pairwise(numbers) if b - a != min(steps))
            out.append(
                f"{series.pattern}: {axis} goes from {a} to {b} where it goes by {min(steps)} elsewhere: no file lies "
                "between, and they are taken as neighbours"
            )
    return out


class _Opened:
    """A file that is open, and how many read from it."""

    def __init__(self) -> None:
        self.lock, self.users = threading.Lock(), 0
        self.source: TiffSource | None = None


class SeriesSource:
    """A series as a source: shape, dtype, chunks, token, read(box). Picklable, thread-safe.

    What is pickled names the pattern and not its files, which the other side lists again: a list of ten thousand files
    would travel with every task.
    """

    _series: SeriesFiles | None

    def __init__(
        self,
        series: SeriesFiles,
        first: TiffSource,
        *,
        level: int,
        on_missing: str,
        scene: Any,
        axes: tuple[str, ...] | None,
    ) -> None:
        self.place, self.level, self.on_missing, self.scene = series.pattern, level, on_missing, scene
        self.axes = "".join(axes) if axes else None
        self.lead, self.first, self.alike = len(series.shape), first.place.url, first.shape
        self.shape, self.dtype = series.shape + first.shape, first.dtype
        check_shape(self.shape, str(self.place))
        self.chunks = (1,) * self.lead + first.chunks
        self.missing = series.absent
        self.listed = _digest(series)
        known = all(stamp for _, _, stamp in series.files.values())
        words = ("series", level, scene, on_missing, self.listed if known else os.urandom(16))
        self.token = hashlib.blake2b(repr(words).encode(), digest_size=16).hexdigest()
        self._start()
        self._series = series

    def __repr__(self) -> str:
        return f"SeriesSource({self.place}, {self.shape}, {self.dtype})"

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_lock", "_open", "_series")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _Opened] = OrderedDict()
        self._series = None

    @property
    def series(self) -> SeriesFiles:
        """Its files, listed once a process. InputError where they are no longer those that were opened."""
        if self._series is None:
            self._series = _again(self.place.url, self.listed)
        return self._series

    @property
    def files(self) -> list[tuple[str, int, str]]:
        return list(self.series.files.values())

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box, contiguous, in native byte order.

        Raises InputError for a file that cannot be decoded, has changed, or is not like the first one.
        """
        lead, rest = box[: self.lead], box[self.lead :]
        out = np.empty(shape_of(box), self.dtype)
        for place in np.ndindex(*out.shape[: self.lead]):
            index = tuple(int(start) + i for i, (start, _) in zip(place, lead))
            if index not in self.series.files:
                self._absent(index, rest)
                out[place] = 0
                continue
            with self._borrowed(index) as source:
                out[place] = source.read(rest)
        return out

    def _absent(self, index: Index, rest: Box) -> None:
        if self.on_missing == "error":
            where = describe((*((i, i + 1) for i in index), *rest), self.axes)
            raise InputError(
                f"{self.place}: the file {self.series.name_of(index)} of {where} is missing: restore it, or pass "
                'on_missing="fill" to read zeros there'
            )

    @contextmanager
    def _borrowed(self, index: Index) -> Iterator[TiffSource]:
        """The file at a place, kept open for the next read until too many are."""
        path = self.series.files[index][0]
        with self._lock:
            entry = self._open.setdefault(path, _Opened())
            self._open.move_to_end(path)
            entry.users += 1
        try:
            with entry.lock:
                if entry.source is None:
                    entry.source = self._checked(index)
            yield entry.source
        finally:
            with self._lock:
                entry.users -= 1
                idle = [name for name, one in self._open.items() if not one.users]
                for name in idle[: max(0, len(self._open) - OPEN)]:
                    source = self._open.pop(name).source
                    if source is not None:
                        source.close()

    def _checked(self, index: Index) -> TiffSource:
        """Opens a file and compares it with the first one, and with what was listed."""
        path, size, stamp = self.series.files[index]
        source, _ = open_tiff(
            Place(path), self.level, "error" if self.on_missing == "error" else "fill", self.scene, kept=False
        )
        if (source.shape, source.dtype) != (self.alike, self.dtype):
            raise InputError(
                f"{shown(path)}: is {' x '.join(map(str, source.shape))} {source.dtype}, {shown(self.first)} is "
                f"{' x '.join(map(str, self.alike))} {self.dtype}: the files of a series must be alike; name fewer by the "
                "pattern, or restore that file"
            )
        if source.place.local and source.files and source.files[0][1:] != (size, stamp):
            raise InputError(f"{shown(path)}: has changed since it was opened: open it again")
        return source

    def check_all(self) -> None:
        """Opens every file. InputError for the first one that is not like the others."""
        for index in self.series.files:
            with self._borrowed(index):
                pass

    def missing_chunks(self) -> tuple[int, int]:
        """Files that should be there and are not, and how many there should be."""
        return self.missing, math.prod(self.shape[: self.lead])


def _digest(series: SeriesFiles) -> str:
    digest = hashlib.blake2b(repr((series.pattern.url, series.values)).encode(), digest_size=16)
    for index, file in series.files.items():
        digest.update(repr((index, file)).encode())
    return digest.hexdigest()


@lru_cache(maxsize=4)
def _again(pattern: str, listed_before: str) -> SeriesFiles:
    """The files of a pattern, as another process listed them."""
    series = files_of(Place(pattern))
    if _digest(series) != listed_before:
        raise InputError(f"{shown(pattern)}: its files have changed since it was opened: open it again")
    return series
