"""One pipeline over many images: one run, an output an image, in one folder.

    <folder>/<name>.zarr         an output an image, named by the image
    <folder>/_bigbia/batch.json  which images, what became of each, when
    <folder>/_bigbia/lock        who leads it

Each image is a run of its own under the run contract, so a batch that was stopped goes on with the image, and the block,
where it was: what is published and the same is not computed again. An image that fails does not stop the others, unless
the first ones all fail.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bigbia.errors import BigbiaError, ParameterError, RunError
from bigbia.run.fingerprint import fingerprint
from bigbia.run.job import Job
from bigbia.run.ledger import FOLDER, read_json, write_json
from bigbia.run.partial import led
from bigbia.run.publishing import read_manifest
from bigbia.run.save import run_job

FIRST = 5  # images that fail, none having succeeded: something is fundamentally wrong
RECORD = f"{FOLDER}/batch.json"


@dataclass
class Image:
    """One image of a batch.

    state : "waiting", "done", "done before", "failed"
    """

    input: str
    output: str
    state: str = "waiting"
    error: str = ""
    seconds: float = 0.0


@dataclass
class Batch:
    """What became of the images."""

    folder: Path
    images: list[Image] = field(default_factory=list)

    @property
    def failed(self) -> list[Image]:
        return [image for image in self.images if image.state == "failed"]

    def __str__(self) -> str:
        count = {
            state: sum(i.state == state for i in self.images) for state in ("done", "done before", "failed", "waiting")
        }
        lines = [f"{self.folder}: " + ", ".join(f"{n} {state}" for state, n in count.items() if n)]
        lines += [f"  {image.input}: {image.error}" for image in self.failed]
        return "\n".join(lines)


def outputs_of(folder: Path, inputs: Sequence[str]) -> list[Image]:
    """The images of a batch and where each goes. ParameterError where two would go to one place."""
    found: dict[str, str] = {}
    for path in inputs:
        other = found.setdefault(_stem(path).casefold(), path)
        if other != path or list(inputs).count(path) > 1:
            raise ParameterError(
                f"{other} and {path}: both would be {folder / _stem(path)}.zarr: rename or leave out one"
            )
    return [Image(path, str(folder / f"{_stem(path)}.zarr")) for path in inputs]


def _stem(path: str) -> str:
    name = path.rstrip("/").rsplit("/", 1)[-1]
    for ending in (".zarr", ".tif", ".tiff", ".ome"):
        name = name.removesuffix(ending)
    return name or "image"


def run_batch(
    folder: str | Path, inputs: Sequence[str], job: Callable[[str, Path], Job], how: Mapping[str, Any]
) -> Batch:
    """Run a job for each image.

    Parameters
    ----------
    folder : where the outputs go; made where there is none
    inputs : the images
    job : (image, its output) -> what is to be done; called for one image at a time
    how : overwrite, restart, allow_missing: as for `bigbia.save`

    Returns
    -------
    Batch : what became of each image

    Raises
    ------
    ParameterError : two images would be written to one place
    RunError : another batch is at work there; the first images all failed
    """
    folder = Path(folder)
    batch = Batch(folder, outputs_of(folder, inputs))
    folder.mkdir(parents=True, exist_ok=True)
    with led(folder):
        began = time.time()
        for image in _noting(batch, began):
            start = time.perf_counter()
            try:
                image.state = _one(image, job, how)
            except BigbiaError as error:
                image.state, image.error = "failed", str(error)
            image.seconds = round(time.perf_counter() - start, 2)
            if len(batch.failed) >= FIRST and all(i.state in ("failed", "waiting") for i in batch.images):
                _note(batch, began)
                raise RunError(
                    f"{folder}: the first {len(batch.failed)} images all failed, the last: {image.error}; stopped"
                )
    return batch


def _noting(batch: Batch, began: float) -> Iterator[Image]:
    """The images, what became of them written down after each."""
    _note(batch, began)
    for image in batch.images:
        yield image
        _note(batch, began)


def _note(batch: Batch, began: float) -> None:
    record = {"format": 1, "began": began, "now": time.time(), "images": [asdict(image) for image in batch.images]}
    write_json(batch.folder / RECORD, record)


def _one(image: Image, job: Callable[[str, Path], Job], how: Mapping[str, Any]) -> str:
    output = Path(image.output)
    work = job(image.input, output)
    if output.exists() and not how.get("restart"):
        record = read_json(output / FOLDER / "run.json") if read_manifest(output) is not None else None
        if record is not None and record["fingerprint"] == fingerprint_of(work, output):
            return "done before"
    run_job(work, output, **how)
    return "done"


def fingerprint_of(job: Job, output: Path) -> str:
    """What the run of a job would be."""
    with job.described(output):
        return fingerprint(job.fingerprint())
