"""Parts of nodes and nodes side by side, with the chunks that they are cut into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from bigbia.graph.regions import Axis, Concat, Node, full_axes, stack, view

Chunks = tuple[tuple[int, ...], ...]
Places = int | range | list[int]


def selected(node: Node, chunks: Chunks, chosen: Mapping[int, Places]) -> tuple[Node, Chunks]:
    """A part of a node: along each axis one place, which ends the axis, a run of them, or some in any order."""
    axes: list[Axis] = []
    cut: list[tuple[int, ...]] = []
    fixed: list[tuple[int, int]] = []
    listed: tuple[int, list[int]] | None = None
    for axis, whole in enumerate(full_axes(node)):
        place = chosen.get(axis)
        if isinstance(place, int):
            fixed.append((axis, place))
            continue
        if place is None:
            axes.append(whole)
            cut.append(chunks[axis])
            continue
        if isinstance(place, list):
            run = _as_run(place)
            if run is None:
                assert listed is None, "one list at a time"
                listed = (len(axes), place)
                axes.append(whole)
                cut.append((1,) * len(place))
                continue
            place = run
        axes.append(Axis(axis, place.start, place.step, len(place)))
        cut.append(_chunks_within(chunks[axis], place))
    seen = view(node, axes, fixed)
    if listed is not None:
        at, places = listed
        parts = []
        for place in places:
            one = full_axes(seen)
            one[at] = Axis(at, place, 1, 1)
            parts.append(view(seen, one))
        seen = Concat(tuple(parts), at)
    return seen, tuple(cut)


def _as_run(places: list[int]) -> range | None:
    """Places at even steps, up or down, as a range."""
    step = places[1] - places[0] if len(places) > 1 else 1
    run = range(places[0], places[0] + step * len(places), step)
    return run if list(run) == places else None


def _chunks_within(chunks: Sequence[int], places: range) -> tuple[int, ...]:
    """How many of the places lie in each chunk; in the order of the places."""
    ends = list(accumulate(chunks))
    counts = []
    for end, n in zip(ends, chunks):
        first, last = end - n, end
        up = places if places.step > 0 else places[::-1]
        low = max(0, -(-(first - up.start) // up.step))
        high = min(len(up), max(0, -(-(last - up.start) // up.step)))
        counts.append(max(0, high - low))
    return tuple(c for c in (counts if places.step > 0 else counts[::-1]) if c)


def stacked(nodes: Sequence[Node], chunks: Chunks, axis: int) -> tuple[Node, Chunks]:
    """Nodes of one shape along a new axis."""
    return stack(nodes, axis), (*chunks[:axis], (1,) * len(nodes), *chunks[axis:])


def concatenated(nodes: Sequence[Node], chunks: Sequence[Chunks], axis: int) -> tuple[Node, Chunks]:
    """Nodes one after the other along an axis; the other axes are cut as in the first."""
    joined = tuple(n for several in chunks for n in several[axis])
    return Concat(tuple(nodes), axis), (*chunks[0][:axis], joined, *chunks[0][axis + 1 :])
