"""Time points that need not be computed again: what has been appended to is computed only where it is new.

A time point of an output depends on certain files of the input: `reach` follows the nodes, and the stages behind them,
down to the stores. Their names, sizes and times, the pipeline and the layout are what the time point is. Where the
output that is replaced had the same, its files and its rows are taken over. A time point that depends on others (a
threshold over all of them) reaches the files of all, so it is computed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bigbia.graph.boxes import Box, whole
from bigbia.graph.reading import plan
from bigbia.graph.regions import Node, Store
from bigbia.graph.stages import Left, Stage
from bigbia.graph.table import Part
from bigbia.run.contract import Run
from bigbia.run.ledger import Entry, all_intact
from bigbia.run.output import Output
from bigbia.run.reuse import Earlier, link
from bigbia.run.work import Work


@dataclass
class Reached:
    """What voxels depend on: boxes of sources, and stages."""

    boxes: dict[str, tuple[Any, list[Box]]] = field(default_factory=dict)
    stages: dict[str, Stage] = field(default_factory=dict)


def reach(nodes: Sequence[Node], boxes: Sequence[Box], found: Reached | None = None) -> Reached:
    """All sources and stages that the boxes of some nodes depend on."""
    found = Reached() if found is None else found
    for node, todo in plan(nodes, boxes):
        if isinstance(node, Store) and todo:
            found.boxes.setdefault(node.token, (node.source, []))[1].extend(box for box, _ in todo)
        if isinstance(node, Left) and todo and node.stage.token not in found.stages:
            found.stages[node.stage.token] = node.stage
            reach(node.stage.inputs, [whole(n.shape) for n in node.stage.inputs], found)
    return found


class Stamps:
    """The files of sources, each listed once."""

    def __init__(self) -> None:
        self._listings: dict[str, Mapping[str, Any]] = {}

    def of(self, reached: Reached) -> list:
        """Names, sizes and times of the files below the boxes; of a source without files, its token."""
        found: list = []
        for token, (source, boxes) in sorted(reached.boxes.items(), key=lambda one: str(one[1][0])):
            layout, place = getattr(source, "layout", None), getattr(source, "place", None)
            if layout is None or place is None or not place.local:
                found.append(token)
                continue
            if place.url not in self._listings:
                self._listings[place.url] = place.listing() or {}
            listing = self._listings[place.url]
            meta = {k: v for k, v in source.meta.items() if k not in ("shape", "attributes")}
            keys = sorted({layout.key(i) for box in boxes for i in layout.touched(box)})
            found += [place.url, json.dumps(meta, sort_keys=True, default=str), [(k, listing.get(k)) for k in keys]]
        return found


def identities(work: Work, parts: Mapping[str, Any], origin: Mapping[str, Any]) -> dict[str, list[str]]:
    """What each time point of each image is; nothing for images that no pipeline file made, or that have no time."""
    if parts["pipeline"] is None:
        return {}
    stamps = Stamps()
    found = {}
    for output in work.outputs:
        if not _over_time(output):
            continue
        layout = {**output.described(), "shape": output.array.shape[1:], "voxels": ""}
        same = [parts["pipeline"], dict(origin.get("options", {})), parts["versions"], output.place, layout]
        node = output.image.node
        found[output.place] = [
            _hash([same, stamps.of(reach([node], [((t, t + 1), *whole(node.shape)[1:])]))])
            for t in range(node.shape[0])
        ]
    return found


def _over_time(output: Output) -> bool:
    return str(output.array.dims[0]) == "t" and output.array.shape[0] > 0


def _hash(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


@dataclass
class Times:
    """The time points that are there already, and what is left to do."""

    done: frozenset[int] = frozenset()
    needed: set[str] | None = None  # tokens of the stages that are left; None: all
    rows: Any = None  # (table, part) -> the rows of a time point that is done

    def is_done(self, part: Part) -> bool:
        return part.where.get("t") in self.done


def take_times(run: Run, work: Work, earlier: Earlier, now: Mapping[str, Sequence[str]]) -> Times:
    """Link the time points that the earlier output has."""
    before = earlier.record.get("times", {})
    images = {o.place: o for o in work.outputs}
    if not images or not all(place in now and place in before for place in images):
        return Times()
    tables = {}
    for name, parts in work.tables.items():
        file = earlier.table(name)
        if file is None or not all("t" in part.where for part in parts):
            return Times()
        tables[name] = file
    count = min(len(before[place]) for place in images)
    count = min(count, *(len(now[place]) for place in images))
    same = {t for t in range(count) if all(now[p][t] == before[p][t] for p in images)}
    for stage in work.writers:
        same &= _whole_times(stage, earlier, same)
    if not same:
        return Times()
    for stage in work.writers:
        (step,) = stage.block_steps
        lines = run.lines(stage, step)
        if not lines.path.exists():
            for entry in _entries(stage, earlier, same):
                for file in entry.files:
                    link(earlier.path, run.root, file.name)
                lines.add(entry)
            lines.close()
    times = Times(frozenset(same), rows=_Rows(earlier, tables))
    times.needed = _needed(work, times)
    return times


def _needed(work: Work, times: Times) -> set[str]:
    found = Reached()
    for output in work.outputs:
        node = output.image.node
        for t in range(node.shape[0]):
            if t not in times.done:
                reach([node], [((t, t + 1), *whole(node.shape)[1:])], found)
    for name in work.tables:
        for part in work.table(name)[0]:
            if not times.is_done(part):
                found.stages[part.stage.token] = part.stage
                reach(part.stage.inputs, [whole(n.shape) for n in part.stage.inputs], found)
    return set(found.stages) | {stage.token for stage in work.writers}


def _entries(stage: Any, earlier: Earlier, times: set[int]) -> Iterator[Entry]:
    """The lines of the earlier run that belong to a stage and to some time points."""
    names = stage.targets
    block = list(map(max, stage.grid.chunks))
    if not any(one == block for one, _ in earlier.parts["output"]["blocks"]):
        return
    for _, entry in earlier.entries():
        files = tuple(f for f in entry.files if f.name.startswith(names))
        if files and entry.block[0] in times and {n for n in names for f in files if f.name.startswith(n)} == {*names}:
            yield replace(entry, files=files)


def _whole_times(stage: Stage, earlier: Earlier, times: set[int]) -> set[int]:
    """The time points of which every block is there and intact."""
    count = dict.fromkeys(times, 0)
    for entry in _entries(stage, earlier, times):
        if all_intact(earlier.path, entry.files):
            count[entry.block[0]] += 1
    per_time = len(stage.grid) // len(stage.grid.chunks[0])
    return {t for t, n in count.items() if n == per_time}


class _Rows:
    """The rows of tables of an earlier output."""

    def __init__(self, earlier: Earlier, tables: Mapping[str, Any]) -> None:
        self.earlier, self.tables = earlier, tables
        self._read: dict[str, Any] = {}

    def __call__(self, name: str, part: Part) -> Any:
        from bigbia.io.tables import read_table

        if name not in self._read:
            self._read[name] = read_table(self.earlier.path / self.tables[name].name)
        frame = self._read[name]
        for column, value in part.columns.items():
            frame = frame[frame[column] == value]
        return frame.reset_index(drop=True)
