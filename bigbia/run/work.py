"""What a run computes: the stages that write its images, and those of its tables, which ride along where they can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from bigbia.graph import scratch
from bigbia.graph.regions import Node
from bigbia.graph.stages import Stage, stages_of
from bigbia.graph.table import Part
from bigbia.run.contract import Run
from bigbia.run.output import Output
from bigbia.run.writing import Rider, written_together


@dataclass
class Work:
    """Images and the parts of lazy tables, by name."""

    outputs: list[Output]
    tables: Mapping[str, Sequence[Part]]

    @property
    def nodes(self) -> list[Node]:
        """All that is read."""
        return [o.image.node for o in self.outputs] + [n for p in self.parts for n in p.stage.inputs]

    @property
    def parts(self) -> list[Part]:
        return [part for parts in self.tables.values() for part in parts]

    @cached_property
    def _planned(self) -> tuple[list[Stage], dict[tuple[str, int], Rider]]:
        named = [(name, k, part) for name, parts in self.tables.items() for k, part in enumerate(parts)]
        return written_together(self.outputs, named)

    @property
    def stages(self) -> list[Stage]:
        """The stages that write the images."""
        return self._planned[0]

    writers = stages

    def every_stage(self) -> list[Stage]:
        """All stages of the run, each after those it needs; tables that ride along before the pass that they ride on."""
        tables = [p.stage for name in self.tables for p in self.table(name)[0]]
        found: dict[str, Stage] = {}
        for stage in [*tables, *self.stages]:
            for one in [*stages_of(stage.inputs), stage]:
                found.setdefault(one.token, one)
        return list(found.values())

    def table(self, name: str) -> tuple[list[Part], dict[str, list[str]]]:
        """The parts of a table with the stages that make them here, and which of their steps the images' pass does."""
        parts, done = [], {}
        for k, part in enumerate(self.tables[name]):
            rider = self._planned[1].get((name, k))
            if rider is None:
                parts.append(part)
            else:
                done[rider.stage.token] = ["part"]
                parts.append(Part(rider.stage, part.frame, part.columns, part.where))
        return parts, done

    def moved(self, run: Run) -> Work:
        """The same work, leaving what it finds in the folder of a run, and writing there."""
        nodes = [o.image.node for o in self.outputs]
        stages = [p.stage for p in self.parts]
        nodes, stages = scratch.moved((nodes, stages), run.home)
        outputs = [replace(o, image=replace(o.image, node=node)) for o, node in zip(self.outputs, nodes)]
        for output in outputs:
            output.placed(run.root, run.full)
        rest = iter(stages)
        tables = {
            name: [Part(next(rest), p.frame, p.columns, p.where) for p in parts] for name, parts in self.tables.items()
        }
        work = Work(outputs, tables)
        for stage in work.stages:
            run.settle(stage)
        for rider in work._planned[1].values():
            run.settle(rider.stage)
        return work

    def take_back(self, moved: Work) -> None:
        """Keep what the run found for the lazy images that it was made from, where that is cheap."""
        mine = {s.token: s for s in [*stages_of(self.nodes), *(p.stage for p in self.parts)]}
        for stage in [*stages_of(moved.nodes), *(p.stage for p in moved.parts)]:
            if stage.token in mine:
                scratch.given_back(mine[stage.token], stage)
