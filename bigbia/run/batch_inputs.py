"""What a batch is over: the words of the command -> images, each with the name of its output.

A word is an image; a plate, which stands for all its fields; a folder, which stands for the images that lie in it; or a
pattern with `*`, `?` or `[...]`.
"""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bigbia.errors import BigbiaError, InputError, ParameterError
from bigbia.io.places import METADATA, Place, shown

ENDINGS = (".zarr", ".n5", ".tif", ".tiff", ".ome", ".h5", ".hdf5", ".ims", ".czi", ".nd2", ".lif")
HEADS = (
    b"\x89HDF",
    b"ZISRAWFILE",
    b"\xda\xce\xbe\x0a",
    b"\0\0\0\x0cjP  ",
    b"\x70\0\0\0",
)  # HDF5, CZI, ND2 (new, old), LIF
MANY = 4  # names in a message


@dataclass(frozen=True)
class Input:
    """One image of a batch.

    name : of its output, without `.zarr`
    columns : what says of a row in a joined table where it comes from: image, and well and field of a plate
    """

    path: str
    name: str
    columns: dict[str, Any] = field(default_factory=dict)


def inputs_of(words: Sequence[str]) -> list[Input]:
    """The images that the words of a command stand for, in their order; those of folders, patterns and plates sorted.

    Raises
    ------
    InputError : a pattern, a folder or a plate without an image
    ParameterError : two images whose outputs would have one name
    """
    found = [one for word in words for one in _expanded(str(word))]
    taken: dict[str, Input] = {}
    for one in found:
        other = taken.setdefault(one.name.casefold(), one)
        if other is not one:
            same = "is there twice" if other.path == one.path else f"and {other.path}: both would be {one.name}.zarr"
            raise ParameterError(f"{one.path} {same}: rename or leave out one")
    return found


def is_many(words: Sequence[str], options: Mapping[str, Any] | None = None) -> bool:
    """Whether words of a command stand for a batch, though it may turn out to be one of a single image.

    Options that name a well, a field or a scene make one image of a single word.
    """
    if len(words) == 1 and any((options or {}).get(word) is not None for word in ("well", "field", "scene")):
        return False
    return len(words) > 1 or any(_is_pattern(w) or _is_plate(w) or _is_folder(w) for w in words)


def stem(path: str) -> str:
    """The name of an image's output by the name of the image."""
    name = path.rstrip("/").rsplit("/", 1)[-1]
    shorter = True
    while shorter:
        ending = next((e for e in ENDINGS if name.lower().endswith(e) and len(name) > len(e)), "")
        name, shorter = name[: len(name) - len(ending)], bool(ending)
    return name or "image"


def _expanded(word: str) -> list[Input]:
    if _is_pattern(word):
        return _matches(word)
    if _is_plate(word):
        return _fields(word)
    if _is_folder(word):
        return _within(word)
    return [_image(word)]


def _image(path: str) -> Input:
    name = stem(path)
    return Input(path, name, {"image": name})


def _is_pattern(word: str) -> bool:
    if re.search(r"\{[tcz]\}", word):  # a series of files that is one image (io/series.py)
        return False
    return "://" not in word and glob.has_magic(word) and not os.path.lexists(word)


def _is_folder(word: str) -> bool:
    """A folder of files, which is no Zarr, no N5."""
    marks = (*METADATA, "attributes.json")
    if word.rstrip("/").endswith((".zarr", ".n5")):  # one that is damaged is told as an image
        return False
    return "://" not in word and os.path.isdir(word) and not any(os.path.lexists(f"{word}/{m}") for m in marks)


def _is_plate(word: str) -> bool:
    from bigbia.io.plates import is_plate

    try:
        return is_plate(word)
    except BigbiaError:  # said by name when it is opened
        return False


def _fields(word: str) -> list[Input]:
    from bigbia.io.plates import fields_of

    found = fields_of(word)
    if not found:
        raise InputError(f"{word}: is a plate without an image: check where it was copied from")
    plate = stem(word)
    count = Counter(f.well for f in found)
    return [
        Input(
            f.path,
            f.well if count[f.well] == 1 else f"{f.well}_{f.field}",
            {"image": plate, "well": f.well, "field": f.field},
        )
        for f in found
    ]


def _matches(pattern: str) -> list[Input]:
    found = sorted(glob.glob(os.path.expanduser(pattern), recursive=True))
    images = [path for path in found if _looks_like_an_image(path)]
    if images:
        return [one for path in images for one in (_fields(path) if _is_plate(path) else [_image(path)])]
    if found:
        raise InputError(
            f"{pattern}: matches {len(found)} names, none of them an image ({_some(map(os.path.basename, found))})"
        )
    folder = pattern
    while glob.has_magic(folder):
        folder = os.path.dirname(folder)
    there = sorted(os.listdir(folder or ".")) if os.path.isdir(folder or ".") else None
    what = f"{folder} does not exist" if there is None else f"{folder or '.'} holds {_some(there) or 'nothing'}"
    raise InputError(f"{pattern}: matches nothing: {what}")


def _within(folder: str) -> list[Input]:
    names = sorted(name for name in os.listdir(folder) if not name.startswith((".", "_")))
    images = [os.path.join(folder, name) for name in names if _looks_like_an_image(os.path.join(folder, name))]
    if not images:
        raise InputError(
            f"{folder}: is a folder without an image; it holds {_some(names) or 'nothing'}: name an image, or a folder of them"
        )
    return [one for path in images for one in (_fields(path) if _is_plate(path) else [_image(path)])]


def _looks_like_an_image(path: str) -> bool:
    """A Zarr or N5 folder, or a file in a format that is read: told by what it begins with, not by its name."""
    if os.path.isdir(path):
        return not _is_folder(path)
    from bigbia.io.formats.heads import head
    from bigbia.io.tiff import is_tiff

    try:
        return is_tiff(Place(path)) or head(Place(path), 16).startswith(HEADS)
    except BigbiaError:
        return False


def _some(names: Any) -> str:
    several = [shown(str(name)) for name in names]
    return ", ".join(several[:MANY]) + (f" and {len(several) - MANY} more" if len(several) > MANY else "")
