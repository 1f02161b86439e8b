"""Nodes <-> Dask arrays. With `through.py`, which reads Dask's own layers, the only place that knows Dask's internals.

A lazy image is an ordinary Dask array whose top layer is a Blockwise over the boxes of its blocks, with the node as a
literal: one task a block, and Dask fuses trailing arithmetic into it. Where a node reads what a stage leaves behind,
the layer depends on one key of a `StageLayer`, which is written out when a compute culls the graph, and only if the
stage is not complete by then.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
from dask._task_spec import DataNode, GraphNode, Task, TaskRef
from dask.base import tokenize
from dask.blockwise import Blockwise, BlockwiseDep, blockwise
from dask.highlevelgraph import HighLevelGraph, Layer, MaterializedLayer

from bigbia import config
from bigbia.errors import ParameterError
from bigbia.graph.boxes import Box, Grid, Index, volume
from bigbia.graph.cache import RESERVED
from bigbia.graph.reading import consumers_first, live_inputs, read
from bigbia.graph.regions import Live, Node, Store
from bigbia.graph.stages import Left, Stage, lowered

Chunks = tuple[tuple[int, ...], ...]
NOTHING = "bigbia-nothing"  # a key that no layer makes


class Regions(BlockwiseDep):
    """Block index -> box."""

    produces_tasks = False

    def __init__(self, chunks: Chunks) -> None:
        self.grid = Grid(chunks)
        self.numblocks = self.grid.numblocks

    def __getitem__(self, index: Index) -> Box:
        return self.grid.box(index)


def _read_block(box: Box, node: Node, *finished: Any) -> np.ndarray:
    return read(node, box)


def _read_live_block(node: Node, box: Box, places: Sequence[tuple[str, Index]], *rest: Any) -> np.ndarray:
    return read(node, box, _blocks(places, rest))


def _blocks(places: Sequence[tuple[str, Index]], arrays: Sequence[np.ndarray]) -> dict[str, dict[Index, np.ndarray]]:
    blocks: dict[str, dict[Index, np.ndarray]] = {}
    for (name, index), array in zip(places, arrays):
        blocks.setdefault(name, {})[index] = array
    return blocks


class LiveLayer(MaterializedLayer):
    """One task a block for a node that reads blocks of live Dask arrays."""

    node: Node
    grid: Grid


def as_array(node: Node, chunks: Chunks, live: Mapping[str, da.Array] | None = None) -> da.Array:
    """The node as a Dask array. `live` holds the Dask arrays that its Live nodes name."""
    chunks = tuple(tuple(map(int, c)) for c in chunks)
    node = lowered([node])[0]
    grid = Grid(chunks)
    if grid.shape != node.shape:
        raise ParameterError(f"chunks {chunks} add up to {grid.shape}, the image is {node.shape}")
    direct = direct_stages(node)
    layers: dict[str, Any] = {}
    dependencies: dict[str, set[str]] = {}
    for stage in direct:
        add_stage(stage, live or {}, layers, dependencies)
    finals = [stage_key(stage)[0] for stage in direct]
    leaves = [n for n in consumers_first(node) if isinstance(n, Live)]
    name = "bigbia-" + tokenize(node.token, chunks)
    if leaves:
        layer: Any = _live_layer(name, node, grid, finals)
        for leaf in leaves:
            merge_graph(live, leaf.name, layers, dependencies)
    else:
        axes = tuple(f"a{i}" for i in range(len(chunks)))
        pairs: list[Any] = [Regions(chunks), axes, node, None]
        for final in finals:
            pairs += [final, ()]
        layer = blockwise(_read_block, name, axes, *pairs, numblocks=dict.fromkeys(finals, ()))
    layers[name] = layer
    dependencies[name] = {*finals, *(leaf.name for leaf in leaves)}
    return da.Array(HighLevelGraph(layers, dependencies), name, chunks, dtype=node.dtype)


def merge_graph(live: Mapping[str, da.Array] | None, name: str, layers: dict, dependencies: dict) -> None:
    """Add the graph below a live Dask array."""
    if live is None or name not in live:
        raise ParameterError(f"the Dask array {name!r} is not at hand")
    graph = live[name].dask
    for key, layer in graph.layers.items():
        layers.setdefault(key, layer)
        dependencies.setdefault(key, graph.dependencies[key])


def _live_layer(name: str, node: Node, grid: Grid, finals: Sequence[str]) -> LiveLayer:
    node_key = name + "-node"
    tasks: dict[Any, Any] = {node_key: DataNode(node_key, node)}
    for index in grid.indices():
        box = grid.box(index)
        places = [(n, i) for n, several in live_inputs([node], [box]).items() for i in several] if volume(box) else []
        key = (name, *index)
        references = [TaskRef((n, *i)) for n, i in places] + [TaskRef((f,)) for f in finals]
        tasks[key] = Task(key, _read_live_block, TaskRef(node_key), box, places, *references)
    layer = LiveLayer(tasks)
    layer.node, layer.grid = node, grid
    return layer


def direct_stages(*nodes: Node) -> list[Stage]:
    """The stages whose leavings the nodes read."""
    return list({n.stage.token: n.stage for n in consumers_first(*nodes) if isinstance(n, Left)}.values())


# ---- stages --------------------------------------------------------------------------------------------------------
def stage_key(stage: Stage) -> tuple[str]:
    """The key that is there when the stage is done."""
    return (f"{stage.kind}-{stage.token}",)


def _run_task(stage: Stage, step: str, index: Index, places: Sequence[tuple[str, Index]], *rest: Any) -> None:
    stage.task(step, index, _blocks(places, rest) if places else None)


class StageLayer(Layer):
    """The tasks of a stage, written out when they are needed."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        self.final = stage_key(stage)
        self._tasks: dict[Any, GraphNode] | None = None

    def __reduce__(self) -> tuple:
        return (StageLayer, (self.stage,))

    has_legacy_tasks = False  # type: ignore[assignment]

    def is_materialized(self) -> bool:
        return self._tasks is not None

    def get_output_keys(self) -> set:
        return {self.final}

    def _written(self) -> dict[Any, GraphNode]:
        if self._tasks is None:
            self._tasks = dict(self._write())
        return self._tasks

    def _write(self) -> Iterator[tuple[Any, GraphNode]]:
        stage, final = self.stage, self.final
        if stage.complete:
            yield final, DataNode(final, None)
            return
        stage_node = f"{final[0]}-stage"
        yield stage_node, DataNode(stage_node, stage)
        upstream = [TaskRef(stage_key(s)) for s in direct_stages(*stage.inputs)]
        last = stage.steps[-1]

        def key_of(step: str, index: Index) -> tuple:
            return final if step == last else (f"{final[0]}-{step}", *index)

        for step in stage.steps:
            for index in stage.indices(step):
                key = key_of(step, index)
                places = [(n, i) for n, several in stage.live(step, index).items() for i in several]
                references = [TaskRef((n, *i)) for n, i in places]
                before = [TaskRef(key_of(*needed)) for needed in stage.needs(step, index)]
                yield (
                    key,
                    Task(key, _run_task, TaskRef(stage_node), step, index, places, *references, *(before or upstream)),
                )

    def cull(self, keys: set, all_hlg_keys: Iterable) -> tuple[Layer, Mapping[Any, set]]:
        if self.final not in keys:
            return self, {}
        self._tasks = None  # the stage may have been finished, or its folder removed, since
        tasks = self._written()
        # Dask keeps all layers that are left once no key is wanted any more; below a finished stage nothing is.
        nothing = {self.final: {NOTHING}} if len(tasks) == 1 else {}
        return MaterializedLayer(tasks), {k: set(t.dependencies) for k, t in tasks.items()} | nothing

    def __getitem__(self, key: Any) -> GraphNode:
        return self._written()[key]

    def __iter__(self) -> Iterator:
        return iter(self._written())

    def __len__(self) -> int:
        return len(self._written())


