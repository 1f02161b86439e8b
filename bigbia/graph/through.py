"""Looking through Dask's own layers.

An allow-list. A layer is looked through only if it is known to be what its name says, and its tasks are checked to be
that; anything else, `map_blocks` above all, makes the array a live one, which is always right and only costs more.

    Blockwise of a ufunc, an operator or a function of the table   -> Voxelwise
    transpose, swapaxes                                            -> View
    getitem-*      slices, integers, new axes                      -> View
    broadcast_to-*, reshape-* that only adds axes of length 1      -> View
    rechunk-*                                                      -> the node itself
    concatenate-*, stack-*                                         -> Concat
    array-*        NumPy arrays held in the graph                  -> Literal
"""

from __future__ import annotations

import builtins
import functools
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import dask.array as da
import numpy as np
from dask._task_spec import Alias, Task, TaskRef
from dask.array import chunk as dask_chunk
from dask.array.core import _enforce_dtype, concatenate3, concatenate_shaped
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from bigbia.graph.dask import Chunks, own_layer, unwrapped
from bigbia.graph.regions import Axis, Concat, Node, Voxelwise, broadcast, full_axes, view
from bigbia.graph.written import NotSeen, WrittenTasks, alias_of, call_of, expanded, getitem_of, name_of

_OPERATORS = (
    *(
        "add",
        "sub",
        "mul",
        "truediv",
        "floordiv",
        "mod",
        "pow",
        "and_",
        "or_",
        "xor",
        "invert",
        "inv",
        "neg",
        "pos",
        "abs",
    ),
    *("lt", "le", "eq", "ne", "gt", "ge", "lshift", "rshift", "not_"),
)
_VOXELWISE = {getattr(operator, name) for name in _OPERATORS} | {
    builtins.abs,
    np.where,
    np.clip,
    np.round,
    np.around,
    np.isclose,
    np.nan_to_num,
    np.real,
    np.imag,
    np.angle,
    np.digitize,
    np.isin,
    np.fix,
    np.sinc,
    np.i0,
    np.iscomplex,
    np.isreal,
    dask_chunk.astype,
}


def look_through(array: da.Array) -> tuple[Node | None, str]:
    """The node of a Dask array, or None and why not."""
    try:
        node, chunks = _Looker(array.dask).visit(array.name)
    except NotSeen as reason:
        return None, str(reason)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:  # a layer of an unforeseen make
        return None, f"layer {array.name!r} could not be read ({error})"
    if node.shape != array.shape or tuple(chunks) != array.chunks or node.dtype != array.dtype:
        return None, f"layer {array.name!r} is {array.dtype} {array.shape}, seen as {node.dtype} {node.shape}"
    return node, ""


