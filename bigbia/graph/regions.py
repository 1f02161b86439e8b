"""The nodes: a lazy image is something that can read any box of itself.

A node is frozen and picklable. It says which boxes of its children it `needs` for a box, and how to `compute` the box
from those parts; `read` asks the graph of nodes below it, evaluating each once for all that is asked of it and
dropping it after its last reader.

    needs(box) ──►  [box of child 0, ...], [box of child 1, ...]
    compute(box, parts) ──► voxels

`token` is the fingerprint of what a node is (content, functions, parameters), never of how it is cut: equal tokens,
equal voxels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Protocol

import numpy as np
from dask.base import tokenize

from bigbia.errors import BlockError
from bigbia.graph import cache
from bigbia.graph.boxes import Box, Grid, describe, grown, shape_of, slices, whole

Parts = tuple[list[np.ndarray], ...]
Blocks = Mapping[str, Mapping[tuple[int, ...], np.ndarray]]  # live arrays: name -> block index -> block

STAND_INS: Any = "bigbia stand-ins"  # of a deep copy's memo: token -> the node that stands for the one of that token


class Source(Protocol):
    """A store: what `Store` reads from. Picklable, thread-safe."""

    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...]  # the unit that is cheap to read
    token: str  # identity, content included

    def read(self, box: Box) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class Node:
    """Common to all nodes. `cost` is the node's own work in ns a voxel, `workspace` its temporary bytes a voxel."""

    shape: tuple[int, ...] = field(init=False)
    dtype: np.dtype = field(init=False)
    token: str = field(init=False)
    children: tuple[Node, ...] = field(init=False, default=())
    cost: float = field(init=False, default=0.0)
    workspace: float = field(init=False, default=0.0)

    def _set(self, **fields: Any) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def needs(self, box: Box) -> tuple[list[Box], ...]:
        return ()

    def compute(self, box: Box, parts: Parts) -> np.ndarray:
        raise NotImplementedError

    def __deepcopy__(self, memo: dict) -> Node:
        """Nodes never change: only what reads a copied stage, or a stand-in, is another one."""
        if id(self) not in memo:
            stand_in = memo.get(STAND_INS, {}).get(self.token)
            if stand_in is not None:
                memo[id(self)] = stand_in
                return stand_in
            children = tuple(copy.deepcopy(child, memo) for child in self.children)
            changed = any(a is not b for a, b in zip(children, self.children))
            memo[id(self)] = self.rebuilt(children) if changed else self
        return memo[id(self)]

    def rebuilt(self, children: tuple[Node, ...]) -> Node:
        """The same node over other children that hold the same voxels."""
        return self

    @property
    def ndim(self) -> int:
        return len(self.shape)


@dataclass(frozen=True, eq=False)
class Store(Node):
    """Voxels from a source, through the cache of decoded chunks."""

    source: Any

    def __post_init__(self) -> None:
        source = self.source
        self._set(shape=tuple(map(int, source.shape)), dtype=np.dtype(source.dtype), token=f"store-{source.token}")

    def compute(self, box: Box, parts: Parts) -> np.ndarray:
        return cache.read(self.source, box)


@dataclass(frozen=True, eq=False)
class Literal(Node):
    """An array that is at hand."""

    value: np.ndarray

    def __post_init__(self) -> None:
        self._set(shape=self.value.shape, dtype=self.value.dtype, token="literal-" + tokenize(self.value))

    def compute(self, box: Box, parts: Parts) -> np.ndarray:
        return self.value[slices(box)]


@dataclass(frozen=True, eq=False)
class AtHand(Node):
    """An array that stands for an image of that token."""

    value: np.ndarray
    what: str

    def __post_init__(self) -> None:
        self._set(shape=self.value.shape, dtype=self.value.dtype, token=self.what)

    def compute(self, box: Box, parts: Parts) -> np.ndarray:
        return self.value[slices(box)]


