"""A pipeline cut so that it fits the memory: the block that is chosen where none is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from bigbia import hyperstack
from bigbia.graph.dask import node_of
from bigbia.graph.reading import consumers_first
from bigbia.graph.regions import Store
from bigbia.run.admission import fitting_block
from bigbia.run.memory import predicted, stages_for
from bigbia.run.output import CHUNK
from bigbia.run.pipeline import INPUT, Pipeline


def fitted(
    plan: Pipeline, results: Mapping[str, Any], opened: Callable[[str], Any], room: tuple[int, int]
) -> dict[str, Any] | None:
    """The steps on the input in smaller blocks, where those it came in do not fit; None where they do.

    opened : block, as the command line has it -> the input
    room : tasks at once in a process, bytes that it may have

    Raises ParameterError where no block fits, with the figures.
    """
    image = results[INPUT]
    space = hyperstack.spatial_axes(image)
    threads, limit = room
    built = {}

    def stages(block: tuple[int, ...]) -> list[Any]:
        several = dict(zip(space, block))
        text = ",".join(str(several.get(axis, 1)) for axis in range(image.ndim))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were told when it was built first
            built["results"] = plan.build(opened(text))
        return _stages(plan, built["results"])

    first = tuple(max(image.chunks[axis]) for axis in space)
    if predicted(_stages(plan, results), threads, limit).bytes <= limit:
        return None
    sources = [n.source for n in consumers_first(node_of(image.data)[0]) if isinstance(n, Store)]
    if len(sources) != 1 or len(sources[0].shape) != image.ndim:
        return None  # not a plain image: `save` says what does not fit
    unit = tuple(sources[0].chunks[axis] for axis in space)
    shape = tuple(image.shape[axis] for axis in space)
    fitting_block(stages, first, shape, unit, threads=threads, limit=limit)
    return built["results"]


def _stages(plan: Pipeline, results: Mapping[str, Any]) -> list[Any]:
    outputs = plan.outputs(results)
    saved = {k: v for k, v in outputs.items() if k in ("image", "images", "labels", "tables") and v is not None}
    space = len(hyperstack.spatial_axes(results[INPUT]))
    return stages_for(saved, (CHUNK[space],) * space)