def add_stage(stage: Stage, live: Mapping[str, da.Array], layers: dict, dependencies: dict) -> None:
    """Add the layer of a stage and of all that it needs."""
    (name,) = stage_key(stage)
    if name in layers:
        return
    direct = direct_stages(*stage.inputs)
    for upstream in direct:
        add_stage(upstream, live, layers, dependencies)
    leaves = [n for n in consumers_first(*stage.inputs) if isinstance(n, Live)]
    for leaf in leaves:
        merge_graph(live, leaf.name, layers, dependencies)
    layers[name] = StageLayer(stage)
    dependencies[name] = {stage_key(s)[0] for s in direct} | {leaf.name for leaf in leaves}


def _read_left(stage: Stage, output: str, *finished: Any) -> np.ndarray:
    return stage.folder.read("value", output)[output]


def of_unknown_length(stage: Stage, output: str, dtype: np.dtype, live: Mapping[str, da.Array]) -> da.Array:
    """A 1-d array a stage leaves, of a length that only the stage finds out."""
    layers: dict[str, Any] = {}
    dependencies: dict[str, set[str]] = {}
    add_stage(stage, live, layers, dependencies)
    name = "bigbia-" + tokenize(stage.token, output)
    key = (name, 0)
    layers[name] = MaterializedLayer(
        {key: Task(key, _read_left, DataNode(None, stage), output, TaskRef(stage_key(stage)))}
    )
    dependencies[name] = {stage_key(stage)[0]}
    return da.Array(HighLevelGraph(layers, dependencies), name, ((np.nan,),), dtype=dtype)