class _Looker:
    def __init__(self, graph: HighLevelGraph) -> None:
        self.graph = graph
        self.seen: dict[str, tuple[Node, Chunks]] = {}

    def visit(self, name: str) -> tuple[Node, Chunks]:
        if name not in self.seen:
            layer = self.graph.layers.get(name)
            own = own_layer(layer)
            if own is not None:
                self.seen[name] = own
            elif isinstance(layer, Blockwise):
                self.seen[name] = self.blockwise(name, layer)
            elif isinstance(layer, MaterializedLayer):
                self.seen[name] = self.materialized(name, layer)
            else:
                raise NotSeen(f"layer {name!r} is a {type(layer).__name__}")
        return self.seen[name]

    # -- Blockwise
    def blockwise(self, name: str, layer: Blockwise) -> tuple[Node, Chunks]:
        task = layer.task
        function = getattr(task, "func", None)
        if function is None or layer.new_axes or layer.io_deps:
            raise NotSeen(f"layer {name!r} makes its own blocks")
        if function in (np.transpose, np.swapaxes):
            return self.transposed(task, layer)
        kwargs = {k: unwrapped(v) for k, v in task.kwargs.items()}
        inner = kwargs.get("enforce_dtype_function") if function is _enforce_dtype else function
        if not _is_voxelwise(inner):
            raise NotSeen(f"{name_of(inner)} is not known to work voxel by voxel")
        children, labels, literals = [], [], {}
        for position, (dep, index) in enumerate(layer.indices):
            label = f"__dask_blockwise__{position}"
            if index is None:
                if isinstance(dep, TaskRef) or (isinstance(dep, str) and dep in self.graph.layers):
                    raise NotSeen(f"layer {name!r} takes another result as an argument")
                literals[label] = unwrapped(dep)
                continue
            if tuple(index) != tuple(layer.output_indices[len(layer.output_indices) - len(index) :]):
                raise NotSeen(f"layer {name!r} permutes axes")
            labels.append(label)
            children.append(self.visit(str(dep)))
        if not children:
            raise NotSeen(f"layer {name!r} has no image below it")
        shape = np.broadcast_shapes(*(node.shape for node, _ in children))
        nodes = tuple(broadcast(node, shape) for node, _ in children)
        call = _TaskCall(task, tuple(labels), literals)
        what = (inner, {k: v for k, v in kwargs.items() if k != "enforce_dtype_function"}, literals, labels)
        return Voxelwise(call, what, nodes, _dtype_of(call, kwargs, nodes)), _chunks_of(shape, children)

    def transposed(self, task: Any, layer: Blockwise) -> tuple[Node, Chunks]:
        ((dep, _),) = [(d, i) for d, i in layer.indices if i is not None]
        node, chunks = self.visit(str(dep))
        order = list(range(node.ndim))
        if task.func is np.transpose:
            axes = unwrapped(task.kwargs["axes"])
            order = [int(a) % node.ndim for a in axes] if axes is not None else order[::-1]
        else:
            a, b = (int(unwrapped(task.kwargs[k])) for k in ("axis1", "axis2"))
            order[a], order[b] = order[b], order[a]
        return view(node, [full_axes(node)[i] for i in order]), tuple(chunks[i] for i in order)

    # -- layers that Dask writes out
    def materialized(self, name: str, layer: MaterializedLayer) -> tuple[Node, Chunks]:
        kind = name.rsplit("-", 1)[0]
        tasks = WrittenTasks(name, layer.mapping)
        if kind == "getitem":
            return self.sliced(tasks)
        if kind == "rechunk-merge":
            return self.rechunked(tasks)
        if kind == "concatenate":
            return self.concatenated(tasks)
        if kind == "stack":
            return self.stacked(tasks)
        if kind in ("broadcast_to", "reshape"):
            return self.reshaped(tasks, kind)
        if kind == "array":
            return tasks.literal()
        raise NotSeen(f"layer {name!r} is not one that is looked through")

    def sliced(self, tasks: WrittenTasks) -> tuple[Node, Chunks]:
        samples = {key: getitem_of(tasks.mapping[key]) for key in tasks.mapping}
        sources = {source[0] for source, _ in samples.values()}
        if len(sources) != 1:
            raise NotSeen(f"layer {tasks.name!r} mixes arrays")
        node, chunks = self.visit(sources.pop())
        offsets = [list(accumulate(c, initial=0)) for c in chunks]
        template = expanded(samples[tasks.key()][1], node.ndim)
        axes, sizes, fixed, out_axis, in_axis = [], [], [], 0, 0
        for entry in template:
            if entry is None:
                axes.append(Axis(None, 0, 0, 1))
                sizes.append((1,))
                out_axis += 1
                continue
            if isinstance(entry, slice):
                places: list[range] = []
                for i in range(tasks.numblocks[out_axis]):
                    source, index = samples[tasks.key(out_axis, i)]
                    part = [e for e in expanded(index, node.ndim) if e is not None][in_axis]
                    block = source[1 + in_axis]
                    places.append(range(offsets[in_axis][block], offsets[in_axis][block + 1])[part])
                axes.append(_axis(in_axis, places, tasks.name))
                sizes.append(tuple(map(len, places)))  # type: ignore
                out_axis += 1
            else:
                block = samples[tasks.key()][0][1 + in_axis]
                fixed.append((in_axis, range(offsets[in_axis][block], offsets[in_axis][block + 1])[int(entry)]))
            in_axis += 1
        return view(node, axes, fixed), tuple(sizes)

    def rechunked(self, tasks: WrittenTasks) -> tuple[Node, Chunks]:
        sources = set()
        for task in tasks.mapping.values():
            if isinstance(task, Alias):
                continue
            if not isinstance(task, Task) or task.func not in (
                dask_chunk.getitem,
                concatenate_shaped,
                concatenate3,
                operator.getitem,
            ):
                raise NotSeen(f"layer {tasks.name!r} does more than rechunk")
        for task in tasks.mapping.values():
            sources |= {k[0] for k in task.dependencies if k not in tasks.mapping}
        if len(sources) != 1:
            raise NotSeen(f"layer {tasks.name!r} mixes arrays")
        node, chunks = self.visit(sources.pop())
        sizes = tuple(
            tuple(tasks.extent(tasks.key(axis, i), chunks)[axis] for i in range(n))
            for axis, n in enumerate(tasks.numblocks)
        )
        return node, sizes

    def concatenated(self, tasks: WrittenTasks) -> tuple[Node, Chunks]:
        ndim = len(tasks.numblocks)
        lines = [[alias_of(tasks.mapping[tasks.key(a, i)]) for i in range(n)] for a, n in enumerate(tasks.numblocks)]
        joined = [
            a for a in range(ndim) if any(k[1 + a] != i or k[0] != lines[a][0][0] for i, k in enumerate(lines[a]))
        ]
        if len(joined) != 1:
            raise NotSeen(f"layer {tasks.name!r} joins along {len(joined)} axes")
        (axis,) = joined
        parts = [k[0] for k in lines[axis] if k[1 + axis] == 0]
        counts = [len(self.visit(p)[1][axis]) for p in parts]
        owner = [(p, i) for p, n in zip(parts, counts) for i in range(n)]
        for key, task in tasks.mapping.items():
            name, place = owner[key[1 + axis]]
            if alias_of(task) != (name, *key[1 : 1 + axis], place, *key[2 + axis :]):
                raise NotSeen(f"layer {tasks.name!r} does more than concatenate")
        found = [self.visit(p) for p in parts]
        chunks = list(found[0][1])
        chunks[axis] = tuple(c for _, part in found for c in part[axis])
        return Concat(tuple(node for node, _ in found), axis), tuple(chunks)

    def stacked(self, tasks: WrittenTasks) -> tuple[Node, Chunks]:
        index = getitem_of(tasks.mapping[tasks.key()])[1]
        axis = index.index(None)
        names = [getitem_of(tasks.mapping[tasks.key(axis, i)])[0][0] for i in range(tasks.numblocks[axis])]
        for key, task in tasks.mapping.items():
            source, place = getitem_of(task)
            if source != (names[key[1 + axis]], *key[1 : 1 + axis], *key[2 + axis :]) or place != index:
                raise NotSeen(f"layer {tasks.name!r} does more than stack")
        found = [self.visit(n) for n in names]
        parts = []
        for node, _ in found:
            axes = full_axes(node)
            parts.append(view(node, [*axes[:axis], Axis(None, 0, 0, 1), *axes[axis:]]))
        chunks = list(found[0][1])
        return Concat(tuple(parts), axis), (*chunks[:axis], (1,) * len(names), *chunks[axis:])

    def reshaped(self, tasks: WrittenTasks, kind: str) -> tuple[Node, Chunks]:
        function = np.broadcast_to if kind == "broadcast_to" else np.reshape
        source = call_of(tasks.mapping[tasks.key()])[1][0]
        shapes = {}
        for axis, n in enumerate(tasks.numblocks):
            for i in range(n):
                called, arguments = call_of(tasks.mapping[tasks.key(axis, i)])
                if name_of(called) != function.__name__ or arguments[0][0] != source[0]:
                    raise NotSeen(f"layer {tasks.name!r} does more than {kind}")
                shapes[axis, i] = int(arguments[1][axis])
        sizes = tuple(tuple(shapes[axis, i] for i in range(n)) for axis, n in enumerate(tasks.numblocks))
        shape = tuple(map(sum, sizes))
        node, _ = self.visit(source[0])
        if kind == "broadcast_to":
            return broadcast(node, shape), sizes
        if [n for n in shape if n != 1] != [n for n in node.shape if n != 1] or len(shape) < node.ndim:
            raise NotSeen(f"layer {tasks.name!r} reshapes {node.shape} to {shape}")
        kept = iter([i for i, n in enumerate(node.shape) if n != 1])
        axes = [Axis(None, 0, 0, 1) if n == 1 else Axis(next(kept), 0, 1, n) for n in shape]
        return view(node, axes, [(i, 0) for i, n in enumerate(node.shape) if n == 1]), sizes


