"""How far is the run to an output: published, under way, or stopped, and at which stage."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bigbia.errors import InputError
from bigbia.run.ledger import FOLDER, ledger_folder, read_json
from bigbia.run.partial import holder_of, partial_of
from bigbia.run.publishing import read_manifest


@dataclass(frozen=True)
class Stage:
    """A stage of a run: its tasks, and those with a line in the ledger."""

    kind: str
    total: int
    done: int

    @property
    def finished(self) -> bool:
        return self.done >= self.total


@dataclass
class Status:
    """What `status` found.

    state : "published", "running", "stopped"
    """

    path: Path
    state: str
    stages: list[Stage] = field(default_factory=list)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    holder: dict[str, Any] | None = None
    manifest: dict[str, Any] | None = None

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.state}"]
        if self.manifest is not None:
            made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.manifest["made"]))
            lines[0] += f" {made}, {self.manifest['files']} files, hash {self.manifest['root'][:16]}"
            if self.manifest["missing"]:
                lines.append(f"  {len(self.manifest['missing'])} blocks are missing (zeros stand for them)")
        if self.holder is not None:
            lines[0] += (
                f" on {self.holder.get('host')}, process {self.holder.get('pid')}, since {self.holder.get('since')}"
            )
        width = max((len(s.kind) for s in self.stages), default=0)
        lines += [
            f"  {s.kind:<{width}}  {s.done:>9} of {s.total} tasks{'' if s.finished else '  <'}" for s in self.stages
        ]
        last = self.sessions[-1] if self.sessions else {}
        if self.state == "stopped":
            lines.append(f"  stopped: {last.get('error', 'killed')}")
            lines.append("  run the same command again to go on where it was stopped")
        return "\n".join(lines)


def status(path: str | Path) -> Status:
    """How far the run to an output is.

    Parameters
    ----------
    path : the output, or its ``.partial`` folder

    Returns
    -------
    Status : its state, and for a run that is not finished the stages with their tasks

    Raises
    ------
    InputError : there is neither an output nor a run
    RunError, StorageError : the manifest or the run's record is damaged

    Examples
    --------
    >>> bigbia.status("nuclei.zarr").state  # doctest: +SKIP
    'published'
    """
    path = Path(path)
    final = path.with_name(path.name.removesuffix(".partial")) if path.name.endswith(".partial") else path
    root = partial_of(final)
    record = read_json(root / FOLDER / "run.json") if root.is_dir() else None
    if record is None:
        manifest = read_manifest(final) if final.is_dir() else None
        if manifest is None:
            raise InputError(f"{path}: is no output of bigbia, and no run to it is under way")
        return Status(final, "published", manifest=manifest)
    holder = holder_of(root)
    stages = []
    for planned in record.get("plan", []):
        done = sum(min(_lines(root, f"{planned['stage']}.{step}"), n) for step, n in planned["steps"].items())
        finished = (ledger_folder(root) / f"{planned['stage']}.records").exists()
        total = sum(planned["steps"].values())
        stages.append(Stage(planned["kind"], total, total if finished else done))
    return Status(final, "stopped" if holder is None else "running", stages, record["sessions"], holder)


def _lines(root: Path, name: str) -> int:
    try:
        with open(ledger_folder(root) / f"{name}.jsonl", "rb") as file:
            return sum(1 for _ in file)
    except FileNotFoundError:
        return 0
