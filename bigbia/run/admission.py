"""Admission: what a run would take of memory and of disks, against what there is, before it begins.

`admit` refuses a run that cannot work, with the figures and with a block or a number of threads that fits. `fitting_block`
chooses the block of a pipeline so that it is admitted.
"""

from __future__ import annotations

import copy
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bigbia import config
from bigbia.errors import BigbiaWarning, ParameterError, StorageError
from bigbia.graph.boxes import Grid
from bigbia.graph.reading import consumers_first
from bigbia.graph.regions import Store
from bigbia.run.explain import size
from bigbia.run.memory import Peak, Task, largest_of, largest_task, predicted, scratch_bytes

SPARE = 1.1  # of the raw bytes: less free than that is worth a warning
# Smaller than this share of their raw bytes not even sparse labels become: what has no room for it cannot be written.
LEAST_WRITTEN, LEAST_SCRATCH = 0.002, 0.02
SMALLEST_BLOCK = 16  # voxels an axis: smaller ones are all halo


@dataclass(frozen=True)
class Disk:
    """What a run writes to the file system of a folder, before compression, and what is free there."""

    folder: str
    raw: int
    least: int
    free: int


@dataclass(frozen=True)
class Admission:
    """What a run takes, as it was predicted when it was admitted."""

    peak: Peak
    limit: int
    disks: tuple[Disk, ...] = ()

    @property
    def bytes(self) -> int:
        """The predicted peak of memory."""
        return self.peak.bytes

    @property
    def record(self) -> dict[str, Any]:
        """For a report."""
        task = self.peak.largest
        return {
            "predicted_peak": self.bytes,
            "limit": self.limit,
            "reserved": self.peak.reserved,
            "cache": self.peak.cache,
            "held": self.peak.held,
            "threads": self.peak.threads,
            "largest": {"stage": task.stage, "step": task.step, "block": list(task.block), "bytes": task.bytes},
            "disks": [vars(disk) for disk in self.disks],
        }

    def __str__(self) -> str:
        return f"memory: {figures(self.peak)}, of {size(self.limit)} that may be used (bigbia.memory)"


# ---- a run -----------------------------------------------------------------------------------------------------------
def admit(
    stages: Sequence[Any],
    *,
    threads: int,
    limit: int,
    destination: str | os.PathLike[str] | None = None,
    bytes_written: int = 0,
    scratch: str | os.PathLike[str] | None = None,
) -> Admission:
    """Refuse a run whose memory or disk cannot suffice; warn where a disk may become full.

    Parameters
    ----------
    stages : all stages of the run, those below the outputs and those that write them
    threads : tasks at once in one process
    limit : bytes that process may use
    destination : where the output goes; nothing is asked of an address
    bytes_written : of the output, before compression
    scratch : folder of what stages leave behind; by default the one that is set

    Returns
    -------
    Admission

    Raises
    ------
    ParameterError : the predicted peak is above the limit; names a block or a number of threads that fits
    StorageError : a disk cannot hold what is written, however well it compresses
    """
    peak = predicted(stages, threads, limit)
    if peak.bytes > limit:
        raise ParameterError(refusal(stages, peak, limit))
    disks = _disks(stages, destination, bytes_written, scratch)
    for disk in disks:
        _check_disk(disk)
    return Admission(peak, limit, disks)


def figures(peak: Peak) -> str:
    """ "label: a block of 256 x 256 x 256 takes 3.1 GiB a task x 8 threads + 0.3 GiB = 25.1 GiB" """
    task = peak.largest
    if peak.alone > peak.threads * task.bytes:
        return f"writing the table takes {size(peak.alone)} + {size(peak.fixed)} = {size(peak.bytes)}"
    block = " x ".join(map(str, task.block)) or "all"
    threads = f"{peak.threads} thread" + ("s" if peak.threads > 1 else "")
    return (
        f"{task.stage}: a block of {block} takes {size(task.bytes)} a task x {threads} + {size(peak.fixed)} "
        f"= {size(peak.bytes)}"
    )


def refusal(stages: Sequence[Any], peak: Peak, limit: int) -> str:
    """Why a run is not admitted, and what would be: figures, then the ways out that fit."""
    ways = []
    block = smaller_block(stages, peak.threads, limit)
    if block is not None:
        ways.append(f"use block ({', '.join(map(str, block))})")
    threads = peak.threads_within(limit)
    if threads:
        ways.append(("" if ways else "use ") + f"{threads} thread" + ("s" if threads > 1 else ""))
    why = f"{figures(peak)}, more than the {size(limit)} that may be used (bigbia.memory): "
    if ways:
        return why + " or ".join(ways)
    least = replace(peak, threads=1).bytes
    return (
        f"{why}one thread alone takes {size(least)}: allow that much (--memory, bigbia.memory), or write smaller chunks"
    )


# ---- blocks that fit -------------------------------------------------------------------------------------------------
def fitting_block(
    build: Callable[[Any], Sequence[Any]],
    block: Any,
    shape: Sequence[int],
    unit: Sequence[int],
    *,
    threads: int,
    limit: int,
) -> tuple[int, ...]:
    """The block of a pipeline with which it is admitted: the one given, or that with its largest axis halved, and again.

    Parameters
    ----------
    build : block -> all stages of the pipeline built with it (`memory.stages_for`); reads no voxels
    block : voxels an axis of space, where to begin
    shape : of the image along the axes of space
    unit : voxels of a chunk of the input along them: blocks stay whole chunks
    threads, limit : as in `admit`

    Raises
    ------
    ParameterError : not even a block of one chunk fits; with the figures
    """
    block = tuple(min(int(b), int(n)) for b, n in zip(block, shape))
    while True:
        stages = build(block)
        peak = predicted(stages, threads, limit)
        if peak.bytes <= limit:
            return block
        halved = halved_block(block, unit)
        if halved is None:
            raise ParameterError(refusal(stages, peak, limit))
        block = halved


