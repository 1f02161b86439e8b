"""What a run is, part by part, and which parts of two runs differ.

    pipeline  the steps with their parameters, where a pipeline file made them
    input     the images that are read, each with a hash of what is in it
    output    what is written: the place, the layout, and a hash of how every voxel of it is made
    versions  bigbia and the libraries whose arithmetic shows in the result

Two runs with equal parts write the same bytes.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bigbia.graph.reading import consumers_first
from bigbia.graph.regions import Live, Node, Store
from bigbia.graph.stages import stages_of

LIBRARIES = ("numpy", "scipy", "scikit-image", "numba", "zarr", "numcodecs", "pyarrow")
ENCODING = "2"  # how voxels become files (`io/ome_zarr.py`); another one's files are not taken over. 2: Blosc
SHOWN = 4  # differences named in a message


def versions() -> dict[str, str]:
    """bigbia, Python and the libraries that compute or encode."""
    found = {"bigbia": sys.modules["bigbia"].__version__, "python": ".".join(platform.python_version_tuple()[:2])}
    found["encoding"] = ENCODING
    return found | {name: _version(name) for name in LIBRARIES}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def every_node(nodes: Iterable[Node]) -> Iterator[Node]:
    """All nodes below some, also those that their stages read."""
    nodes = list(nodes)
    seen: set[str] = set()
    for several in [nodes, *(stage.inputs for stage in stages_of(nodes))]:
        for node in consumers_first(*several):
            if node.token not in seen:
                seen.add(node.token)
                yield node


def inputs_of(nodes: Iterable[Node]) -> dict[str, str]:
    """The sources below some nodes: their names, and a hash of what is in them."""
    found: dict[str, str] = {}
    for node in every_node(nodes):
        if isinstance(node, Store):
            name, again = str(getattr(node.source, "place", None) or type(node.source).__name__), 1
            while f"{name} {again}".removesuffix(" 1") in found:
                again += 1
            found[f"{name} {again}".removesuffix(" 1")] = str(node.source.token)
    return found


def missing_chunks(nodes: Iterable[Node]) -> dict[str, str]:
    """How many chunks of the sources are absent, and read as fill values: "3 of 512"; of those that lack any."""
    found = {}
    for node in every_node(nodes):
        count = getattr(node.source, "missing_chunks", None) if isinstance(node, Store) else None
        absent, total = count() if count is not None else (0, 0)
        if absent:
            found[str(getattr(node.source, "place", ""))] = f"{absent} of {total}"  # type: ignore[attr-defined]
    return found


def has_live(nodes: Iterable[Node]) -> bool:
    """Whether blocks of other Dask arrays are read: those have no name that another process would know."""
    return any(isinstance(node, Live) for node in every_node(nodes))


def fingerprint(parts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def without_tokens(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a run without what the pipeline and the input imply: how each voxel is made, as a hash."""
    output = {
        place: {k: v for k, v in about.items() if k not in ("voxels", "blocks")}
        if isinstance(about, Mapping)
        else about
        for place, about in parts["output"].items()
        if place != "blocks"
    }
    output["tables"] = sorted(parts["output"].get("tables", ()))
    return {**parts, "output": {**output, "whole": True}}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The parts in which two runs differ, a text each: "pipeline.steps.smooth.sigma: 1 -> 2"."""
    if old.get("output", {}).get("whole"):  # an image of a batch
        new = without_tokens(new)
    before, after = dict(_flat(old)), dict(_flat(new))
    found = []
    for key in sorted({*before, *after}):
        if before.get(key) != after.get(key):
            is_hash = key.endswith(".voxels") or key.startswith(("input.", "output.tables."))
            found.append(f"{key} changed" if is_hash else f"{key}: {_short(before, key)} -> {_short(after, key)}")
    # How a voxel is made differs whenever the pipeline or the input does: then that is the thing to say.
    causes = [text for text in found if text.startswith(("pipeline.", "input.", "versions."))]
    return [t for t in found if not (causes and (".voxels" in t or t.startswith("output.tables.")))]


def told(differing: list[str]) -> str:
    more = len(differing) - SHOWN
    return "; ".join(differing[:SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _short(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return "not there"
    text = str(values[key])
    return text if len(text) <= 60 else text[:57] + "..."


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _flat(one, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, json.dumps(value, default=str)
