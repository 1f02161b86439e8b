"""What a damaged CZI file may not do to its reader.

libCZI trusts the lengths that stand in a file, and ends the process where they lead beyond the end of it. So the segments
that it will read are looked at here first: the directory of tiles and the metadata when a file is opened, a tile before it
is read for the first time. The layout is that of Zeiss's "CZI file format" (DV entries).
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bigbia.errors import InputError
from bigbia.graph.boxes import Box
from bigbia.io.chunks import content_size
from bigbia.io.places import Place
from bigbia.io.zarr_layout import MAX_AXIS

_SEGMENT = struct.Struct("<16sQQ")
_ENTRY = struct.Struct("<2siQiiB5si")  # schema, pixel type, position, part, compression, pyramid, spare, dimensions
_DIMENSION = struct.Struct("<4siifi")  # name, start, size, coordinate, stored size
_POSITIONS = struct.Struct("<QQiQ")  # of the directory, of the metadata, (pending), of the list of attachments
_BYTES = {0: 1, 1: 2, 2: 4, 3: 3, 4: 6, 8: 12}  # of a pixel, by its type
_PLAIN, _ZSTD0, _ZSTD1 = 0, 5, 6
_MOST = 1 << 30  # bytes of a directory


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile as the directory has it."""

    position: int
    pixel: int
    packed: int
    at: tuple[tuple[str, int], ...]  # its place along each axis but x, y and m
    plane: tuple[int, int, int]  # t, c, z
    rect: tuple[int, int, int, int]  # x, y, width, height
    stored: tuple[int, int]  # width, height

    @property
    def fine(self) -> bool:
        """Is it of the full resolution?"""
        return self.stored == self.rect[2:]


