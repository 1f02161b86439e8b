"""What a TIFF file may make its reader do: name other files, and decode to more than it declares."""

from __future__ import annotations

import importlib.util
import logging
import lzma
import math
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from bigbia.errors import InputError
from bigbia.io.places import Place

ALLOWANCE = 256 << 20  # bytes that a segment may decode to without being looked at first
PIECE = 1 << 20
_FILE_NAME = re.compile(r"""FileName\s*=\s*("[^"]*"|'[^']*')""")
# Compression -> the most it can shrink by, and what decodes it piece by piece.
_STREAMS: dict[int, tuple[int, Callable[[], Any]]] = {
    8: (1032, zlib.decompressobj),
    32946: (1032, zlib.decompressobj),
    34925: (8000, lzma.LZMADecompressor),
}
_PACKBITS = 32773
_BROKEN = re.compile(
    r"(invalid (page offset \d+|offset to (first )?page.*|circular reference to IFD \d+)"
    r"|corrupted tag list of page \d+)"
)
# Size, description, strips, resolution, tiles, pages within pages, ImageJ's own: where one of them lies beyond the end.
_TAGS = "256|257|258|270|273|279|282|283|324|325|330|50838|50839"
_LOST = re.compile(rf"TiffTag ({_TAGS}) @\d+> (invalid value offset \d+)")


def check_ome(tif: Any, place: Place) -> None:
    """Refuses OME-XML that declares entities or names a file outside the folder, before any such file is opened."""
    text = tif.ome_metadata if tif.is_ome else None
    if not text:
        return
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError(f"{place}: its OME-XML declares entities, which no microscope writes: refused")
    for quoted in set(_FILE_NAME.findall(text)):
        name = quoted[1:-1]
        if any(sign in name for sign in ("/", "\\", ":", "&", "\0")) or name in ("", ".", ".."):
            raise InputError(
                f"{place}: its OME-XML names the file {name!r}, which may lie outside its folder: refused; put the files "
                "into one folder, or name that file itself"
            )
        if place.local and place.root is not None:
            folder = os.path.dirname(place.url)
            real, home = os.path.realpath(os.path.join(folder, name)), os.path.realpath(folder)
            if os.path.islink(os.path.join(folder, name)) and os.path.dirname(real) != home:
                raise InputError(
                    f"{place}: its OME-XML names the file {name!r}, a link out of its folder, to {real}: refused; if you "
                    "trust it, set bigbia.follow_links to true (BIGBIA_FOLLOW_LINKS=true)"
                )


@contextmanager
def whole_chain(place: Place) -> Iterator[None]:
    """Refuses a file whose list of pages breaks off or goes in a circle: tifffile would show the pages before that."""
    log, listener = logging.getLogger("tifffile"), _Listener()
    log.addHandler(listener)
    try:
        yield
    finally:
        log.removeHandler(listener)
    if listener.lost:
        raise InputError(
            f"{place}: is cut off or damaged: its tag {listener.lost[0]} lies beyond its end: restore it, or copy it again"
        )
    if listener.heard:
        raise InputError(
            f"{place}: is cut off or damaged: its list of pages has {listener.heard[0]}: restore it, or copy it again"
        )


class _Listener(logging.Handler):
    """Hears what tifffile says of a broken list of pages, in this thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []
        self.lost: list[str] = []
        self.mine = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        found = _BROKEN.search(record.getMessage())
        if found and record.thread == self.mine:
            self.heard.append(f"{'an' if found[0][0] == 'i' else 'a'} {found[0]}")
        lost = _LOST.search(record.getMessage())
        if lost and record.thread == self.mine:
            self.lost.append(lost[1])


def check_extent(shape: tuple[int, ...], itemsize: int, offset: int, place: Place) -> None:
    """Refuses an image whose voxels would lie beyond the end of its file."""
    need, size = offset + math.prod(shape) * itemsize, os.path.getsize(place.url)
    if need > size:
        raise InputError(
            f"{place}: is cut off: its {shape} voxels need {need} bytes, the file has {size}: restore it, or copy it again"
        )


def check_segments(page: Any, place: Place) -> None:
    """Refuses a page of which a strip or tile ends beyond its file: some decoders take what is left for all of it."""
    if page is None or not page.dataoffsets:
        return
    offsets, counts = np.asarray(page.dataoffsets, np.int64), np.asarray(page.databytecounts, np.int64)
    end, size = int((offsets + counts).max()), page.parent.filehandle.size
    if end > size:
        raise InputError(
            f"{place}: is cut off: a strip or tile of its page {page.index} ends at byte {end}, the file has {size}: "
            "restore it, or copy it again"
        )


def guard(page: Any) -> None:
    """Has every strip or tile of a page looked at before it is decoded, where the decoder itself would not stop."""
    if page is None or _decodes_within_bounds():
        return
    keyframe = page.keyframe
    if getattr(keyframe, "_bigbia_guarded", False) or not _ratio(int(keyframe.compression)):
        return
    decode, compression = keyframe.decode, int(keyframe.compression)
    declared = math.prod(keyframe.chunks) * keyframe.dtype.itemsize

    def guarded(data: Any, *args: Any, **words: Any) -> Any:
        if data is not None:
            _check_segment(data, compression, declared)
        return decode(data, *args, **words)

    keyframe.__dict__["decode"] = guarded  # the cached property of this one page
    keyframe._bigbia_guarded = True


@cache
def _decodes_within_bounds() -> bool:
    """imagecodecs decodes into a buffer of the declared size; what tifffile takes without it does not."""
    return importlib.util.find_spec("imagecodecs") is not None


def _ratio(compression: int) -> int:
    return 64 if compression == _PACKBITS else _STREAMS[compression][0] if compression in _STREAMS else 0


def _check_segment(data: bytes, compression: int, declared: int) -> None:
    """ValueError for a strip or tile that decodes to more than the allowance and more than it declares."""
    most = max(declared, ALLOWANCE)
    if len(data) * _ratio(compression) <= most:
        return
    total = _packed(data) if compression == _PACKBITS else 0
    if compression != _PACKBITS:
        engine = _STREAMS[compression][1]()
        rest: Any = data
        while not engine.eof and total <= most:
            got = len(engine.decompress(rest, PIECE))
            total += got
            rest = b"" if isinstance(engine, lzma.LZMADecompressor) else engine.unconsumed_tail
            if not got and not rest:
                break
    if total > most:
        raise ValueError(f"a strip or tile of {len(data)} bytes decodes to more than the {declared} that are declared")


def _packed(data: bytes) -> int:
    """How many bytes a PackBits segment stands for."""
    total, at = 0, 0
    while at < len(data):
        n = data[at]
        total += 0 if n == 128 else n + 1 if n < 128 else 257 - n
        at += 1 if n == 128 else n + 2 if n < 128 else 2
    return total
