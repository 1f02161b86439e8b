"""An output made again: `repair` makes what is damaged, `rerun` makes all of it elsewhere and compares."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigbia.errors import RunError
from bigbia.run.inputs import open_input
from bigbia.run.job import RERUN, Job, job_of
from bigbia.run.ledger import FOLDER, read_json, results_of
from bigbia.run.pipeline import Pipeline
from bigbia.run.save import run_job
from bigbia.run.verify import Verification, manifest_of, verify


def repair(path: str | Path, *, scheduler: str | None = None, progress: Any = None) -> Verification:
    """Make the damaged files of an output again, and only those; it is replaced when all of it is intact.

    Parameters
    ----------
    path : an output of `bigbia run`
    scheduler, progress : as for `bigbia.save`

    Returns
    -------
    Verification : of the repaired output

    Raises
    ------
    RunError : the pipeline, its input or the versions are not those it was made with, so it cannot be made again; or it
        was saved from Python: call `bigbia.save` with the same arguments and ``overwrite=True``, which does the same

    Examples
    --------
    >>> bigbia.repair("nuclei.zarr").ok  # doctest: +SKIP
    True
    """
    path = Path(path)
    found = verify(path)
    if found.ok and not found.missing:
        return found
    job, parts = _job(path, scheduler, progress)
    run_job(job, path, overwrite=True, expected=parts)
    again = verify(path)
    if not found.missing and again.root != found.root:
        raise RunError(
            f"{path}: was made again, and is not what it was (hash {again.root[:16]}, was {found.root[:16]})"
        )
    return again


@dataclass(frozen=True)
class Comparison:
    """What `rerun` found."""

    path: Path
    root: str
    again: str  # the hash of all files of the second run
    files: int
    differing: tuple[str, ...]

    @property
    def same(self) -> bool:
        return self.root == self.again

    def __str__(self) -> str:
        if self.same:
            return f"{self.path}: {self.files} files, the same bytes again (hash {self.root[:16]})"
        shown = "".join(f"\n  {name}" for name in self.differing[:20])
        more = f"\n  and {len(self.differing) - 20} more" if len(self.differing) > 20 else ""
        return f"{self.path}: {len(self.differing)} of {self.files} files came out differently:{shown}{more}"


def rerun(path: str | Path, *, keep: bool = False, scheduler: str | None = None, progress: Any = None) -> Comparison:
    """Run what made an output again, from its input to every file, beside it, and compare.

    Parameters
    ----------
    path : an output of `bigbia run`
    keep : leave the second output at ``<path>.rerun``
    scheduler, progress : as for `bigbia.save`

    Returns
    -------
    Comparison : `same`, and the files that differ

    Raises
    ------
    RunError : it was saved from Python, its input or the versions have changed

    Examples
    --------
    >>> bigbia.rerun("nuclei.zarr").same  # doctest: +SKIP
    True
    """
    path = Path(path)
    first = manifest_of(path)
    job, parts = _job(path, scheduler, progress)
    other = path.with_name(path.name + RERUN)
    run_job(job, other, overwrite=True, restart=True, expected=parts)
    second = manifest_of(other)
    differing = (
        ()
        if first["root"] == second["root"]
        else tuple(sorted({*results_of(path, first)} ^ {*results_of(other, second)}))
    )
    if not keep:
        shutil.rmtree(other)
    return Comparison(
        path, first["root"], second["root"], first["files"], tuple(dict.fromkeys(n for n, *_ in differing))
    )


def _job(path: Path, scheduler: str | None, progress: Any) -> tuple[Job, dict[str, Any]]:
    """What made an output, ready to be run again, and what it was."""
    record = read_json(path / FOLDER / "run.json")
    parts, origin = (record or {}).get("parts", {}), (record or {}).get("origin") or {}
    if (record or {}).get("into"):
        raise RunError(
            f"{path}: was written into its image: run the same pipeline into it again, with overwrite=True (--into-input "
            "--overwrite)"
        )
    if not parts.get("pipeline") or "input" not in origin:
        raise RunError(
            f"{path}: does not say how to make it again, since it was saved from Python: call bigbia.save with the same "
            "arguments and overwrite=True, which makes what is damaged again and nothing else"
        )
    plan = Pipeline.of(parts["pipeline"], f"{path}/pipeline.yaml")
    outputs = plan.outputs(plan.build(open_input(origin["input"], **origin["options"])))
    layout = record["layout"]
    return job_of(outputs, layout, pipeline=plan.text, origin=origin, scheduler=scheduler, progress=progress), parts