class Guard:
    """Looks at the tiles of a region before they are read, each once."""

    def __init__(self, place: Place) -> None:
        self.place, self.lock, self.seen = place, threading.Lock(), set[int]()
        self.file = open(place.url, "rb", buffering=0)  # noqa: SIM115 - it stays open as long as the source
        self.size = os.fstat(self.file.fileno()).st_size
        self.tiles: dict[tuple[int, int, int], list[Tile]] = {}
        try:
            for tile in self._directory():
                self.tiles.setdefault(tile.plane, []).append(tile)
        except (struct.error, ValueError) as error:
            self.file.close()
            raise InputError(
                f"{place}: cannot be read as CZI: {error}: it is cut off or damaged: restore it, or copy it again"
            ) from None

    def check(self, plane: tuple[int, int, int], region: Box) -> None:
        """ValueError where a tile of a plane that touches a region (y, x) cannot be read safely."""
        (y0, y1), (x0, x1) = region
        for tile in self.tiles.get(plane, ()):
            x, y, width, height = tile.rect
            if tile.fine and x < x1 and x0 < x + width and y < y1 and y0 < y + height:
                with self.lock:
                    if tile.position in self.seen:
                        continue
                self._check_tile(tile)
                with self.lock:
                    self.seen.add(tile.position)

    def _read(self, position: int, length: int) -> bytes:
        if position < 0 or position + length > self.size:
            raise ValueError(f"bytes {position} to {position + length} of {self.size} are asked for")
        data = os.pread(self.file.fileno(), length, position)
        if len(data) != length:
            raise ValueError(f"bytes {position} to {position + length} cannot be read")
        return data

    def _segment(self, position: int, name: bytes) -> int:
        """The bytes that a segment holds behind its head."""
        found, allocated, used = _SEGMENT.unpack(self._read(position, _SEGMENT.size))
        if found.rstrip(b"\0") != name:
            raise ValueError(f"{name.decode()} is not at byte {position}, where the file says")
        if used > allocated or position + _SEGMENT.size + allocated > self.size:
            raise ValueError(f"{name.decode()} at byte {position} is {allocated} bytes long, the file has {self.size}")
        return int(allocated)

    def _directory(self) -> Iterator[Tile]:
        self._segment(0, b"ZISRAWFILE")
        directory, metadata, _, attachments = _POSITIONS.unpack(self._read(32 + 52, _POSITIONS.size))
        if metadata:
            length = self._segment(metadata, b"ZISRAWMETADATA")
            if sum(struct.unpack("<II", self._read(metadata + 32, 8))) + 256 > length:
                raise ValueError("its metadata are longer than their segment")
        if attachments:
            length = self._segment(attachments, b"ZISRAWATTDIR")
            (count,) = struct.unpack("<i", self._read(attachments + 32, 4))
            if not count >= 0 or 256 + 128 * count > length:
                raise ValueError(f"{count} attachments do not fit their list")
            for i in range(count):
                entry = self._read(attachments + 32 + 256 + 128 * i, 128)
                self._segment(struct.unpack_from("<Q", entry, 12)[0], b"ZISRAWATTACH")
        length = self._segment(directory, b"ZISRAWDIRECTORY")
        if length > _MOST:
            raise ValueError(f"its directory is {length} bytes long")
        data = self._read(directory + 32, length)
        (count,) = struct.unpack_from("<i", data)
        start = 128
        for _ in range(count):
            tile, start = _entry(data, start)
            if tile.position + 32 > self.size:
                raise ValueError(f"a tile lies at byte {tile.position} of {self.size}")
            yield tile

    def _check_tile(self, tile: Tile) -> None:
        length = self._segment(tile.position, b"ZISRAWSUBBLOCK")
        start = tile.position + 32
        about, attached, size = struct.unpack("<IIQ", self._read(start, 16))
        head = self._read(start + 16, min(max(240, 32 + 20 * 40), self.size - start - 16))
        own, end = _entry(head, 0)
        begin = max(256, 16 + end) + about
        if begin + size + attached > length:
            raise ValueError(f"the tile at byte {tile.position} is longer than its segment")
        if (own.pixel, own.packed, own.stored) != (tile.pixel, tile.packed, tile.stored):
            raise ValueError(f"the tile at byte {tile.position} is not the one that the directory names")
        expected = tile.stored[0] * tile.stored[1] * _BYTES.get(tile.pixel, 0)
        if tile.packed == _PLAIN and size < expected:
            raise ValueError(f"the tile at byte {tile.position} holds {size} bytes, {expected} were expected")
        if tile.packed in (_ZSTD0, _ZSTD1):
            data = self._read(start + begin, min(size, 64))
            skip = data[0] if tile.packed == _ZSTD1 and data else 0
            if skip not in (0, 1, 3):
                raise ValueError(f"the tile at byte {tile.position} is packed in a way that is not known")
            found = content_size("zstd", data[skip:])
            if found is not None and found != expected:
                raise ValueError(f"the tile at byte {tile.position} decodes to {found} bytes, {expected} were expected")


def _entry(data: Any, start: int) -> tuple[Tile, int]:
    """An entry of the directory, and where the next one begins. ValueError where it is none."""
    schema, pixel, position, _, packed, _, _, count = _ENTRY.unpack_from(data, start)
    if schema != b"DV" or not 0 < count <= 40 or pixel not in range(64):
        raise ValueError(f"its directory has an entry {schema!r} with {count} dimensions")
    at: dict[str, int] = {}
    sizes: dict[str, tuple[int, int, int]] = {}
    start += _ENTRY.size
    for _ in range(count):
        name, first, size, _, stored = _DIMENSION.unpack_from(data, start)
        start += _DIMENSION.size
        axis = name.rstrip(b"\0").decode("ascii", "replace")
        if axis in ("X", "Y"):
            sizes[axis] = first, size, stored or size
        elif axis not in ("M", ""):
            at[axis] = first
    if set(sizes) != {"X", "Y"} or any(not 0 < n <= MAX_AXIS for _, *both in sizes.values() for n in both):
        raise ValueError("its directory has a tile without size")
    if any(abs(first) > 1 << 30 for first, *_ in sizes.values()) or any(abs(n) > MAX_AXIS for n in at.values()):
        raise ValueError("its directory has a tile far away")
    (x, width, wide), (y, height, high) = sizes["X"], sizes["Y"]
    plane = at.get("T", 0), at.get("C", 0), at.get("Z", 0)
    return Tile(position, pixel, packed, tuple(at.items()), plane, (x, y, width, height), (wide, high)), start
