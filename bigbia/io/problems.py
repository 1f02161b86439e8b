"""What would be wrong with an image, each with its remedy: what `bigbia info` says beside the facts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bigbia import config
from bigbia.hyperstack import EXAMPLE, SPACE
from bigbia.io.found import Found, listed
from bigbia.io.multiscale import is_finite, labels_in
from bigbia.io.places import Place, brief, shown
from bigbia.io.plates import ome_of
from bigbia.io.zarr_source import ZarrNode, ZarrSource, find_node
from bigbia.units import unit_name

MANY, TINY = 100_000, 64 << 10  # files of fewer bytes each, in such numbers, are slow on every disk
HUGE = 256 << 20  # bytes of a chunk, which is decoded as a whole
_CONVERT = "write it again: bigbia convert"
Problem = tuple[str, str]


def problems_of(found: Found, facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """What would be wrong with an image that can be opened, or could be with a word more."""
    node = find_node(found.place) if found.image is not None else None
    every = [*_axes(found), *_voxels(found, facts), *_channels(found), *_chunks(found, facts)]
    if node is not None:
        every += [*_levels(facts), *_labels(found.place), *metadata_problems(node)]
    return [{"problem": problem, "remedy": remedy} for problem, remedy in dict(every).items()]


def _axes(found: Found) -> Iterator[Problem]:
    if found.mismatch:
        said, _, remedy = found.mismatch.partition(": restore")
        yield said, f"restore{remedy}"
    elif found.axes is None:
        yield f"nothing says which axes its shape {_by(found.source.shape)} has", 'pass axes, for instance axes="zyx"'


def _voxels(found: Found, facts: Mapping[str, Any]) -> Iterator[Problem]:
    space = [axis for axis in facts["axes"] or "" if axis in SPACE]
    sizes = facts["voxel_size"] or {}
    if found.problem:
        yield found.problem, f'pass voxel_size="{EXAMPLE}"'
    elif not sizes and not found.mismatch:
        yield "voxels have no size, so lengths cannot be given in a unit", f'pass voxel_size="{EXAMPLE}"'
    unknown = [axis for axis in space if axis not in sizes]
    if sizes and unknown:
        yield (
            f"voxels have a size along {' '.join(sizes)} and none along {' '.join(unknown)}: they may be anisotropic",
            f'pass voxel_size="{EXAMPLE}"',
        )
    if sizes and not found.unit:
        ones = all(size == 1 for size in sizes.values())
        why = "voxels have size 1 without a unit, as where it was never set" if ones else "the voxel size has no unit"
        yield why, f'pass voxel_size="{EXAMPLE}"'
    if "t" in (facts["axes"] or "") and facts["time_step"] is not None and not found.time_unit:
        yield "the time step has no unit", "times are plain numbers"


def _channels(found: Found) -> Iterator[Problem]:
    axes = found.axes or ()
    count = found.source.shape[axes.index("c")] if "c" in axes and not found.mismatch else 0
    named = len(found.channels or ()) or (len(found.image.display) if found.image is not None else 0)
    if count and named and named != count:
        yield (
            f"it has {count} channels, and its metadata describe {named}: their names are left aside",
            f"pass channels=[...] with {count} names",
        )
    elif found.channels is not None and len(set(found.channels)) < len(found.channels):
        twice = next(name for name in found.channels if list(found.channels).count(name) > 1)
        yield f"several channels are called {twice!r}", f"they are numbered: {twice!r}, '{twice} (2)'"


def _chunks(found: Found, facts: Mapping[str, Any]) -> Iterator[Problem]:
    source, chunks = found.source, facts["chunks"]
    one, may = math.prod(chunks) * source.dtype.itemsize, config.memory()
    if one > may:
        yield (
            f"one chunk of {_by(chunks)} is {one / 2**30:.3g} GiB and is read as a whole, {may / 2**30:.3g} GiB may be "
            "used: it cannot be opened",
            "give more memory (bigbia.memory), or write it again in smaller chunks",
        )
    elif one > HUGE:
        yield f"one chunk of {_by(chunks)} is {one / 2**20:.0f} MiB, which every read of it decodes", _CONVERT
    absent, total = facts["missing_chunks"]["absent"], facts["missing_chunks"]["total"]
    small = math.prod(facts["shards"] or chunks) * source.dtype.itemsize < TINY
    if isinstance(source, ZarrSource) and total > MANY and small:
        yield (
            f"it is {total} files of less than {TINY >> 10} KiB each, which no disk reads quickly",
            f"{_CONVERT} --shards",
        )
    if absent:
        all_of = "every chunk is" if absent == total else f"{absent} of {total} chunks are"
        yield (
            f"{all_of} absent and read as the fill value",
            'right where nothing was there to store; on_missing="error" refuses them',
        )
    if isinstance(source, ZarrSource) and str(source.meta.get("dtype", "")).startswith(">"):
        yield "its voxels are stored big-endian, and turned round at every read", _CONVERT


def _levels(facts: Mapping[str, Any]) -> Iterator[Problem]:
    """Every level is the one before it, smaller by what the scales say."""
    levels = facts["levels"]
    shapes = [level["shape"] for level in levels]
    gone = [shown(level["path"]) for level in levels if level["shape"] is None]
    if gone:
        yield (
            f"{_count(gone, 'level')} listed and not there ({listed(gone)})",
            "restore them, or take them off the list",
        )
    axes, first = facts["axes"] or "", shapes[0]
    for number, (level, shape) in enumerate(zip(levels, shapes)):
        if not number or shape is None or first is None or len(first) != len(axes):
            continue
        if len(shape) != len(first) or any(n > m for n, m in zip(shape, first)):
            yield (
                f"level {number} of {_by(shape)} does not fit level 0 of {_by(first)}",
                f"{_CONVERT} makes the levels anew",
            )
            continue
        sizes, base = level.get("voxel_size") or {}, facts["voxel_size"] or {}
        wrong = [
            axis
            for axis, n, m in zip(axes, shape, first)
            if axis in sizes and base.get(axis) and abs(n - m * base[axis] / sizes[axis]) > 1
        ]
        if wrong:
            yield (
                f"level {number} is {_by(shape)}, which its voxel size does not say of axis {' '.join(wrong)}: one of "
                "them is wrong",
                f"{_CONVERT} makes the levels anew",
            )


def _labels(place: Place) -> Iterator[Problem]:
    names = labels_in(place)
    folder = place / "labels"
    gone = [name for name in names if find_node(folder / name) is None]
    if gone:
        yield (
            f"{_count(gone, 'label image')} listed and not there ({listed(gone)})",
            "restore, or take off the list of labels/",
        )
    others = [n for n in folder.names() if not n.startswith((".", "_")) and n not in ("zarr.json", *names)]
    others = [name for name in others if not any(known.startswith(f"{name}/") for known in names)]
    unlisted = [name for name in others if find_node(folder / name) is not None]
    if unlisted:
        yield (
            f"{_count(unlisted, 'label image')} in labels/ and not listed ({listed(unlisted)})",
            "no viewer shows them: list them",
        )


def metadata_problems(node: ZarrNode) -> list[Problem]:
    """What the validators of OME-NGFF would refuse in the metadata of an image."""
    ome = ome_of(node)
    found = ome.get("multiscales")
    if not isinstance(found, list) or not found or not isinstance(found[0], Mapping):
        return [("its multiscales are empty, or no list of mappings", "restore the metadata, or write it again")]
    first, out = found[0], list[Problem]()
    newer = "ome" in node.attributes
    if len(found) > 1:
        out.append(
            (f"it describes {len(found)} multiscale images", "the first one is opened; others only by their arrays")
        )
    if not (ome.get("version") if newer else first.get("version")):
        out.append(("its metadata have no version", f'write "version": "{"0.5" if newer else "0.4"}" into them'))
    if newer and node.format == 2:
        out.append(("its metadata are those of 0.5, in Zarr 2, which 0.5 does not know", _CONVERT))
    if str(ome.get("version") or first.get("version")) in ("0.1", "0.2", "0.3"):
        return [("it is of a version before 0.4, which newer programs do not open", _CONVERT)]
    return [*out, *_said_axes(first.get("axes")), *_said_scales(first), *_said_omero(ome.get("omero"))]


def _said_axes(axes: Any) -> Iterator[Problem]:
    if not isinstance(axes, list) or not all(isinstance(axis, Mapping) for axis in axes):
        yield "its axes are not described by mappings, as 0.4 and 0.5 want them", _CONVERT
        return
    kinds = [axis.get("type") for axis in axes]
    names = [str(axis.get("name")) for axis in axes]
    untyped = [n for n, k in zip(names, kinds) if not k]
    if untyped:
        yield (
            f"{_count(untyped, 'axis', 'axes')} without a type ({listed(untyped)})",
            "write time, channel or space to each",
        )
    space = [n for n, k in zip(names, kinds) if k == "space"]
    if len(space) not in (2, 3):
        yield f"it has {len(space)} axes of type space, 2 or 3 are allowed", "write the types of its axes anew"
    if len(set(names)) < len(names):
        yield f"its axes {' '.join(map(shown, names))} do not have a name each", "name them anew"
    rank = [{"time": 0, "space": 2}.get(str(kind), 1) for kind in kinds]
    if rank != sorted(rank):
        yield f"its axes {' '.join(map(shown, names))} are not in the order time, channel, space", _CONVERT
    elif [n.lower() for n in space] != sorted((n.lower() for n in space), reverse=True) and set("".join(space)) <= set(
        SPACE
    ):
        yield f"its axes of space are {' '.join(space)}, most programs expect z y x", _CONVERT
    strange = [str(a.get("unit")) for a in axes if a.get("unit") and unit_name(a["unit"]) is None]
    if strange:
        yield f"its unit {brief(strange[0], repr)} is none of the OME units", f'pass voxel_size="{EXAMPLE}"'


def _said_scales(multiscale: Mapping[str, Any]) -> Iterator[Problem]:
    axes, datasets = multiscale.get("axes"), multiscale.get("datasets")
    count = len(axes) if isinstance(axes, list) else 0
    for number, dataset in enumerate(datasets if isinstance(datasets, list) else []):
        said = dataset.get("coordinateTransformations") if isinstance(dataset, Mapping) else None
        kinds = [one.get("type") for one in said if isinstance(one, Mapping)] if isinstance(said, list) else []
        if kinds[:1] != ["scale"]:
            yield f"level {number} has no scale as its first transformation", f'pass voxel_size="{EXAMPLE}"'
            return
        values = said[0].get("scale") if isinstance(said, list) else None
        if isinstance(values, list) and (len(values) != count or not all(map(is_finite, values))):
            yield f"level {number} has a scale {brief(values)} for {count} axes", f'pass voxel_size="{EXAMPLE}"'
            return


def _said_omero(omero: Any) -> Iterator[Problem]:
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    if omero is not None and not isinstance(channels, list):
        yield "its omero block lists no channels", "take it out, or write the channels"
        return
    for number, one in enumerate(channels or []):
        color, window = (one.get("color"), one.get("window")) if isinstance(one, Mapping) else (None, None)
        if not isinstance(color, str) or len(color) != 6:
            yield (
                f"channel {number} has the colour {brief(color, repr)}, six hexadecimal digits are wanted",
                f"{_CONVERT} sets colours",
            )
            return
        if not isinstance(window, Mapping) or not all(is_finite(window.get(k)) for k in ("start", "end", "min", "max")):
            yield f"channel {number} has no whole window (start, end, min, max)", f"{_CONVERT} sets contrast"
            return


def _count(names: Sequence[str], one: str, many: str | None = None) -> str:
    return f"{len(names)} {one if len(names) == 1 else many or one + 's'}"


def _by(lengths: Any) -> str:
    return " x ".join(map(str, lengths))
