"""HDF5: one data set as an image, or several that are its times and channels.

    Hdf5Source   data sets as a source
    open_hdf5    what is in a file: Imaris and BigDataViewer files by their layout, else the data set that is named, or
                 the only one that can be an image

h5py holds one lock for all that it does, so chunks in the common filters are fetched as they are stored and decoded
outside of it, within their declared size. What a link, a virtual data set or external storage would read of other files
is refused, unless `bigbia.follow_links` is set. What attributes say stands in `hdf5_says`.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from bigbia import config
from bigbia.errors import InputError, MissingExtraError, ParameterError, nearest
from bigbia.graph.boxes import Box, shape_of, slices
from bigbia.io.formats.base import (
    ForeignSource,
    check_level,
    found_of,
    imported,
    pick,
    piece_of,
    reading,
    reason,
    size_text,
    stats,
    stem,
)
from bigbia.io.formats.hdf5_chunks import PACKERS, fetched, unpacker
from bigbia.io.places import Place, brief, shown
from bigbia.io.zarr_layout import check_dtype

MAGIC = b"\x89HDF\r\n\x1a\n"
_STARTS = (0, 512, 1024, 2048)  # a file may begin with a block of the user's
MOST = 20_000  # objects of a file that are looked at for images
_TRUST = "refused; if you trust it, set bigbia.follow_links to true (BIGBIA_FOLLOW_LINKS=true)"


def is_hdf5(place: Place) -> bool:
    """Does the file begin as an HDF5 file does?"""
    from bigbia.io.formats.heads import head

    start = head(place, _STARTS[-1] + len(MAGIC))
    return any(start[at : at + len(MAGIC)] == MAGIC for at in _STARTS)


def opened(place: Place) -> Any:
    """An h5py.File, to read."""
    h5py = imported("h5py", f"{place}: reading HDF5")
    with reading(place, "HDF5"):
        if place.local:
            return h5py.File(place.url, "r")
        fs, path = place.remote
        return h5py.File(fs.open(path, "rb"), "r")


def follow(file: Any, path: str, place: Place) -> Any:
    """What lies at a path within a file. Links within the file are followed, those out of it only if that is set."""
    h5py = imported("h5py", f"{place}: reading HDF5")
    at, left, links = file["/"], [p for p in path.split("/") if p not in ("", ".")], 0
    while left:
        name = left.pop(0)
        if not isinstance(at, h5py.Group):
            raise InputError(f"{place}: {brief(path, repr)}: {shown(at.name)} is a data set, there is nothing below it")
        link = at.get(name, getlink=True) if name in at else None
        if link is None:
            known = [shown(n) for n, _ in zip(at.keys(), range(1000))]
            raise InputError(f"{place}: there is no {brief(name, repr)} in {shown(at.name)}, {nearest(name, known)}")
        if isinstance(link, h5py.SoftLink):
            links += 1
            if links > 16:
                raise InputError(f"{place}: {brief(path, repr)}: its links lead in a circle: name the data set itself")
            target = str(link.path)
            at = file["/"] if target.startswith("/") else at
            left = [p for p in target.split("/") if p not in ("", ".")] + left
            continue
        if not isinstance(link, h5py.HardLink) and not config.truth("follow_links"):
            to = f", to {brief(getattr(link, 'filename', ''))}" if isinstance(link, h5py.ExternalLink) else ""
            raise InputError(f"{place}: {brief(path, repr)}: is a link out of the file{to}: {_TRUST}")
        at = at[name]
    return at


def inside(file: Any, path: str, place: Place) -> Any:
    """What `follow` finds, None where there is nothing."""
    at = file
    for name in path.split("/"):
        if not hasattr(at, "keys") or name not in at:
            return None
        at = follow(file, f"{at.name}/{name}", place)
    return at


def data_sets(group: Any) -> Iterator[Any]:
    """The data sets below a group, by hard links alone, each once."""
    h5py = imported("h5py", "reading HDF5")
    seen, todo, count = set(), [group], 0
    while todo:
        here = todo.pop(0)
        info = h5py.h5o.get_info(here.id)
        if (info.fileno, info.addr) in seen:
            continue
        seen.add((info.fileno, info.addr))
        if isinstance(here, h5py.Dataset):
            yield here
            continue
        for name in here.keys():  # noqa: SIM118 - a group is no dict
            count += 1
            if count > MOST:
                return
            if isinstance(here.get(name, getlink=True), h5py.HardLink):
                inner = here[name]
                if isinstance(inner, h5py.Group | h5py.Dataset):
                    todo.append(inner)


def check_own(data: Any, place: Place) -> None:
    """Refuses a data set whose voxels lie in other files, or that is packed in a way nobody here can unpack."""
    h5py = imported("h5py", f"{place}: reading HDF5")
    where = f"{place}/{shown(data.name.strip('/'))}"
    plan = data.id.get_create_plist()
    if not config.truth("follow_links"):
        if _is_virtual(data):
            raise InputError(f"{where}: is a virtual data set, which reads other files: {_TRUST}")
        if plan.get_external_count():
            raise InputError(
                f"{where}: keeps its voxels in another file, {brief(os.fsdecode(plan.get_external(0)[0]))}: {_TRUST}"
            )
    if data.shape is None:
        raise InputError(f"{where}: is an empty data set: there is nothing to read")
    for code, _, _, name in (plan.get_filter(i) for i in range(plan.get_nfilters())):
        if code in PACKERS or h5py.h5z.filter_avail(code):
            continue
        with contextlib.suppress(ImportError):
            import hdf5plugin  # noqa: F401 - it makes its filters known to HDF5
        if not h5py.h5z.filter_avail(code):
            called = brief(name.decode(errors="replace")) if name else f"number {code}"
            raise MissingExtraError(f"{where}: is packed as {called}, which needs a plugin: pip install hdf5plugin")


class Hdf5Source(ForeignSource):
    """Data sets of an HDF5 file as a source: one, or one for each index of the leading axes `lead`.

    `shape` is of the part of each data set that is image: Imaris pads its data sets to whole chunks. `kind` is the dtype
    to take the stored bytes for, where that is not what the file says.
    """

    format = "hdf5"

    def __init__(
        self,
        place: Place,
        file: Any,
        paths: Mapping[tuple[int, ...], str],
        lead: tuple[int, ...] = (),
        shape: Sequence[int] | None = None,
        kind: np.dtype | None = None,
        on_missing: str | None = None,
    ) -> None:  # fmt: skip
        self.paths, self.lead, self.kind = dict(paths), lead, kind
        first = follow(file, next(iter(self.paths.values())), place)
        files = [place.url]
        for path in self.paths.values():
            data = follow(file, path, place)
            self._check(data, first, place)
            files.append(data.file.filename if place.local else place.url)
        super().__init__(place, on_missing, stats(sorted(set(files)), place))
        inner = tuple(shape or first.shape)
        self.title = shown(first.name.strip("/")) if len(self.paths) == 1 else ""
        stored = np.dtype(first.dtype.str) if first.dtype.kind != "b" else np.dtype(bool)
        self._check_dtype(first)
        chunks = first.chunks or piece_of(inner, stored.itemsize)
        self._describe(
            (*lead, *inner), kind or stored, (*(1 for _ in lead), *chunks), (sorted(self.paths.items()), inner)
        )

    @property
    def where(self) -> str:
        return f"{self.place}/{self.title}" if self.title else str(self.place)

    def _check_dtype(self, data: Any) -> None:
        check_dtype(data.dtype, self.where)  # an object, a string, a compound, by its name

    def _check(self, data: Any, first: Any, place: Place) -> None:
        if not hasattr(data, "dtype") or not hasattr(data, "shape"):
            raise InputError(f"{place}: {shown(data.name)} is a group, where a data set should be: the file is damaged")
        check_own(data, place)
        if (data.dtype, data.shape, data.chunks) != (first.dtype, first.shape, first.chunks):
            raise InputError(
                f"{place}: {shown(data.name)} is {data.dtype} {data.shape} in chunks of {data.chunks}, {shown(first.name)} is "
                f"{first.dtype} {first.shape} in chunks of {first.chunks}: they are not one image; name one of them"
            )

    def _opened(self) -> Any:
        return opened(self.place), {}

    def _data(self, handle: Any, index: tuple[int, ...]) -> Any:
        file, known = handle
        with self._lock:
            if index not in known:
                known[index] = _Data(follow(file, self.paths[index], self.place))
            return known[index]

    def _voxels(self, handle: Any, box: Box) -> np.ndarray:
        out = np.empty(shape_of(box), self.dtype)
        lead, inner = box[: len(self.lead)], box[len(self.lead) :]
        for place in np.ndindex(*shape_of(lead)):
            index = tuple(i + a for i, (a, _) in zip(place, lead))
            self._read(self._data(handle, index), index, inner, out[place])
        return out

    def _read(self, data: _Data, index: tuple[int, ...], box: Box, out: np.ndarray) -> None:
        if data.chunks is None:
            out[...] = self._taken(data.set[slices(box)])
            return
        for number in product(*(range(a // c, -(-b // c)) for (a, b), c in zip(box, data.chunks))):
            origin = tuple((i * c, (i + 1) * c) for i, c in zip(number, data.chunks))
            part = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(box, origin))
            here = tuple((i, i + 1) for i in index) + part
            start = tuple(a for a, _ in origin)
            if (self.on_missing == "error" or data.unpack) and not data.whole and data.absent(start):
                if self.on_missing == "error":
                    raise self._absent(here)
                out[slices(part, box)] = self._taken(np.asarray(data.fill))
                continue
            try:
                if data.unpack is None:
                    out[slices(part, box)] = self._taken(data.set[slices(part)])
                else:
                    found = data.unpack.decode(*fetched(data.set, start))
                    out[slices(part, box)] = self._taken(found[slices(part, origin)])
            except (ValueError, RuntimeError, OSError) as error:
                if isinstance(error, OSError) and error.errno:
                    raise
                raise self._damaged(here, reason(error)) from None

    def _taken(self, found: np.ndarray) -> np.ndarray:
        return found if self.kind is None else found.astype(found.dtype.newbyteorder("="), copy=False).view(self.kind)

    def missing_chunks(self) -> tuple[int | None, int]:
        with reading(self.place, "HDF5"):
            return self._missing(self._handle())

    def _missing(self, handle: Any) -> tuple[int, int]:
        absent = total = 0
        for index in self.paths:
            data = self._data(handle, index)
            if data.chunks is None:
                total += math.prod(
                    -(-n // c) for n, c in zip(self.shape[len(self.lead) :], self.chunks[len(self.lead) :])
                )
                continue
            total += data.total
            absent += data.total - data.stored
        return absent, total


class _Data:
    """A data set, and how its chunks are read."""

    def __init__(self, data: Any) -> None:
        self.set, self.chunks, self.fill = data, data.chunks, data.fillvalue
        self.total = self.stored = 1
        if self.chunks is not None:
            self.total = math.prod(-(-n // c) for n, c in zip(data.shape, self.chunks))
            self.stored = data.id.get_num_chunks()
        self.whole = self.stored >= self.total
        self.unpack = unpacker(data) if self.chunks is not None else None
        self.held: frozenset | None = None

    def absent(self, start: tuple[int, ...]) -> bool:
        """Is this chunk not stored? Asked once for all of them: HDF5 looks through its list for each."""
        if self.held is None:
            found: list[tuple[int, ...]] = []
            self.set.id.chunk_iter(lambda info: found.append(tuple(info.chunk_offset)))
            self.held = frozenset(found)
        return start not in self.held


# ---- what is in a file -----------------------------------------------------------------------------------------------
def open_hdf5(file_place: Place, inner: str, level: int, scene: str | int | None, on_missing: str | None) -> Any:
    """What is in an HDF5 file, or at `inner` within it."""
    from bigbia.io.formats import bdv, imaris

    with opened(file_place) as file, reading(file_place, "HDF5"):
        if not inner:
            for layout in (imaris, bdv):
                if layout.is_layout(file):
                    return layout.open_layout(file_place, file, level, scene, on_missing)
        place = file_place / inner if inner else file_place
        at = follow(file, inner, file_place)
        if hasattr(at, "dtype"):
            if scene is not None:
                raise ParameterError(f"{place}: scene={scene!r}: is a single data set: leave scene out")
            path = inner
        else:
            path = f"{inner}/{_only(place, at, scene)}"
        check_level(place, level, 1)
        return _single(place, file_place, file, path, on_missing)


def _only(place: Place, group: Any, scene: str | int | None) -> str:
    """The path within a group of its data set that is an image, or of the one that `scene` names."""
    every, base = list(data_sets(group)), len(group.name.rstrip("/")) + 1
    images = [data for data in every if _is_image(data)]
    if not images:
        if len(every) == 1:
            return every[0].name[base:]  # what is wrong with it is said where it is opened
        listed = ", ".join(f"{shown(d.name)} ({brief(d.dtype)})" for d in every[:6])
        raise InputError(
            f"{place}: holds no image: {f'{len(every)} data sets, {listed}' if every else 'there is no data set in it'}: "
            "a data set of numbers with 2 to 5 axes was expected"
        )
    names = [data.name[base:] for data in images]
    if scene is None and len(images) > 1:
        listed = ", ".join(f"{shown(n)} ({_size(d)})" for n, d in zip(names[:8], images))
        more = f", and {len(names) - 8} more" if len(names) > 8 else ""
        raise InputError(
            f"{place}: holds {len(images)} images: {listed}{more}: name one, as in {place}/{shown(names[0])}"
        )
    word = scene.strip("/") if isinstance(scene, str) else scene
    return names[pick(place, word, names, lambda i: _size(images[i]))]


def _size(data: Any) -> str:
    """How large a data set is. A virtual one would look into other files for it."""
    return "virtual" if _is_virtual(data) else size_text((), data.shape)


def _is_virtual(data: Any) -> bool:
    h5py = imported("h5py", "reading HDF5")
    return bool(data.id.get_create_plist().get_layout() == h5py.h5d.VIRTUAL)


def _is_image(data: Any) -> bool:
    """Numbers with two axes or more that are not the coordinates of another data set."""
    h5py = imported("h5py", "reading HDF5")
    if _is_virtual(data):
        return True  # it is refused, or followed, by its name
    scale = h5py.h5ds.is_scale(data.id)
    return data.shape is not None and len(data.shape) >= 2 and data.dtype.kind in "biuf" and not scale


def _single(place: Place, file_place: Place, file: Any, path: str, on_missing: str | None) -> Any:
    from bigbia.io.formats.hdf5_says import told_by

    source = Hdf5Source(file_place, file, {(): path}, on_missing=on_missing)
    told = told_by(follow(file, path, file_place))
    name = stem(file_place, ".h5", ".hdf5", ".hdf", ".nc", ".mat", ".ilp")
    return found_of(place, "HDF5", source, told, name)
