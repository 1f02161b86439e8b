"""What the sources of foreign formats share: the file that was opened must stay the one that is read.

A source is opened again on the other side of a pickle, once a process: a fork would share the position in the file.
Each format says how its file is opened (`_opened`) and how a box is read of it (`_voxels`); here stands what becomes of
the errors of its library.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bigbia.errors import BigbiaError, InputError, MissingExtraError, ParameterError, StorageError, nearest, reason
from bigbia.graph.boxes import Box, describe, shape_of
from bigbia.hyperstack import SPACE
from bigbia.io.places import Files, Place, shown, stats
from bigbia.io.zarr_layout import MAX_BYTES, MAX_CHUNK_BYTES, check_dtype, check_shape
from bigbia.units import LENGTHS, TIMES, convert, rounded

PIECE = 1 << 20  # bytes that are read at once where a format has no chunks
FEW = 8  # names that a message lists
_SAMPLES = {3: ("red", "green", "blue"), 4: ("red", "green", "blue", "alpha")}


class ForeignSource:
    """One image of a file as a source: shape, dtype, chunks, token, read(box). Picklable, thread-safe.

    A format sets what must be known to read a box, calls `_describe`, and has `_opened` and `_voxels`.
    """

    format = ""
    shape: tuple[int, ...]
    dtype: np.dtype  # native byte order
    chunks: tuple[int, ...]
    axes: str | None = None

    def __init__(self, place: Place, on_missing: str | None, files: Files) -> None:
        self.place, self.on_missing, self.watched = place, on_missing or "fill", files
        self.token = ""
        self._start()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.place}, {self.shape}, {self.dtype})"

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_lock", "_open")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def _start(self) -> None:
        self._lock = threading.RLock()
        self._open: tuple[int, Any] | None = None

    def _describe(self, shape: Sequence[int], dtype: np.dtype, chunks: Sequence[int], what: object) -> None:
        """Checks what the file says, and takes it. `what` tells this image from the others of the file."""
        self.shape = tuple(map(int, shape))
        if min(self.shape, default=0) < 0:
            raise InputError(f"{self.where}: shape {self.shape} has a negative length: the file is damaged")
        check_shape(self.shape, self.where)
        self.dtype = check_dtype(np.dtype(dtype), self.where)
        self.chunks = tuple(max(1, int(c)) for c in chunks)
        if math.prod(self.shape) * self.dtype.itemsize > MAX_BYTES:
            raise InputError(
                f"{self.where}: shape {self.shape} of {self.dtype} is more than 1 EiB: its metadata is wrong"
            )
        if math.prod(self.chunks) * self.dtype.itemsize > MAX_CHUNK_BYTES:
            raise InputError(
                f"{self.where}: one chunk of {self.chunks} {self.dtype} is "
                f"{math.prod(self.chunks) * self.dtype.itemsize / 2**30:.3g} GiB, at most {MAX_CHUNK_BYTES >> 30} GiB are "
                "opened: write it again in smaller chunks"
            )
        parts = (self.format, self.on_missing, what, self.watched or (self.place.url, os.urandom(16)))
        self.token = hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()

    @property
    def files(self) -> Files:
        """The files that hold voxels: name, size and time."""
        return self.watched

    @property
    def where(self) -> str:
        """What messages begin with."""
        return str(self.place)

    def _opened(self) -> Any:
        raise NotImplementedError

    def _voxels(self, handle: Any, box: Box) -> np.ndarray:
        raise NotImplementedError

    def _handle(self) -> Any:
        """The file, opened once a process."""
        with self._lock:
            if self._open is None or self._open[0] != os.getpid():
                self._check_unchanged()
                self._open = os.getpid(), self._opened()
            return self._open[1]

    def _check_unchanged(self) -> None:
        """What was planned for one file must not be read from another that took its place."""
        if self.watched and stats([name for name, *_ in self.watched], self.place) != self.watched:
            raise InputError(f"{self.place}: has changed since it was opened: open it again")

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box, contiguous, in native byte order.

        Raises InputError for what cannot be decoded, and where the file is no longer the one that was opened.
        """
        box = tuple((int(a), int(b)) for a, b in box)
        if 0 in shape_of(box):
            return np.empty(shape_of(box), self.dtype)
        try:
            if self.place.local:
                self._check_unchanged()
            return np.ascontiguousarray(self._voxels(self._handle(), box), self.dtype)
        except (BigbiaError, MemoryError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno:  # without a number it is a library's word for damage
                raise StorageError(f"{self.where}: cannot be read: {error.strerror or error}") from None
            raise self._damaged(box, reason(error)) from None

    def _damaged(self, box: Box, why: str) -> InputError:
        return InputError(
            f"{self.where}: {describe(box, self.axes)} cannot be decoded: {why}: the file is damaged, restore it"
        )

    def _absent(self, box: Box, what: str = "a chunk") -> InputError:
        voxels = " x ".join(map(str, shape_of(box)))
        return InputError(
            f"{self.where}: {what} is missing ({voxels} voxels at {describe(box, self.axes)}): restore it, or pass "
            'on_missing="fill" to read fill values there'
        )

    def missing_chunks(self) -> tuple[int | None, int]:
        """Chunks that the file does not hold, and how many there should be."""
        return 0, math.prod(-(-n // c) for n, c in zip(self.shape, self.chunks))


@dataclass
class Told:
    """What a file says about one image, in its own order of axes."""

    names: tuple[str, ...] = ()  # one an axis; axes of space, time and channels among t c z y x
    sizes: dict[str, float] = field(default_factory=dict)  # of a voxel, and the time step
    unit: str | None = None
    time_unit: str | None = None
    channels: tuple[str, ...] | None = None
    display: dict[str, dict[str, Any]] = field(default_factory=dict)
    origin: dict[str, float] = field(default_factory=dict)
    shrink: dict[str, float] = field(default_factory=dict)
    levels: tuple[tuple[int, ...], ...] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def axes(self) -> tuple[str, ...] | None:
        known = self.names and len(set(self.names)) == len(self.names) and set(self.names) <= set("tczyx")
        return self.names if known else None

    def in_one_unit(self, units: Mapping[str, str | None]) -> None:
        """One unit for all axes of space, that of the last one; sizes in something else go where others have one."""
        lengths = {a: u for a in "xyz" if a in self.sizes and (u := units.get(a)) in LENGTHS}
        self.unit = next(iter(lengths.values()), None)
        for axis in [a for a in self.sizes if a in SPACE]:
            if self.unit and axis in lengths:
                self.sizes[axis] = convert(self.sizes[axis], str(lengths[axis]), self.unit)
                if axis in self.origin:
                    start = self.origin[axis]  # a length has no sign
                    self.origin[axis] = rounded(
                        math.copysign(convert(abs(start), str(lengths[axis]), self.unit), start)
                    )
            elif self.unit:
                del self.sizes[axis]
        if "t" in self.sizes and units.get("t") in TIMES:
            self.time_unit = units["t"]


def found_of(place: Place, kind: str, source: Any, told: Told, name: str, scenes: Sequence[str] = ()) -> Any:
    """What `found` hands back."""
    from bigbia.io.found import Found

    names = told.names if len(told.names) == len(source.shape) else ()
    axes = told.axes if names else None
    source.axes = "".join(axes) if axes else None
    sizes = {a: rounded(s) for a, s in told.sizes.items() if a in names and a != "c" and 0 < s < math.inf}
    unit = told.unit if any(a in sizes for a in "zyx") else None
    return Found(
        place, kind, source, names, axes, sizes=sizes, shrink=told.shrink,
        origin={a: rounded(o) for a, o in told.origin.items() if a in sizes and math.isfinite(o)},
        unit=unit, time_unit=told.time_unit if "t" in sizes else None,
        channels=told.channels, name=name, levels=told.levels or (source.shape,),
        scenes=tuple(scenes) if len(scenes) > 1 else (), display=told.display, notes=list(told.notes),
    )  # fmt: skip


def pick(place: Place, scene: str | int | None, names: Sequence[str], size: Callable[[int], str]) -> int:
    """The number of the image that is meant. `size(i)` says in a few words how large image i is.

    Raises InputError for several images and no word which, ParameterError for one that is not there.
    """
    if scene is None:
        if len(names) == 1:
            return 0
        listed = [f"{shown(names[i])} ({size(i)})" for i in range(min(FEW, len(names)))]
        more = f", and {len(names) - FEW} more" if len(names) > FEW else ""
        raise InputError(
            f"{place}: holds {len(names)} images: {', '.join(listed)}{more}: name one, as in scene={names[0]!r} or scene=0"
        )
    said = f"{place}: scene={scene!r}"
    if isinstance(scene, str):
        same = [i for i, name in enumerate(names) if name == scene]
        if len(same) > 1:
            raise ParameterError(f"{said}: {len(same)} images have this name: give a number, {same[0]} or {same[1]}")
        if same:
            return same[0]
        if not scene.isdecimal():
            raise ParameterError(f"{said}: there is no such image, {nearest(scene, map(shown, names))}")
        scene = int(scene)
    if isinstance(scene, bool) or not isinstance(scene, int | np.integer):
        raise ParameterError(f"{said}: is neither a name nor a number from 0")
    if not 0 <= scene < len(names):
        known = ", ".join(map(shown, names[:FEW])) + (", ..." if len(names) > FEW else "")
        raise ParameterError(f"{said}: has {len(names)} image(s), 0 to {len(names) - 1}: {known}")
    return int(scene)


def check_level(place: Place, level: int, count: int) -> None:
    if not 0 <= level < count:
        raise ParameterError(f"{place}: level={level}: has {count} level(s), 0 to {count - 1}")


def imported(name: str, what: str) -> Any:
    """A package of the extra `formats`. `what` is it for, as in "x.czi: reading CZI files"."""
    try:
        if name == "h5py":
            import h5py as module
        elif name == "nd2":
            import nd2 as module
        elif name == "liffile":
            import liffile as module
        else:
            import pylibCZIrw.czi as module
    except ImportError:
        raise MissingExtraError.of(name, what, "formats") from None
    return module


def local_only(place: Place, format: str) -> None:
    if not place.local:
        raise InputError(f"{place}: is a {format} file, which is read from a disk: copy it here first")


class reading:
    """Turns what a library raises over a file that it cannot open into one of our errors."""

    def __init__(self, place: Place, format: str) -> None:
        self.place, self.format = place, format

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, Exception) or isinstance(error, BigbiaError):
            return
        if isinstance(error, OSError) and error.errno:
            raise StorageError(f"{self.place}: cannot be read: {error.strerror or error}") from None
        raise InputError(
            f"{self.place}: cannot be read as {self.format}: {reason(error)}: it is cut off or damaged: restore it, or copy it again"
        ) from None


def stem(place: Place, *suffixes: str) -> str:
    name = place.name
    for suffix in suffixes:
        name = name[: -len(suffix)] if name.lower().endswith(suffix) else name
    return name


def piece_of(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """A unit of voxels that lie in the file one after the other: full rows, some 64, of as many planes as make 1 MiB."""
    piece = [1] * len(shape)
    most = PIECE // itemsize
    for axis in reversed(range(len(shape))):
        limit = {1: 64, 2: 16}.get(len(shape) - 1 - axis, shape[axis] if axis == len(shape) - 1 else 1)
        piece[axis] = max(1, min(shape[axis], limit, most // max(1, math.prod(piece))))
    return tuple(piece)


def samples(count: int) -> tuple[str, ...] | None:
    """Names of the colour samples of a pixel."""
    return _SAMPLES.get(count)


def size_text(names: Sequence[str], shape: Sequence[int]) -> str:
    """How large an image is: "c 2, y 100, x 100"; "2 x 100 x 100" where its axes have no names."""
    if len(names) == len(shape):
        return ", ".join(f"{a} {n}" for a, n in zip(names, shape))
    return " x ".join(map(str, shape))


def positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < math.inf else None


_WORDS = {
    "time": "t", "frame": "t", "frames": "t", "channel": "c", "channels": "c", "ch": "c", "depth": "z", "plane": "z",
    "slice": "z", "row": "y", "rows": "y", "height": "y", "col": "x", "column": "x", "columns": "x", "width": "x",
}  # fmt: skip


def axis_name(word: Any) -> str:
    """The name of an axis among t c z y x, where a word stands for one."""
    text = shown(str(word)).strip().lower()
    return _WORDS.get(text, text)
