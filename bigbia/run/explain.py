"""What a lazy result would take, computing nothing.

Stages, tasks, bytes, memory, blocks, and where a chain was cut and why.
"""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Any

import dask.array as da

from bigbia import config, hyperstack
from bigbia.errors import InputError
from bigbia.graph import cost
from bigbia.graph.boxes import Grid, volume, whole
from bigbia.graph.dask import node_of
from bigbia.graph.reading import consumers_first
from bigbia.graph.regions import Live, Node, Store, Window
from bigbia.graph.stages import Stage, stages_of
from bigbia.run.memory import Peak, Reading, largest_of, largest_task, named, predicted, stages_for


@dataclass(frozen=True)
class Line:
    """One stage, or the final read of an image."""

    name: str
    blocks: int
    block: tuple[int, ...]
    tasks: int
    read: int  # bytes from stores, all tasks together
    written: int  # bytes to scratch
    memory: int  # peak bytes of a task
    state: str
    notes: tuple[str, ...] = ()


@dataclass
class Explanation:
    """What `explain` found. `str()` and notebooks show it as a table; `lines` and `cuts` hold the figures."""

    lines: list[Line] = field(default_factory=list)
    cuts: list[str] = field(default_factory=list)
    threads: int = 1
    limit: int = 0
    peak: Peak | None = None

    @property
    def tasks(self) -> int:
        return sum(line.tasks for line in self.lines)

    @property
    def memory(self) -> int:
        """Predicted peak bytes of the process: its libraries, the cache, the largest task on every thread at once."""
        return self.peak.bytes if self.peak is not None else 0

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                line.name,
                str(line.blocks),
                " x ".join(map(str, line.block)) or "-",
                str(line.tasks),
                f"{line.tasks / line.blocks:.2f}",
                size(line.read),
                size(line.written),
                size(line.memory),
                line.state,
            )
            for line in self.lines
        ]

    HEAD = ("stage", "blocks", "block", "tasks", "a block", "reads", "writes", "memory a task", "")

    def _notes(self) -> list[str]:
        notes = [f"{line.name}: {note}" for line in self.lines for note in line.notes]
        total = []
        if self.peak is not None:
            total = [
                f"peak memory: {size(self.memory)} predicted, of {size(self.limit)} that may be used (bigbia.memory): "
                f"{self.threads} x {size(self.peak.largest.bytes)} of {self.peak.largest.stage or 'nothing'}, chunks "
                f"{size(self.peak.cache)}, Python and libraries {size(self.peak.reserved)}"
            ]
            if self.memory > self.limit:
                total[0] += "; use smaller blocks (--block) or fewer threads (--threads)"
        return [*total, *notes, *(f"cut: {cut}" for cut in self.cuts)]

    def __str__(self) -> str:
        rows = [self.HEAD, *self._rows()]
        widths = [max(len(r[i]) for r in rows) for i in range(len(self.HEAD))]
        lines = []
        for r in rows:
            cells = [r[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(r[1:-1], widths[1:-1])), r[-1]]
            lines.append("  ".join(cells).rstrip())
        return "\n".join([*lines, "", *self._notes()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def cells(row: tuple[str, ...], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in row) + "</tr>"

        body = "".join(cells(r, "td") for r in self._rows())
        notes = "".join(f"<li>{html.escape(n)}</li>" for n in self._notes())
        return f"<table><thead>{cells(self.HEAD, 'th')}</thead><tbody>{body}</tbody></table><ul>{notes}</ul>"


def explain(result: Any) -> Explanation:
    """Say what a lazy result would take. Computes nothing.

    Parameters
    ----------
    result : lazy array, lazy table, or a mapping
        Of bigbia's operators; for what is saved together ``{"labels": {"nuclei": nuclei}, "tables": {...}, "images":
        {...}}``.

    Returns
    -------
    Explanation
        A line a stage: how many blocks of which size, tasks, bytes read from the store (halos included) and written
        to scratch, peak memory of a task; which stages are done already, what is kept for a second reading, and where
        a chain was cut because Dask did something that cannot be looked through. Printed as text, in a notebook as a
        table.

    Examples
    --------
    >>> import dask.array as da
    >>> image = da.random.random((64, 64), chunks=32)
    >>> bigbia.explain(bigbia.filters.gaussian(image, 1)).tasks
    4
    """
    out = Explanation(threads=config.threads(), limit=config.memory())
    seen: set[str] = set()
    for name, one in named(result):
        _explain_one(out, name, one, seen)
    out.peak = predicted(stages_for(result), out.threads, out.limit)
    return out


def _explain_one(out: Explanation, name: str, one: Any, seen: set[str]) -> None:
    from bigbia.graph.table import table_graph

    graph = table_graph(one)
    if graph is not None:
        for part in graph.parts:
            _add_stages(out, [*stages_of(part.stage.inputs), part.stage], seen)
        return
    data = one.data if hyperstack.is_hyperstack(one) else one
    if not isinstance(data, da.Array):
        raise InputError(f"explain: {name} is a {type(one).__name__}, not a lazy array or table")
    node, _, why = node_of(data)
    if why:
        out.cuts.append(f"{name}: {why}; its blocks are computed by Dask and sliced from their neighbours")
    _add_stages(out, stages_of([node]), seen)
    grid = Grid(data.chunks)
    out.lines.append(_line(Reading(name, node, grid), len(grid), 0.0, ""))


def _add_stages(out: Explanation, stages: list[Stage], seen: set[str]) -> None:
    for stage in stages:
        if stage.token in seen:
            continue
        seen.add(stage.token)
        out.cuts += [
            f"{stage.kind}: reads blocks of the Dask array {n.name!r}"
            for n in consumers_first(*stage.inputs)
            if isinstance(n, Live)
        ]
        tasks = sum(1 for step in stage.steps for _ in stage.indices(step))
        written = sum(stage.writes(step) for step in stage.steps)
        state = "done: read from scratch" if stage.complete else ""
        out.lines.append(_line(stage, tasks, written, state))


def _line(stage: Stage | Reading, tasks: int, written: float, state: str) -> Line:
    """The figures of a typical block, times the number of blocks; the largest task settles the memory."""
    grid = stage.grid
    index = tuple(n // 2 for n in grid.numblocks)
    read = 0
    notes = []
    for step in (s for s in stage.steps if s in stage.block_steps):
        roots, boxes = stage.reads(step, index)
        if not roots:
            continue
        read += cost.bytes_read(roots, boxes) * len(grid)
        halo = cost.amplification(roots, boxes)
        if halo > 1.5:
            notes.append(f"reads {halo:.1f} times its voxels because of halos: larger blocks would read less")
    for kept in stage.keeps.values() if isinstance(stage, Stage) else ():
        bytes_kept = volume(whole(kept.shape)) * kept.dtype.itemsize
        notes.append(f"keeps {_what(kept)} in scratch, {size(bytes_kept)}: it is read again")
    return Line(
        stage.kind,
        len(grid),
        largest_of(grid),
        tasks,
        read,
        int(written * volume(whole(grid.shape))),
        largest_task(stage).bytes,
        state,
        tuple(dict.fromkeys(notes)),
    )


def _what(node: Node) -> str:
    if isinstance(node, Window):
        return getattr(node.kernel, "__name__", "a window")
    return "the input" if isinstance(node, Store) else type(node).__name__.lower()


def size(n: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(n) < 1024 or unit == "TiB":
            return f"{n:.0f} {unit}" if unit == "B" or n >= 100 else f"{n:.1f} {unit}"
        n /= 1024
    raise AssertionError