@dataclass(frozen=True, eq=False)
class Live(Node):
    """The blocks of a Dask array that has no node: handed to the task by Dask, sliced from their neighbours here.

    `mark` tells apart arrays of one name: Dask names `from_zarr(path)` by the path, whatever the files hold by then.
    """

    name: str
    grid: Grid
    kind: np.dtype
    mark: str = ""

    def __post_init__(self) -> None:
        self._set(shape=self.grid.shape, dtype=np.dtype(self.kind), token=f"live-{self.name}-{self.mark}")

    def compute_live(self, box: Box, blocks: Blocks) -> np.ndarray:
        out = np.empty(shape_of(box), self.dtype)
        mine = blocks[self.name]
        for index, part in self.grid.overlapping(box):
            block = np.asarray(mine[index])
            origin = self.grid.box(index)
            if block.shape != shape_of(origin):
                raise BlockError(
                    f"the Dask array {self.name!r} declares block {index} as {shape_of(origin)} but made {block.shape}: "
                    "give map_blocks its chunks="
                )
            if block.dtype != self.dtype:
                raise BlockError(
                    f"the Dask array {self.name!r} declares {self.dtype} but block {index} is {block.dtype}: "
                    "give map_blocks its dtype="
                )
            out[slices(part, box)] = block[slices(part, origin)]
        return out


@dataclass(frozen=True, eq=False)
class Window(Node):
    """A voxel and its neighbourhood: read a margin, run the kernel, drop the margin.

    At the image's own border there is no margin and the kernel's own boundary rule acts, so it must have one. `wrap`
    reads the far side instead. A `cropping` kernel takes `core=` (slices) and returns only the core, which saves it
    the work on the margin.
    """

    kernel: Callable[..., np.ndarray]
    child: Node
    halo: tuple[tuple[int, int], ...]
    kind: np.dtype
    params: Mapping[str, Any]
    wrap: bool = False
    cropping: bool = False
    work: float = 10.0
    extra: float = 0.0

    def __post_init__(self) -> None:
        what = (self.kernel, self.halo, str(self.kind), sorted(self.params.items()), self.wrap)
        self._set(
            shape=self.child.shape,
            dtype=np.dtype(self.kind),
            children=(self.child,),
            token="window-" + tokenize(what, self.child.token),
            cost=self.work,
            workspace=self.extra,
        )

    def needs(self, box: Box) -> tuple[list[Box], ...]:
        if self.wrap:
            return ([tuple(run) for run in product(*self._runs(box))],)
        return ([grown(box, self.halo, self.shape)],)

    def _runs(self, box: Box) -> list[list[tuple[int, int]]]:
        """Along each axis, the pieces of the periodic image that a box and its margin cover."""
        axes = []
        for (a, b), (before, after), n in zip(box, self.halo, self.shape):
            runs, at = [], a - before
            while at < b + after:
                length = min(n - at % n, b + after - at)
                runs.append((at % n, at % n + length))
                at += length
            axes.append(runs)
        return axes

    def compute(self, box: Box, parts: Parts) -> np.ndarray:
        if self.wrap:
            data = assembled(parts[0], [len(r) for r in self._runs(box)])
            core = tuple(slice(before, before + b - a) for (a, b), (before, _) in zip(box, self.halo))
        else:
            data = parts[0][0]
            core = slices(box, grown(box, self.halo, self.shape))
        data = data.view()
        data.flags.writeable = False  # other nodes may be reading it
        if self.cropping:
            out = self.kernel(data, core=core, **self.params)
            expected = shape_of(box)
        else:
            out = self.kernel(data, **self.params)
            expected = data.shape
        name = getattr(self.kernel, "__name__", str(self.kernel))
        if not isinstance(out, np.ndarray) or out.shape != expected:
            raise BlockError(
                f"{name} returned {getattr(out, 'shape', type(out).__name__)} for a block of {expected} at {describe(box)}: "
                "a window function must return one voxel for each it is given"
            )
        if out.dtype != self.dtype:
            raise BlockError(
                f"{name} returned {out.dtype} at {describe(box)}, declared {self.dtype}: pass dtype={str(out.dtype)!r} or convert in it"
            )
        return out if self.cropping else out[core]

    def rebuilt(self, children: tuple[Node, ...]) -> Node:
        return replace(self, child=children[0])


