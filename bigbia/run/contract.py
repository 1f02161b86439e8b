"""The run contract: nothing is published before it is whole, and nothing that is done is done again.

    <output>.partial/            renamed to <output> when the last block is there
      labels/nuclei/0/c/...      voxels, each file whole or absent
      _bigbia/run.json           what this run is (run/fingerprint.py), and the times it was worked on
      _bigbia/lock               who leads it (run/partial.py)
      _bigbia/ledger/            what is done (run/ledger.py)
      _bigbia/held/              the metadata of its groups, put in place last: until then nothing opens as an image
      _bigbia/scratch/           what its stages leave behind, removed when it is published
      _bigbia/manifest.json      after publishing: how many files, one hash for all of them, and what is missing

A run that was stopped, whatever stopped it, is gone on with: `begin` says which tasks of a step are done, by their lines
in the ledger and the files they wrote; all else is done again.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bigbia import config
from bigbia.graph import scratch
from bigbia.graph.boxes import Index, volume, whole
from bigbia.graph.journal import Written
from bigbia.graph.stages import Stage, stages_of
from bigbia.io.durable import intact, put, replace, storage_errors, written
from bigbia.run.ledger import FOLDER, Entry, Lines, checked, ledger_folder, stage_name, write_json
from bigbia.run.tasks import Failure, worker

FORMAT = 1
DEATHS = 2  # of the leading process with a block, after which the block is tried in a process of its own


@dataclass
class Worked:
    """One step of one stage in this session, for the report."""

    stage: str
    token: str
    step: str
    title: str
    numblocks: tuple[int, ...]
    block: tuple[int, ...]
    voxels: int
    by_block: bool
    began: float
    skipped: int = 0
    done: int = 0
    retries: int = 0
    peak: int = 0
    seconds: float = 0.0


@dataclass
class Run:
    """A run to one output, led by this process. See `running`."""

    root: Path
    final: Path
    parts: dict[str, Any]
    allow_missing: bool = False
    record: dict[str, Any] = field(default_factory=dict)
    worked: list[Worked] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    missing: list[dict] = field(default_factory=list)
    prediction: dict[str, Any] | None = None  # what admission foretold
    restarted: bool = False  # the computer has started anew since the last session
    carried: list[str] = field(default_factory=list)  # ledgers of what was taken over from an earlier output

    def __post_init__(self) -> None:
        self.full = config.integrity() == "full"
        self._begun_lock = threading.Lock()
        self._begun_file: Any = None  # of the step under way
        self._lines: dict[tuple[str, str], Lines] = {}
        self._done: dict[tuple[str, str], np.ndarray] = {}  # of the step under way: its tasks that were done before
        self._suspect: set[str] = set()  # stages that were found damaged: what was made of them is made again
        self._tainted: set[str] = set()  # places of images of which a block was found damaged

    @property
    def home(self) -> Path:
        """Where its stages leave what they find: in its own folder, or in the scratch folder that was set."""
        if config.get("scratch") == "auto":
            return self.root / FOLDER / "scratch"
        return config.scratch_folder() / f"run-{self.record['id']}"

    def owns(self, stage: Stage) -> bool:
        """Whether a stage leaves what it finds here; what this process had found before stays where it is."""
        return stage.folder.path.parent == self.home

    # ---- what the executor asks
    def settle(self, stage: Stage) -> Stage:
        """Let a stage that belongs to this run alone leave what it finds in the run's folder."""
        stage._owner = scratch.Owner(self.home / stage.token, sums=True)
        return stage

    def plan(self, stages: Iterable[Stage]) -> None:
        """Write down what there is to do, for those who ask how far the run is."""
        self.record["plan"] = [
            {
                "stage": stage_name(s.kind, s.token),
                "kind": s.kind,
                "steps": {
                    step: len(s.grid) if step in s.block_steps else sum(1 for _ in s.indices(step)) for step in s.steps
                },
            }
            for s in stages
        ]
        write_json(self.root / FOLDER / "run.json", self.record)

    def look(self, stages: Iterable[Stage]) -> None:
        """Look at what an earlier session left of the stages, each given after those it needs."""
        for stage in stages:
            self._look(stage)

    def _look(self, stage: Stage) -> None:
        """What is damaged is forgotten."""
        if not self.owns(stage):
            return
        if any(s.token in self._suspect for s in stages_of(stage.inputs)):
            self.forget(stage)
            return
        if stage.replaces and self.restarted and not self.listing(stage).exists():
            self.forget(stage)  # of records that replace each other the older ones may be back
            return
        listing = self.listing(stage)
        if listing.exists():
            names = listing.read_text(errors="replace").splitlines()
        elif stage.complete or stage.replaces:
            names = list(stage.folder.records())
        else:
            return
        if all(fine for _, fine in checked(names, stage.folder.intact)):
            if stage.complete and not listing.exists():
                self.finished(stage)
            if stage.complete and not self._files_intact(stage):
                stage.folder.file("done").unlink()  # only some of its blocks are done again
        else:
            self.forget(stage)

    def _files_intact(self, stage: Stage) -> bool:
        """Whether the files that a stage wrote to the output are still what they were, and so what they were made of."""
        if self._of_damaged(stage):
            return False
        if not stage.publishes:
            return True  # its records are known by their list; what its lines say of them may be outdated by then
        steps = [s for s in stage.steps if s in stage.block_steps]
        return all(self.lines(stage, step).done(self._good)[0].all() for step in steps)

    def _of_damaged(self, stage: Stage) -> bool:
        """Whether it makes a coarser image of one that was damaged."""
        return stage.kind == "pyramid" and bool(stage.publishes & self._tainted)

    def forget(self, stage: Stage) -> None:
        """Do a stage again, and all that was made of it."""
        self._suspect.add(stage.token)
        shutil.rmtree(stage.folder.path, ignore_errors=True)
        name = stage_name(stage.kind, stage.token)
        for path in ledger_folder(self.root).glob(f"{name}.*"):
            path.unlink()
        for key in [k for k in self._lines if k[0] == stage.token]:
            self._lines.pop(key).close()

    def begin(self, stage: Stage, step: str) -> Callable[[Index], bool] | None:
        """Which tasks of a step are done; None if there is nothing to know."""
        by_block = step in stage.block_steps
        block = tuple(max(c, default=0) for c in stage.grid.chunks)
        voxels = volume(whole(stage.grid.shape))
        self.worked.append(
            Worked(
                stage.kind, stage.token, step, stage.title(step) if by_block else step, stage.grid.numblocks, block, voxels, by_block, time.time()
            )
        )  # fmt: skip
        if not self.owns(stage):
            return None
        if self._of_damaged(stage):
            self.forget(stage)
        lines = self.lines(stage, step)
        done, damaged = lines.done(self._there if stage.replaces else self._good)
        if damaged and stage.replaces:
            self.forget(stage)
            return None
        if damaged:
            self._tainted |= stage.publishes
        self._count_deaths(stage, step, done, lines)
        self._done[stage.token, step] = done
        self.worked[-1].skipped = int(done.sum())
        if not done.any():
            return None
        return lambda index: bool(done[lines.place(index)])

    def begun(self, stage: Stage, step: str, index: Index) -> None:
        """Note that a block is worked on in this process. Asked by its threads."""
        if not self.owns(stage):
            return
        with self._begun_lock:
            if self._begun_file is None:
                self._begun_file = open(self._begun(stage, step), "ab", buffering=0)  # noqa: SIM115  until `end`
            self._begun_file.write(f"{list(index)}\n".encode())

    def _begun(self, stage: Stage, step: str) -> Path:
        return ledger_folder(self.root) / f"{stage_name(stage.kind, stage.token)}.{step}.begun"

    def _count_deaths(self, stage: Stage, step: str, is_done: np.ndarray, lines: Lines) -> None:
        """Count for each block how often it was being worked on when the process that led the run was killed."""
        path = self._begun(stage, step)
        sessions = self.record["sessions"]
        if path.exists() and len(sessions) > 1 and "ended" not in sessions[-2]:
            deaths = self.record.setdefault("deaths", {}).setdefault(f"{stage.token}.{step}", {})
            for line in set(path.read_text(errors="replace").splitlines()):
                with suppress(ValueError, TypeError):
                    index = tuple(json.loads(line))
                    if not is_done[lines.place(index)]:
                        deaths[line] = deaths.get(line, 0) + 1
            write_json(self.root / FOLDER / "run.json", self.record)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)

    def suspects(self, stage: Stage, step: str) -> list[Index]:
        """The blocks with which this process has died so often that they are tried in another."""
        deaths = self.record.get("deaths", {}).get(f"{stage.token}.{step}", {})
        done = self._done.get((stage.token, step))
        found = [tuple(json.loads(line)) for line, n in deaths.items() if n >= DEATHS]
        return [i for i in found if done is None or not done[self.lines(stage, step).place(i)]]

    def done(self, stage: Stage, step: str, entry: Entry) -> None:
        now = self.worked[-1]
        now.done, now.retries, now.peak = now.done + 1, now.retries + entry.attempts - 1, max(now.peak, entry.peak)
        if entry.missing:
            self.missing.append({"stage": stage.kind, "block": list(entry.block), "error": entry.missing})
        if self.owns(stage):
            self.lines(stage, step).add(entry)

    def replaced(self, stage: Stage, step: str, failure: Failure) -> Entry | None:
        """What stands for a block that was given up, if the run may do without."""
        if not self.allow_missing or failure.why == "full" or not hasattr(stage, "write_missing"):
            return None
        files = stage.write_missing(failure.block)
        return Entry(failure.block, files, 0.0, failure.attempts, worker(), 0, time.time(), str(failure.error))

    def end(self, stage: Stage, step: str, failures: Sequence[Failure] = ()) -> None:
        self._done.pop((stage.token, step), None)
        if self._begun_file is not None:
            self._begun_file.close()
            self._begun_file = None
        self.worked[-1].seconds = time.time() - self.worked[-1].began
        self.failures += failures
        if (lines := self._lines.get((stage.token, step))) is not None:
            lines.close()

    def finished(self, stage: Stage) -> None:
        """Note what a stage that is done has left, by which it is recognised."""
        if self.owns(stage) and stage.complete:
            text = "".join(f"{name}\n" for name in sorted(stage.folder.records()))
            with storage_errors(self.listing(stage)):
                replace(self.listing(stage), text.encode())

    # ---- files
    def listing(self, stage: Stage) -> Path:
        """The file that names what a finished stage left."""
        return ledger_folder(self.root) / f"{stage_name(stage.kind, stage.token)}.records"

    def lines(self, stage: Stage, step: str) -> Lines:
        key = stage.token, step
        if key not in self._lines:
            if step in stage.block_steps:
                shape: Sequence[int] = stage.grid.numblocks
            else:
                known = np.array(list(stage.indices(step)), np.int64)
                shape = (known.max(axis=0) + 1).tolist() if known.size else () if len(known) else (0,)
            path = ledger_folder(self.root) / f"{stage_name(stage.kind, stage.token)}.{step}.jsonl"
            self._lines[key] = Lines(path, shape)
        return self._lines[key]

    def _good(self, entry: Entry) -> bool:
        return not entry.missing and all(self._is_intact(file) for file in entry.files)

    def _is_intact(self, file: Written) -> bool:
        if not file.name.startswith(scratch.PREFIX):
            return intact(self.root, file)
        token, _, name = file.name.removeprefix(scratch.PREFIX).partition("/")
        return scratch.Folder(self.home / token, sums=True).intact(name)

    def _there(self, entry: Entry) -> bool:
        names = (file.name.removeprefix(scratch.PREFIX) for file in entry.files)
        return all((self.home / name).exists() for name in names)

    def ended(self) -> Written:
        """Note that this session did what there was to do."""
        self.record["sessions"][-1]["ended"] = time.time()
        write_json(self.root / FOLDER / "run.json", self.record)
        return written(self.root, f"{FOLDER}/run.json")

    # ---- metadata
    def hold(self, documents: Path) -> None:
        """Put the metadata of the output in its place: of arrays at once, of groups when the run is published."""
        for path in sorted(p for p in documents.rglob("*") if p.is_file()):
            name = path.relative_to(documents)
            is_array = (path.parent / ".zarray").exists() or b'"node_type": "array"' in path.read_bytes()
            target = self.root / name if is_array else self.root / FOLDER / "held" / name
            with storage_errors(target):
                replace(target, path.read_bytes())

    def release(self) -> list[Written]:
        """Put the metadata of groups in its place."""
        held, found = self.root / FOLDER / "held", []
        for path in sorted(p for p in held.rglob("*") if p.is_file()):
            found.append(put(self.root, str(path.relative_to(held)), path.read_bytes()))
        return found
