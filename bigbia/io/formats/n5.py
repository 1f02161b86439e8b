"""N5: folders with attributes.json, a file a block.

    N5Source  data sets as a source: one, or one a time point
    open_n5   what is at a folder: a data set, levels s0, s1, ... of one, or a container of several

Read here and not through a library: zarr has dropped N5, and what has taken its place decodes a block to whatever size
it unpacks to and follows every link. Axes stand in the file with the fastest first; everything here is in NumPy's order.
What attributes say stands in `n5_says`.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import math
import os
import re
import struct
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np

from bigbia import config
from bigbia.errors import BigbiaError, InputError, ParameterError
from bigbia.graph.boxes import Box, shape_of, slices
from bigbia.io.chunks import MAX_FRAME, largest_frame
from bigbia.io.formats.base import Files, ForeignSource, check_level, found_of, pick, reason, size_text, stem
from bigbia.io.formats.n5_blocks import DataSet, block
from bigbia.io.places import METADATA, Place, check_inside, open_file, shown

ATTRIBUTES = "attributes.json"
DEPTH, MOST = 6, 5000  # folders below a container, and how many of them, that are looked at for images
_LEVEL, _TIME = re.compile(r"s(\d+)"), re.compile(r"timepoint(\d+)")


class N5Source(ForeignSource):
    """Data sets of an N5 container as a source: one, or one for each index of the leading axis."""

    format = "n5"

    def __init__(
        self, place: Place, root: str | None, parts: Mapping[tuple[int, ...], Place], on_missing: str | None
    ) -> None:
        self.parts, self.root = dict(parts), root
        said = {index: _document(part) for index, part in self.parts.items()}
        layouts = {index: DataSet.of(found or {}, str(self.parts[index])) for index, found in said.items()}
        self.data = next(iter(layouts.values()))
        for index, layout in layouts.items():
            if layout != self.data:
                raise InputError(
                    f"{self.parts[index]}: has shape {layout.shape} of {layout.dtype}, other times have {self.data.shape} of "
                    f"{self.data.dtype}: they are not one image; name one of them"
                )
        super().__init__(place, on_missing, [])
        self.lead = tuple(n + 1 for n in max(self.parts))
        listed = [(str(part), part.listing()) for part in self.parts.values()]
        known = all(found is not None and all(stamp for _, stamp in found.values()) for _, found in listed)
        digest = hashlib.blake2b(digest_size=16)
        for name, found in listed:
            digest.update(repr((name, sorted((found or {}).items()))).encode())
        self._describe(
            (*self.lead, *self.data.shape), self.data.dtype, (*(1 for _ in self.lead), *self.data.blocks),
            digest.hexdigest() if known else os.urandom(16),
        )  # fmt: skip
        self.documents = self._documents()

    def _describe(self, shape: Any, dtype: Any, chunks: Any, what: object) -> None:
        super()._describe(shape, dtype, chunks, what)
        parts = (self.format, self.place.url, self.on_missing, what)
        self.token = hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()

    @property
    def files(self) -> Files:
        """Every file below, looked for now: there may be millions."""
        out: Files = []
        for part in self.parts.values():
            out += [(f"{part.url}/{name}", size, time) for name, (size, time) in (part.listing() or {}).items()]
        return out

    def _documents(self) -> tuple[bytes | None, ...]:
        return tuple(part.read(ATTRIBUTES) for part in self.parts.values())

    def _check_unchanged(self) -> None:
        """Blocks are files of their own; that they still are those of this image is written in its attributes."""

    def _opened(self) -> bool:
        if self._documents() != self.documents:
            raise InputError(f"{self.place}: has changed since it was opened: open it again")
        return True

    def _voxels(self, handle: Any, box: Box) -> np.ndarray:
        out = np.empty(shape_of(box), self.dtype)
        lead, inner = box[: len(self.lead)], box[len(self.lead) :]
        for place in np.ndindex(*shape_of(lead)):
            index = tuple(i + a for i, (a, _) in zip(place, lead))
            self._read(index, inner, out[place])
        return out

    def _read(self, index: tuple[int, ...], box: Box, out: np.ndarray) -> None:
        shape, blocks = self.data.shape, self.data.blocks
        for number in product(*(range(a // b, -(-c // b)) for (a, c), b in zip(box, blocks))):
            region = tuple((i * b, min((i + 1) * b, n)) for i, b, n in zip(number, blocks, shape))
            part = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(box, region))
            key = "/".join(str(i) for i in reversed(number))
            try:
                data = self._file(self.parts[index], key)
                found = None if data is None else block(data, self.data, shape_of(region))
            except BigbiaError:
                raise
            except (ValueError, EOFError, lzma.LZMAError, struct.error) as error:
                here = tuple((i, i + 1) for i in index) + region
                raise self._damaged(here, f"block {key}: {reason(error)}") from None
            if found is None and self.on_missing == "error":
                raise self._absent(tuple((i, i + 1) for i in index) + region, f"block {key}")
            out[slices(part, box)] = 0 if found is None else found[slices(part, region)]

    def _file(self, part: Place, key: str) -> bytes | None:
        """The bytes of a block, None where it is absent."""
        most = max(MAX_FRAME, largest_frame(math.prod(self.data.blocks) * self.dtype.itemsize)) + 4096
        if not part.local:
            fs, path = part.remote
            try:
                return bytes(fs.cat_file(f"{path}/{key}", start=0, end=most + 1))
            except FileNotFoundError:
                return None
        name = os.path.join(part.url, key)
        try:
            with os.fdopen(open_file(name, self.root), "rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                if size > most:
                    raise ValueError(f"holds {size} bytes, at most {most} can be such a block")
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            if os.path.lexists(name):
                raise ValueError("it is a link to nothing") from None
            return None

    def missing_chunks(self) -> tuple[int | None, int]:
        grid = [-(-n // b) for n, b in zip(self.data.shape, self.data.blocks)][::-1]
        total, stored = math.prod(grid) * len(self.parts), 0
        for part in self.parts.values():
            listing = part.listing()
            if listing is None:
                return None, total
            for key in listing:
                words = key.split("/")
                if len(words) == len(grid) and all(w.isdecimal() and int(w) < n for w, n in zip(words, grid)):
                    stored += 1
        return total - stored, total


# ---- what is at a folder ---------------------------------------------------------------------------------------------
def _document(place: Place) -> dict[str, Any] | None:
    raw = place.read(ATTRIBUTES)
    if raw is None:
        return None
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}/{ATTRIBUTES}: is not JSON: {error}: the file is damaged, restore it") from None
    if not isinstance(found, dict):
        raise InputError(f"{place}/{ATTRIBUTES}: a mapping was expected, found {type(found).__name__}")
    return found


def _container(place: Place) -> Place | None:
    """The outermost folder of the container that holds a place, by attributes.json; None where it is none."""
    outermost, folder, without = None, place, 0
    while without <= 3:
        if folder.has(ATTRIBUTES):
            outermost, without = folder, 0
        else:
            without += 1
        above = folder.parent
        if above is None:
            break
        folder = above
    return outermost


def open_n5(place: Place, level: int, scene: str | int | None, on_missing: str | None) -> Any:
    """What is at a folder, None where it belongs to no N5 container."""
    if any(place.has(name) for name in METADATA):
        return None
    container = _container(place)
    if container is None:
        return None
    said = _document(place)
    if container.url == place.url and said is not None and not _looks_n5(place, said):
        return None
    root = None if not place.local or config.truth("follow_links") else os.path.realpath(container.url)
    check_inside(root, place.url)
    if said is not None and "dimensions" in said:
        if scene is not None:
            raise ParameterError(f"{place}: scene={scene!r}: is a single data set: leave scene out")
        return _level_of(place, root, level, on_missing)
    images = _images(place, root)
    if not images:
        names = [shown(n) for n in place.names() if n != ATTRIBUTES]
        within = f"it holds {', '.join(names[:6])}" if names else "it holds nothing"
        raise InputError(f"{place}: is an N5 group without an image (no data set below it): {within}")
    names = [image.url.removeprefix(place.url).strip("/") for image in images]
    if scene is None and len(images) > 1:
        listed = [f"{shown(n)} ({_size(image)})" for n, image in zip(names[:8], images)]
        more = f", and {len(names) - 8} more" if len(names) > 8 else ""
        raise InputError(
            f"{place}: holds {len(images)} images: {', '.join(listed)}{more}: name one, as in {place}/{shown(names[0])}"
        )
    image = images[pick(place, scene, names, lambda i: _size(images[i]))]
    check_inside(root, image.url)
    return _image(image, place, root, level, on_missing, names)


def _looks_n5(place: Place, said: Mapping[str, Any]) -> bool:
    """Any program may call a file attributes.json: N5 says which version it is, or has data sets."""
    return "n5" in said or "dimensions" in said or bool(_images(place, None))


def _size(image: Place) -> str:
    first = next(iter(_parts(image, 0).values()))
    said = _document(first) or {}
    dims = said.get("dimensions")
    return size_text((), tuple(reversed(dims))) if isinstance(dims, list) else "?"


def _images(place: Place, root: str | None) -> list[Place]:
    """The images at and below a folder: data sets, groups of levels, groups of time points."""
    out: list[Place] = []
    todo, looked = [(place, 0)], 0
    while todo and looked < MOST:
        here, depth = todo.pop(0)
        looked += 1
        check_inside(root, here.url)
        if _parts(here, 0):
            out.append(here)
        elif depth < DEPTH:
            todo += [(here / n, depth + 1) for n in here.names() if (here / n).kind() == "folder"]
    return out


def _levels(folder: Place) -> list[Place]:
    """The levels s0, s1, ... of a group."""
    numbers = sorted(int(m[1]) for n in folder.names() if (m := _LEVEL.fullmatch(n)))
    levels = [folder / f"s{n}" for n in numbers]
    whole = numbers == list(range(len(numbers))) and all("dimensions" in (_document(p) or {}) for p in levels)
    return levels if whole else []


def _times(folder: Place) -> list[list[Place]]:
    """The levels of each time point of a group; nothing where it holds no time points."""
    numbers = sorted(int(m[1]) for n in folder.names() if (m := _TIME.fullmatch(n)))
    times = [_levels(folder / f"timepoint{n}") for n in numbers]
    for n, levels in zip(numbers, times):
        if any(times) and not levels:
            raise InputError(f"{folder}: timepoint{n} holds no levels s0, s1, ...: it is not complete, restore it")
    if any(times) and numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise InputError(
            f"{folder}: holds the time points {', '.join(map(str, numbers[:8]))}, which is not all of them: restore the others"
        )
    return [levels for levels in times if levels]


def _parts(image: Place, level: int) -> dict[tuple[int, ...], Place]:
    """The data sets of one level of an image, by the index of its leading axis; nothing where it is no image."""
    if "dimensions" in (_document(image) or {}):
        return {(): image} if level == 0 else {}
    levels = _levels(image)
    if levels:
        return {(): levels[level]} if level < len(levels) else {}
    times = _times(image)
    if len(times) == 1:
        return {(): times[0][level]} if level < len(times[0]) else {}
    return {(i,): own[level] for i, own in enumerate(times) if level < len(own)}


def _image(
    image: Place, place: Place, root: str | None, level: int, on_missing: str | None, names: list[str]
) -> Any:  # fmt: skip
    """A group of levels, or of time points with levels, or the one data set of a container."""
    from bigbia.io.formats.n5_says import told_by

    finest = _parts(image, 0)
    count = next((k for k in range(1, 64) if len(_parts(image, k)) != len(finest)), 64)
    check_level(image, level, count)
    parts = _parts(image, level)
    for part in parts.values():
        check_inside(root, part.url)
    source = N5Source(image, root, parts, on_missing)
    first = next(iter(parts.values()))
    groups = [_document(image) or {}, (_document(first.parent) or {}) if first.parent else {}]
    base = _document(next(iter(finest.values()))) or {}
    told = told_by(_document(first) or {}, base, groups, level, first.name)
    told.names = (*(("t",) if source.lead else ()), *told.names) if told.names else ()
    shapes = [(*source.lead, *DataSet.of(_document(p) or {}, str(p)).shape)
              for k in range(count) for p in list(_parts(image, k).values())[:1]]  # fmt: skip
    told.levels = tuple(shapes)
    named = stem(image, ".n5")
    return found_of(image, "N5", source, told, named, names)


def _level_of(place: Place, root: str | None, level: int, on_missing: str | None) -> Any:
    """A data set that was named itself; what the group around it says of its levels counts."""
    from bigbia.io.formats.n5_says import told_by

    check_level(place, level, 1)
    source = N5Source(place, root, {(): place}, on_missing)
    own, around = _document(place) or {}, place.parent
    number = _LEVEL.fullmatch(place.name)
    groups = [_document(around) or {}] if around is not None and number else []
    base = (_document(around / "s0") or own) if around is not None and number else own
    told = told_by(own, base, groups, int(number[1]) if number else 0, place.name)
    return found_of(place, "N5", source, told, stem(place, ".n5"))
