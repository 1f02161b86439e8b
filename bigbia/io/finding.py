"""What is at a path, before the user's own words are heard: the reader is picked by looking, never by the name."""

from __future__ import annotations

import difflib
import os
from typing import Any

from bigbia.errors import InputError, ParameterError
from bigbia.hyperstack import SPACE
from bigbia.io.found import Found, listed, scene_number, shown_as
from bigbia.io.multiscale import Multiscale, inside, multiscale_of
from bigbia.io.places import Place, shown
from bigbia.io.plates import chosen, ome_of
from bigbia.io.zarr_source import ZarrNode, ZarrSource, find_node
from bigbia.units import rounded

_WORDS = {"time": "t", "channel": "c"}
_KNOWN_FILES = {
    b"\x89PNG": "a PNG picture: save it as TIFF",
    b"\xff\xd8\xff": "a JPEG picture, which does not keep the values: use the original",
    b"PK\x03\x04": "a zip file: unpack it",
    b"\x1f\x8b": "a gzip file: unpack it",
    b"\x93NUM": "a NumPy file: bigbia works on numpy.load(path, mmap_mode='r') as it is",
}


def find(
    path: Any, level: Any, on_missing: str | None, *, scene: Any = None, well: Any = None, field: Any = None
) -> Found:
    """What is at a path: the source of one level of one image, and what its metadata say.

    Raises InputError where there is no image, ParameterError for a level, scene, well or field that is not there.
    """
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise ParameterError(f"path={path!r}: is not a path: name a file, a folder or a URL")
    if not isinstance(level, int) or isinstance(level, bool):
        raise ParameterError(f"level={level!r}: is not a whole number: 0 is the full resolution")
    place = Place(path)
    node = find_node(place)
    if node is not None:
        return _in_zarr(node, level, on_missing, scene, well, field)
    kind = place.kind()
    found = _file(place, kind, level, on_missing, scene)
    for word, value in (("well", well), ("field", field)):
        if value is not None:
            raise ParameterError(f"{word}={value!r}: {place} is no plate, it is {found.kind}: leave {word} out")
    return found


def _file(place: Place, kind: str | None, level: int, on_missing: str | None, scene: Any) -> Found:
    """What is at a path without Zarr metadata."""
    if kind == "file":
        from bigbia.io.tiff import is_tiff

        if is_tiff(place):
            return _tiff(place, level, on_missing, scene)
    if kind != "device":
        foreign = _foreign(place, level, scene, on_missing)
        if foreign is not None:
            return foreign
    if kind is None:
        from bigbia.io.series_files import is_pattern

        if is_pattern(place.url):
            from bigbia.io.series import open_series

            return open_series(place, level, on_missing, scene)
        raise InputError(f"{place}: there is nothing{_sibling(place)}")
    if kind == "folder":
        raise InputError(f"{place}: is not an image: {_what_folder(place)}")
    if kind == "device":
        raise InputError(f"{place}: is not an image: a device or a pipe: name a file or a folder")
    raise InputError(
        f"{place}: is not an image: {_what_file(place)}; bigbia opens OME-Zarr, Zarr, TIFF, HDF5, N5, CZI, ND2 and LIF"
    )


def _foreign(place: Place, level: int, scene: Any, on_missing: str | None) -> Found | None:
    """What the readers of other formats find; None where none of them knows what is there."""
    from bigbia.io import formats

    return formats.found(place, level, scene, on_missing)


def _what_folder(place: Place) -> str:
    from bigbia.io.series_files import suggested

    names = place.names()
    within = f"{len(names)} entries ({listed(names, 3)})" if names else "nothing"
    tiffs = [name for name in names if name.lower().endswith((".tif", ".tiff"))]
    if len(tiffs) < 2:
        return f"a folder without Zarr metadata, holding {within}: name the image in it"
    pattern = suggested(tiffs)
    way_out = (
        f"name the series by {place}/{pattern}" if pattern else "name a series by a pattern, img_t{t}_c{c}_z{z}.tif"
    )
    return f"a folder without Zarr metadata, holding {within}, of which {len(tiffs)} are TIFF files: {way_out}, or name one"


