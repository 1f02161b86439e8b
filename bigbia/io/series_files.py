"""Which files a pattern such as `img_t{t}_c{c}_z{z}.tif` names, and where each of them lies in the image."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from bigbia.errors import InputError, ParameterError
from bigbia.io.found import SHOWN, listed
from bigbia.io.places import Place, shown, stamp_of, storage_errors

AXES = "tcz"
"""The axes that a pattern may name, in the order they are stacked."""

_HOLES = re.compile(r"(\{[A-Za-z]\}|\*)")
_NUMBER_OR_WORD = r"\d+|[^\W\d_]+"
_NAMED = {"t": "t", "time": "t", "tp": "t", "frame": "t", "timepoint": "t", "c": "c", "ch": "c", "channel": "c"} | {
    "w": "c", "z": "z", "slice": "z", "plane": "z", "stack": "z"
}  # fmt: skip

Index = tuple[int, ...]


@dataclass(frozen=True)
class SeriesFiles:
    """The files of a series: by their place along the pattern's axes, their path, size and when they were written."""

    pattern: Place
    axes: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]  # an axis each, as the names write them, in order
    files: dict[Index, tuple[str, int, str]]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(map(len, self.values))

    @property
    def absent(self) -> int:
        return math.prod(self.shape) - len(self.files)

    def missing(self, most: int = SHOWN) -> list[str]:
        """The first combinations for which there is no file, as the pattern would name them."""
        out: list[str] = []
        for index in product(*map(range, self.shape)):
            if len(out) == most:
                break
            if index not in self.files:
                out.append(self.name_of(index))
        return out

    def name_of(self, index: Index) -> str:
        """What the file at a place would be called; "t=1 c=GFP" where the pattern leaves a part of it open."""
        words = {axis: names[i] for axis, names, i in zip(self.axes, self.values, index)}
        name = self.pattern.url
        folder = os.path.dirname(re.split(r"[{*]", name, maxsplit=1)[0])
        for axis, word in words.items():
            name = name.replace(f"{{{axis}}}", word)
        if "*" in name:
            return " ".join(f"{axis}={word}" for axis, word in words.items())
        return shown(name.removeprefix(folder + "/"))


def is_pattern(text: str) -> bool:
    """Does a part of a path stand for several files?

    >>> is_pattern("img_{t}.tif"), is_pattern("img_1.tif")
    (True, False)
    """
    return bool(_HOLES.search(text))


def files_of(pattern: Place) -> SeriesFiles:
    """The files that a pattern names.

    Raises ParameterError for a pattern that cannot be one, InputError where it names no file, or two for one place.
    """
    text = pattern.url
    holes = [hole[1] for hole in _HOLES.findall(text) if hole != "*"]
    strange = next((hole for hole in holes if hole not in AXES), None)
    if strange is not None:
        raise ParameterError(f"{pattern}: {{{strange}}} stands for nothing: only {{t}}, {{c}}, {{z}} and * do")
    if not holes:
        raise ParameterError(
            f"{pattern}: * stands for several files, and nothing says what they are to each other: write {{t}}, {{c}} "
            "or {z} where their numbers are, as in img_t{t}_c{c}_z{z}.tif, or name one file"
        )
    if text.startswith("http"):
        raise ParameterError(f"{pattern}: a web server lists no files: copy the series, or name one file")
    axes = tuple(axis for axis in AXES if axis in holes)
    places: dict[tuple[int | str, ...], tuple[str, int, str]] = {}
    texts: dict[str, dict[int | str, str]] = {axis: {} for axis in axes}
    for words, path, size, stamp in _walk(pattern):
        key = tuple(_value(words[axis]) for axis in axes)
        if key in places:
            both = sorted(os.path.basename(name) for name in (places[key][0], path))
            where = " ".join(f"{axis}={words[axis]}" for axis in axes)
            raise InputError(
                f"{pattern}: {shown(both[0])} and {shown(both[1])} both lie at {where}: write what tells them apart "
                "into the pattern, or move one away"
            )
        places[key] = path, size, stamp
        for axis, value in zip(axes, key):
            texts[axis].setdefault(value, words[axis])
    if not places:
        raise InputError(f"{pattern}: matches no file: {_around(pattern)}")
    order = {axis: sorted(texts[axis], key=lambda v: (isinstance(v, str), v)) for axis in axes}
    for axis in set(axes) - {"c"}:
        first, last = order[axis][0], order[axis][-1]
        if isinstance(first, str) != isinstance(last, str):
            raise InputError(
                f"{pattern}: {{{axis}}} is the number {texts[axis][first]} in one file and the word "
                f"{shown(texts[axis][last])!r} in another: write more of the names into the pattern, or move one away"
            )
    rank = {axis: {value: i for i, value in enumerate(order[axis])} for axis in axes}
    files = {tuple(rank[a][v] for a, v in zip(axes, key)): file for key, file in places.items()}
    return SeriesFiles(
        pattern, axes, tuple(tuple(texts[a][v] for v in order[a]) for a in axes), dict(sorted(files.items()))
    )


def _value(word: str) -> int | str:
    return int(word) if word.isdecimal() else word


