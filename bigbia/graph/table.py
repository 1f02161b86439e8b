"""A table that a grouping leaves behind, as a dask.dataframe: one partition a range of labels, in label order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
from dask._task_spec import DataNode, Task, TaskRef
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from bigbia.graph.dask import add_stage, stage_key
from bigbia.graph.group import Group


@dataclass(frozen=True)
class Part:
    """The objects of one image.

    Their grouping, how its rows become a frame, which image it is (t, c), and the columns that say so.
    """

    stage: Group
    frame: Callable[..., Any]  # (rows) -> pandas.DataFrame
    columns: Mapping[str, Any]
    where: Mapping[str, int]

    def partition(self, i: int) -> Any:
        frame = self.frame(self.stage.partition(i))
        for k, (name, value) in enumerate(self.columns.items()):
            frame.insert(k, name, value)
        return frame


def _read_partition(part: Part, i: int, *finished: Any) -> Any:
    return part.partition(i)


class TableGraph(Mapping):
    """The tasks of a table, written out when it is computed.

    What `bigbia.save` looks for to write a table in the pass that writes its labels.
    """

    def __init__(self, parts: Sequence[Part], live: Mapping[str, da.Array], attributes: Mapping[str, str]) -> None:
        self.parts, self.live, self.attributes = tuple(parts), dict(live), dict(attributes)
        self._made: dict = {}
        self.name = "bigbia-table-" + tokenize([(p.stage.token, p.frame, dict(p.columns)) for p in parts])

    def __dask_tokenize__(self) -> str:
        return self.name

    @property
    def keys_in_order(self) -> list[tuple]:
        return [(self.name, k) for k in range(sum(p.stage.partitions for p in self.parts))]

    def _tasks(self) -> dict:
        layers: dict[str, Any] = {}
        dependencies: dict[str, set[str]] = {}
        for part in self.parts:
            add_stage(part.stage, self.live, layers, dependencies)
        needed = {stage_key(p.stage) for p in self.parts}
        tasks = dict(HighLevelGraph(layers, dependencies).cull(needed).to_dict())
        k = 0
        for part in self.parts:
            node = f"{self.name}-part-{part.stage.token}"
            tasks[node] = DataNode(node, part)
            for i in range(part.stage.partitions):
                key = (self.name, k)
                tasks[key] = Task(key, _read_partition, TaskRef(node), i, TaskRef(stage_key(part.stage)))
                k += 1
        return tasks

    def keys(self) -> Any:
        # Asked for once when the table is computed: by then stages may have been finished, or their folders removed.
        self._made = self._tasks()
        return self._made.keys()

    def __getitem__(self, key: Any) -> Any:
        return self._made[key] if self._made else self._tasks()[key]

    def __iter__(self) -> Iterator:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._made or self._tasks())

    def __reduce__(self) -> tuple:
        return (TableGraph, (self.parts, self.live, self.attributes))

    def as_dataframe(self) -> Any:
        """The lazy table."""
        import dask.dataframe as dd
        import pandas as pd

        rows = self.parts[0].frame(None)
        for k, (name, value) in enumerate(self.parts[0].columns.items()):
            rows.insert(k, name, pd.Series([value])[:0])
        keys = self.keys_in_order
        return dd.from_graph(self, rows, (None,) * (len(keys) + 1), keys, "bigbia-table")


def table_graph(table: Any) -> TableGraph | None:
    """The graph behind a lazy table that nothing has been done to."""
    expression = getattr(table, "expr", None)
    layer = expression.operands[0] if expression is not None and type(expression).__name__ == "FromGraph" else None
    return layer if isinstance(layer, TableGraph) else None
