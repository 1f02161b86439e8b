"""The layers that Dask writes out task by task, read back: which block is made of which, and how.

Every function here raises `NotSeen` for a task that is not exactly what it is expected to be.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from dask._task_spec import Alias, DataNode, GraphNode, List, Task, TaskRef
from dask.array import chunk as dask_chunk
from dask.array.core import concatenate_shaped

from bigbia.graph.dask import Chunks, unwrapped
from bigbia.graph.regions import Literal, Node

_LITERAL_LIMIT = 64 << 20


class NotSeen(Exception):
    """A layer that is not on the list; the text says which and why."""


class WrittenTasks:
    """The tasks of a written-out layer, by block."""

    def __init__(self, name: str, mapping: Mapping) -> None:
        self.name, self.mapping = name, mapping
        mine = [k for k in mapping if isinstance(k, tuple) and k[0] == name]
        if not mine:
            raise NotSeen(f"layer {name!r} is empty")
        ndim = len(mine[0]) - 1
        self.numblocks = tuple(1 + max(k[1 + a] for k in mine) for a in range(ndim))
        if int(np.prod(self.numblocks)) != len(mine):
            raise NotSeen(f"layer {name!r} lacks blocks")
        if len(mine) != len(mapping) and not name.startswith("rechunk-"):
            raise NotSeen(f"layer {name!r} holds more than its blocks")

    def key(self, axis: int = 0, i: int = 0) -> tuple:
        """The block at i along an axis, the first along the others."""
        index = [0] * len(self.numblocks)
        if index:
            index[axis] = i
        return (self.name, *index)

    def extent(self, key: Any, chunks: Chunks) -> tuple[int, ...]:
        """The shape of a block of a rechunked array, from the shapes of the source's blocks."""
        if key not in self.mapping:
            return tuple(c[i] for c, i in zip(chunks, key[1:]))
        task = self.mapping[key]
        if isinstance(task, Alias):
            return self.extent(task.target, chunks)
        arguments = task.args
        if task.func in (dask_chunk.getitem, operator.getitem):
            shape = self.extent(arguments[0].key, chunks)
            return tuple(len(range(n)[s]) for n, s in zip(shape, unwrapped(arguments[1])))
        if task.func is concatenate_shaped:
            pieces = np.array([self.extent(r.key, chunks) for r in flat(arguments[0])], dtype=np.int64)
            counts = tuple(int(unwrapped(n)) for n in flat(arguments[1]))
            pieces = pieces.reshape(*counts, len(counts))
            return tuple(
                int(pieces[tuple(slice(None) if b == a else 0 for b in range(len(counts)))][..., a].sum())
                for a in range(len(counts))
            )
        raise NotSeen(f"layer {self.name!r} does more than rechunk")

    def literal(self) -> tuple[Node, Chunks]:
        blocks = np.empty(self.numblocks, object)
        for index in np.ndindex(self.numblocks):
            value = unwrapped(self.mapping[(self.name, *index)])
            if type(value) is not np.ndarray or value.dtype.hasobject:
                raise NotSeen(f"layer {self.name!r} holds {type(value).__name__}")
            blocks[index] = value
        if sum(b.nbytes for b in blocks.flat) > _LITERAL_LIMIT:
            raise NotSeen(f"layer {self.name!r} holds more than {_LITERAL_LIMIT >> 20} MiB of NumPy arrays")
        array = np.block(blocks.tolist()) if blocks.ndim else blocks[()]
        sizes = tuple(
            tuple(blocks[tuple(i if b == a else 0 for b in range(blocks.ndim))].shape[a] for i in range(n))
            for a, n in enumerate(self.numblocks)
        )
        return Literal(array), sizes


def name_of(function: Any) -> str:
    return getattr(function, "__name__", None) or getattr(function, "method", None) or repr(function)


def call_of(task: Any) -> tuple[Callable, list]:
    """Function and arguments of a task in either of Dask's notations, references as keys."""
    if isinstance(task, Task):
        return task.func, [a.key if isinstance(a, (TaskRef, Alias)) else unwrapped(a) for a in task.args]
    if isinstance(task, tuple) and task and callable(task[0]):
        return task[0], list(task[1:])
    raise NotSeen("a task of an unknown make")


def getitem_of(task: Any) -> tuple[tuple, tuple]:
    """Source key and index of a getitem task; an alias takes the whole block."""
    if isinstance(task, Alias):
        return task.target, ()  # type: ignore
    function, arguments = call_of(task)
    if (
        function not in (dask_chunk.getitem, operator.getitem)
        or len(arguments) != 2
        or not isinstance(arguments[0], tuple)
    ):
        raise NotSeen(f"{name_of(function)} is not a slice")
    index = arguments[1]
    if isinstance(index, GraphNode) or not all(
        e is None or isinstance(e, (slice, int, np.integer)) for e in as_tuple(index)
    ):
        raise NotSeen("a slice by a list or an array")
    return arguments[0], as_tuple(index)


def as_tuple(index: Any) -> tuple:
    return index if isinstance(index, tuple) else (index,)


def alias_of(task: Any) -> tuple:
    if isinstance(task, Alias):
        return task.target  # type: ignore
    if isinstance(task, TaskRef):
        return task.key  # type: ignore
    if isinstance(task, tuple) and task and isinstance(task[0], str):
        return task
    raise NotSeen("a task that is not a plain reference")


def flat(nested: Any) -> list:
    if isinstance(nested, List):
        return [x for e in nested.args for x in flat(e)]
    if isinstance(nested, DataNode):
        return flat(nested.value)
    if isinstance(nested, (list, tuple)) and not isinstance(nested, TaskRef):
        return [x for e in nested for x in flat(e)]
    return [nested]


def expanded(index: Any, ndim: int) -> list:
    index = list(index) if isinstance(index, tuple) else [index]
    given = sum(e is not None for e in index)
    return index + [slice(None)] * (ndim - given)