def _in_zarr(node: ZarrNode, level: int, on_missing: str | None, scene: Any, well: Any, field: Any) -> Found:
    """The image at a Zarr node: itself, or the one that `well` and `field`, or `scene`, mean."""
    meant = chosen(node, well, field)
    if meant is not None:
        _no_scene(scene, node.place)
        image, name = meant
        found = _zarr(image, level, on_missing)
        found.name = name
        return found
    for word, value in (("well", well), ("field", field)):
        if value is not None:
            raise ParameterError(
                f"{word}={value!r}: {node.place} is no plate and no well, it is {_what_node(node)}: leave {word} out"
            )
    names = series_of(node)
    if not names:
        _no_scene(scene, node.place)
        return _zarr(node, level, on_missing)
    if scene is None and len(names) > 1:
        raise InputError(
            f"{node.place}: holds {len(names)} images ({listed(names)}): open one, as in {node.place}/{names[0]}, or by "
            f'scene="{names[0]}"'
        )
    inner = find_node(node.place / names[scene_number(scene, names, node.place)])
    if inner is None:
        raise InputError(f"{node.place}: lists the images {listed(names)}, and one is not there: restore it")
    found = _zarr(inner, level, on_missing)
    found.name = _stem(node.place) if len(names) == 1 else f"{_stem(node.place)}_{inner.place.name}"
    found.scenes = tuple(names) if len(names) > 1 else ()
    return found


def _no_scene(scene: Any, place: Place) -> None:
    if scene is not None:
        raise ParameterError(f"scene={scene!r}: {place} is not a file of several images: leave scene out")


def _what_node(node: ZarrNode) -> str:
    if node.kind == "array":
        return "an array"
    return "an image" if "multiscales" in ome_of(node) else "a group"


def _sibling(place: Place) -> str:
    """Points to a name that looks like the one that is not there."""
    folder = place.parent
    if folder is None or not place.local:
        return ": check the address"
    if not os.path.isdir(folder.url):
        return f": {folder} does not exist either"
    close = difflib.get_close_matches(place.name, folder.names(), n=1)
    return f", did you mean {close[0]!r}?" if close else f" by this name in {folder}: check the path"


def _what_file(place: Place) -> str:
    if not place.local:
        return "no TIFF file and no Zarr folder"
    with open(place.url, "rb") as file:
        head = file.read(16)
    if not head:
        return "an empty file"
    known = next((what for magic, what in _KNOWN_FILES.items() if head.startswith(magic)), None)
    return known or f"a file that begins with {head[:8]!r}"


def _stem(place: Place) -> str:
    name = place.name
    for suffix in (".zarr", ".tif", ".tiff", ".ome"):
        name = name.removesuffix(suffix)
    return name


def _tiff(place: Place, level: int, on_missing: str | None, scene: Any) -> Found:
    from bigbia.io.tiff import open_tiff

    source, info = open_tiff(place, level, on_missing or "fill", scene)
    names = tuple(info.axes or info.stored_axes.lower())
    shrink = {a: n / m for a, n, m in zip(names, info.levels[0], info.levels[level]) if a in SPACE}
    return Found(
        place, info.kind, source, names, info.axes,
        sizes={a: rounded(s * shrink.get(a, 1.0)) for a, s in info.sizes.items() if a in names},
        shrink=shrink, unit=info.unit, time_unit=info.time_unit, channels=info.channels, images=info.images,
        name=_stem(place) if scene is None or info.images < 2 else f"{_stem(place)}_{scene}",
        levels=info.levels, scenes=info.scenes, display=info.display, origin=info.origin,
    )  # fmt: skip


def _zarr(node: ZarrNode, level: int, on_missing: str | None) -> Found:
    if node.kind == "array":
        if level != 0:
            raise ParameterError(
                f"{node.place}: level={level}: is a single array: leave level out, or name the image's folder"
            )
        within = _image_around(node.place)
        return _plain_array(node, on_missing) if within is None else _level(*within, node, on_missing)
    image = multiscale_of(node)
    if image is None:
        raise InputError(f"{node.place}: {_what_group(node)}")
    if not 0 <= level < len(image.paths):
        last = len(image.paths) - 1
        raise ParameterError(f"{node.place}: level={level}: has {last + 1} level(s), 0 to {last}")
    array = find_node(node.place / image.paths[level])
    if array is None or array.kind != "array":
        raise InputError(
            f"{node.place}: level {level} should be at {image.paths[level]!r}, and no array is there: the image is not "
            "complete, restore it"
        )
    found = _level(node, image, level, array, on_missing)
    found.image = image
    return found


