"""What a run shows while it works: a bar a stage on a terminal, otherwise nothing or a line a stage.

A run tells its progress to an object with three methods, called from one thread:

    begin(stage, total, voxels)   a stage of `total` blocks and `voxels` voxels starts
    advance(n)                    n more blocks are done
    end()                         the stage is finished
"""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TextIO


class Progress(Protocol):
    """Where a run reports to."""

    def begin(self, stage: str, total: int, voxels: int) -> None: ...
    def advance(self, n: int = 1) -> None: ...
    def end(self) -> None: ...


def progress(*, quiet: bool = False, verbose: bool = False, file: TextIO | None = None) -> AbstractContextManager[Any]:
    """The fitting progress for this terminal, as a context: None where nothing is to be shown."""
    file = file or sys.stderr
    if quiet:
        return nullcontext(None)
    if file.isatty():
        return Bars(file)
    return Lines(file) if verbose else nullcontext(None)


def speed(voxels: float, seconds: float) -> str:
    """Voxels a second in a fitting unit: "41.9 Mvoxel/s"."""
    if seconds <= 0 or voxels <= 0:
        return ""
    rate = voxels / seconds
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if rate >= size:
            return f"{rate / size:.1f} {unit}voxel/s"
    return f"{rate:.0f} voxel/s"


class Lines:
    """One line for each finished stage: for logs."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.stage = ""
        self.total = self.done = self.voxels = 0
        self.start = 0.0

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *error: object) -> None:
        if self.stage:
            print(f"{self.stage}: stopped after {self.done} of {self.total} blocks", file=self.file, flush=True)

    def begin(self, stage: str, total: int, voxels: int) -> None:
        self.stage, self.total, self.voxels = stage, total, voxels
        self.done, self.start = 0, time.perf_counter()

    def advance(self, n: int = 1) -> None:
        self.done += n

    def end(self) -> None:
        seconds = time.perf_counter() - self.start
        rate = speed(self.voxels, seconds)
        text = f"{self.stage}: {self.done} blocks in {seconds:.1f} s" + (f", {rate}" if rate else "")
        print(text, file=self.file, flush=True)
        self.stage = ""


class Bars:
    """One bar for each stage, with blocks done, rate and time left."""

    def __init__(self, file: TextIO) -> None:
        # rich takes 60 ms to import, which `bigbia --help` need not wait for.
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self.bars = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("blocks"),
            TextColumn("{task.fields[rate]}", justify="right"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=Console(file=file),
        )
        self.task: Any = None
        self.blocks = self.voxels = 0
        self.start = 0.0

    def __enter__(self) -> Bars:
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def begin(self, stage: str, total: int, voxels: int) -> None:
        self.blocks, self.voxels, self.start = max(total, 1), voxels, time.perf_counter()
        self.task = self.bars.add_task(_plain(stage), total=total, rate="")

    def advance(self, n: int = 1) -> None:
        if self.task is None:
            return
        done = self._bar().completed + n
        rate = speed(self.voxels * done / self.blocks, time.perf_counter() - self.start)
        self.bars.update(self.task, advance=n, rate=rate)

    def end(self) -> None:
        if self.task is not None:
            # A stage that is found done, or whose last task covers the rest, ends full.
            self.bars.update(self.task, completed=self._bar().total)
        self.task = None

    def _bar(self) -> Any:
        return next(task for task in self.bars.tasks if task.id == self.task)


def _plain(text: str) -> str:
    """A stage's name without rich's markup: "label [1, 2]" is not a style."""
    from rich.markup import escape

    return escape(text)
