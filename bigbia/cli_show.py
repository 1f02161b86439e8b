"""What the commands print: what is in a file, what was written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def described(found: dict[str, Any]) -> str:
    """What `bigbia.io.describing.describe` found, for reading: one line a fact, nothing about what is not there."""
    facts = dict(found)
    problems = facts.pop("problems", None) or []
    if facts.pop("opens", True) is False:
        facts.pop("missing_chunks", None)
    lines = list(_plate(facts) if "wells" in facts or "fields" in facts else _facts(facts))
    width = max((len(name) for name, _ in lines), default=0)
    out = [str(found.get("path", "")), *(f"  {name:<{width}}  {text}" for name, text in lines)]
    if problems:
        out += ["", f"{len(problems)} thing{'s' if len(problems) > 1 else ''} to know or to mend:"]
        out += [f"  - {one['problem']}" + (f": {one['remedy']}" if one["remedy"] else "") for one in problems]
    return "\n".join(out)


def _facts(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    shape, axes = found.pop("shape", None), found.pop("axes", None)
    found.pop("path", None)
    yield "kind", str(found.pop("kind", ""))
    if shape is not None:
        yield "size", ", ".join(f"{a} {n}" for a, n in zip(axes, shape)) if axes else by(shape) + " (axes unknown)"
        yield "values", str(found.pop("dtype", ""))
    elif axes:
        yield "axes", " ".join(axes)
    unit = found.pop("unit", None) or "(no unit)"
    if sizes := found.pop("voxel_size", None):
        yield "voxel size", f"{', '.join(f'{a} {n:g}' for a, n in sizes.items())} {unit}"
    elif shape is not None:
        yield "voxel size", 'not known: --voxel-size "1, 0.5, 0.5 um"'
    time_unit = found.pop("time_unit", None)
    if step := found.pop("time_step", None):
        yield "time step", f"{step:g} {time_unit or '(no unit)'}"
    yield from _channels(found.pop("channels", None) or [], found.pop("display", None) or {})
    if chunks := found.pop("chunks", None):
        shards = found.pop("shards", None)
        yield "chunks", by(chunks) + (f" in shards of {by(shards)}" if shards else "")
    yield from _levels(found.pop("levels", None) or [])
    for key in ("labels", "tables", "scenes"):
        if names := found.pop(key, None):
            yield key, _some(names)
    yield from _amounts(found)
    for key, value in found.items():
        if value not in (None, [], {}, ""):
            yield key.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _amounts(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    stored, memory = found.pop("bytes", None), found.pop("bytes_in_memory", None)
    amounts = ((stored, "stored"), (memory, "in memory"))
    parts = [f"{size(count)} {where}" for count, where in amounts if count is not None]
    if parts:
        yield "bytes", ", ".join(parts)
    missing = found.pop("missing_chunks", None) or {}
    if missing.get("absent"):
        yield "missing", f"{missing['absent']} of {missing.get('total')} chunks; they read as the fill value"


def _channels(names: list[str], display: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Names in one line; a line each where the file says how they are shown."""
    if not display:
        if names:
            yield "channels", ", ".join(map(str, names))
        return
    for number, name in enumerate(names or display):
        entry = display.get(name) or {}
        color, window = entry.get("color"), entry.get("window")
        said = [str(name), f"#{color}" if color else "", f"shown from {window[0]:g} to {window[1]:g}" if window else ""]
        yield f"channel {number}", "  ".join(filter(None, said))


def _levels(levels: list[Any]) -> Iterator[tuple[str, str]]:
    """A pyramid, one line a level; an image without one needs no line."""
    if len(levels) < 2 and all(not isinstance(level, dict) or level.get("shape") for level in levels):
        return
    for number, level in enumerate(levels):
        if not isinstance(level, dict) or "shape" not in level:
            yield f"level {number}", str(level)
            continue
        sizes = level.get("voxel_size")
        voxels = f", voxels of {' x '.join(f'{n:g}' for n in sizes.values())}" if sizes else ""
        yield (
            f"level {number}",
            (by(level["shape"]) if level["shape"] else f"{level.get('path', '')}: not there") + voxels,
        )


def _plate(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A plate or a well: what lies in it, and what is common to its images."""
    yield "kind", str(found.get("kind", ""))
    if found.get("name"):
        yield "name", str(found["name"])
    wells, fields, images = found.get("wells"), found.get("fields"), found.get("images") or {}
    if wells is not None:
        yield "plate", f"{found['rows']} rows x {found['columns']} columns, {len(wells)} wells, {fields} fields"
        yield "wells", _some(wells)
    else:
        yield "fields", _some(fields or [])
    if found.get("acquisitions"):
        yield "acquisitions", _some(found["acquisitions"])
    if images.get("looked_at"):
        yield "looked at", f"{images['looked_at']} of its images, which have in common:"
        common = {key: value for key, value in images.items() if key != "looked_at"}
        yield from (line for line in _facts({**common, "kind": ""}) if line[0] != "kind")


def _some(names: list[str], most: int = 24) -> str:
    rest = len(names) - most
    return ", ".join(map(str, names[:most])) + (f" and {rest} more" if rest > 0 else "")


def written(output: str, outputs: dict[str, Any], seconds: float) -> str:
    """What a run wrote, and where."""
    lines = [f"{output}: written in {seconds:.1f} s"]
    named: dict[str, Any] = {"image": outputs["image"]} if outputs.get("image") is not None else {}
    for section in ("images", "labels"):
        named.update({f"{section}/{name}": value for name, value in outputs.get(section, {}).items()})
    lines += [f"  {name}: {by(value.shape)} {value.dtype}" for name, value in named.items()]
    lines += [f"  tables/{name}.parquet" for name in outputs.get("tables", {})]
    return "\n".join(lines)


def by(lengths: Any) -> str:
    """(60, 256, 256) -> "60 x 256 x 256"."""
    return " x ".join(map(str, lengths))


def size(count: float) -> str:
    """Bytes for reading: "7.5 MiB"."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
