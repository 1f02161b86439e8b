"""The words of a command line -> sizes, regions, the opened input."""

from __future__ import annotations

from typing import Any

from bigbia.errors import ParameterError
from bigbia.run.inputs import parse_block, sizes


def parse_shape(text: str) -> tuple[int, ...]:
    """ "256,256,256"."""
    found = sizes(text, "--shape", "256,256,256")
    return found if isinstance(found, tuple) else (found,)


def synthetic(
    *,
    kind: str,
    shape: str,
    seed: int | None,
    touch: bool,
    settings: tuple[str, ...],
    voxel_size: str | None,
    block: str,
    **_: Any,
) -> dict[str, Any]:
    """A synthetic volume as arguments for `bigbia.save`: the image, and its answer as labels/truth where it has one."""
    from bigbia.io import synthetic as volumes
    from bigbia.run import pipeline_file

    parameters: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ParameterError(f"--set {setting}: write KEY=VALUE, for instance --set fill=0.5")
        parsed = pipeline_file.loads(value, f"--set {setting}")
        parameters[key.strip()] = tuple(parsed) if isinstance(parsed, list) else parsed
    if seed is not None:
        parameters["seed"] = seed
    if touch:
        parameters["touch"] = True
    source = volumes.source(kind, parse_shape(shape), **parameters)
    size = parse_block(block)
    truth = getattr(source, "labels", None)
    labels = {} if truth is None else {"truth": _lazy(truth, size, voxel_size)}
    return {"image": _lazy(source, size, voxel_size), "labels": labels}


def _lazy(source: Any, block: Any, voxel_size: str | None) -> Any:
    from bigbia.graph.dask import from_source
    from bigbia.hyperstack import hyperstack

    return hyperstack(from_source(source, block), "zyx"[-len(source.shape) :], voxel_size=voxel_size)