# ---- from arrays ---------------------------------------------------------------------------------------------------
def own_layer(layer: Any) -> tuple[Node, Chunks] | None:
    """The node and chunks of a layer made by `as_array`."""
    if isinstance(layer, LiveLayer):
        return layer.node, layer.grid.chunks
    if isinstance(layer, Blockwise):
        regions = [dep for dep in layer.io_deps.values() if isinstance(dep, Regions)]
        if regions and getattr(layer.task, "func", None) is _read_block:
            literals = [unwrapped(dep) for dep, index in layer.indices if index is None]
            nodes = [n for n in literals if isinstance(n, Node)]
            if len(nodes) == 1:
                return nodes[0], regions[0].grid.chunks
    return None


def unwrapped(value: Any) -> Any:
    return value.value if isinstance(value, DataNode) else value


def node_of(array: da.Array) -> tuple[Node, dict[str, da.Array], str]:
    """The node that an array is read from, the live Dask arrays it needs, and why it was cut if it was.

    Where Dask's layers cannot be looked through, the array itself is the live one.
    """
    from bigbia.graph.through import look_through

    node, why = look_through(array)
    if node is None:
        if any(np.isnan(n) for n in array.shape):
            raise ParameterError(
                f"the Dask array {array.name!r} has blocks of unknown size {array.shape}: call its compute_chunk_sizes() first"
            )
        node = Live(array.name, Grid(array.chunks), array.dtype, _mark(array.dask.layers[array.name]))
        return node, {array.name: array}, why
    live: dict[str, da.Array] = {}
    pending, seen = [node], set()
    while pending:
        for n in consumers_first(pending.pop()):
            if isinstance(n, Live) and n.name not in live:
                live[n.name] = da.Array(array.dask.cull_layers([n.name]), n.name, n.grid.chunks, dtype=n.dtype)
            if isinstance(n, Left) and n.stage.token not in seen:
                seen.add(n.stage.token)
                pending.extend(n.stage.inputs)
    return node, live, why


def _mark(layer: Any) -> str:
    """What tells a layer from another of its name: the object itself."""
    if not hasattr(layer, "_bigbia_mark"):
        layer._bigbia_mark = uuid.uuid4().hex
    return layer._bigbia_mark


def from_source(source: Any, block: Any = "auto") -> da.Array:
    """A source as a lazy Dask array.

    block : "auto", a length for all axes of space, or one length an axis. Rounded to whole chunks of the source where
    it is larger.
    """
    node = Store(source)
    return as_array(node, Grid.regular(node.shape, block_shape(node.shape, node.dtype, source.chunks, block)).chunks)


def block_shape(shape: Sequence[int], dtype: np.dtype, unit: Sequence[int], block: Any = "auto") -> tuple[int, ...]:
    """A compute block: whole storage units, about 2 Mvoxel an axis-balanced block within the memory setting."""
    if block == "auto":
        block = config.get("block")
    if isinstance(block, str) and block != "auto":  # from the environment: "128" or "64, 128, 128"
        try:
            numbers = [int(word) for word in block.split(",")]
        except ValueError:
            raise ParameterError(f'block={block!r}: write "auto", one length, or one an axis: "64, 128, 128"') from None
        block = numbers[0] if len(numbers) == 1 else numbers
    if block == "auto":
        return _auto_block(shape, np.dtype(dtype), unit)
    lengths = [block] * len(shape) if np.ndim(block) == 0 else list(block)
    if len(lengths) != len(shape):
        raise ParameterError(
            f"block={block!r} has {len(lengths)} lengths, the image has {len(shape)} axes {tuple(shape)}"
        )
    for b in lengths:
        if not isinstance(b, (int, np.integer)) or b == 0 or b < -1:
            raise ParameterError(
                f"block={block!r}: lengths are whole numbers of voxels, 1 or more (-1: the whole axis)"
            )
    return tuple(max(1, n) if b == -1 else min(b, max(1, n)) for b, n in zip(lengths, shape))


def _auto_block(shape: Sequence[int], dtype: np.dtype, unit: Sequence[int]) -> tuple[int, ...]:
    # A task holds about a dozen arrays of its block (input, float64 lines, result, codecs), one task a thread.
    budget = max(0, config.memory() - RESERVED) // (config.threads() * 16 * max(4, dtype.itemsize))
    target = min(2**22, max(2**15, budget))
    block = [min(max(1, u), max(1, n)) for u, n in zip(unit, shape)]
    while True:
        grow = [i for i, n in enumerate(shape) if block[i] < n]
        if not grow:
            return tuple(block)
        axis = min(grow, key=lambda i: (block[i], -i))
        larger = min(block[axis] * 2, shape[axis])
        size = int(np.prod([b if i != axis else larger for i, b in enumerate(block)], dtype=object))
        if size > target:
            return tuple(block)
        block[axis] = larger