def halved_block(block: Sequence[int], unit: Sequence[int]) -> tuple[int, ...] | None:
    """A block with its largest axis halved, in whole chunks; None where it is one chunk already."""
    for axis in sorted(range(len(block)), key=lambda a: (-block[a], a)):
        least = max(SMALLEST_BLOCK, unit[axis])
        half = max(least, -(-(block[axis] // 2) // unit[axis]) * unit[axis])
        if half < block[axis]:
            return (*block[:axis], half, *block[axis + 1 :])
    return None


def smaller_block(stages: Sequence[Any], threads: int, limit: int) -> tuple[int, ...] | None:
    """A block with which stages fit, found without building them again; None where there is none.

    Stages are asked about smaller blocks of their own grids. What they read of others is still cut as it was, which takes
    no less: what fits so fits.
    """
    todo = [stage for stage in stages if not stage.complete]
    cut = [stage for stage in todo if not _own_grid(stage) and len(stage.grid)]
    if not cut:
        return None
    space = min(len(stage.grid.chunks) for stage in cut if stage.grid.chunks)
    block: tuple[int, ...] | None = tuple(max(largest_of(s.grid)[-space:][a] for s in cut) for a in range(space))
    unit = _unit(todo, space)
    while block is not None:
        block = halved_block(block, unit)
        if block is not None and predicted([_with_block(s, block) for s in todo], threads, limit).bytes <= limit:
            return block
    return None


def _own_grid(stage: Any) -> bool:
    """Whether how a stage is cut has nothing to do with the blocks of the image."""
    return bool(getattr(stage, "anchored", False)) or hasattr(stage, "step_factors")


def _with_block(stage: Any, block: Sequence[int]) -> Any:
    """The stage as it would be over smaller blocks, as far as its memory goes."""
    if _own_grid(stage) or not len(stage.grid):
        return stage
    shape, now = stage.grid.shape, list(largest_of(stage.grid))
    units = [1] * len(shape)
    for output in getattr(stage, "outputs", ()):
        units = [max(u, v) for u, v in zip(units, output.unit())]
    for axis, b in zip(range(len(shape) - len(block), len(shape)), block):
        u = min(units[axis], max(1, shape[axis]))
        now[axis] = min(now[axis], -(-b // u) * u)
    other = copy.copy(stage)
    object.__setattr__(other, "grid", Grid.regular(shape, [max(1, n) for n in now]))
    return other


def _unit(stages: Iterable[Any], space: int) -> tuple[int, ...]:
    """Voxels of a chunk of what is read, along the last axes."""
    unit = [1] * space
    for stage in stages:
        for step in stage.block_steps:
            if not len(stage.grid):
                continue
            for node in consumers_first(*stage.reads(step, (0,) * len(stage.grid.chunks))[0]):
                if isinstance(node, Store) and node.ndim >= space:
                    unit = [
                        max(u, min(c, n)) for u, c, n in zip(unit, node.source.chunks[-space:], node.shape[-space:])
                    ]
    return tuple(unit)


# ---- disks -----------------------------------------------------------------------------------------------------------
def _disks(stages: Sequence[Any], destination: Any, written: int, scratch: Any) -> tuple[Disk, ...]:
    """What goes to which file system; one that holds both is one."""
    kept = scratch_bytes(stages)
    places = [(config.scratch_folder() if scratch is None else scratch, kept, int(LEAST_SCRATCH * kept))]
    if destination is not None and "://" not in str(destination):
        places.insert(0, (destination, written, int(LEAST_WRITTEN * written)))
    found: dict[int, Disk] = {}
    for place, raw, least in places:
        folder = _existing(Path(place))
        try:
            device, free = os.stat(folder).st_dev, shutil.disk_usage(folder).free
        except OSError as error:
            raise StorageError(f"{place}: the free space there cannot be told: {error.strerror or error}") from None
        before = found.get(device)
        if before is None:
            found[device] = Disk(str(folder), raw, least, free)
        else:
            found[device] = Disk(before.folder, before.raw + raw, before.least + least, free)
    return tuple(found.values())


def _existing(path: Path) -> Path:
    """The folder, or the one above it that is there."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _check_disk(disk: Disk) -> None:
    if disk.least > disk.free:
        raise StorageError(
            f"{disk.folder}: {size(disk.raw)} before compression do not fit the {size(disk.free)} that are free, not even "
            f"as {size(disk.least)}: free space there, or write elsewhere (-o, BIGBIA_SCRATCH)"
        )
    if disk.raw * SPARE > disk.free:
        warnings.warn(
            f"{disk.folder}: {size(disk.raw)} are written before compression and {size(disk.free)} are free: it may become full",
            BigbiaWarning,
            stacklevel=4,
        )


__all__ = ["Admission", "Disk", "Task", "admit", "figures", "fitting_block", "largest_task", "smaller_block"]
