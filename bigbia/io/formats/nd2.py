"""ND2, Nikon's format: the nd2 library reads what a file says; frames are found by its list of chunks and read here.

    Nd2Source  one position as a source
    open_nd2   what is in a file

The library fills a frame that is absent, or lies beyond the end of a file that was cut off, with zeros and says nothing;
and it unpacks a frame to whatever size comes out. So every frame is looked at here before it is read. Files of the old
kind (JPEG 2000) are read by the library, a frame at a time.
"""

from __future__ import annotations

import math
import os
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bigbia.errors import InputError
from bigbia.graph.boxes import Box, shape_of, slices
from bigbia.io.chunks import Decoder, largest_frame
from bigbia.io.formats.base import (
    ForeignSource,
    Told,
    check_level,
    found_of,
    imported,
    local_only,
    pick,
    positive,
    reading,
    reason,
    samples,
    size_text,
    stats,
    stem,
)
from bigbia.io.places import Place, shown

_LOOPS = {"TimeLoop": "t", "NETimeLoop": "t", "ZStackLoop": "z", "XYPosLoop": "p"}
_MAGIC, _HEADER = 0x0ABECEDA, struct.Struct("<IIQ")
_MAP, _MAP_END = b"ND2 FILEMAP SIGNATURE NAME 0001!", b"ND2 CHUNK MAP SIGNATURE 0000001!"
_MOST_MAP = 1 << 30  # bytes of a list of chunks
_STAMP = 8  # bytes before the voxels of a frame


@dataclass(frozen=True)
class Frame:
    """How the voxels of a frame lie: rows of `row` bytes, pixels of `count` values one after the other."""

    height: int
    width: int
    count: int  # values a pixel
    row: int
    dtype: np.dtype
    packed: bool

    @property
    def nbytes(self) -> int:
        return self.height * self.row

    def view(self, data: Any) -> np.ndarray:
        """Values of a pixel, y, x."""
        width = self.dtype.itemsize
        shape, steps = (self.count, self.height, self.width), (width, self.row, self.count * width)
        return np.ndarray(shape, self.dtype, data, 0, steps)