def assembled(pieces: list[np.ndarray], counts: Sequence[int]) -> np.ndarray:
    """Pieces of a product of runs, the last axis fastest, put together."""
    if len(pieces) == 1:
        return pieces[0]
    grid = np.empty(len(pieces), object)
    for i, piece in enumerate(pieces):
        grid[i] = piece
    return np.block(grid.reshape(counts).tolist())


@dataclass(frozen=True, eq=False)
class Voxelwise(Node):
    """A function of voxels at the same place, for instance one of Dask's own elementwise tasks.

    All children have its shape.
    """

    function: Callable[..., np.ndarray]  # of the children's voxels, in their order
    what: Any  # what the function is, for the token
    inputs: tuple[Node, ...]
    kind: np.dtype
    temporary: float = 0.0  # bytes a voxel that it takes besides its result

    def __post_init__(self) -> None:
        self._set(
            workspace=self.temporary,
            shape=self.inputs[0].shape,
            dtype=np.dtype(self.kind),
            children=self.inputs,
            token="voxelwise-" + tokenize(self.what, str(self.kind), [c.token for c in self.inputs]),
            cost=1.0,
        )

    def needs(self, box: Box) -> tuple[list[Box], ...]:
        return tuple([box] for _ in self.inputs)

    def compute(self, box: Box, parts: Parts) -> np.ndarray:
        out = np.asarray(self.function(*(p[0] for p in parts)))
        if out.shape != shape_of(box):
            raise BlockError(f"{self.function} returned {out.shape} for voxels of {shape_of(box)}")
        return out if out.dtype == self.dtype else out.astype(self.dtype)

    def rebuilt(self, children: tuple[Node, ...]) -> Node:
        return replace(self, inputs=children)


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of a view: every `step`-th voxel of the child's axis from `start`; a new axis where `source` is None."""

    source: int | None
    start: int
    step: int
    n: int


@dataclass(frozen=True, eq=False)
class View(Node):
    """Slices, strides, transposes, new and repeated axes: voxels elsewhere, values unchanged.

    `fixed` holds the child's axes that the view does not have, and where on them it lies.
    """

    child: Node
    axes: tuple[Axis, ...]
    fixed: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        what = [(a.source, a.start, a.step, a.n) for a in self.axes]
        self._set(
            shape=tuple(a.n for a in self.axes),
            dtype=self.child.dtype,
            children=(self.child,),
            token="view-" + tokenize(what, self.fixed, self.child.token),
        )

    def needs(self, box: Box) -> tuple[list[Box], ...]:
        wanted = list(whole(self.child.shape))
        for axis, place in self.fixed:
            wanted[axis] = (place, place + 1)
        for seen, (a, b) in zip(self.axes, box):
            if seen.source is not None:
                ends = (seen.start + seen.step * a, seen.start + seen.step * (b - 1))
                wanted[seen.source] = (min(ends), max(ends) + 1)
        return ([tuple(wanted)],)

    def compute(self, box: Box, parts: Parts) -> np.ndarray:
        data = parts[0][0]
        data = data[tuple(0 if axis in dict(self.fixed) else slice(None) for axis in range(data.ndim))]
        kept = sorted(a.source for a in self.axes if a.source is not None)
        order = [kept.index(a.source) for a in self.axes if a.source is not None]
        data = data.transpose(order)
        index = tuple(None if a.source is None else slice(None, None, a.step) for a in self.axes)
        return np.broadcast_to(data[index], shape_of(box))

    def rebuilt(self, children: tuple[Node, ...]) -> Node:
        return replace(self, child=children[0])


