"""A graph that was made for one image, run on another of its kind that is at hand: in memory, in the thread that asks.

What a lazy pipeline is made of, nodes and stages, depends on an image's shape, dtype and coordinates, never on its
voxels. So it is made once and *planted* on every further image: the node of the source is replaced by the array, and the
stages leave what they find in memory instead of scratch. The tasks are the same, so the voxels are the same to the bit;
a small image costs its kernels and half a millisecond.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bigbia.errors import StorageError
from bigbia.graph import scratch
from bigbia.graph.regions import STAND_INS, AtHand, Node
from bigbia.graph.stages import Stage, stages_of, tasks


class Kept(scratch.Folder):
    """A stage's scratch folder that is no folder: its records, in memory.

    They are copied in and out: a task may go on working in an array that it has written or read.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.held: dict[str, dict[str, np.ndarray]] = {}

    def __reduce__(self) -> Any:
        raise TypeError("what is kept in memory stays in its process")

    def exists(self, name: str) -> bool:
        return name in self.held

    def write(self, name: str, arrays: Mapping[str, np.ndarray], pack: bool = False, replace: bool = True) -> None:
        if replace or name not in self.held:
            self.held[name] = {key: np.array(array, order="C") for key, array in arrays.items()}

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        yield

    def remove(self, kind: str) -> None:
        for name in [name for name in self.held if name.startswith(f"{kind}/")]:
            del self.held[name]

    def records(self) -> Iterator[str]:
        return iter(list(self.held))

    def read_some(self, name: str, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
        return {key: array.copy() for key, array in self._record(name).items() if wanted(key)}

    def read_rows(self, name: str, key: str, first: int, last: int) -> np.ndarray:
        return self._record(name)[key][first:last].copy()

    def _record(self, name: str) -> dict[str, np.ndarray]:
        try:
            return self.held[name]
        except KeyError:
            raise StorageError(f"scratch {self.path.name}/{name} is missing: compute again") from None


class _Owner:
    """What a planted stage has for its scratch folder."""

    def __init__(self, owner: scratch.Owner) -> None:
        self.folder = Kept(owner.path)


def planted(things: Any, voxels: Mapping[str, np.ndarray]) -> Any:
    """A copy of some nodes and stages over arrays that stand for images: token -> voxels. Their stages are to be run."""
    stand_ins = {token: AtHand(array, token) for token, array in voxels.items()}
    return copy.deepcopy(things, {scratch.ELSEWHERE: _Owner, STAND_INS: stand_ins})


def carry_out(
    nodes: Sequence[Node], stages: Sequence[Stage], told: Callable[[Stage, str, Any, BaseException], Exception]
) -> None:
    """Run all that planted nodes need, and planted stages, task by task.

    `told` makes the error to raise of one that a task raised.
    """
    order: dict[str, Stage] = {}
    for several, last in [(nodes, ()), *((stage.inputs, (stage,)) for stage in stages)]:
        for stage in [*stages_of(several), *last]:
            order.setdefault(stage.token, stage)
    for stage in order.values():
        for step, index in tasks(stage):
            try:
                stage.task(step, index)
            except Exception as error:
                raise told(stage, step, index, error) from error