class Nd2Source(ForeignSource):
    """A position of an ND2 file as a source. `loops` are the axes that count frames, with their lengths."""

    format = "nd2"

    def __init__(
        self,
        place: Place,
        loops: tuple[tuple[str, int], ...],
        position: int,
        frame: Frame,
        offsets: Mapping[int, int] | None,
        on_missing: str | None,
    ) -> None:
        super().__init__(place, on_missing, stats([place.url], place))
        self.loops, self.position, self.frame = loops, position, frame
        lead = [n for a, n in loops if a != "p"]
        own = [frame.count] if frame.count > 1 else []
        rows = max(1, min(frame.height, (1 << 20) // max(1, frame.row)))
        piece = [rows if offsets is not None and not frame.packed else frame.height, frame.width]
        self._describe(
            [*lead, *own, frame.height, frame.width], frame.dtype, [*(1 for _ in lead), *own, *piece], position
        )  # fmt: skip
        # Only the frames of this position: the others are of no use on the other side of a pickle.
        numbers = [self._number(i) for i in np.ndindex(*lead)]
        self.offsets = None if offsets is None else {n: offsets[n] for n in numbers if n in offsets}
        self.frames = len(numbers)

    def _number(self, index: tuple[int, ...]) -> int:
        """Which frame of the file it is."""
        rest = iter(index)
        at = [self.position if a == "p" else next(rest) for a, _ in self.loops]
        return int(np.ravel_multi_index(at, [n for _, n in self.loops])) if at else 0

    def _opened(self) -> Any:
        if self.offsets is None:
            return _library(self.place)
        return open(self.place.url, "rb", buffering=0)

    def _voxels(self, handle: Any, box: Box) -> np.ndarray:
        out = np.empty(shape_of(box), self.dtype)
        lead = len(self.shape) - 2 - (self.frame.count > 1)
        inner = box[lead:] if self.frame.count > 1 else ((0, 1), *box[lead:])
        for place in np.ndindex(*shape_of(box[:lead])):
            index = tuple(i + a for i, (a, _) in zip(place, box))
            number = self._number(index)
            if self.offsets is not None and number not in self.offsets:
                if self.on_missing == "error":
                    raise self._absent((*((i, i + 1) for i in index), *box[lead:]), f"frame {number}")
                out[place] = 0
                continue
            try:
                found = (
                    self._stored(handle.fileno(), number, inner)
                    if self.offsets is not None
                    else self._old(handle, number)[slices(inner)]
                )
            except ValueError as error:
                raise self._damaged(
                    (*((i, i + 1) for i in index), *box[lead:]), f"frame {number}: {reason(error)}"
                ) from None
            out[place] = found.reshape(shape_of(box[lead:]))
        return out

    def _stored(self, handle: int, number: int, inner: Box) -> np.ndarray:
        """Voxels of a frame. ValueError where the bytes are not those of this frame."""
        offset, frame = (self.offsets or {})[number], self.frame
        size = os.fstat(handle).st_size
        head = os.pread(handle, _HEADER.size, offset) if offset < size else b""
        if len(head) < _HEADER.size:
            raise ValueError(f"lies at byte {offset} of {size}")
        magic, name, length = _HEADER.unpack(head)
        start = offset + _HEADER.size + name
        expected = f"ImageDataSeq|{number}!".encode()
        if magic != _MAGIC or name > 1 << 16 or os.pread(handle, len(expected), offset + _HEADER.size) != expected:
            raise ValueError(f"is not at byte {offset}, where the file says")
        if start + length > size:
            raise ValueError(f"ends at byte {start + length} of {size}: is cut off")
        if frame.packed:
            if length > largest_frame(frame.nbytes) + _STAMP:
                raise ValueError(
                    f"holds {length} bytes, which decode to more than the {frame.nbytes} that are declared"
                )
            data = os.pread(handle, length, start)[_STAMP:]
            raw = Decoder((frame.nbytes,), np.dtype("u1"), ("zlib",)).decode(data)
            return frame.view(raw)[slices(inner)]
        if length < frame.nbytes + _STAMP:
            raise ValueError(f"holds {length} bytes, {frame.nbytes + _STAMP} were expected")
        (first, last) = inner[1]
        rows = Frame(last - first, frame.width, frame.count, frame.row, frame.dtype, False)
        data = os.pread(handle, rows.nbytes, start + _STAMP + first * frame.row)
        if len(data) < rows.nbytes:
            raise ValueError("is cut off")
        return rows.view(data)[slices((inner[0], (0, last - first), inner[2]))]

    def _old(self, handle: Any, number: int) -> np.ndarray:
        """A frame as the library reads it: values of a pixel, y, x."""
        with self._lock:
            found = np.asarray(handle.read_frame(number))
        frame = self.frame
        if found.size != frame.count * frame.height * frame.width:
            raise ValueError(f"{found.shape} came, {frame.count} x {frame.height} x {frame.width} was expected")
        if found.ndim == 3 and found.shape[-1] == frame.count and found.shape[0] != frame.count:
            found = np.moveaxis(found, -1, 0)
        return found.reshape(frame.count, frame.height, frame.width)

    def missing_chunks(self) -> tuple[int | None, int]:
        """Frames that the file does not hold, in chunks."""
        each = math.prod(-(-n // c) for n, c in zip(self.shape[-2:], self.chunks[-2:]))
        absent = 0 if self.offsets is None else self.frames - len(self.offsets)
        return absent * each, self.frames * each


def _library(place: Place) -> Any:
    nd2 = imported("nd2", f"{place}: reading ND2")
    with reading(place, "ND2"):
        return nd2.ND2File(place.url)


def open_nd2(place: Place, level: int, scene: str | int | None, on_missing: str | None) -> Any:
    """What is in an ND2 file."""
    local_only(place, "ND2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library, about metadata that is not asked for here
        file = _library(place)
        try:
            with reading(place, "ND2"):
                attributes, experiment = file.attributes, list(file.experiment)
                channels = list(getattr(file.metadata, "channels", None) or [])
                old = bool(file.is_legacy)
        finally:
            file.close()
    with reading(place, "ND2"):
        offsets = None if old else _frames(place)
        frame = _frame(place, attributes, old)
    loops, positions = _loops(place, experiment, attributes, offsets)
    sizes = [(a, n) for a, n in loops if a != "p"] + [("c", frame.count)] * (frame.count > 1)
    sizes += [("y", frame.height), ("x", frame.width)]
    number = pick(place, scene, positions, lambda i: size_text([a for a, _ in sizes], [n for _, n in sizes]))
    check_level(place, level, 1)
    source = Nd2Source(place, loops, number, frame, offsets, on_missing)
    told = _told(experiment, channels, frame)
    told.names = tuple(a for a, _ in sizes)
    name = stem(place, ".nd2") + (f" {positions[number]}" if len(positions) > 1 else "")
    return found_of(place, "ND2", source, told, name, positions)


def _frame(place: Place, said: Any, old: bool) -> Frame:
    bits, count = int(said.bitsPerComponentInMemory), int(said.componentCount)
    height, width = int(said.heightPx), int(said.widthPx or 0)
    if bits not in (8, 16, 32) or min(height, width, count) < 1:
        raise InputError(
            f"{place}: frames of {height} x {width} with {count} values of {bits} bit: the file is damaged"
        )
    channels = int(said.channelCount or 1)
    if count != channels and channels > 1:
        raise InputError(
            f"{place}: has {channels} channels with {count // channels} colours each: split the colours into channels first"
        )
    if not old and said.compressionType == "lossy":
        raise InputError(f"{place}: its frames are packed with losses (JPEG), which is not read: export it as TIFF")
    dtype = np.dtype(f"{(said.pixelDataType or 'u')[0]}{bits // 8}")
    plain = width * count * dtype.itemsize
    row = int(said.widthBytes or plain)
    if not plain <= row <= 2 * plain + 4096:
        raise InputError(f"{place}: its rows are {row} bytes, {plain} were expected: the file is damaged")
    return Frame(height, width, count, row, dtype, said.compressionType == "lossless")


def _frames(place: Place) -> dict[int, int]:
    """Where the frames of a file begin, by their number."""
    found: dict[int, int] = {}
    with open(place.url, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - 40))
        end = file.read(40)
        if end[:32] != _MAP_END:
            raise InputError(
                f"{place}: is cut off: the list of its frames should stand at its end: restore it, or copy it again"
            )
        at = int.from_bytes(end[32:], "little")
        file.seek(at)
        magic, name, length = _HEADER.unpack(file.read(_HEADER.size))
        if magic != _MAGIC or length > min(_MOST_MAP, size) or file.read(len(_MAP)) != _MAP:
            raise InputError(f"{place}: the list of its frames is not at byte {at}, where the file says: it is damaged")
        file.seek(at + _HEADER.size + name)
        data = file.read(length)
    at = 0
    while (stop := data.find(b"!", at) + 1) > 0:
        key = data[at:stop]
        if key == _MAP_END:
            return found
        if key.startswith(b"ImageDataSeq|") and key[13:-1].isdigit():
            found[int(key[13:-1])] = int.from_bytes(data[stop : stop + 8], "little")
        at = stop + 16
    raise InputError(f"{place}: the list of its frames does not end: the file is damaged, restore it")


def _loops(
    place: Place, experiment: list[Any], attributes: Any, offsets: Mapping[int, int] | None
) -> tuple[tuple[tuple[str, int], ...], list[str]]:
    """The axes that count frames, and the names of the positions."""
    loops: list[tuple[str, int]] = []
    positions = ["image"]
    for loop in experiment:
        axis, count = _LOOPS.get(loop.type), int(loop.count)
        if count == 1 and axis != "p":
            continue
        if axis is None or axis in (a for a, _ in loops):
            raise InputError(
                f"{place}: has a loop of kind {shown(str(loop.type))} ({count}) beside {', '.join(a for a, _ in loops) or 'none'}, "
                "an image has at most t c z y x: export its parts"
            )
        loops.append((axis, count))
        if axis == "p":
            points = list(getattr(loop.parameters, "points", None) or [])
            names = [shown(str(p.name)) if getattr(p, "name", None) else f"position {i}" for i, p in enumerate(points)]
            positions = names if len(names) == count else [f"position {i}" for i in range(count)]
    frames = int(attributes.sequenceCount or 0) if offsets is None else max(offsets, default=-1) + 1
    if not loops and frames > 1:
        loops = [("frame", frames)]  # what they are is not said
    return tuple(loops), positions


def _told(experiment: list[Any], channels: list[Any], frame: Frame) -> Told:
    told = Told(time_unit="second")
    volume = getattr(channels[0], "volume", None) if channels else None
    if volume is not None:
        known = getattr(volume, "axesCalibrated", None) or (True, True, True)
        for axis, size, sure in zip("xyz", volume.axesCalibration, known):
            if sure and (step := positive(size)):
                told.sizes[axis], told.unit = step, "micrometer"
    for loop in experiment:
        if _LOOPS.get(loop.type) == "t":
            period = getattr(loop.parameters, "periodMs", None)
            periods = getattr(loop.parameters, "periods", None) or []
            period = periods[0].periodMs if period is None and len(periods) == 1 else period
            if step := positive(period):
                told.sizes["t"] = step / 1000
    if frame.count > 1 and frame.count != len(channels):
        told.channels = samples(frame.count)
        return told
    names = [shown(str(getattr(c.channel, "name", "") or "").strip()) for c in channels]
    if names and all(names):
        told.channels = tuple(names)
    for name, channel in zip(names, channels):
        color = getattr(channel.channel, "color", None)
        parts = [getattr(color, part, None) for part in "rgb"] if color is not None else []
        if parts and all(isinstance(v, int | float) and 0 <= v <= 255 for v in parts):
            key = name if frame.count > 1 else ""
            told.display[key] = {"color": "".join(f"{int(v):02X}" for v in parts if v is not None)}
    return told
