"""Arithmetic between lazy arrays as text: which expression of known arrays a Dask array is.

Dask keeps every operator of `(a > b) & (c < 3)` as a layer of its own. The layers are read from the top down to arrays
that have a name; what is in between and is no arithmetic is refused by what it is.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import dask.array as da
import numpy as np
from dask._task_spec import TaskRef
from dask.array import chunk as dask_chunk
from dask.array.core import _enforce_dtype
from dask.blockwise import Blockwise
from dask.highlevelgraph import MaterializedLayer

from bigbia.graph.dask import own_layer, unwrapped
from bigbia.graph.written import NotSeen, WrittenTasks, call_of, getitem_of, name_of

_SIGNS = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.truediv: "/",
    operator.floordiv: "//",
    operator.mod: "%",
    operator.pow: "**",
    operator.and_: "&",
    operator.or_: "|",
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.eq: "==",
    operator.ne: "!=",
    operator.invert: "~",
    operator.neg: "-",
    operator.pos: "+",
}


class NotSpoken(Exception):
    """Why an array is no expression of the known ones, and what to write instead."""


class Speaker:
    """Expressions of the arrays that have a name.

    known : name of a Dask array -> what it is called
    shared : called with the name of a Dask array and its text where that is long; what it is called from then on
    """

    def __init__(self, known: Mapping[str, str], shared: Any = None, longest: int = 200) -> None:
        self.known, self.shared, self.longest = known, shared, longest

    def text(self, array: da.Array) -> str:
        """The expression; a single name where it is a known array. NotSpoken says why there is none."""
        try:
            return self._visit(array.name, array)[0]
        except (NotSeen, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise NotSpoken(
                f"{error}: only operators of bigbia and arithmetic between their results have steps"
            ) from None

    def _visit(self, name: str, array: da.Array) -> tuple[str, bool]:
        """The text of a layer, and whether it stands for itself beside an operator."""
        if name in self.known:
            return self.known[name], True
        layer = array.dask.layers.get(name)
        if own_layer(layer) is not None:
            raise NotSpoken(
                "it was made by bigbia outside the recording or by bigbia.window: call operators within it, by their "
                "full names, bigbia.filters.gaussian(...)"
            )
        if isinstance(layer, Blockwise):
            return self._blockwise(name, layer, array)
        if isinstance(layer, MaterializedLayer):
            return self._visit(self._moved_only(name, layer, array), array)
        raise NotSpoken(_foreign(name))

    def _blockwise(self, name: str, layer: Blockwise, array: da.Array) -> tuple[str, bool]:
        task = layer.task
        function = getattr(task, "func", None)
        if function is _enforce_dtype:
            function = unwrapped(task.kwargs["enforce_dtype_function"])
        if function is np.transpose:
            return self._visit(next(str(d) for d, i in layer.indices if i is not None), array)
        sign = _SIGNS.get(function) if callable(function) and getattr(function, "__hash__", None) else None
        if sign is None or layer.new_axes or layer.io_deps:
            raise NotSpoken(_instead(function, name))
        words = []
        for argument in task.args:
            label = argument.key if isinstance(argument, TaskRef) else None
            dep, index = (
                layer.indices[int(str(label).removeprefix("__dask_blockwise__"))] if label else (argument, None)
            )
            if index is None:
                words.append(_number(unwrapped(dep)))
            else:
                text, alone = self._visit(str(dep), array)
                words.append(text if alone else f"({text})")
        text = f"{sign}{words[0]}" if len(words) == 1 else f"{words[0]} {sign} {words[1]}"
        if self.shared is not None and len(text) > self.longest:
            return self.shared(name, text), True
        return text, False

    def _moved_only(self, name: str, layer: MaterializedLayer, array: da.Array) -> str:
        """The array below one that only has new axes or other chunks, as arithmetic between images makes them."""
        from bigbia.graph.through import _Looker

        kind = name.rsplit("-", 1)[0]
        tasks = WrittenTasks(name, layer.mapping)
        if kind == "getitem":
            sources = {getitem_of(task)[0][0] for task in tasks.mapping.values()}
        elif kind in ("broadcast_to", "reshape"):
            sources = {call_of(task)[1][0][0] for task in tasks.mapping.values()}
        elif kind == "rechunk-merge":
            sources = {k[0] for t in tasks.mapping.values() for k in t.dependencies if k not in tasks.mapping}
        elif kind in ("concatenate", "stack"):
            raise NotSpoken("arrays were put together: write bigbia.stack(...) or bigbia.concat(...)")
        else:
            raise NotSpoken(_foreign(name))
        (source,) = sources
        looker = _Looker(array.dask)
        shapes = [tuple(n for n in looker.visit(n)[0].shape if n != 1) for n in (name, source)]
        if kind == "getitem" and shapes[0] != shapes[1]:
            raise NotSpoken(
                "a part of an image was cut out with [...], isel or sel: write bigbia.select(image, z='1:5')"
            )
        return source


def _number(value: Any) -> str:
    if type(value) in (int, float) and np.isfinite(value):
        text = repr(value)
        return f"({text})" if text.startswith("-") else text
    raise NotSpoken(
        f"{type(value).__name__} {value!r} is no plain number: write float({value!r})"
        if isinstance(value, (np.generic, bool))
        else f"a {type(value).__name__} stands in the arithmetic: only recorded results and plain numbers can"
    )


def _instead(function: Any, name: str) -> str:
    if function is dask_chunk.astype or name.startswith("astype-"):
        return "astype has no step: `1.0 * image` makes whole numbers floating point, a comparison makes a mask"
    if isinstance(function, np.ufunc):
        return f"np.{function.__name__} has no step: write + - * / // % **, comparisons, & | ~ or a bigbia operator"
    return f"{name_of(function)} has no step: only operators of bigbia and arithmetic can be recorded"


def _foreign(name: str) -> str:
    return (
        f"the array {name!r} comes from elsewhere: only the recorded image and what was made of it can be written down"
    )
