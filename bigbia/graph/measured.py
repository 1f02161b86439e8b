"""The table of objects that were measured while they were merged: `graph/merge.py` made the rows, this orders them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bigbia.graph.boxes import Box, Index
from bigbia.graph.carried import taken
from bigbia.graph.group import Group
from bigbia.graph.rank import Ranks
from bigbia.graph.regions import Blocks, Node
from bigbia.graph.stages import block_name


class Measured(Group):
    """The rows of a stage's objects under their numbers. Every object is whole already: nothing is left to combine."""

    block_steps = frozenset()
    rides = False

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        carried = ranks.objects.rule.carried
        assert carried is not None
        super().__init__("table of objects", [ranks.count()], [], ranks.grid, carried.summarise, carried.combine)

    def reads(self, step: str, index: Index) -> tuple[Sequence[Node], list[Box]]:
        return (), []

    def run(self, step: str, index: Index, blocks: Blocks | None = None) -> None:
        if step != "part":
            super().run(step, index, blocks)
            return
        here, rows, further = self.ranks.objects.measured(index)
        number = self.ranks.of_block(index)[1:][here]
        further = taken(further, np.argsort(further["label"]))
        label = np.concatenate([number, self.ranks.numbers(further["label"]).astype(number.dtype)])
        rows = {k: np.concatenate([rows[k], further[k]]) for k in rows} | {"label": label}
        self.folder.write(block_name("part", index), taken(rows, np.argsort(label)))