class _TaskCall:
    """One of Dask's own elementwise tasks as a function of arrays."""

    def __init__(self, task: Any, labels: tuple[str, ...], literals: dict[str, Any]) -> None:
        self.task, self.labels, self.literals = task, labels, literals

    def __call__(self, *arrays: np.ndarray) -> np.ndarray:
        return self.task({**dict(zip(self.labels, arrays)), **self.literals})

    def __repr__(self) -> str:
        return name_of(self.task.func)


def _is_voxelwise(function: Any) -> bool:
    if isinstance(function, functools.partial):
        return not function.args and _is_voxelwise(function.func)
    if isinstance(function, np.ufunc):
        return function.signature is None
    try:
        return function in _VOXELWISE
    except TypeError:
        return False


def _dtype_of(call: Callable, kwargs: Mapping[str, Any], nodes: Sequence[Node]) -> np.dtype:
    if "enforce_dtype" in kwargs:
        return np.dtype(kwargs["enforce_dtype"])
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(call(*(np.ones((1,) * n.ndim, n.dtype) for n in nodes))).dtype


def _chunks_of(shape: Sequence[int], children: Sequence[tuple[Node, Chunks]]) -> Chunks:
    """The output's chunks: along each axis those of a child that is not broadcast there."""
    out = []
    for axis, n in enumerate(shape):
        found = [
            chunks[axis - len(shape) + node.ndim]
            for node, chunks in children
            if axis - len(shape) + node.ndim >= 0 and node.shape[axis - len(shape) + node.ndim] == n
        ]
        if any(c != found[0] for c in found):
            raise NotSeen("inputs are chunked differently")
        out.append(found[0])
    return tuple(out)


def _axis(source: int, places: Sequence[range], name: str) -> Axis:
    """The arithmetic progression that the blocks' places form."""
    filled = [p for p in places if len(p)]
    n = sum(map(len, places))
    if not filled:
        return Axis(source, 0, 1, 0)
    start = filled[0][0]
    if n == 1:
        return Axis(source, start, 1, 1)
    second = filled[0][1] if len(filled[0]) > 1 else filled[1][0]
    step = second - start
    at = start
    for p in filled:
        if p[0] != at or (len(p) > 1 and p.step != step):
            raise NotSeen(f"layer {name!r} takes voxels at irregular places")
        at = p[-1] + step
    return Axis(source, start, step, n)
