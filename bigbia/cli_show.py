"""What the commands print: what is in a file, what was written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def described(found: dict[str, Any]) -> str:
    """What `bigbia.io.opening.describe` found, for reading: one line a fact, nothing about what is not there."""
    lines = list(_facts(dict(found)))
    width = max(len(name) for name, _ in lines)
    return "\n".join([str(found.get("path", "")), *(f"  {name:<{width}}  {text}" for name, text in lines)])


def _facts(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    shape, axes = found.pop("shape", []), found.pop("axes", None)
    found.pop("path", None)
    yield "kind", str(found.pop("kind", ""))
    yield "size", ", ".join(f"{a} {n}" for a, n in zip(axes, shape)) if axes else by(shape) + " (axes unknown)"
    yield "values", str(found.pop("dtype", ""))
    unit = found.pop("unit", None) or "(no unit)"
    if sizes := found.pop("voxel_size", None):
        yield "voxel size", f"{', '.join(f'{a} {n:g}' for a, n in sizes.items())} {unit}"
    else:
        yield "voxel size", 'not known: --voxel-size "1, 0.5, 0.5 um"'
    time_unit = found.pop("time_unit", None)
    if step := found.pop("time_step", None):
        yield "time step", f"{step:g} {time_unit or '(no unit)'}"
    if names := found.pop("channels", None):
        yield "channels", ", ".join(map(str, names))
    if chunks := found.pop("chunks", None):
        shards = found.pop("shards", None)
        yield "chunks", by(chunks) + (f" in shards of {by(shards)}" if shards else "")
    yield from _levels(found.pop("levels", None) or [])
    for key in ("labels", "tables"):
        if names := found.pop(key, None):
            yield key, ", ".join(map(str, names))
    stored, memory = found.pop("bytes", None), found.pop("bytes_in_memory", None)
    parts = [f"{size(stored)} stored"] * (stored is not None) + [f"{size(memory)} in memory"] * (memory is not None)
    if parts:
        yield "bytes", ", ".join(parts)
    missing = found.pop("missing_chunks", None) or {}
    if missing.get("absent"):
        yield "missing", f"{missing['absent']} of {missing.get('total')} chunks; they read as the fill value"
    for key, value in found.items():
        if value not in (None, [], {}, ""):
            yield key.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _levels(levels: list[Any]) -> Iterator[tuple[str, str]]:
    """A pyramid, one line a level; an image without one needs no line."""
    if len(levels) < 2:
        return
    for number, level in enumerate(levels):
        yield f"level {number}", by(level["shape"]) if isinstance(level, dict) and "shape" in level else str(level)


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