def view(child: Node, axes: Sequence[Axis], fixed: Sequence[tuple[int, int]] = ()) -> Node:
    """A view; a view of a view is one view, a view that changes nothing is the child, and one of a single time or
    channel of many is a view of that one."""
    axes, fixed = tuple(axes), tuple(fixed)
    if isinstance(child, Concat) and child.axis in dict(fixed):
        part, place = child.part_at(dict(fixed)[child.axis])
        return view(part, axes, [(a, place if a == child.axis else p) for a, p in fixed])
    if isinstance(child, View):
        inner = child
        places = list(inner.fixed)
        for index, place in fixed:
            at = inner.axes[index]
            if at.source is not None:
                places.append((at.source, at.start + at.step * place))
        merged: list[Axis] = []
        for a in axes:
            b = None if a.source is None else inner.axes[a.source]
            if b is None or b.source is None:
                merged.append(Axis(None, 0, 0, a.n))
            else:
                merged.append(Axis(b.source, b.start + b.step * a.start, b.step * a.step, a.n))
        return view(inner.child, merged, sorted(places))
    same = all(
        a.source == i and a.start == 0 and (a.step == 1 or a.n <= 1) and a.n == n
        for i, (a, n) in enumerate(zip(axes, child.shape))
    )
    if same and not fixed and len(axes) == child.ndim:
        return child
    return View(child, axes, fixed)


def full_axes(node: Node) -> list[Axis]:
    return [Axis(i, 0, 1, n) for i, n in enumerate(node.shape)]


def broadcast(node: Node, shape: Sequence[int]) -> Node:
    """The node repeated along new leading axes and axes of length 1, by NumPy's rule."""
    missing = len(shape) - node.ndim
    axes = [Axis(None, 0, 0, n) for n in shape[:missing]]
    fixed = []
    for i, n in enumerate(shape[missing:]):
        if node.shape[i] == n:
            axes.append(Axis(i, 0, 1, n))
        else:
            axes.append(Axis(None, 0, 0, n))
            fixed.append((i, 0))
    return view(node, axes, fixed)


@dataclass(frozen=True, eq=False)
class Concat(Node):
    """Nodes one after the other along an axis."""

    parts: tuple[Node, ...]
    axis: int

    def __post_init__(self) -> None:
        first = self.parts[0]
        n = sum(p.shape[self.axis] for p in self.parts)
        self._set(
            shape=(*first.shape[: self.axis], n, *first.shape[self.axis + 1 :]),
            dtype=first.dtype,
            children=self.parts,
            token="concat-" + tokenize(self.axis, [p.token for p in self.parts]),
        )

    def part_at(self, place: int) -> tuple[Node, int]:
        """The child that holds a place on the axis, and where on it."""
        for part in self.parts:
            n = part.shape[self.axis]
            if place < n:
                return part, place
            place -= n
        raise IndexError(place)

    def _pieces(self, box: Box) -> Iterator[tuple[int, Box]]:
        """Which children a box falls on, and where on each."""
        a, b = box[self.axis]
        offset = 0
        for i, part in enumerate(self.parts):
            n = part.shape[self.axis]
            lo, hi = max(a, offset), min(b, offset + n)
            if lo < hi:
                yield i, (*box[: self.axis], (lo - offset, hi - offset), *box[self.axis + 1 :])
            offset += n

    def needs(self, box: Box) -> tuple[list[Box], ...]:
        wanted: tuple[list[Box], ...] = tuple([] for _ in self.parts)
        for i, piece in self._pieces(box):
            wanted[i].append(piece)
        return wanted

    def compute(self, box: Box, parts: Parts) -> np.ndarray:
        pieces = [p for several in parts for p in several]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=self.axis)

    def rebuilt(self, children: tuple[Node, ...]) -> Node:
        return replace(self, parts=children)


def stack(nodes: Sequence[Node], axis: int = 0) -> Node:
    """Nodes of one shape along a new axis."""
    parts = []
    for node in nodes:
        axes = full_axes(node)
        parts.append(view(node, [*axes[:axis], Axis(None, 0, 0, 1), *axes[axis:]]))
    return Concat(tuple(parts), axis)
