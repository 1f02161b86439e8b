"""Objects of an image, and the image without some of them: what operators say to `graph/merge.py`.

Operators on whole objects that follow each other are one merge where they mean the same objects: `label` of an image
that `remove_small_objects` left, with the same connectivity, numbers what that merge kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from dask.base import tokenize

from bigbia import hyperstack
from bigbia.errors import ParameterError
from bigbia.graph.boxes import Grid
from bigbia.graph.carried import Carried, carried_for, together
from bigbia.graph.footprints import brief
from bigbia.graph.lazy import Lazy, is_lazy, lazy
from bigbia.graph.merge import Components, Rule, at_once
from bigbia.graph.regions import Node
from bigbia.graph.stages import Left
from bigbia.kernels.components import paint


@dataclass(frozen=True)
class Objects:
    """Which objects an operator means, which of them stay, and what is measured of those: see `Rule`, `carried_for`."""

    connectivity: int
    background: int = 0
    conditions: tuple[Any, ...] = ()
    buffer: int = 0
    carried: Carried | None = None

    def rule(self, shape: Sequence[int], inside: Node | None = None) -> Rule:
        asked = carried_for(self.conditions, tuple(shape), self.buffer, inside)
        carried = together(asked, self.carried) if asked and self.carried else asked or self.carried
        return Rule(self.connectivity, self.background, self.conditions, carried, self.carried is not None)


def space_of(image: Any) -> int:
    """How many axes of space an image has."""
    return len(hyperstack.spatial_axes(image)) if is_lazy(image) else image.ndim


def check_connectivity(connectivity: Any, ndim: int, what: str) -> int:
    """1 to the number of axes; None: the number of axes."""
    if not 1 <= ndim <= 5:
        raise ParameterError(f"{what}: an image of {ndim} axes of space: 1 to 5 can be labelled")
    if connectivity is None:
        return ndim
    whole = isinstance(connectivity, (int, np.integer)) and not isinstance(connectivity, bool)
    if not whole or not 1 <= connectivity <= ndim:
        raise ParameterError(
            f"{what}: connectivity={brief(connectivity)}: 1 to {ndim} for an image of {ndim} axes of space"
        )
    return int(connectivity)


def components_of(node: Node, grid: Grid, objects: Objects, kind: str, inside: Node | None = None) -> Components:
    """The stage that finds the objects of a node; one that has found them already, where there is one."""
    before = _found(node, objects) if inside is None else None
    if before is None:
        return Components(node, grid, objects.rule(node.shape, inside), kind)
    if not objects.conditions and objects.carried is None:
        return before
    both = replace(objects, conditions=before.rule.conditions + objects.conditions)
    return Components(before.node, before.grid, both.rule(node.shape), f"{before.kind} + {kind}")


def _found(node: Node, objects: Objects) -> Components | None:
    """The stage whose remaining objects are the objects meant."""
    if not isinstance(node, Left) or not isinstance(node.stage, Components):
        return None
    stage, rule = node.stage, node.stage.rule
    same = (
        node.output == f"image{objects.background}"
        and rule.background == objects.background
        and rule.connectivity == objects.connectivity
    )
    # the border that an earlier condition meant may be another one, and the largest are chosen last
    alone = not objects.conditions and objects.carried is None
    further = alone or (rule.largest is None and objects.buffer == 0 and _plain(stage))
    return stage if same and further else None


def _plain(stage: Components) -> bool:
    """Whether all that its conditions ask is what the conditions themselves say."""
    usual = carried_for(stage.rule.conditions, stage.node.shape)
    return tokenize(stage.rule.carried) == tokenize(usual)


def remaining(image: Any, what: str, objects: Objects, fill: int = 0, inside: Any = None) -> Any:
    """The image without the objects that the conditions drop, on a background of `fill`.

    inside : a mask; all outside it is the border
    """
    if not is_lazy(image) and (inside is None or not is_lazy(inside)):
        data = [image] if inside is None else [image, inside]
        runs, keep, _ = at_once(data, objects.rule(image.shape, None if inside is None else lazy(inside).node))
        values = np.empty(runs.count + 1, image.dtype)
        values[0] = fill
        values[1:] = image[np.unravel_index(runs.first, image.shape)] if runs.count else 0
        values[1:][~keep] = fill
        return paint(runs, values)
    source = lazy(image, what)
    masks = [None] * len(list(source.each())) if inside is None else _masks(inside, source, what)
    kept = [
        components_of(part.node, part.grid, objects, what.rpartition(".")[2], mask).kept(fill)
        for (_, part), mask in zip(source.each(), masks)
    ]
    if inside is not None:
        source = replace(source, live={**source.live, **lazy(inside).live})
    return source.like(source.joined(kept), source.joined_chunks() if source.over else None)


def nodes_over(image: Lazy, source: Lazy) -> list[Node]:
    """The nodes that go with each time and channel of an image: its own ones, or one for all."""
    if image.shape == source.shape:
        return [part.node for _, part in replace(source, node=image.node, chunks=image.chunks).each()]
    return [image.node for _ in source.each()]


def _masks(inside: Any, source: Lazy, what: str) -> list[Node]:
    """The mask of each time and channel: one of its own, or one for all."""
    mask = lazy(inside, what)
    if mask.shape not in (source.shape, tuple(source.shape[i] for i in source.space)):
        raise ParameterError(f"{what}: the mask is {mask.shape}, the image {source.shape}: give one of the same shape")
    return nodes_over(mask, source)