def _level(group: ZarrNode, image: Multiscale, level: int, array: ZarrNode, on_missing: str | None) -> Found:
    source = ZarrSource(array, axes="".join(image.axes) if image.axes else None, on_missing=on_missing)
    fits, mismatch = image.axes is not None and len(image.axes) == len(source.shape), None
    if image.axes is not None and not fits:
        mismatch = (
            f"{array.place}: shape {source.shape} has {len(source.shape)} axes, the image's metadata name "
            f"{len(image.axes)} ({' '.join(image.axes)}): restore them, or pass axes to overrule them"
        )
    sizes = image.sizes[level] if fits else {}
    first = image.sizes[0] if fits else {}
    return Found(
        group.place,
        f"OME-Zarr {image.version}", source, image.axes if fits and image.axes else (), image.axes if fits else None,
        sizes={a: s for a, s in sizes.items() if a != "c" and (a != "t" or image.time_unit)},
        shrink={a: s / first[a] for a, s in sizes.items() if a in first},
        origin=image.origins[level] if fits else {}, unit=image.unit, time_unit=image.time_unit,
        problem=image.problem, mismatch=mismatch, channels=image.channels, name=_stem(group.place),
        display=shown_as(image.display, image.channels), notes=list(image.notes) if fits else [],
    )  # fmt: skip


def _image_around(place: Place) -> tuple[ZarrNode, Multiscale, int] | None:
    """The image group that names this array as one of its levels."""
    name, folder = place.name, place.parent
    for _ in range(3):
        node = find_node(folder) if folder is not None else None
        if folder is None or node is None:
            return None
        try:
            image = multiscale_of(node)
        except InputError:
            return None  # the array itself was asked for; what its surroundings claim matters less
        if image is not None and name in image.paths:
            return node, image, image.paths.index(name)
        name, folder = f"{folder.name}/{name}", folder.parent
    return None


def _plain_array(node: ZarrNode, on_missing: str | None) -> Found:
    said = node.meta.get("dimension_names") or node.attributes.get("_ARRAY_DIMENSIONS")
    words = [str(word).lower() for word in said] if isinstance(said, list) else []
    names = tuple(_WORDS.get(word, word) for word in words)
    known = bool(names) and all(len(n) == 1 and n in "tczyx" for n in names) and len(set(names)) == len(names)
    source = ZarrSource(node, axes="".join(names) if known else None, on_missing=on_missing)
    names = names if len(names) == len(source.shape) else ()
    return Found(
        node.place, f"Zarr {node.format}", source, names, names if known and names else None,
        name=_stem(node.place), levels=(source.shape,),
    )  # fmt: skip


def series_of(node: ZarrNode) -> list[str]:
    """bioformats2raw puts images into groups 0, 1, ...: their names, none for a group that holds no such series."""
    ome = ome_of(node)
    if node.kind != "group" or "bioformats2raw.layout" not in ome or "plate" in ome or "multiscales" in ome:
        return []
    about = find_node(node.place / "OME")
    said = ome_of(about).get("series") if about is not None else None
    if isinstance(said, list) and said:
        return [inside(name, str(node.place), "series") for name in said]
    names: list[str] = []
    while (inner := find_node(node.place / str(len(names)))) is not None and inner.kind == "group":
        if multiscale_of(inner) is None:
            break
        names.append(str(len(names)))
    return names


def _what_group(node: ZarrNode) -> str:
    """What a group without an image is, and what to open instead."""
    entries = ome_of(node).get("labels")
    if isinstance(entries, list) and entries:
        paths = [inside(entry, str(node.place), "label") for entry in entries]
        return f"is a list of label images of {len(paths)} ({listed(paths)}): open one, as in {node.place}/{paths[0]}"
    names = [shown(n) for n in node.place.names() if not n.startswith(".") and n not in ("zarr.json", "OME")]
    if isinstance(entries, list):
        within = f"but {listed(names)} lie in it: name one of them" if names else "and nothing lies in it"
        return f"is a list of no label images; {within}"
    within = f"it holds {', '.join(names[:6])}: name one of them" if names else "it holds nothing"
    return f"is a Zarr group without an image (no multiscales); {within}"