def _walk(pattern: Place) -> Iterator[tuple[dict[str, str], str, int, str]]:
    """Every file that fits: what its holes stand for, its path, size and time."""
    head, *rest = re.split(r"/(?=[^/]*[{*])", pattern.url, maxsplit=1)
    parts = rest[0].split("/") if rest else []
    # A pattern's first part may have no hole before it, its later ones may have none in them.
    yield from _within(Place(head), parts, {})


def _within(
    folder: Place, parts: Sequence[str], words: dict[str, str]
) -> Iterator[tuple[dict[str, str], str, int, str]]:
    expression, last = _expression(parts[0]), len(parts) == 1
    for name, is_folder, size, stamp in sorted(_entries(folder)):
        found = expression.fullmatch(name)
        if found is None or is_folder == last:
            continue
        here = found.groupdict()
        if any(words.get(axis, word) != word for axis, word in here.items()):
            continue
        path = folder / name
        if last:
            yield {**words, **here}, path.url, size, stamp
        else:
            yield from _within(path, parts[1:], {**words, **here})


def _expression(part: str) -> re.Pattern[str]:
    """A part of a path as a regular expression; an axis that comes again must say the same again."""
    out, seen = "", set()
    for piece in _HOLES.split(part):
        if piece == "*":
            out += "[^/]*"
        elif _HOLES.fullmatch(piece):
            axis = piece[1]
            what = _NUMBER_OR_WORD if axis != "c" else "[^/]+?"
            out += f"(?P={axis})" if axis in seen else f"(?P<{axis}>{what})"
            seen.add(axis)
        else:
            out += re.escape(piece)
    return re.compile(out)


def _entries(folder: Place) -> Iterator[tuple[str, bool, int, str]]:
    """What lies in a folder: name, whether it is a folder, size, time. Nothing where there is no folder."""
    if not folder.local:
        fs, path = folder.remote
        with storage_errors(folder.url):
            try:
                found = fs.ls(path, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return
        for one in found:
            name = str(one["name"]).rstrip("/").rsplit("/", 1)[-1]
            yield name, one.get("type") == "directory", int(one.get("size") or 0), stamp_of(one)
        return
    if not os.path.isdir(folder.url):
        return
    with storage_errors(folder.url), os.scandir(folder.url) as entries:
        for entry in entries:
            try:
                stat = entry.stat()
            except FileNotFoundError:  # a link to nowhere: no file
                continue
            yield entry.name, entry.is_dir(), stat.st_size, str(stat.st_mtime_ns)


def _around(pattern: Place) -> str:
    """What there is where a pattern looks in vain."""
    folder = Place(re.split(r"/(?=[^/]*[{*])", pattern.url, maxsplit=1)[0])
    if folder.kind() != "folder":
        return f"there is no folder {folder}: check the path"
    names = sorted(name for name, *_ in _entries(folder))
    if not names:
        return f"the folder {folder} is empty: check the path"
    suggestion = suggested(names)
    way_out = f", which {suggestion} would match" if suggestion else ": check the names"
    return f"{folder} holds {len(names)} entries ({listed(names, 3)}){way_out}"


def suggested(names: Sequence[str]) -> str | None:
    """The pattern that the names of TIFF files suggest, None where they suggest none.

    >>> suggested(["img_t1_DAPI.tif", "img_t1_GFP.tif", "img_t2_DAPI.tif", "img_t2_GFP.tif"])
    'img_t{t}_{c}.tif'
    """
    tiffs = [name for name in names if name.lower().endswith((".tif", ".tiff"))][:1000]
    split = [re.split(r"(\d+)", name) for name in tiffs]
    if len(tiffs) < 2 or len({len(one) for one in split}) > 1:
        return None
    out: list[str] = []
    for i, column in enumerate(zip(*split)):
        values = sorted(set(column))
        if len(values) == 1:
            out.append(values[0])
        elif i % 2 == 0:
            front = _common(values)
            back = _common([value[len(front) :][::-1] for value in values])[::-1]
            if any(len(value) == len(front) + len(back) for value in values):
                return None
            out.append(f"{front}{{c}}{back}")
        else:
            said = re.search(r"([A-Za-z]+)[_ -]?$", split[0][i - 1])
            out.append(f"{{{_NAMED.get(said[1].lower() if said else '', '?')}}}")
    used = [hole[1] for hole in re.findall(r"\{.\}", "".join(out))]
    pattern = "".join(out)
    if used.count("?") == 1 and "z" not in used:
        used[used.index("?")], pattern = "z", pattern.replace("{?}", "{z}")
    return pattern if "?" not in used and len(set(used)) == len(used) else None


def _common(words: Sequence[str]) -> str:
    """What all words begin with."""
    least, most = min(words), max(words)
    return least[: next((i for i, (a, b) in enumerate(zip(least, most)) if a != b), len(least))]


def name_for(pattern: Any) -> str:
    """A name for the image of a series: what its files' names have in common, else that of their folder.

    >>> name_for("scan/img_t{t}_z{z}.tif"), name_for("scan/t{t}.tif")
    ('img', 'scan')
    """
    folder, _, name = str(pattern).rpartition("/")
    name = re.sub(r"(\.ome)?\.tiff?$", "", name, flags=re.IGNORECASE)
    name = re.sub(r"([_\-. ]|^)?(?:[A-Za-z]{1,2})?(\{[tcz]\}|\*)", "", name).strip("_-. ")
    return name or (name_for(folder) if folder else "series")
